# SPDX-License-Identifier: Apache-2.0
"""TCP and UDP checksums with their pseudo headers (RFC 793, RFC 8200).

Sums are taken in the machine's byte order and stored in it (RFC 1071, 2 B): no byte is swapped on the way.
"""

from pyvpp.checksum import fold, never_zero, sum_bytes
from pyvpp.jit import inline, jit
from pyvpp.typing import U8
from pyvpp.wire import put_le16, u8


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
