# SPDX-License-Identifier: Apache-2.0
"""What ip4-rewrite and ip4-midchain do alike: may the packet go on (TTL, MTU), and the string in front of it."""

from pyvpp.buffers import CSUM_PARTIAL, LOCALLY_ORIGINATED
from pyvpp.jit import inline
from pyvpp.typing import U8, Record
from pyvpp.wire import be16, le64, put_le64
from pyvpp_nodes.integers import int64
from pyvpp_nodes.ip4.header import DONT_FRAGMENT, FRAGMENT, TTL, header_bytes

FORWARD, EXPIRED, TOO_BIG, FRAGMENT_IT = 0, 1, 2, 3
GSO_TCP4, GSO_TCP6, GSO_ECN = 1, 4, 0x80
UDP_BYTES = 8


@inline
def largest_packet(heap: U8, m: Record, ip: int) -> int:
    """Bytes of the packet, or of the largest segment it will become: all headers up to the payload, and gso_size."""
    if m.gso_type == 0:
        return int64(m.len)
    l4 = int64(m.csum_start) if m.flags & CSUM_PARTIAL else ip + header_bytes(heap, ip)
    kind = int64(m.gso_type) & ~GSO_ECN
    l4_bytes = (int64(heap[l4 + 12]) >> 4) << 2 if kind in (GSO_TCP4, GSO_TCP6) else UDP_BYTES
    return l4 - ip + l4_bytes + int64(m.gso_size)


@inline
def verdict(heap: U8, m: Record, ip: int, mtu: int) -> int:
    """Nothing is changed before it is known that the packet leaves: errors and fragments see it as it came."""
    if m.flags & LOCALLY_ORIGINATED == 0 and int64(heap[ip + TTL]) <= 1:
        return EXPIRED
    if largest_packet(heap, m, ip) > mtu:
        return TOO_BIG if be16(heap, ip + FRAGMENT) & DONT_FRAGMENT else FRAGMENT_IT
    return FORWARD


@inline
def prepend(heap: U8, m: Record, adjacency: Record) -> int:
    """Puts the rewrite string in front of the packet and answers where that begins."""
    n = int64(adjacency.rewrite_bytes)
    start = int64(m.cur) - n
    rewrite = adjacency.rewrite
    if n == 14:  # Ethernet: two overlapping stores
        put_le64(heap, start, le64(rewrite, 0))
        put_le64(heap, start + 6, le64(rewrite, 6))
    else:
        for k in range(n):
            heap[start + k] = rewrite[k]
    m.cur = start
    m.len = int64(m.len) + n
    return start
