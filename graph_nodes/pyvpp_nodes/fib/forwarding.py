# SPDX-License-Identifier: Apache-2.0
"""What the nodes that look routes up and use load balances share."""

from numba import uint64

from pyvpp.buffers import FLOW_HASH
from pyvpp.jit import inline
from pyvpp.typing import U32, Record, Records
from pyvpp_nodes.integers import int64

CACHED_ROUTES, CACHED_WORDS = 4096, 1 << 16
"""With more load balances, or a larger trie, than this all is looked up in advance, a vector at a time.

A million IPv4 routes under load, a load balance each: 69 clocks a packet instead of 132; 200 load balances for all: 37
instead of 62. One route: 4 more, were it always done.
"""

NONE = -1
WORTH_EXPECTING = 8
"""Packets of a frame from which on one looks for what they have in common."""


@inline
def are_many(load_balances: Records, fib_nodes: U32) -> bool:
    """Are there more routes than stay in the cache?"""
    return len(load_balances) > CACHED_ROUTES or len(fib_nodes) > CACHED_WORDS


@inline
def take_bucket(m: Record, balance: Record, lb_buckets: Records, flow: int) -> int:
    """Lets a flow's number choose among several paths; remembers it, and answers the chosen path's next."""
    bucket = lb_buckets[int64(balance.buckets) + (flow & (int64(balance.n_buckets) - 1))]
    m.flow_hash = flow
    m.flags = m.flags | FLOW_HASH
    m.adj = bucket.adj
    return int64(bucket.next)


@inline
def count_on(counters: Records, index: int, packets: int, size: int) -> None:
    """Adds packets and their bytes to the counters of a route or an interface."""
    counter = counters[uint64(index)]
    counter.packets += uint64(packets)
    counter.bytes += uint64(size)
