# SPDX-License-Identifier: Apache-2.0
"""A packet's route: looked up in advance where routes are many, counted, and the path taken.

Among a million routes a lookup waits for memory. `begin_lookup` of each packet of a vector, then `finish_lookups` of
all, then `take_route` of each: what is read in one pass has been asked for in the pass before. That saves 5 to 12
clocks a packet of 30 to 37.
"""

from numba import uint64

from pyvpp.bits import prefetch
from pyvpp.jit import inline, outline, rare_case
from pyvpp.typing import U8, U32, Record, Records
from pyvpp.wire import LINE, be32
from pyvpp_nodes.fib.forwarding import CACHED_ROUTES, count_on, take_bucket
from pyvpp_nodes.fib.trie.lookup import fib_lookup_below, fib_root
from pyvpp_nodes.integers import int64
from pyvpp_nodes.ip4.flow_hash import ip4_flow_hash

LINE_WORDS = LINE // 4


@inline
def begin_lookup(m: Record, ip4_fib_roots: U32, ip4_fib_nodes: U32, fib_index: int, destination: int) -> None:
    """Leaves in `m.adj` where the lookup goes on, and asks memory for it.

    A block's bitmap and the entry sought often lie in two lines: both asked for, 1 to 3 clocks of 52 are saved.
    """
    block = fib_root(ip4_fib_roots, fib_index, destination)
    m.adj = block
    prefetch(ip4_fib_nodes, block)
    prefetch(ip4_fib_nodes, block + LINE_WORDS)


@inline
def finish_lookups(
    heap: U8, meta: Records, frame: U32, destination: int, ip4_fib_nodes: U32, load_balances: Records,
    route_counters: Records,
) -> None:  # fmt: skip
    """Leaves each packet's route in `m.adj`, and asks memory for what is said of it if that is much.

    The destination addresses begin `destination` bytes behind `m.cur`.
    """
    much = len(load_balances) > CACHED_ROUTES
    for b in frame:
        m = meta[b]
        found = fib_lookup_below(ip4_fib_nodes, int64(m.adj), be32(heap, int64(m.cur) + destination))
        m.adj = found
        if much:
            prefetch(load_balances, found)
            prefetch(route_counters, found)


@outline
def choose_bucket(heap: U8, m: Record, balance: Record, lb_buckets: Records) -> int:
    """The next of a packet whose route has several paths: its flow's."""
    rare_case()
    return take_bucket(m, balance, lb_buckets, ip4_flow_hash(heap, int64(m.cur), int64(balance.flow_hash)))


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
