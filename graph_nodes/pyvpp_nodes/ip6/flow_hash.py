# SPDX-License-Identifier: Apache-2.0
"""The number by which IPv6 packets of one flow choose the same path.

The fields and their bits are VPP's, mixed as those of IPv4. Ports count when TCP or UDP follows the header, or the
hop-by-hop options behind it; so no fragment is hashed by ports, and all fragments of a packet go the same way.
"""

from pyvpp.jit import inline
from pyvpp.typing import U8
from pyvpp.wire import be16, be32, u8
from pyvpp_nodes.integers import int64
from pyvpp_nodes.ip4.flow_hash import (
    HASH_DESTINATION,
    HASH_DESTINATION_PORT,
    HASH_PROTOCOL,
    HASH_REVERSE,
    HASH_SOURCE,
    HASH_SOURCE_PORT,
    HASH_SYMMETRIC,
    mix,
)
from pyvpp_nodes.ip6.header import (
    DESTINATION,
    FLOW_LABEL,
    HEADER_BYTES,
    HOP_BY_HOP,
    NEXT_HEADER,
    SOURCE,
    TCP,
    UDP,
)

HASH_FLOW_LABEL = 128


@inline
def folded(heap: U8, address: int) -> int:
    """32 bits of an address, all of its bits in them."""
    last = int64(be32(heap, address + 12))
    return mix(be32(heap, address), be32(heap, address + 4), be32(heap, address + 8)) ^ last


@inline
def ip6_flow_hash(heap: U8, ip: int, fields: int) -> int:
    """32 bits from the fields that `fields` chooses (FLOW_HASH_DEFAULT: addresses, protocol, ports, flow label)."""
    protocol = u8(heap, ip + NEXT_HEADER)
    l4 = ip + HEADER_BYTES
    if protocol == HOP_BY_HOP:
        protocol = u8(heap, l4)
        l4 += 8 + (u8(heap, l4 + 1) << 3)
    source = folded(heap, ip + SOURCE) if fields & HASH_SOURCE else 0
    destination = folded(heap, ip + DESTINATION) if fields & HASH_DESTINATION else 0
    source_port = 0
    destination_port = 0
    if protocol in (TCP, UDP):
        source_port = be16(heap, l4) if fields & HASH_SOURCE_PORT else 0
        destination_port = be16(heap, l4 + 2) if fields & HASH_DESTINATION_PORT else 0
    swap = fields & HASH_REVERSE != 0
    if fields & HASH_SYMMETRIC:
        swap = source > destination or (source == destination and source_port > destination_port)
    if swap:
        source, destination = destination, source
        source_port, destination_port = destination_port, source_port
    if fields & HASH_PROTOCOL:
        destination ^= protocol
    if fields & HASH_FLOW_LABEL:
        destination ^= (be32(heap, ip) & FLOW_LABEL) << 8
    return mix(source, destination, destination_port << 16 | source_port)
