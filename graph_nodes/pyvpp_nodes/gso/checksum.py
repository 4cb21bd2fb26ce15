# SPDX-License-Identifier: Apache-2.0
"""TCP and UDP checksums in software (RFC 1071), for what no device will finish.

Sums are taken in the machine's byte order and stored in it (RFC 1071, 2 B): no byte is swapped on the way.
"""

from pyvpp.buffers import CSUM_PARTIAL
from pyvpp.jit import inline, jit
from pyvpp.typing import U8, Record
from pyvpp.wire import put_le16, u8
from pyvpp_nodes.integers import int64
from pyvpp_nodes.ip4.header import fold, sum_bytes

WITHOUT_CSUM_PARTIAL = 0xFFFFFFFF ^ CSUM_PARTIAL


@inline
def never_zero(checksum: int) -> int:
    """Zero says "no checksum" in UDP; 0xffff is the same number in ones' complement, and right for TCP as well."""
    return checksum if checksum else 0xFFFF


@inline
def pseudo_header_sum(heap: U8, ip: int, l4_bytes: int, protocol: int) -> int:
    """The unfolded sum of the pseudo header (RFC 793, RFC 8200) of so many bytes of TCP or UDP."""
    addresses = sum_bytes(heap, ip + 8, 32) if u8(heap, ip) >> 4 == 6 else sum_bytes(heap, ip + 12, 8)
    return addresses + (protocol << 8) + ((l4_bytes & 0xFF) << 8) + (l4_bytes >> 8)


@jit
def put_l4_checksum(heap: U8, ip: int, l4: int, l4_bytes: int, protocol: int, checksum_offset: int) -> None:
    """Computes a TCP or UDP checksum with its pseudo header, whatever the field held."""
    pseudo = pseudo_header_sum(heap, ip, l4_bytes, protocol)
    put_le16(heap, l4 + checksum_offset, 0)
    put_le16(heap, l4 + checksum_offset, never_zero(fold(pseudo + sum_bytes(heap, l4, l4_bytes)) ^ 0xFFFF))


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
