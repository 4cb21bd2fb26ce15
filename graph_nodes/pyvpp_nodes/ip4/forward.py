# SPDX-License-Identifier: Apache-2.0
"""What ip4-rewrite and ip4-midchain do alike: may the packet go on (TTL, MTU), where it goes when it may not, and the
string in front of it when it may. ip6-rewrite takes from here what knows no IP header."""

from enum import IntEnum
from typing import Any

from pyvpp.buffers import CSUM_PARTIAL, LOCALLY_ORIGINATED
from pyvpp.jit import inline
from pyvpp.node import NodeCounter, set_error
from pyvpp.typing import U8, U32, U64, Record, Records
from pyvpp.wire import be16, le64, put_le64, put_u8, u8
from pyvpp_nodes.fib.forwarding import NONE, WORTH_EXPECTING
from pyvpp_nodes.icmp.message import FRAGMENTATION_NEEDED, TIME_EXCEEDED, TTL_IN_TRANSIT, UNREACHABLE, ask_for_error
from pyvpp_nodes.integers import int64
from pyvpp_nodes.ip4.header import DONT_FRAGMENT, FRAGMENT, TTL, header_bytes

FORWARD, EXPIRED, TOO_BIG, FRAGMENT_IT = 0, 1, 2, 3
ETHERNET_BYTES = 14
LINK_LAYER_ROOM = 64
"""What a tunnel leaves free in front of its outer header, more than any link layer needs."""
GO_ON = -1
GSO_TCP4, GSO_TCP6, GSO_ECN = 1, 4, 0x80
UDP_BYTES = 8


class Next(IntEnum):
    """Where a packet goes that may not go on."""

    DROP = 0
    ICMP_ERROR = 1
    FRAG = 2


class Counter(NodeCounter):
    TIME_EXPIRED = 0, "ip4 ttl <= 1"
    MTU_EXCEEDED = 1, "ip4 MTU exceeded and DF set"
    NO_ROOM = 2, "no room for another tunnel's header"


@inline
def is_plain(heap: U8, m: Record, hops: int, n: int, mtu: int) -> bool:
    """Nearly every packet: from elsewhere, no GSO, it may go on, and it fits.

    `hops` is where its TTL or hop limit stands, n how long it is.
    """
    return bool((m.flags & LOCALLY_ORIGINATED) | m.gso_type == 0 and u8(heap, hops) > 1 and n <= mtu)


@inline
def adjacency_to_expect(meta: Records, frame: U32) -> int:
    """The adjacency of a frame's first, middle and last packet if it is one, else NONE.

    What is known of the adjacency before the loop begins need not be loaded for each packet: 2 clocks of 10. Were two
    taken in turns at random, mispredicted branches would cost more than that.
    """
    n = len(frame)
    if n < WORTH_EXPECTING:
        return NONE
    first, middle, last = int64(meta[frame[0]].adj), int64(meta[frame[n >> 1]].adj), int64(meta[frame[n - 1]].adj)
    return first if first == middle == last else NONE


@inline
def largest_packet(heap: U8, m: Record, ip: int, l4: int) -> int:
    """Bytes of the packet, or of the largest segment it will become: all headers up to the payload, and gso_size.

    `l4` is where the payload of IP begins; a partial checksum says better where TCP or UDP does.
    """
    if m.gso_type == 0:
        return int64(m.len)
    if m.flags & CSUM_PARTIAL:
        l4 = int64(m.csum_start)
    kind = int64(m.gso_type) & ~GSO_ECN
    l4_bytes = (u8(heap, l4 + 12) >> 4) << 2 if kind in (GSO_TCP4, GSO_TCP6) else UDP_BYTES
    return l4 - ip + l4_bytes + int64(m.gso_size)


@inline
def verdict(heap: U8, m: Record, ip: int, mtu: int) -> int:
    """Nothing is changed before it is known that the packet leaves: errors and fragments see it as it came."""
    if m.flags & LOCALLY_ORIGINATED == 0 and u8(heap, ip + TTL) <= 1:
        return EXPIRED
    if largest_packet(heap, m, ip, ip + header_bytes(heap, ip)) > mtu:
        return TOO_BIG if be16(heap, ip + FRAGMENT) & DONT_FRAGMENT else FRAGMENT_IT
    return FORWARD


@inline
def refuse(m: Record, decision: int, mtu: int, counters: U64, error_base: int) -> int:
    """Counts a packet that may not go on, leaves the reason in it, and answers where it goes."""
    if decision == EXPIRED:
        ask_for_error(m, TIME_EXCEEDED, TTL_IN_TRANSIT, 0)
        return set_error(m, counters, error_base, Counter.TIME_EXPIRED, int64(Next.ICMP_ERROR))
    if decision == TOO_BIG:
        ask_for_error(m, UNREACHABLE, FRAGMENTATION_NEEDED, mtu)
        return set_error(m, counters, error_base, Counter.MTU_EXCEEDED, int64(Next.ICMP_ERROR))
    return int64(Next.FRAG)


@inline
def put_ethernet(heap: U8, m: Record, ip: int, n: int, first: Any, second: Any) -> int:
    """Puts 14 bytes in front of a packet of n, in two stores of eight that overlap; answers where they begin."""
    start = ip - ETHERNET_BYTES
    put_le64(heap, start, first)
    put_le64(heap, start + 6, second)
    m.cur = start
    m.len = n + ETHERNET_BYTES
    return start


@inline
def put_ethernet_rewrite(heap: U8, m: Record, ip: int, adjacency: Record) -> int:
    """`put_ethernet` of an adjacency's rewrite string."""
    return put_ethernet(heap, m, ip, int64(m.len), le64(adjacency.rewrite, 0), le64(adjacency.rewrite, 6))


@inline
def prepend(heap: U8, m: Record, adjacency: Record) -> int:
    """Puts the rewrite string in front of the packet and answers where that begins."""
    n = int64(adjacency.rewrite_bytes)
    if n == ETHERNET_BYTES:
        return put_ethernet_rewrite(heap, m, int64(m.cur), adjacency)
    start = int64(m.cur) - n
    for k in range(n):
        put_u8(heap, start + k, adjacency.rewrite[k])
    m.cur = start
    m.len = int64(m.len) + n
    return start
