# SPDX-License-Identifier: Apache-2.0
"""The hash table behaves as a dict whose entries expire, whatever is done in which order, down to its invariants."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pyvpp.jit import jit
from pyvpp.tables import TableInstance
from pyvpp_nodes.kit import hash_table as table
from pyvpp_nodes.kit.hash_table import (
    COUNT,
    FIRST_SLOTS,
    FREE_ENTRY,
    MOVED_BY_ADD,
    NONE,
    TO_MOVE,
    entry_in,
    hash_in,
    hash_of,
    hash_table,
    living,
    slots_of,
)

SMALL = 40


@jit
def add(index, entries, key, h, now, expires):
    return table.add(index, entries, key, h, now, expires)


@jit
def find(index, entries, key, h, now):
    return table.find(index, entries, key, h, now)


@jit
def remove(index, entries, i):
    table.remove(index, entries, i)


@jit
def sweep(index, entries, now, steps):
    return table.sweep(index, entries, now, steps)


@jit
def hashed(index, key):
    return hash_of(index, key)


def hashes_of(index, keys):
    """Of keys as plain numbers, which a compiled function takes for signed ones."""
    return [hashed(index, tuple(np.uint64(word) for word in key)) for key in keys]


def made(key_bytes: int, capacity: int):
    """A table's two arrays."""
    index, entries = hash_table("tested", key_bytes=key_bytes, capacity=capacity, fields=[("tag", np.uint32)])
    return TableInstance(index, 1).array, TableInstance(entries, 1).array


def check(index, entries) -> set[int]:
    """Every entry that is in use is in one slot, where its hash leads without a gap. Answers the entries."""
    found: list[int] = []
    n = slots_of(index)
    for size in (n, n // 2) if index[TO_MOVE] else (n,):
        for at in range(size):
            slot = index[size + at]
            i = entry_in(slot)
            if i == NONE:
                assert slot == 0 or size < n, "what has moved is forgotten when all have"
                continue
            h = hash_in(slot)
            assert h == int(entries[i].hash) == hashed(index, key_of(entries, i))
            assert all(index[size + (h + k) % size] for k in range((at - h) % size)), "a gap on the way"
            assert size == n or at < int(index[TO_MOVE])
            found.append(i)
    assert len(found) == len(set(found)) == int(index[COUNT])
    assert 2 * len(found) <= n
    free, at = set(), int(index[FREE_ENTRY])
    while at != NONE:
        assert at not in free
        free.add(at)
        at = int(entries[at].hash)
    assert not free & set(found)
    return set(found)


def key_of(entries, i: int):
    return tuple(np.uint64(word) for word in entries[i].key)


class Machine(RuleBasedStateMachine):
    """Beside a dict from keys to (index, expiry, tag). Hashes are chosen so that some keys share all bits of theirs."""

    words = 2

    @initialize(seed=st.integers(0, 0xFFFFFFFF))
    def begin(self, seed):
        self.index, self.entries = made(8 * self.words, SMALL)
        self.index[table.SEED] = seed
        self.now = 1000
        self.model = {}

    def key(self, number):
        """Distinct in any one word only, so that each word has to be compared."""
        words = [7] * self.words
        words[number % self.words] += number
        return tuple(np.uint64(word << (number % 3) * 20) for word in words)

    def live(self):
        return {number: kept for number, kept in self.model.items() if kept[1] > self.now}

    @rule(number=st.integers(0, 99), lifetime=st.integers(1, 300))
    def add(self, number, lifetime):
        key = self.key(number)
        i = add(self.index, self.entries, key, hashed(self.index, key), self.now, self.now + lifetime)
        if i == NONE:
            assert number not in self.live()
            assert int(self.index[COUNT]) == SMALL, "refused though there is room"
            return
        assert i not in {kept[0] for other, kept in self.live().items() if other != number}
        if number in self.live():
            assert i == self.model[number][0]
        self.model[number] = (i, self.now + lifetime, number)
        self.entries["tag"][i] = number

    @rule(number=st.integers(0, 99))
    def find(self, number):
        key = self.key(number)
        i = find(self.index, self.entries, key, hashed(self.index, key), self.now)
        assert i == self.live().get(number, (NONE,))[0]
        if i != NONE:
            assert self.entries["tag"][i] == number

    @precondition(lambda self: self.live())
    @rule(data=st.data(), lifetime=st.integers(1, 300))
    def touch(self, data, lifetime):
        number = data.draw(st.sampled_from(sorted(self.live())))
        i, _, tag = self.model[number]
        self.entries["expires"][i] = self.now + lifetime
        self.model[number] = (i, self.now + lifetime, tag)

    @precondition(lambda self: self.live())
    @rule(data=st.data())
    def remove(self, data):
        number = data.draw(st.sampled_from(sorted(self.live())))
        remove(self.index, self.entries, self.model.pop(number)[0])

    @rule(steps=st.sampled_from([1, 3, SMALL]))
    def sweep(self, steps):
        before = int(self.index[COUNT])
        assert sweep(self.index, self.entries, self.now, steps) == before - int(self.index[COUNT])
        if steps == SMALL:  # all the way round
            assert int(self.index[COUNT]) == len(self.live())

    @rule(later=st.integers(0, 500))
    def go_on(self, later):
        """Another process has what was in use; its clock is another one."""
        index, entries = made(8 * self.words, SMALL)
        assert table.put_back(index, entries, *table.in_use(self.index, self.entries), later)
        self.index, self.entries = index, entries
        self.now += later
        self.model = {number: (i, expires + later, tag) for number, (i, expires, tag) in self.model.items()}

    @rule(passed=st.integers(1, 200))
    def time(self, passed):
        self.now += passed

    @invariant()
    def is_sound(self):
        used = check(self.index, self.entries)
        live = {kept[0] for kept in self.live().values()}
        assert live <= used
        assert set(living(self.index, self.entries, self.now).tolist()) == live


class MachineOfOneWord(Machine):
    words = 1


class MachineOfFiveWords(Machine):
    words = 5


TestMachine = Machine.TestCase
TestMachineOfOneWord = MachineOfOneWord.TestCase
TestMachineOfFiveWords = MachineOfFiveWords.TestCase
for each in (TestMachine, TestMachineOfOneWord, TestMachineOfFiveWords):
    each.settings = settings(max_examples=20, stateful_step_count=60, deadline=None)


@pytest.mark.parametrize("key_bytes", [4, 8, 16, 40])
def test_growth_a_few_slots_at_a_time(key_bytes):
    """After each entry all earlier ones are found; never more slots than entries need."""
    index, entries = made(key_bytes, 400)
    width = max(1, key_bytes // 8)
    keys = [(number,) * width for number in range(1, 401)]
    for n, key in enumerate(keys, 1):
        moved = int(index[TO_MOVE])
        assert add(index, entries, key, hashed(index, key), 0, 10) != NONE
        assert int(index[TO_MOVE]) >= moved - MOVED_BY_ADD
        if n % 10 == 0:
            check(index, entries)
            assert all(find(index, entries, each, hashed(index, each), 9) for each in keys[:n])
            assert slots_of(index) <= max(FIRST_SLOTS, 4 * n)
    assert slots_of(index) == 1024 and not index[TO_MOVE]
    key = (0,) * width
    assert add(index, entries, key, hashed(index, key), 9, 20) == NONE
    assert add(index, entries, key, hashed(index, key), 10, 20) != NONE  # all others have expired


def test_keys_that_all_fall_into_one_slot_find_room():
    """Whoever knows the seed can send such; the table is slow then, and whole."""
    index, entries = made(16, 300)
    h = 0x80001234
    for number in range(300):
        assert add(index, entries, (number, 5), h, 0, 10) == number + 1
        if number % 23 == 0:
            assert find(index, entries, (number // 2, 5), h, 5) == number // 2 + 1
    for i in random.Random(1).sample(range(1, 301), 300):
        remove(index, entries, i)
        assert find(index, entries, (i - 1, 5), h, 5) == NONE
    assert int(index[COUNT]) == 0
    assert not index[slots_of(index) :].any()


def test_what_finds_no_room_is_not_put_back():
    index, entries = made(16, 300)
    for number in range(300):
        add(index, entries, (number, 5), hashed(index, (number, 5)), 0, 10)
    smaller = made(16, 100)
    assert not table.put_back(*smaller, *table.in_use(index, entries), 0)
    assert not smaller[0].any() and not smaller[1].tobytes().strip(b"\0")


@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1)), min_size=2, max_size=40, unique=True))
def test_the_hash_has_32_bits_and_depends_on_the_seed(keys):
    index, _ = made(16, 10)
    first = hashes_of(index, keys)
    assert all(1 << 31 <= h < 1 << 32 for h in first)
    index[table.SEED] = 0x5EED
    assert hashes_of(index, keys) != first


@pytest.mark.slow
def test_flows_that_differ_in_a_bit_or_count_up_are_spread_as_by_chance():
    """Places hold what a Poisson distribution says, for keys as networks have them."""
    index, _ = made(16, 10)
    n = 1 << 14
    kinds = {
        "source ports": [(0x0A0000010A000002, port << 16 | 80) for port in range(n)],
        "both ports": [(0x0A0000010A000002, (port & 127) << 16 | port >> 7) for port in range(n)],
        "sources": [(address << 32 | 0x0A000002, 0x04D20050) for address in range(n)],
        "destinations": [(0xC0A80001 << 32 | address, 0x04D20050) for address in range(n)],
        "prefixes": [((address << 8) << 32 | 0x0A000002, 0x04D20050) for address in range(n)],
    }
    for kind, keys in kinds.items():
        hashes = np.array(hashes_of(index, keys))
        for bits in (hashes & 0xFFF, hashes >> 19 & 0xFFF):
            loads = np.bincount(bits, minlength=4096)
            assert 3.0 < loads.var() < 5.2, kind  # 4 a bucket: the variance is 4 as well
            assert loads.max() < 18, kind


@pytest.mark.slow
def test_a_million_flows_are_made_aged_and_made_again_in_the_same_room():
    index, entries = made(16, 1 << 20)
    random_ = np.random.default_rng(1)
    out = np.zeros(1 << 20, np.uint32)
    for generation in range(3):
        keys = random_.integers(0, 1 << 63, (1 << 20, 2)).astype(np.uint64)
        now = generation * 100
        table.add_many(index, entries, keys, now, now + 100, out)
        assert (out != NONE).all() and len(set(out.tolist())) == 1 << 20
        found = np.zeros_like(out)
        table.find_many(index, entries, keys, now + 99, found)
        assert (found == out).all()
        table.find_many(index, entries, keys, now + 100, found)
        assert (found == NONE).all()
        assert int(index[table.ENTRIES_USED]) == 1 << 20


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="keys of 12 bytes"):
        hash_table("wrong", key_bytes=12, capacity=1)
    with pytest.raises(ValueError, match="room for 0 entries"):
        hash_table("wrong", key_bytes=8, capacity=0)
