# SPDX-License-Identifier: Apache-2.0
"""The flow of a packet nobody has looked at yet, and the worker that is to have it.

IPv4 and IPv6 by the fields by which they choose paths, behind VLAN tags as well; all else by its MAC addresses. A
tunnel's packets are a flow by their outer header. All fragments of a datagram are one flow, but not that of the
datagrams that are whole.
"""

from pyvpp.buffers import L2_VALID
from pyvpp.jit import inline
from pyvpp.typing import U8, Record
from pyvpp.wire import be16, be32, u8
from pyvpp_nodes.ethernet.header import ETHERNET_IP4, ETHERNET_IP6, HEADER_BYTES, SOURCE, TYPE, is_vlan
from pyvpp_nodes.integers import int64
from pyvpp_nodes.ip4 import header as ip4
from pyvpp_nodes.ip4.flow_hash import HASH_SYMMETRIC, ip4_flow_hash, mix
from pyvpp_nodes.ip6 import header as ip6
from pyvpp_nodes.ip6.flow_hash import ip6_flow_hash

MOST_TAGS = 2


@inline
def mac_hash(heap: U8, ethernet: int, symmetric: int) -> int:
    """32 bits from both addresses; `symmetric`: the same ones for both directions."""
    destination = be32(heap, ethernet) << 16 | be16(heap, ethernet + 4)
    source = be32(heap, ethernet + SOURCE) << 16 | be16(heap, ethernet + SOURCE + 4)
    if symmetric and source > destination:
        source, destination = destination, source
    return mix(source & 0xFFFFFFFF, destination & 0xFFFFFFFF, source >> 32 << 16 | destination >> 32)


@inline
def flow_of(heap: U8, m: Record, fields: int) -> int:
    """32 bits by which the packet's flow is known; m.cur is at its Ethernet header, or at its IP header where there is
    none."""
    ethernet = int64(m.cur)
    at, end = ethernet, ethernet + int64(m.len)
    if m.flags & L2_VALID:
        at += HEADER_BYTES
        ethertype = be16(heap, ethernet + TYPE)
        for _ in range(MOST_TAGS):
            if is_vlan(ethertype):
                ethertype = be16(heap, at + 2)
                at += 4
    else:
        ethertype = ETHERNET_IP6 if u8(heap, at) >> 4 == 6 else ETHERNET_IP4
    if ethertype == ETHERNET_IP4 and at + ip4.HEADER_BYTES <= end:
        return ip4_flow_hash(heap, at, fields)
    if ethertype == ETHERNET_IP6 and at + ip6.HEADER_BYTES <= end:
        return ip6_flow_hash(heap, at, fields)
    return mac_hash(heap, ethernet, fields & HASH_SYMMETRIC) if m.flags & L2_VALID else 0


@inline
def one_of(flow: int, n: int) -> int:
    """A number below n. Bits 15-0 choose, the higher of them first: load balancing takes the low ones."""
    return (flow & 0xFFFF) * n >> 16
