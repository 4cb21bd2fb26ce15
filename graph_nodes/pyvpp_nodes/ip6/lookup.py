# SPDX-License-Identifier: Apache-2.0
"""ip6-lookup: find the route of each packet's destination, and in it the adjacency the packet leaves by.

The table is that of the interface the packet came in on. A route is a load balance: with several buckets the flow
hash chooses one. Counts packets and bytes by route. Leaves `m.adj` at the adjacency; where the packet goes is the
adjacency's affair.
"""

from enum import IntEnum

from numba import uint64

from pyvpp.bits import prefetch
from pyvpp.jit import inline, jit, outline, rare_case
from pyvpp.node import node
from pyvpp.trace import TraceRecord
from pyvpp.trace_format import format_ip6
from pyvpp.typing import U8, U16, U32, Record, Records
from pyvpp_nodes.fib.forwarding import NONE, WORTH_EXPECTING, are_many, count_on, take_bucket
from pyvpp_nodes.fib.trie.lookup import fib6_lookup
from pyvpp_nodes.integers import int64
from pyvpp_nodes.ip6.flow_hash import ip6_flow_hash
from pyvpp_nodes.ip6.header import DESTINATION, high_half, low_half
from pyvpp_nodes.ip6.traced import fib_index_of


class Next(IntEnum):
    DROP = 0


@outline
def choose_bucket(heap: U8, m: Record, balance: Record, lb_buckets: Records) -> int:
    """The next of a packet whose route has several paths: its flow's."""
    rare_case()
    return take_bucket(m, balance, lb_buckets, ip6_flow_hash(heap, int64(m.cur), int64(balance.flow_hash)))


@inline
def route_of(heap: U8, m: Record, ip6_fib_index: U32, ip6_fib_roots: U32, ip6_fib_nodes: U32) -> int:
    to = int64(m.cur) + DESTINATION
    fib_index = int64(ip6_fib_index[m.rx])
    return fib6_lookup(ip6_fib_roots, ip6_fib_nodes, fib_index, high_half(heap, to), low_half(heap, to))


@inline
def find_all_ahead(
    heap: U8,
    meta: Records,
    frame: U32,
    ip6_fib_index: U32,
    ip6_fib_roots: U32,
    ip6_fib_nodes: U32,
    load_balances: Records,
    route_counters: Records,
) -> None:
    """Leaves each packet's route in `m.adj` and asks memory for what is said of it."""
    for b in frame:
        m = meta[b]
        found = route_of(heap, m, ip6_fib_index, ip6_fib_roots, ip6_fib_nodes)
        m.adj = found
        prefetch(load_balances, found)
        prefetch(route_counters, found)


@inline
def take_route(
    heap: U8, m: Record, route: int, load_balances: Records, lb_buckets: Records, route_counters: Records
) -> int:
    """Counts a packet on its route; leaves its adjacency in it, and answers its next."""
    count_on(route_counters, route, 1, int64(m.len))
    balance = load_balances[uint64(route)]
    if balance.n_buckets > 1:
        return choose_bucket(heap, m, balance, lb_buckets)
    m.adj = balance.adj
    return int64(balance.next)


@inline
def route_to_expect(
    heap: U8,
    meta: Records,
    frame: U32,
    ip6_fib_index: U32,
    ip6_fib_roots: U32,
    ip6_fib_nodes: U32,
    load_balances: Records,
) -> int:
    """The route of a frame's first, middle and last packet, if it is one and has a single path, else NONE.

    Where the expectation holds neither load balance nor counters are touched for each packet; were two routes taken in
    turns at random, mispredicted branches would cost more than that saves.
    """
    n = len(frame)
    if n < WORTH_EXPECTING:
        return NONE
    first = route_of(heap, meta[frame[0]], ip6_fib_index, ip6_fib_roots, ip6_fib_nodes)
    middle = route_of(heap, meta[frame[n >> 1]], ip6_fib_index, ip6_fib_roots, ip6_fib_nodes)
    last = route_of(heap, meta[frame[n - 1]], ip6_fib_index, ip6_fib_roots, ip6_fib_nodes)
    return first if first == middle == last and load_balances[uint64(first)].n_buckets == 1 else NONE


def format_trace(record: TraceRecord) -> list[str]:
    return [
        f"fib {fib_index_of(record)} dpo-idx {record.adj} flow hash: 0x{record.flow_hash:08x}",
        *format_ip6(record.data),
    ]


@node(name="ip6-lookup", next={Next.DROP: "ip6-drop"}, trace=format_trace)
@jit
def ip6_lookup(
    heap: U8,
    meta: Records,
    frame: U32,
    nexts: U16,
    ip6_fib_index: U32,
    ip6_fib_roots: U32,
    ip6_fib_nodes: U32,
    load_balances: Records,
    lb_buckets: Records,
    route_counters: Records,
) -> None:
    if are_many(load_balances, ip6_fib_nodes):
        find_all_ahead(
            heap, meta, frame, ip6_fib_index, ip6_fib_roots, ip6_fib_nodes, load_balances, route_counters
        )  # fmt: skip
        for i, b in enumerate(frame):
            m = meta[b]
            nexts[i] = take_route(heap, m, int64(m.adj), load_balances, lb_buckets, route_counters)
        return
    expected = route_to_expect(heap, meta, frame, ip6_fib_index, ip6_fib_roots, ip6_fib_nodes, load_balances)
    balance = load_balances[uint64(max(expected, 0))]
    adj, next_ = balance.adj, balance.next
    packets, size = int64(0), int64(0)
    for i, b in enumerate(frame):
        m = meta[b]
        route = route_of(heap, m, ip6_fib_index, ip6_fib_roots, ip6_fib_nodes)
        if route == expected:
            packets += 1
            size += int64(m.len)
            m.adj = adj
            nexts[i] = next_
        else:
            nexts[i] = take_route(heap, m, route, load_balances, lb_buckets, route_counters)
    if packets:
        count_on(route_counters, expected, packets, size)
