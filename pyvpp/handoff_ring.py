# SPDX-License-Identifier: Apache-2.0
"""Rings by which workers hand packets to each other: one from each to each other, without a lock.

A ring has one writer and one reader. The writer stages packets one by one and publishes them a frame at a time with
release order; the reader, who looks with acquire order, so sees packets and metadata whole. A word of a ring is a
packet: its buffer, and above that the value of nexts by which it goes on. FREE there says that a buffer comes home.

A worker takes buffers from its own pool only, so one who gets a packet owes its sender a buffer of the same kind. It
pays at once from its pool, by the ring the other way, as long as no more than half of that is in use, and otherwise in
a later round. So what a pool lacks is on its way in rings whose slots, all together, are half of the pool at most:
however long packets go one way, nobody runs dry.

A reader that is about to sleep says so and looks once more; a writer publishes and then looks whether the reader
sleeps. A full fence between the two in both sees to it that one of them notices, and only a sleeper is woken.

`rings` is an array of int64: WORKERS and SLOTS, then two lines for each worker, then the rings, each with a line that
its reader writes, a line that its writer writes, and its slots.
"""

import numpy as np

from pyvpp.bits import fence, fetch64, publish64
from pyvpp.buffers import LARGE_BUFFERS, NO_BUFFER, give_back, take_large, take_small
from pyvpp.device.syscalls import write
from pyvpp.jit import inline
from pyvpp.node import FREE, HELD
from pyvpp.tables import Table
from pyvpp.typing import I64, U32

HANDOFF_INPUT = "worker-handoff-input"
MOST_SLOTS, LEAST_SLOTS = 4096, 64
FORGOTTEN = HELD
"""The next of a packet whose interface was deleted while it waited."""

_LINE = 16  # words of a pair of cache lines
WORKERS, SLOTS, ONE = 0, 1, 2  # ONE: what is written to an eventfd
ASLEEP, EVENT_FD, CURSOR = 0, 1, _LINE  # of a worker; nobody else looks at its cursor
READ, OWED_SMALL, OWED_LARGE = 0, 1, 2  # of a ring, written by its reader
WRITTEN, STAGED, SEEN, PACKETS, CONGESTED, WAKES = range(_LINE, _LINE + 6)  # and by its writer
FIRST = 2 * _LINE  # its slots

HANDOFF_RINGS = Table("handoff_rings", np.int64, _LINE)


def words(workers: int, slots: int) -> int:
    """How long the array is."""
    return _LINE + workers * 2 * _LINE + workers * workers * (FIRST + slots)


@inline
def worker_at(worker: int) -> int:
    """Where a worker's lines begin."""
    return _LINE + worker * 2 * _LINE


@inline
def ring_at(rings: I64, source: int, target: int) -> int:
    """Where the ring from one worker to another begins."""
    workers = int(rings[WORKERS])
    return worker_at(workers) + (source * workers + target) * (FIRST + int(rings[SLOTS]))


@inline
def stage(rings: I64, at: int, b: int, next_: int) -> bool:
    """Puts a packet into a ring of the caller's, to be published; False when the ring is full.

    The reader's line is asked for only when the ring looks full by what it said last.
    """
    staged, slots = rings[at + STAGED], rings[SLOTS]
    if staged - rings[at + SEEN] >= slots:
        rings[at + SEEN] = fetch64(rings, at + READ)
        if staged - rings[at + SEEN] >= slots:
            return False
    rings[at + FIRST + (staged & (slots - 1))] = next_ << 32 | b
    rings[at + STAGED] = staged + 1
    return True


@inline
def publish_staged(rings: I64, worker: int) -> None:
    """Shows a worker's staged packets to those they are for, and wakes those of them that sleep.

    Whoever wakes a sleeper takes it off the list of sleepers first: nobody else need do it in the time that takes.
    """
    published = 0
    for target in range(rings[WORKERS]):
        at = ring_at(rings, worker, target)
        published += rings[at + STAGED] != rings[at + WRITTEN]
    if published == 0:
        return
    for target in range(rings[WORKERS]):
        at = ring_at(rings, worker, target)
        if rings[at + STAGED] != rings[at + WRITTEN]:
            rings[at + PACKETS] += rings[at + STAGED] - rings[at + WRITTEN]
            publish64(rings, at + WRITTEN, rings[at + STAGED])
            fence()
            if fetch64(rings, worker_at(target) + ASLEEP):
                rings[at + WAKES] += 1
                publish64(rings, worker_at(target) + ASLEEP, 0)
                write(rings[worker_at(target) + EVENT_FD], rings.ctypes.data + 8 * ONE, 8)


@inline
def lay_down(rings: I64, worker: int) -> bool:
    """Says that a worker sleeps from now on; False when something has come in the meantime, and it must not."""
    me = worker_at(worker)
    publish64(rings, me + ASLEEP, 1)
    fence()
    for source in range(rings[WORKERS]):
        at = ring_at(rings, source, worker)
        if fetch64(rings, at + WRITTEN) != rings[at + READ]:
            publish64(rings, me + ASLEEP, 0)
            return False
    return True


@inline
def awake(rings: I64, worker: int) -> None:
    """Says that a worker no longer sleeps."""
    publish64(rings, worker_at(worker) + ASLEEP, 0)


@inline
def note_debt(rings: I64, at: int, b: int) -> None:
    """A packet came in this buffer by the ring at `at`: its writer is owed one of the same kind."""
    rings[at + (OWED_LARGE if b < LARGE_BUFFERS else OWED_SMALL)] += 1


@inline
def pay(rings: I64, pool: U32, worker: int, source: int) -> None:
    """Sends home what the worker owes to another, as much of it as its pool and half of the ring allow."""
    debts, home = ring_at(rings, source, worker), ring_at(rings, worker, source)
    if rings[debts + OWED_SMALL] + rings[debts + OWED_LARGE] == 0:
        return
    room = rings[SLOTS] // 2 - (rings[home + STAGED] - fetch64(rings, home + READ))
    while room > 0:
        large = rings[debts + OWED_SMALL] == 0
        kind = debts + (OWED_LARGE if large else OWED_SMALL)
        if rings[kind] == 0:
            break
        b = take_large(pool) if large else take_small(pool)
        if b == NO_BUFFER:
            break
        if not stage(rings, home, b, FREE):
            give_back(pool, b)
            break
        rings[kind] -= 1
        room -= 1
    publish64(rings, home + WRITTEN, rings[home + STAGED])
