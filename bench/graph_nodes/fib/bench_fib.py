# SPDX-License-Identifier: Apache-2.0
"""The FIB at the Internet's size: routes with sources and paths come and go, in bulk and one by one, and resolve."""

from functools import cache
from typing import Any

import numpy as np
import pytest

from bench.harness import a_piece, timed
from pyvpp_nodes.fib import synthetic
from pyvpp_nodes.fib.entry import Source, attached_nexthop, recursive
from tests.graph_nodes.fib.conftest import Bench

SIZES = {32: 1_000_000, 128: 200_000}  # routes by the bits of an address
CHANGES, SINGLE, NEXT_HOPS = 1 << 16, 2000, 200


@cache
def table(bits: int) -> synthetic.Routes:
    return (synthetic.routes4 if bits == 32 else synthetic.routes6)(SIZES[bits], next_hops=NEXT_HOPS)


@cache
def filled(bits: int) -> Any:
    """A FIB of the family, full; and the path lists of its next hops."""
    bench = Bench()
    fib = bench.fib if bits == 32 else bench.fib6
    paths = [(attached_nexthop(1 + hop, bench.ETH0),) for hop in range(NEXT_HOPS)]
    fib.update_many(table(bits).prefixes, paths, table(bits).next_hop)
    return fib, paths, bench


@pytest.mark.parametrize("bits", SIZES)
def bench_update_in_bulk(bits: int, benchmark: Any) -> None:
    """Seconds a route, taken out and put back among all others, CHANGES of them in one call."""
    (fib, paths, _), routes = filled(bits), table(bits)
    pick = np.random.default_rng(1).choice(len(routes), CHANGES, replace=False)
    chosen, which = routes.prefixes.pick(pick), routes.next_hop[pick]

    def change() -> None:
        fib.remove_many(chosen)
        fib.update_many(chosen, paths, which)

    timed(benchmark, a_piece(change, 2 * CHANGES), rounds=5)
    assert [fib._routes[lb].paths for lb in fib.trie.find(0, chosen).tolist()] == [paths[hop] for hop in which]


@pytest.mark.parametrize("bits", SIZES)
def bench_update_one_by_one(bits: int, benchmark: Any) -> None:
    """Seconds a route, taken out and put back, each by a call of its own."""
    (fib, paths, _), routes = filled(bits), table(bits)
    pick = np.random.default_rng(2).choice(len(routes), SINGLE, replace=False)
    chosen = routes.prefixes.pick(pick)
    keys = list(zip(chosen.addresses(bits), chosen.length.tolist(), strict=True))
    hops = routes.next_hop[pick].tolist()

    def change() -> None:
        for key, hop in zip(keys, hops, strict=True):
            fib.remove(key)
            fib.update(key, paths[hop])

    timed(benchmark, a_piece(change, 2 * SINGLE), rounds=5)
    assert all(fib.find(key).paths == paths[hop] for key, hop in zip(keys, hops, strict=True))


@pytest.mark.parametrize("bits", SIZES)
def bench_next_hop_moves(bits: int, benchmark: Any) -> None:
    """Seconds until all routes through a recursive next hop go another way: they share what changes."""
    fib, _, bench = filled(bits)
    hop = 0xC6 << (bits - 8) | 1
    row = fib.trie.routes(0)[0].pick(np.arange(CHANGES))
    fib.update_many(row, [(recursive(hop),)], np.zeros(CHANGES, np.uint32), Source.INTERFACE)
    ways = [(attached_nexthop(7, link),) for link in (bench.ETH0, bench.ETH1)]

    def change() -> None:
        for way in ways:
            fib.update((hop, bits), way)

    timed(benchmark, a_piece(change, len(ways)), rounds=20)
    fib.remove((hop, bits))
    fib.remove_many(row, Source.INTERFACE)
