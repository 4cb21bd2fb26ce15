# SPDX-License-Identifier: Apache-2.0
"""The rings between workers, and the input that empties them, against a model of lists.

Workers do what they do in any order: receive into buffers of their own, stage for another, publish, take, send. At the
end nothing is lost, nothing twice, the order between two workers is kept, and each pool is as large as at first.
"""

from __future__ import annotations

import os
from collections import Counter, deque
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from pyvpp import handoff_ring as ring
from pyvpp.buffers import (
    BUFFER,
    LARGE_BUFFERS,
    NO_BUFFER,
    POOL_ENTRIES,
    POOL_LARGE,
    POOL_LARGE_START,
    POOL_SMALL,
    give_back,
    take_large,
    take_small,
)
from pyvpp.device.worker_handoff_input import worker_handoff_input
from pyvpp.node import FREE, TO_NODE

SLOTS, SMALL, LARGE = 16, 40, 12  # buffers of each worker


class Stand:
    """Workers with pools and rings, and an eventfd each that nobody reads."""

    def __init__(self, workers: int, slots: int = SLOTS) -> None:
        self.workers = range(workers)
        self.rings = np.zeros(ring.words(workers, slots), np.int64)
        self.rings[[ring.WORKERS, ring.SLOTS, ring.ONE]] = workers, slots, 1
        self.meta: Any = np.zeros(LARGE_BUFFERS + SMALL * workers, BUFFER)
        self.events = [os.eventfd(0, os.EFD_NONBLOCK) for _ in self.workers]
        self.pools = []
        for w in self.workers:
            self.rings[ring.worker_at(w) + ring.EVENT_FD] = self.events[w]
            pool = np.zeros(POOL_ENTRIES + len(self.meta) * 2, np.uint32)
            first = POOL_ENTRIES + len(self.meta)
            pool[POOL_LARGE_START], pool[POOL_SMALL], pool[POOL_LARGE] = first, SMALL, LARGE
            pool[POOL_ENTRIES : POOL_ENTRIES + SMALL] = LARGE_BUFFERS + w * SMALL + np.arange(SMALL)
            pool[first : first + LARGE] = 1 + w * LARGE + np.arange(LARGE)
            self.pools.append(pool)

    def sizes(self) -> list[tuple[int, int]]:
        return [(int(pool[POOL_SMALL]), int(pool[POOL_LARGE])) for pool in self.pools]

    def free(self) -> list[int]:
        """Every buffer that lies in a pool."""
        found: list[int] = []
        for pool in self.pools:
            start = int(pool[POOL_LARGE_START])
            found += pool[POOL_ENTRIES : POOL_ENTRIES + int(pool[POOL_SMALL])].tolist()
            found += pool[start : start + int(pool[POOL_LARGE])].tolist()
        return found

    def stage(self, source: int, target: int, b: int, next_: int) -> bool:
        return bool(ring.stage(self.rings, ring.ring_at(self.rings, source, target), b, next_))

    def take(self, worker: int, most: int = 256) -> list[tuple[int, int]]:
        """One call of the input node: buffers and where they go on."""
        frame, nexts = np.zeros(most, np.uint32), np.zeros(most, np.uint16)
        n = worker_handoff_input.kernel(self.meta, frame, nexts, self.pools[worker], worker, self.rings)
        return list(zip(frame[:n].tolist(), nexts[:n].tolist(), strict=True))

    def woken(self, worker: int) -> int:
        """How often, since this was asked last."""
        try:
            return os.eventfd_read(self.events[worker])
        except BlockingIOError:
            return 0

    def close(self) -> None:
        for fd in self.events:
            os.close(fd)


class Exchange(RuleBasedStateMachine):
    """`sent[s, t]`: packets on their way, each a number that stands in its metadata; `held[w]`: those w works on."""

    @initialize(workers=st.integers(2, 3))
    def build(self, workers: int) -> None:
        self.stand = Stand(workers)
        self.before = self.stand.sizes()
        self.staged: dict[tuple[int, int], deque[int]] = {
            (s, t): deque() for s in range(workers) for t in range(workers)
        }
        self.sent: dict[tuple[int, int], deque[int]] = {pair: deque() for pair in self.staged}
        self.held: list[list[int]] = [[] for _ in range(workers)]
        self.asleep: set[int] = set()
        self.count = Counter[str]()

    def teardown(self) -> None:
        if hasattr(self, "stand"):
            self.drain()
            self.stand.close()

    pick = st.integers(0, 5)

    @rule(source=pick, ways=st.lists(pick, min_size=1, max_size=SLOTS), large=st.booleans())
    def receive(self, source: int, ways: list[int], large: bool) -> None:
        """A frame comes in at one worker, its packets for others; without a buffer they do not."""
        source %= len(self.held)
        pool = self.stand.pools[source]
        for target in (each % len(self.held) for each in ways):
            b = int(take_large(pool) if large else take_small(pool))
            if b == NO_BUFFER:
                break
            self.count["in"] += 1
            number = self.count["in"]
            self.stand.meta[b]["cur"], self.stand.meta[b]["rx"], self.stand.meta[b]["trace"] = number, source, target
            waiting = len(self.staged[source, target]) + len(self.sent[source, target])
            if target != source and self.stand.stage(source, target, b, TO_NODE | number % 1000):
                self.staged[source, target].append(number)
            else:
                assert target == source or waiting >= SLOTS // 2  # the rest is buffers on their way home
                give_back(pool, b)
                self.count["dropped"] += 1
        self.publish(source)

    def publish(self, worker: int) -> None:
        woken = {target for target in self.asleep if self.staged[worker, target]}
        ring.publish_staged(self.stand.rings, worker)
        for target in self.stand.workers:
            self.sent[worker, target] += self.staged[worker, target]
            self.staged[worker, target].clear()
            assert self.stand.woken(target) == (target in woken)
        self.asleep -= woken

    @rule(worker=pick, most=st.integers(1, 20))
    def take(self, worker: int, most: int) -> None:
        worker %= len(self.held)
        for b, next_ in self.stand.take(worker, most):
            m = self.stand.meta[b]
            number = self.sent[int(m["rx"]), worker].popleft()  # in the order they were sent
            assert (int(m["cur"]), int(m["trace"]), next_) == (number, worker, TO_NODE | number % 1000)
            self.held[worker].append(b)

    @rule(worker=pick, n=st.integers(1, 20))
    def send(self, worker: int, n: int) -> None:
        """Packets leave: their buffers are the worker's own from now on."""
        worker %= len(self.held)
        for b in self.held[worker][:n]:
            give_back(self.stand.pools[worker], b)
            self.count["out"] += 1
        del self.held[worker][:n]

    @rule(worker=pick)
    def sleep(self, worker: int) -> None:
        """Nobody sleeps who has packets waiting."""
        worker %= len(self.held)
        slept = bool(ring.lay_down(self.stand.rings, worker))
        assert not (slept and any(self.sent[source, worker] for source in self.stand.workers))
        if slept:
            self.asleep.add(worker)

    @rule(worker=pick)
    def awake(self, worker: int) -> None:
        ring.awake(self.stand.rings, worker % len(self.held))
        self.asleep.discard(worker % len(self.held))

    @invariant()
    def nothing_is_lost_or_twice(self) -> None:
        if not hasattr(self, "stand"):
            return
        under_way = sum(map(len, self.staged.values())) + sum(map(len, self.sent.values())) + sum(map(len, self.held))
        assert self.count["in"] == self.count["out"] + self.count["dropped"] + under_way
        held = [b for each in self.held for b in each]
        free = self.stand.free()
        assert len(set(free + held)) == len(free + held)

    def drain(self) -> None:
        """Everything under way ends, and every pool is as large as it was."""
        for _ in range(SMALL):
            if self.stand.sizes() == self.before:
                break
            for worker in self.stand.workers:
                self.take(worker, 20)
                self.send(worker, 100)
        assert self.stand.sizes() == self.before
        assert len(set(self.stand.free())) == sum(map(sum, self.before))
        assert self.count["in"] == self.count["out"] + self.count["dropped"]


TestExchange = pytest.mark.slow(Exchange.TestCase)
TestExchange.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)


def test_nobody_runs_dry_however_long_packets_go_one_way() -> None:
    stand = Stand(2)
    before = stand.sizes()
    for number in range(2000):
        b = int(take_small(stand.pools[0]) if number % 3 else take_large(stand.pools[0]))
        assert b != NO_BUFFER
        assert stand.stage(0, 1, b, TO_NODE | 5)
        ring.publish_staged(stand.rings, 0)
        for taken, _ in stand.take(1):
            give_back(stand.pools[1], taken)
        if number % 5 == 0:
            assert stand.take(0) == []
    stand.take(0)
    stand.take(1)
    stand.take(0)
    assert stand.sizes() == before
    stand.close()


def test_debts_wait_until_there_is_a_buffer_and_room() -> None:
    stand = Stand(2)
    taken = [int(take_small(stand.pools[0])) for _ in range(SLOTS)]
    for b in taken:
        assert stand.stage(0, 1, b, TO_NODE | 5)
    assert not stand.stage(0, 1, taken[0], TO_NODE | 5)
    assert stand.take(1) == []  # not published yet
    ring.publish_staged(stand.rings, 0)
    stand.pools[1][POOL_SMALL] = 3
    assert [b for b, _ in stand.take(1)] == taken
    owed = ring.ring_at(stand.rings, 0, 1) + ring.OWED_SMALL
    assert (int(stand.rings[owed]), int(stand.pools[1][POOL_SMALL])) == (SLOTS - 3, 0)
    stand.pools[1][POOL_SMALL] = SMALL
    stand.take(1)
    assert int(stand.rings[owed]) == SLOTS // 2  # half of the way home is kept for packets
    b = int(take_small(stand.pools[1]))
    assert stand.stage(1, 0, b, TO_NODE | 7)
    ring.publish_staged(stand.rings, 1)
    assert stand.take(0) == [(b, TO_NODE | 7)]
    stand.take(1)
    assert int(stand.rings[owed]) == 0
    stand.close()


def test_a_packet_without_a_destination_left_frees_its_buffer() -> None:
    stand = Stand(2)
    b = int(take_small(stand.pools[0]))
    stand.meta[b]["flags"] = 1
    assert stand.stage(0, 1, b, ring.FORGOTTEN)
    ring.publish_staged(stand.rings, 0)
    assert stand.take(1) == [] and stand.take(0) == []
    assert stand.sizes() == [(SMALL, LARGE)] * 2 and int(stand.meta[b]["flags"]) == 0
    stand.close()


def test_rings_are_asked_in_turn_and_not_for_too_many_segments() -> None:
    stand = Stand(3)
    for source in (0, 1):
        for _ in range(SLOTS):
            b = int(take_small(stand.pools[source]))
            stand.meta[b]["rx"], stand.meta[b]["len"], stand.meta[b]["gso_type"] = source, 6400, 1
            stand.meta[b]["gso_size"] = 100
            assert stand.stage(source, 2, b, TO_NODE | 5)
        ring.publish_staged(stand.rings, source)
    sources = [[int(stand.meta[b]["rx"]) for b, _ in stand.take(2)] for _ in range(6)]
    assert [len(each) for each in sources] == [4] * 6  # 64 segments each
    assert {each[0] for each in sources} == {0, 1}
    stand.close()


def test_a_returned_buffer_wakes_nobody() -> None:
    stand = Stand(2)
    assert stand.stage(0, 1, int(take_small(stand.pools[0])), TO_NODE | 5)
    ring.publish_staged(stand.rings, 0)
    assert ring.lay_down(stand.rings, 0)
    assert len(stand.take(1)) == 1 and stand.woken(0) == 0
    assert not ring.lay_down(stand.rings, 0)  # but who is awake takes it first
    assert stand.rings[ring.ring_at(stand.rings, 1, 0) + ring.FIRST] >> 32 == FREE
    stand.close()
