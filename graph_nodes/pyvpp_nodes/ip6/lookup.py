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
from pyvpp_nodes.fib.forwarding import are_many, take_bucket
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
        to = int64(m.cur) + DESTINATION
        fib_index = int64(ip6_fib_index[m.rx])
        found = fib6_lookup(ip6_fib_roots, ip6_fib_nodes, fib_index, high_half(heap, to), low_half(heap, to))
        m.adj = found
        prefetch(load_balances, found)
        prefetch(route_counters, found)


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
    ahead = are_many(load_balances, ip6_fib_nodes)
    if ahead:
        find_all_ahead(
            heap, meta, frame, ip6_fib_index, ip6_fib_roots, ip6_fib_nodes, load_balances, route_counters
        )  # fmt: skip
    # packets to the same place often follow each other
    last_fib, last_high, last_low, route = -1, uint64(0), uint64(0), 0
    for i, b in enumerate(frame):
        m = meta[b]
        if ahead:
            route = int64(m.adj)
        else:
            to = int64(m.cur) + DESTINATION
            fib_index, high, low = int64(ip6_fib_index[m.rx]), high_half(heap, to), low_half(heap, to)
            if low != last_low or high != last_high or fib_index != last_fib:
                last_fib, last_high, last_low = fib_index, high, low
                route = fib6_lookup(ip6_fib_roots, ip6_fib_nodes, fib_index, high, low)
        balance = load_balances[uint64(route)]
        counter = route_counters[uint64(route)]
        counter.packets += uint64(1)
        counter.bytes += uint64(m.len)
        if balance.n_buckets > 1:
            nexts[i] = choose_bucket(heap, m, balance, lb_buckets)
        else:
            m.adj = balance.adj
            nexts[i] = balance.next
