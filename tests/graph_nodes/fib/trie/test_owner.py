# SPDX-License-Identifier: Apache-2.0
"""The trie against the definition: the longest prefix that holds an address wins."""

import os
import random
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pyvpp.jit import COMPILED
from pyvpp_nodes.fib.synthetic import anywhere, inside, routes4, routes6
from pyvpp_nodes.fib.trie import arrays, build, owner
from pyvpp_nodes.fib.trie.owner import Prefixes, Trie
from tests.graph_nodes.fib.trie.model import (
    Routes,
    addresses,
    apply,
    batches,
    corners,
    keys,
    look,
    make_trie,
    masked,
    random_key,
    reference,
)  # fmt: skip

WIDTHS: Any = pytest.mark.parametrize("bits", [32, 128])


def assert_empty(trie: Trie) -> None:
    """Nothing is left of routes that are gone, in the dataplane or in the tree."""
    for value in range(1, len(trie._arrays.uniform)):
        trie.forget(value)
    trie.reclaim()
    t = trie._arrays
    assert (trie.words_in_use, trie.count(0)) == (0, 0)
    assert not t.roots.any()
    assert int(t.cells_heap[arrays.HEAP_USED]) == 0
    assert int(t.tree["alive"].sum()) == 1  # the topmost


class Churn(RuleBasedStateMachine):
    BITS = 32

    @initialize()
    def start(self) -> None:
        self.trie = make_trie()
        self.routes: Routes = {}
        self.asked: set[int] = {0, (1 << self.BITS) - 1}

    @rule(data=st.data())
    def change(self, data: st.DataObject) -> None:
        batch = data.draw(batches(self.BITS))
        for key in data.draw(st.sets(st.sampled_from(sorted(self.routes)))) if self.routes else ():
            batch[key] = None
        self.apply(batch)

    def apply(self, batch: Any) -> None:
        apply(self.trie, batch, self.BITS)
        for key, value in batch.items():
            self.routes.pop(key, None)
            if value is not None:
                self.routes[key] = value
            self.asked.update(corners(key, self.BITS))

    @rule(data=st.data())
    def ask(self, data: st.DataObject) -> None:
        self.asked.add(data.draw(addresses(self.BITS)))

    @precondition(lambda self: self.routes)
    @rule(data=st.data())
    def read_back(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.routes)) | keys(self.BITS))
        one = Prefixes.of(self.BITS, key)
        assert int(self.trie.find(0, one)[0]) == self.routes.get(key, arrays.NONE)
        holding = [
            (n, lb) for (prefix, n), lb in self.routes.items() if n <= key[1] and covers(prefix, n, key[0], self.BITS)
        ]
        length, value = self.trie.cover(0, one)
        if holding:
            assert (int(length[0]), int(value[0])) == max(holding)
        else:
            assert int(value[0]) == arrays.NONE

    @rule()
    def workers_pass(self) -> None:
        """All that is freed then is free: what is left is as much as a new trie would take."""
        self.trie.reclaim()
        fresh = make_trie()
        if self.routes:
            apply(fresh, dict(self.routes), self.BITS)
        assert words_of_routes(self.trie) == words_of_routes(fresh)

    @rule()
    def no_room(self) -> None:
        self.trie._renew()

    @invariant()
    def lookups_agree(self) -> None:
        if hasattr(self, "asked"):
            asked = sorted(self.asked)
            assert look(self.trie, asked, self.BITS) == [reference(self.routes, each, self.BITS) for each in asked]

    @invariant()
    def all_routes_are_there(self) -> None:
        if hasattr(self, "routes"):
            where, values = self.trie.routes(0)
            found = zip(where.addresses(self.BITS), where.length, values, strict=True)
            assert [((a, int(n)), int(v)) for a, n, v in found] == sorted(self.routes.items())
            assert self.trie.by_length(0)[: self.BITS + 1] == [
                sum(n == length for _, n in self.routes) for length in range(self.BITS + 1)
            ]

    def teardown(self) -> None:
        if hasattr(self, "trie"):
            if self.routes:
                apply(self.trie, dict.fromkeys(self.routes), self.BITS)
            assert_empty(self.trie)


def words_of_routes(trie: Trie) -> int:
    """Words in use, but for blocks with one load balance in all slots, which stay as long as the load balance."""
    return trie.words_in_use - 4 * int(np.count_nonzero(trie._arrays.uniform))


def covers(prefix: int, length: int, address: int, bits: int) -> bool:
    return (prefix ^ address) >> (bits - length) == 0


class Churn6(Churn):
    BITS = 128


TestChurn4 = Churn.TestCase
TestChurn6 = Churn6.TestCase
TestChurn4.settings = TestChurn6.settings = settings(max_examples=20, stateful_step_count=20)


@WIDTHS
def test_one_by_one_and_back_to_nothing(bits: int) -> None:
    rng = random.Random(bits)
    trie, routes = make_trie(), Routes()
    blocks = [rng.getrandbits(bits) >> 14 << 14 for _ in range(8)]
    for _ in range(1200):
        if routes and rng.random() < 0.4:
            key = rng.choice(list(routes))
            del routes[key]
            apply(trie, {key: None}, bits)
        else:
            key = random_key(rng, blocks, bits)
            routes[key] = rng.randrange(1, 300)
            apply(trie, {key: routes[key]}, bits)
    asked = [address for key in routes for address in corners(key, bits)]
    assert look(trie, asked, bits) == [reference(routes, address, bits) for address in asked]
    for key in rng.sample(sorted(routes), len(routes)):
        apply(trie, {key: None}, bits)
    assert_empty(trie)


@pytest.mark.slow
@pytest.mark.parametrize("table", [routes4(60_000), routes6(20_000)])
def test_a_table_like_the_internets(table: Any) -> None:
    """In bulk; a third away again; and all agrees with dictionaries, inside routes and anywhere."""
    trie = make_trie()
    where, values = table.prefixes, table.next_hop + np.uint32(1)
    trie.set(0, where, values)
    third = np.arange(0, len(table), 3)
    trie.set(0, where.pick(third), np.full(len(third), arrays.NONE, np.uint32))
    stay = np.setdiff1d(np.arange(len(table)), third)
    left = where.pick(stay)
    bits = table.bits
    routes = dict(zip(zip(left.addresses(bits), left.length.tolist(), strict=True), values[stay].tolist(), strict=True))
    for high, low in (inside(table, 4000), anywhere(bits, 4000)):
        asked = Prefixes(high, low, np.full(len(high), bits, np.uint8))
        expected = [reference(routes, address, bits) for address in asked.addresses(bits)]
        assert trie.lookup(0, high, low, bits).tolist() == expected


@pytest.mark.slow
@pytest.mark.parametrize(("bits", "level"), [*((32, k) for k in range(6)), *((128, k) for k in range(0, 22))])
def test_every_prefix_that_ends_in_a_node(bits: int, level: int) -> None:
    """All 126 of a level (fewer where the address ends), alone and beneath the shortest, asked in all 64 slots."""
    trie = make_trie()
    base = 0x2A5A5A5A5A5A5A5A5A5A5A5A5A5A5A5A >> (128 - bits)
    first = 6 * level
    slots = min(6, bits - first)
    above = masked(base, first, bits)
    asked = [above | slot << (bits - first - slots) for slot in range(1 << slots)]
    asked += [address ^ (1 << (bits - first)) for address in asked if first]  # the same slots of another node
    under: Routes = {(above, first): 1} if first else {(0, 0): 1}
    for routes in ({}, under):
        apply(trie, dict(routes), bits)
        for length in range(first + 1, first + slots + 1):
            for k in range(1 << (length - first)):
                key = (above | k << (bits - length), length)
                apply(trie, {key: 2}, bits)
                assert look(trie, asked, bits) == [reference({**routes, key: 2}, each, bits) for each in asked], key
                apply(trie, {key: None}, bits)
        assert look(trie, asked, bits) == [reference(routes, each, bits) for each in asked]


@WIDTHS
def test_tables_are_separate_and_their_place_is_used_again(bits: int) -> None:
    trie = make_trie()
    for fib_index in (1, 2):
        trie.add_table(fib_index)
    key, inside_it = (0xA << (bits - 4), 8), 0xA << (bits - 4) | 5
    apply(trie, {key: 5}, bits, 1)
    apply(trie, {key: 6, (0, 0): 7}, bits, 2)
    assert [look(trie, [inside_it, 1], bits, fib_index) for fib_index in (0, 1, 2)] == [[0, 0], [5, 0], [6, 7]]
    assert [trie.count(fib_index) for fib_index in (0, 1, 2)] == [0, 1, 2]
    apply(trie, {key: None}, bits, 1)
    trie.remove_table(1)
    trie.add_table(1)
    assert look(trie, [inside_it, 1], bits, 1) == [0, 0]
    assert trie.routes(2)[1].tolist() == [7, 6]


def test_roots_with_one_answer_share_a_block() -> None:
    """A million contiguous /24 with one next hop are as small as one route."""
    trie = make_trie()
    apply(trie, {(0x10000000 + (i << 8), 24): 9 for i in range(4096)}, 32)
    assert look(trie, [0x10000000, 0x100FFFFF, 0x10100000], 32) == [9, 9, 0]
    trie.reclaim()
    assert trie.words_in_use == 4


def test_what_is_freed_waits_for_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks are used again only after `synchronize`, which is asked for once in a while."""
    rest = 64
    monkeypatch.setattr(owner, "REST", rest)
    passed: list[int] = []
    trie = make_trie(synchronize=lambda: passed.append(trie.resting))
    key = (0x0A000000, 24)
    for i in range(rest):
        apply(trie, {key: 1 + i % 2, (0x0A000100, 24): 3}, 32)
    assert trie.resting <= rest and passed == []
    before = trie._arrays.nodes_heap[arrays.HEAP_NEXT]
    for i in range(3 * rest):
        apply(trie, {key: 1 + i % 2}, 32)
    assert len(passed) == 3 and min(passed) > rest
    assert trie._arrays.nodes_heap[arrays.HEAP_NEXT] - before <= 8 * rest


@WIDTHS
def test_the_room_that_is_asked_for_is_what_blocks_take(bits: int) -> None:
    """When all is made anew, blocks, skips and blocks with one answer are counted before."""
    rng, trie = random.Random(bits), make_trie()
    blocks = [rng.getrandbits(bits) for _ in range(40)]
    apply(trie, {random_key(rng, blocks, bits): rng.randrange(1, 50) for _ in range(300)}, bits)
    trie._renew()
    used, drops = trie.words_in_use, 4
    assert int(build.renew(trie._arrays)) == used + drops
    trie._renew()
    assert trie.words_in_use == used


def test_any_number_of_load_balances_may_be_forgotten_at_once() -> None:
    """Each had a block for roots with one answer; they wait like all others, in a list that grows."""
    trie, count = make_trie(), len(make_trie()._arrays.retired) + 10
    where = Prefixes.row(32, 0, 18, count)
    trie.set(0, where, np.arange(1, count + 1, dtype=np.uint32))
    trie.set(0, where, np.full(count, arrays.NONE, np.uint32))
    trie.reclaim()
    assert trie.words_in_use == 4 * count
    for value in range(1, count + 1):
        trie.forget(value)
    assert trie.resting == count <= len(trie._arrays.retired)
    trie.reclaim()
    assert trie.words_in_use == 0


def test_prefixes_of_numbers() -> None:
    where = Prefixes.of(32, (0x0A010000, 16), (0, 0))
    assert (int(where.high[0]), where.low.tolist(), where.length.tolist()) == (0x0A010000 << 32, [0, 0], [16, 0])
    assert where.addresses(32) == [0x0A010000, 0]
    address = 0x20010DB8 << 96 | 77
    assert Prefixes.of(128, (address, 128)).addresses(128) == [address]


@pytest.mark.slow
@pytest.mark.skipif(not COMPILED, reason="nothing is compiled")
def test_all_that_is_compiled_here_is_compiled_with_the_nodes() -> None:
    """Else the first route of a running pyvpp would wait for a compiler."""
    program = """
from pyvpp.loader import load
from pyvpp_nodes.fib.trie import build, change, edit, lookup
load().native["fib"].use()
for module in (build, change, edit, lookup):
    for name, value in vars(module).items():
        ours = hasattr(value, "py_func") and value.py_func.__module__ == module.__name__
        if ours and value.stats.cache_path and not value.signatures:  # others are parts of these
            print(name)
"""
    child = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=child_environment())
    assert (child.stdout, child.returncode) == ("", 0), child.stderr


def child_environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
