# SPDX-License-Identifier: Apache-2.0
"""Where the TCP, UDP or ICMP header of an IP packet is: behind options, behind extension headers (RFC 8200, 4).

Both functions answer (protocol, l4): the protocol of what is behind the IP header, and its heap offset, NO_HEADER when
it is not in this packet (a later fragment) or cut off before its first four bytes, where ports, type and code stand.
"""

from pyvpp.jit import inline, outline, rare_case
from pyvpp.typing import U8
from pyvpp.wire import be16, u8
from pyvpp_nodes.integers import int64
from pyvpp_nodes.ip4.header import FRAGMENT, FRAGMENT_OFFSET, PROTOCOL, header_bytes
from pyvpp_nodes.ip6.header import FRAGMENT_HEADER, HEADER_BYTES, HOP_BY_HOP, ICMP6, NEXT_HEADER, TCP, UDP

NO_HEADER = -1
PORTS_BYTES = 4
ROUTING, AUTHENTICATION, DESTINATION_OPTIONS, MOBILITY = 43, 51, 60, 135
EXTENSION_BYTES = 8
MOST_HEADERS = 8
"""A packet with more extension headers has none of the protocols behind them, as far as a filter can know."""


@inline
def transport4(heap: U8, ip: int, end: int) -> tuple[int, int]:
    """Of an IPv4 header that has been verified, in a packet that ends before `end`."""
    protocol = int64(u8(heap, ip + PROTOCOL))
    l4 = ip + header_bytes(heap, ip)
    if be16(heap, ip + FRAGMENT) & FRAGMENT_OFFSET or l4 + PORTS_BYTES > end:
        return protocol, NO_HEADER
    return protocol, l4


@inline
def transport6(heap: U8, ip: int, end: int) -> tuple[int, int]:
    """Of an IPv6 header that has been verified, in a packet that ends before `end`."""
    protocol = int64(u8(heap, ip + NEXT_HEADER))
    if protocol in (TCP, UDP, ICMP6) and ip + HEADER_BYTES + PORTS_BYTES <= end:
        return protocol, ip + HEADER_BYTES
    return behind_extension_headers(heap, ip, end)


@inline
def is_extension(protocol: int) -> bool:
    """Whether an IPv6 next header is one behind which there is another."""
    return protocol in (HOP_BY_HOP, ROUTING, FRAGMENT_HEADER, AUTHENTICATION, DESTINATION_OPTIONS, MOBILITY)


@outline
def behind_extension_headers(heap: U8, ip: int, end: int) -> tuple[int, int]:
    """`transport6` for packets that have any."""
    rare_case()
    protocol = int64(u8(heap, ip + NEXT_HEADER))
    at = ip + HEADER_BYTES
    for _ in range(MOST_HEADERS):
        if not is_extension(protocol) or at + EXTENSION_BYTES > end:
            break
        if protocol == FRAGMENT_HEADER and be16(heap, at + 2) >> 3:
            return int64(u8(heap, at)), NO_HEADER
        n = int64(u8(heap, at + 1))
        protocol, at = (
            int64(u8(heap, at)),
            at + (8 if protocol == FRAGMENT_HEADER else (n + 2) << 2 if protocol == AUTHENTICATION else (n + 1) << 3),
        )
    if is_extension(protocol) or at + PORTS_BYTES > end:
        return protocol, NO_HEADER
    return protocol, at
