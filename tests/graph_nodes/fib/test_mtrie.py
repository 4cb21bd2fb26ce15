# SPDX-License-Identifier: Apache-2.0
"""The trie against the definition: the longest prefix that holds an address wins."""

import os
import random
import threading
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from pyvpp.dispatch import fetch, publish
from pyvpp.jit import jit
from pyvpp_nodes.fib.mtrie import Mtrie, fib_lookup, lookup_many

Prefixes = dict[tuple[int, int], int]


class GrowingTable:
    def __init__(self, capacity: int) -> None:
        self.array = np.zeros(capacity, np.uint32)

    def grow(self, n: int) -> None:
        grown = np.zeros(n, np.uint32)
        grown[: len(self.array)] = self.array
        self.array = grown


def make_trie(plies: int = 4) -> Any:
    tables = {"ip4_fib_roots": GrowingTable(65536), "ip4_fib_plies": GrowingTable(plies * 256)}
    trie = Mtrie(tables)
    trie.add_root(0)
    return SimpleNamespace(trie=trie, tables=tables)


def reference(prefixes: Prefixes, address: int, below: int = 33) -> tuple[int, int]:
    """(load balance, length) of the longest match, by trying them all."""
    matching = [(length, lb) for (prefix, length), lb in prefixes.items() if (prefix ^ address) >> (32 - length) == 0]
    length, lb = max((each for each in matching if each[0] < below), default=(0, 0))
    return lb, length


def look(it: Any, addresses: list[int]) -> list[int]:
    out = np.zeros(len(addresses), np.int64)
    roots, plies = it.tables["ip4_fib_roots"].array, it.tables["ip4_fib_plies"].array
    lookup_many(roots, plies, 0, np.array(addresses, np.uint32), out)
    return [int(lb) for lb in out]


def corners(prefix: int, length: int) -> list[int]:
    size = 1 << (32 - length)
    return [a & 0xFFFFFFFF for a in (prefix - 1, prefix, prefix + size // 2, prefix + size - 1, prefix + size)]


def remove(it: Any, prefixes: Prefixes, key: tuple[int, int]) -> None:
    del prefixes[key]
    it.trie.remove(0, *key, *reference(prefixes, key[0], key[1]))


# Few distinct bits, so that prefixes nest and share plies.
addresses = st.builds(
    lambda a, b, c, d: a << 24 | b << 16 | c << 8 | d,
    *[st.sampled_from([0, 1, 127, 128, 255]) for _ in range(4)],
)
lengths = st.one_of(st.integers(0, 32), st.sampled_from([0, 1, 15, 16, 17, 23, 24, 25, 31, 32]))


class Churn(RuleBasedStateMachine):
    @initialize()
    def start(self) -> None:
        self.it = make_trie()
        self.prefixes: Prefixes = {}
        self.asked: set[int] = {0, 0xFFFFFFFF}
        self.serial = 0

    @rule(address=addresses, length=lengths)
    def insert(self, address: int, length: int) -> None:
        key = (address & (0xFFFFFFFF << (32 - length)) & 0xFFFFFFFF, length)
        self.serial += 1
        self.prefixes[key] = self.serial
        self.it.trie.insert(0, *key, self.serial)
        self.asked.update(corners(*key))

    @rule(choice=st.randoms(use_true_random=False))
    def remove(self, choice: random.Random) -> None:
        if self.prefixes:
            remove(self.it, self.prefixes, choice.choice(sorted(self.prefixes)))

    @rule(address=addresses)
    def ask(self, address: int) -> None:
        self.asked.add(address)

    @invariant()
    def lookups_agree(self) -> None:
        asked = sorted(self.asked) if hasattr(self, "asked") else []
        if asked:
            assert look(self.it, asked) == [reference(self.prefixes, each)[0] for each in asked]

    def teardown(self) -> None:
        if hasattr(self, "it"):
            for key in sorted(self.prefixes):
                remove(self.it, self.prefixes, key)
            assert_empty(self.it)


TestChurn = Churn.TestCase
TestChurn.settings = settings(max_examples=25, stateful_step_count=30)


def assert_empty(it: Any) -> None:
    assert it.trie.plies_in_use == 0
    assert (it.tables["ip4_fib_roots"].array == 1).all()
    assert not it.trie.root_lengths.any()


def test_random_churn_and_back_to_nothing() -> None:
    rng = random.Random(4)
    it = make_trie()
    prefixes: Prefixes = {}
    blocks = [rng.getrandbits(32) & 0xFFFFF000 for _ in range(8)]
    for serial in range(1, 1500):
        if prefixes and rng.random() < 0.4:
            remove(it, prefixes, rng.choice(list(prefixes)))
            continue
        length = rng.choice([8, 12, 16, 18, 20, 22, 24, 26, 30, 32])
        address = rng.choice(blocks) | rng.getrandbits(12)
        key = (address & (0xFFFFFFFF << (32 - length)), length)
        prefixes[key] = serial
        it.trie.insert(0, *key, serial)
    asked = [a for key in prefixes for a in corners(*key)]
    assert look(it, asked) == [reference(prefixes, each)[0] for each in asked]
    assert it.trie.plies_in_use > 10
    for key in rng.sample(sorted(prefixes), len(prefixes)):
        remove(it, prefixes, key)
    assert_empty(it)


def test_one_lookup_is_what_many_are() -> None:
    it = make_trie()
    it.trie.insert(0, 0x0A010203, 32, 7)
    roots, plies = it.tables["ip4_fib_roots"].array, it.tables["ip4_fib_plies"].array
    assert look(it, [0x0A010203, 0x0A010202]) == [7, 0]
    assert [it.trie.lookup(0, address) for address in (0x0A010203, 0x0A010202)] == [7, 0]
    python = getattr(fib_lookup, "py_func", fib_lookup)
    assert python(roots, plies, 0, 0x0A010203) == 7


def test_second_root_is_separate() -> None:
    it = make_trie()
    it.trie.add_root(1)
    it.trie.insert(1, 0x0A000000, 8, 5)
    assert it.trie.lookup(0, 0x0A000001) == 0
    assert it.trie.lookup(1, 0x0A000001) == 5


@jit
def strange_answers(roots: Any, plies: Any, last: Any, address: int, one: int, other: int) -> int:
    """Look up until told to stop; atomic loads and stores make each round load anew."""
    strange, rounds = 0, 0
    while fetch(last, 1) == 0:
        found = fib_lookup(roots, plies, 0, address)
        publish(last, 0, found)
        rounds += 1
        if found != one and found != other:
            strange += 1
    return strange if rounds else -1


@pytest.mark.skipif(os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0"), reason="needs a reader without the GIL")
@pytest.mark.parametrize("length", [8, 16, 20, 24, 28, 32])
def test_a_reader_sees_the_old_or_the_new_route(length: int) -> None:
    it = make_trie(plies=256)  # a table grows only while no worker runs
    it.trie.insert(0, 0, 0, 7)
    roots, plies = it.tables["ip4_fib_roots"].array, it.tables["ip4_fib_plies"].array
    last = np.ones(2, np.int64)
    strange_answers(roots, plies, last, 0, 7, 9)
    last[1] = 0
    strange: list[int] = []
    reader = threading.Thread(target=lambda: strange.append(strange_answers(roots, plies, last, 0x0A000000, 7, 9)))
    reader.start()
    while int(last[0]) != 7:
        time.sleep(0)
    for _ in range(120):
        it.trie.insert(0, 0x0A000000, length, 9)
        it.trie.remove(0, 0x0A000000, length, 7, 0)
    last[1] = 1
    reader.join()
    assert strange == [0]
    assert it.tables["ip4_fib_plies"].array is plies
