# SPDX-License-Identifier: Apache-2.0
"""The forwarding trie at the Internet's size: lookups, and changes in bulk and one by one, beside a dict per length."""

from functools import cache
from typing import Any

import numpy as np
import pytest

from bench.harness import a_piece, timed
from pyvpp_nodes.fib import synthetic
from pyvpp_nodes.fib.trie.arrays import NONE
from pyvpp_nodes.fib.trie.owner import Prefixes, Trie
from tests.graph_nodes.fib.trie.model import make_trie, reference

SIZES = {32: 1_000_000, 128: 200_000}  # routes by the bits of an address
LOOKUPS, CHANGES, SINGLE, REFERENCES = 1 << 18, 1 << 16, 2000, 1000


@cache
def table(bits: int) -> synthetic.Routes:
    make = synthetic.routes4 if bits == 32 else synthetic.routes6
    return make(SIZES[bits])


@cache
def filled(bits: int) -> Trie:
    routes, trie = table(bits), make_trie()
    trie.set(0, prefixes(routes), routes.next_hop + np.uint32(1))
    return trie


def prefixes(routes: synthetic.Routes) -> Prefixes:
    return Prefixes(routes.high, routes.low, routes.length)


@pytest.mark.parametrize("where", ["inside", "anywhere"])
@pytest.mark.parametrize("bits", SIZES)
def bench_lookup(bits: int, where: str, benchmark: Any) -> None:
    """Seconds a lookup: destinations inside random routes, or uniform over all addresses."""
    trie = filled(bits)
    drawn = synthetic.inside(table(bits), LOOKUPS) if where == "inside" else synthetic.anywhere(bits, LOOKUPS)
    found = trie.lookup(0, *drawn, bits)
    assert where == "anywhere" or found.min() > 0
    timed(benchmark, a_piece(lambda: trie.lookup(0, *drawn, bits), LOOKUPS))


@pytest.mark.parametrize("bits", SIZES)
def bench_lookup_reference(bits: int, benchmark: Any) -> None:
    """The same by the definition, in Python; asked for fewer."""
    routes = table(bits)
    keys = zip(prefixes(routes).addresses(bits), routes.length.tolist(), strict=True)
    known = dict(zip(keys, (routes.next_hop + 1).tolist(), strict=True))
    high, low = synthetic.inside(routes, REFERENCES)
    asked = Prefixes(high, low, np.zeros(0, np.uint8)).addresses(bits)
    answers = [reference(known, address, bits) for address in asked]
    assert answers == filled(bits).lookup(0, high, low, bits).tolist()
    timed(benchmark, a_piece(lambda: [reference(known, address, bits) for address in asked], REFERENCES), rounds=3)


@pytest.mark.parametrize("bits", SIZES)
def bench_change_in_bulk(bits: int, benchmark: Any) -> None:
    """Seconds a route, taken out and put back among all others, CHANGES of them in one call."""
    routes, trie = table(bits), filled(bits)
    pick = np.random.default_rng(1).choice(len(routes), CHANGES, replace=False)
    chosen, values = prefixes(routes).pick(pick), routes.next_hop[pick] + np.uint32(1)

    def change() -> None:
        trie.set(0, chosen, np.full(CHANGES, NONE, np.uint32))
        trie.set(0, chosen, values)

    timed(benchmark, a_piece(change, 2 * CHANGES), rounds=5)
    assert (trie.find(0, chosen) == values).all()


@pytest.mark.parametrize("bits", SIZES)
def bench_change_one_by_one(bits: int, benchmark: Any) -> None:
    """Seconds a route, taken out and put back, each by a call of its own."""
    routes, trie = table(bits), filled(bits)
    pick = np.random.default_rng(2).choice(len(routes), SINGLE, replace=False)
    single = [(prefixes(routes).pick([at]), routes.next_hop[[at]] + np.uint32(1)) for at in pick]
    none = np.full(1, NONE, np.uint32)

    def change() -> None:
        for prefix, value in single:
            trie.set(0, prefix, none)
            trie.set(0, prefix, value)

    timed(benchmark, a_piece(change, 2 * SINGLE), rounds=5)
    assert trie.count(0) == len(routes)
