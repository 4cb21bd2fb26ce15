# SPDX-License-Identifier: Apache-2.0
"""ip6-rewrite: age a packet by one hop and put the neighbor's link-layer header in front of it.

RFC 8200, 3 and 4443. Packets of our own (LOCALLY_ORIGINATED) keep their hop limit. The adjacency's MTU limits the IP
packet, of a GSO packet each segment it will become. A packet that may not go on is left as it was and goes to
ip6-icmp-error: an expired one, and one too big, since only its sender may fragment it (RFC 8201). Starts the arc
ip6-output of the interface it leaves by. `m.l3` must be at the IP header, which stays where it is.
"""

from enum import IntEnum

from numba import uint64

from pyvpp.buffers import LOCALLY_ORIGINATED
from pyvpp.features import enter_arc
from pyvpp.jit import inline, jit, outline, rare_case
from pyvpp.node import NodeCounter, node, set_error
from pyvpp.typing import U8, U16, U32, U64, Record, Records
from pyvpp.wire import le64, u8
from pyvpp_nodes.fib.forwarding import NONE
from pyvpp_nodes.fib.traced import format_rewritten
from pyvpp_nodes.icmp.message import ask_for_error
from pyvpp_nodes.icmp6.message import HOP_LIMIT_IN_TRANSIT, PACKET_TOO_BIG, TIME_EXCEEDED
from pyvpp_nodes.integers import int64
from pyvpp_nodes.ip4.forward import (
    ETHERNET_BYTES,
    EXPIRED,
    FORWARD,
    GO_ON,
    TOO_BIG,
    adjacency_to_expect,
    is_plain,
    largest_packet,
    prepend,
    put_ethernet,
    put_ethernet_rewrite,
)
from pyvpp_nodes.ip6.header import HEADER_BYTES, HOP_LIMIT, decrement_hop_limit


class Next(IntEnum):
    DROP = 0
    ICMP_ERROR = 1


class Counter(NodeCounter):
    TIME_EXPIRED = 0, "ip6 ttl <= 1"
    MTU_EXCEEDED = 1, "ip6 MTU exceeded"


@inline
def verdict(heap: U8, m: Record, ip: int, mtu: int) -> int:
    """Nothing is changed before it is known that the packet leaves: errors quote it as it came."""
    if m.flags & LOCALLY_ORIGINATED == 0 and u8(heap, ip + HOP_LIMIT) <= 1:
        return EXPIRED
    if largest_packet(heap, m, ip, ip + HEADER_BYTES) > mtu:
        return TOO_BIG
    return FORWARD


@outline
def age_and_prepend(heap: U8, m: Record, ip: int, adjacency: Record, counters: U64, error_base: int) -> int:
    """What is done with a packet that is not plain: GO_ON, or where it goes instead."""
    rare_case()
    mtu = int64(adjacency.mtu)
    decision = verdict(heap, m, ip, mtu)
    if decision == EXPIRED:
        ask_for_error(m, TIME_EXCEEDED, HOP_LIMIT_IN_TRANSIT, 0)
        return set_error(m, counters, error_base, Counter.TIME_EXPIRED, int64(Next.ICMP_ERROR))
    if decision == TOO_BIG:
        ask_for_error(m, PACKET_TOO_BIG, 0, mtu)
        return set_error(m, counters, error_base, Counter.MTU_EXCEEDED, int64(Next.ICMP_ERROR))
    if m.flags & LOCALLY_ORIGINATED == 0:
        decrement_hop_limit(heap, ip)
    prepend(heap, m, adjacency)
    return GO_ON


@inline
def forward(
    heap: U8,
    m: Record,
    adjacency: Record,
    counters: U64,
    error_base: int,
    feature_chains: U16,
    ip6_output_arc: U32,
) -> int:
    """The next of any packet."""
    ip = int64(m.cur)
    if adjacency.rewrite_bytes == ETHERNET_BYTES and is_plain(
        heap, m, ip + HOP_LIMIT, int64(m.len), int64(adjacency.mtu)
    ):
        decrement_hop_limit(heap, ip)
        put_ethernet_rewrite(heap, m, ip, adjacency)
    else:
        refused = age_and_prepend(heap, m, ip, adjacency, counters, error_base)
        if refused != GO_ON:
            return refused
    m.tx = adjacency.sw_if_index
    arc = int64(ip6_output_arc[m.tx])
    return enter_arc(feature_chains, m, arc) if arc else int64(adjacency.next)


@node(
    name="ip6-rewrite",
    next={Next.DROP: "ip6-drop", Next.ICMP_ERROR: "ip6-icmp-error"},
    counters=Counter,
    trace=format_rewritten,
)
@jit
def ip6_rewrite(
    heap: U8,
    meta: Records,
    frame: U32,
    nexts: U16,
    counters: U64,
    error_base: int,
    adjacencies: Records,
    feature_chains: U16,
    ip6_output_arc: U32,
) -> None:
    expected = adjacency_to_expect(meta, frame)
    adjacency = adjacencies[uint64(max(expected, 0))]
    tx, next_ = adjacency.sw_if_index, adjacency.next
    first, second = le64(adjacency.rewrite, 0), le64(adjacency.rewrite, 6)
    at_once = adjacency.rewrite_bytes == ETHERNET_BYTES and ip6_output_arc[tx] == 0
    mtu = int64(adjacency.mtu) if at_once else NONE
    for i, b in enumerate(frame):
        m = meta[b]
        ip = int64(m.cur)
        n = int64(m.len)
        if m.adj == expected and is_plain(heap, m, ip + HOP_LIMIT, n, mtu):
            decrement_hop_limit(heap, ip)
            put_ethernet(heap, m, ip, n, first, second)
            m.tx = tx
            nexts[i] = next_
        else:
            nexts[i] = forward(
                heap, m, adjacencies[m.adj], counters, error_base, feature_chains, ip6_output_arc
            )  # fmt: skip
