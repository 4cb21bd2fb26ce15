# SPDX-License-Identifier: Apache-2.0
"""The IPv4 header (RFC 791) as kernels read and patch it. `ip` is the heap offset of its first byte.

Checksums are summed in the byte order of the machine, which RFC 1071 (2 B) allows: the sum of a good header is 0xffff
either way.
"""

from numba import uint64

from pyvpp.checksum import fold, sum_bytes
from pyvpp.jit import inline
from pyvpp.typing import U8
from pyvpp.wire import be16, le32, put_be32, put_be64, put_le16, put_le32, u8
from pyvpp_nodes.integers import int64

TOS, TOTAL_LENGTH, ID, FRAGMENT, TTL, PROTOCOL, CHECKSUM, SOURCE, DESTINATION = 1, 2, 4, 6, 8, 9, 10, 12, 16
HEADER_BYTES = 20
PLAIN = 0x45
"""Version 4, no options: the first byte of nearly every packet."""
DONT_FRAGMENT, MORE_FRAGMENTS, FRAGMENT_OFFSET = 0x4000, 0x2000, 0x1FFF
ICMP, IGMP, IP_IN_IP, TCP, UDP = 1, 2, 4, 6, 17


@inline
def header_bytes(heap: U8, ip: int) -> int:
    """The length of a header, options included: 20 to 60 bytes."""
    return int64(u8(heap, ip) & 15) << 2


@inline
def fold_words(total: int) -> int:
    """`fold` for a sum of a few 16-bit words, below 2**31."""
    total = (total & 0xFFFF) + (total >> 16)
    return (total & 0xFFFF) + (total >> 16)


@inline
def is_right(total: int) -> bool:
    """Whether a header's sum, not zero, folds to 0xffff: a multiple of 0xffff, which is one multiplication to see."""
    return bool(uint64(total) % uint64(0xFFFF) == uint64(0))


@inline
def sum20(heap: U8, ip: int) -> int:
    """The folded sum of a header without options."""
    return fold(le32(heap, ip) + le32(heap, ip + 4) + le32(heap, ip + 8) + le32(heap, ip + 12) + le32(heap, ip + 16))


@inline
def sum_header(heap: U8, ip: int, n: int) -> int:
    """The folded sum of a header of n bytes."""
    total = int64(0)
    for at in range(ip, ip + n, 4):
        total += le32(heap, at)
    return fold(total)


@inline
def put_checksum(heap: U8, ip: int, n: int) -> None:
    """Computes the checksum of a header of n bytes and writes it."""
    put_le16(heap, ip + CHECKSUM, 0)
    put_le16(heap, ip + CHECKSUM, sum_header(heap, ip, n) ^ 0xFFFF)


@inline
def patched(checksum: int, old: int, new: int) -> int:
    """The checksum after one 16-bit word has changed: RFC 1624, equation 3, HC' = ~(~HC + ~m + m')."""
    return fold_words((checksum ^ 0xFFFF) + (old ^ 0xFFFF) + new) ^ 0xFFFF


@inline
def decrement_ttl(heap: U8, ip: int) -> None:
    """One hop less: TTL is the high byte of its word, so the checksum gains 0x0100, with an end-around carry.

    As loaded here, least significant byte first, that is 1 in the upper half of the word which TTL and checksum share.
    0xffff becomes 0, as a computed checksum would be (RFC 1624 corrects RFC 1141 there). The TTL must not be zero.
    """
    word = le32(heap, ip + TTL)
    checksum = (word >> 16) + 1
    put_le32(heap, ip + TTL, (word & 0xFFFF) - 1 | (checksum + (checksum >= 0xFFFF)) << 16)


@inline
def is_fragment(heap: U8, ip: int) -> bool:
    """Whether it is a part of a packet, the first one included."""
    return int64(be16(heap, ip + FRAGMENT)) & (MORE_FRAGMENTS | FRAGMENT_OFFSET) != 0


@inline
def header_template(ttl: int, protocol: int, source: int, destination: int) -> int:
    """What `put_header_like` needs of headers that differ in length alone: TTL and protocol above, below a sum."""
    total = (PLAIN << 8) + (ttl << 8 | protocol) + (source >> 16) + (source & 0xFFFF)
    return (ttl << 8 | protocol) << 32 | total + (destination >> 16) + (destination & 0xFFFF)


@inline
def put_header_like(heap: U8, ip: int, length: int, template: int, addresses: int) -> None:
    """A header without options, id and flags zero; `addresses` are source and destination in one number.

    The sum is of the values: to load what was just stored in other widths costs 15 clocks (no store forwarding).
    """
    checksum = fold_words((template & 0xFFFFFFFF) + length) ^ 0xFFFF
    put_be64(heap, ip, PLAIN << 56 | length << 32)
    put_be32(heap, ip + TTL, template >> 32 << 16 | checksum)
    put_be64(heap, ip + SOURCE, addresses)


@inline
def put_header(heap: U8, ip: int, length: int, ttl: int, protocol: int, source: int, destination: int) -> None:
    """A header without options, id and flags zero."""
    template = header_template(ttl, protocol, source, destination)
    put_header_like(heap, ip, length, template, source << 32 | destination)


@inline
def l4_sum(heap: U8, ip: int, l4: int, n: int, protocol: int) -> int:
    """The folded sum of the pseudo header (RFC 793) and n bytes of TCP or UDP: 0xffff when its checksum is right."""
    swapped_length = (n & 0xFF) << 8 | n >> 8 & 0xFF
    total = le32(heap, ip + SOURCE) + le32(heap, ip + DESTINATION) + (protocol << 8) + swapped_length
    return fold(total + sum_bytes(heap, l4, n))
