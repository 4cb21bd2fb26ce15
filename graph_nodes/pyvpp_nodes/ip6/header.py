# SPDX-License-Identifier: Apache-2.0
"""The IPv6 header (RFC 8200, 3) as kernels read and patch it. `ip` is the heap offset of its first byte."""

from typing import Any

from numba import uint64

from pyvpp.jit import inline
from pyvpp.typing import U8
from pyvpp.wire import be16, be32, be64, put_be32, put_be64, put_u8, u8

PAYLOAD_LENGTH, NEXT_HEADER, HOP_LIMIT, SOURCE, DESTINATION = 4, 6, 7, 8, 24
HEADER_BYTES = 40
HOP_BY_HOP, TCP, UDP, FRAGMENT_HEADER, ICMP6 = 0, 6, 17, 44, 58
FLOW_LABEL = 0xFFFFF
LINK_LOCAL, LINK_LOCAL_BITS = 0xFE80, 0xFFC0
"""fe80::/10 in the first 16 bits of an address (RFC 4291, 2.5.6)."""


@inline
def is_multicast(heap: U8, address: int) -> bool:
    """ff00::/8, of an address that stands at this place of the heap."""
    return bool(u8(heap, address) == 0xFF)


@inline
def is_link_local(heap: U8, address: int) -> bool:
    """fe80::/10, of an address that stands at this place of the heap."""
    return bool(be16(heap, address) & LINK_LOCAL_BITS == LINK_LOCAL)


@inline
def is_unspecified_or_loopback(heap: U8, address: int) -> bool:
    """:: and ::1, which no packet between hosts carries (RFC 4291, 2.5.2 and 2.5.3)."""
    first = be32(heap, address) | be32(heap, address + 4) | be32(heap, address + 8)
    return bool(first == 0 and be32(heap, address + 12) <= 1)


@inline
def high_half(heap: U8, address: int) -> Any:
    """The first 64 bits of an address, an unsigned number."""
    return uint64(be64(heap, address))


@inline
def low_half(heap: U8, address: int) -> Any:
    """The last 64 bits of an address, an unsigned number."""
    return uint64(be64(heap, address + 8))


@inline
def decrement_hop_limit(heap: U8, ip: int) -> None:
    """One hop less; it must not be zero. IPv6 has no checksum to patch."""
    put_u8(heap, ip + HOP_LIMIT, u8(heap, ip + HOP_LIMIT) - 1)


@inline
def put_first_words(heap: U8, ip: int, payload: int, next_header: int, hop_limit: int) -> None:
    """All of a header but its addresses; traffic class and flow label zero."""
    put_be32(heap, ip, 6 << 28)
    put_be32(heap, ip + PAYLOAD_LENGTH, payload << 16 | next_header << 8 | hop_limit)


@inline
def put_address(heap: U8, at: int, high: Any, low: Any) -> None:
    """Writes an address from its halves, unsigned numbers."""
    put_be64(heap, at, high)
    put_be64(heap, at + 8, low)
