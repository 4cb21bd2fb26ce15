# SPDX-License-Identifier: Apache-2.0
"""The Internet checksum (RFC 1071) in software, for what no device will finish.

Sums are taken in the machine's byte order and stored in it (RFC 1071, 2 B): no byte is swapped on the way.
"""

from numba import int64

from pyvpp.buffers import CSUM_PARTIAL
from pyvpp.jit import inline, jit
from pyvpp.typing import U8, Record
from pyvpp.wire import le16, le32, put_le16, u8

WITHOUT_CSUM_PARTIAL = 0xFFFFFFFF ^ CSUM_PARTIAL


@inline
def fold(total: int) -> int:
    """Sixteen bits of a sum below 2**48, the carries added back."""
    total = (total & 0xFFFFFFFF) + (total >> 32)
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    return (total & 0xFFFF) + (total >> 16)


@inline
def sum_bytes(heap: U8, start: int, n: int) -> int:
    """The unfolded sum of n bytes; an odd last one counts as if a zero followed."""
    total = 0
    at = start
    for _ in range(n >> 2):
        total += le32(heap, at)
        at += 4
    if n & 2:
        total += le16(heap, at)
        at += 2
    if n & 1:
        total += u8(heap, at)
    return total


@inline
def never_zero(checksum: int) -> int:
    """Zero says "no checksum" in UDP; 0xffff is the same number in ones' complement, and right for TCP as well."""
    return checksum if checksum else 0xFFFF


@jit
def complete_checksum(heap: U8, m: Record) -> None:
    """Finishes a CSUM_PARTIAL checksum: the field holds the pseudo header's sum and a device was to add the rest."""
    if m.flags & CSUM_PARTIAL == 0:
        return
    m.flags = m.flags & WITHOUT_CSUM_PARTIAL
    start = int64(m.csum_start)
    field = start + int64(m.csum_offset)
    end = int64(m.cur) + int64(m.len)
    if start >= int64(m.cur) and field + 2 <= end:
        put_le16(heap, field, never_zero(fold(sum_bytes(heap, start, end - start)) ^ 0xFFFF))
