# SPDX-License-Identifier: Apache-2.0
"""While a batch of changes is made, every lookup finds what it found before or what it will find after.

As plain Python every store into the tables is stopped at and looked behind. Compiled, a thread that never waits reads
while another writes.
"""

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import uint64

from pyvpp.bits import load64
from pyvpp.dispatch import STOP, SYNC_ASKED, SYNC_SEEN, announce, fetch, publish
from pyvpp.jit import COMPILED, inline, jit
from pyvpp.typing import I64, U32, U64
from pyvpp_nodes.fib.trie import build, edit, owner
from pyvpp_nodes.fib.trie.lookup import CHILD, POSITION, SKIP, entry_of
from pyvpp_nodes.fib.trie.owner import Prefixes
from pyvpp_nodes.integers import int64
from tests.graph_nodes.fib.trie.model import apply, batches, corners, look, make_trie


class Watched(np.ndarray):  # type: ignore[type-arg]
    """An array that calls after each store."""

    stored: Callable[[], None] = staticmethod(lambda: None)

    def __setitem__(self, at: Any, value: Any) -> None:
        super().__setitem__(at, value)
        Watched.stored()


@pytest.mark.skipif(COMPILED, reason="compiled code cannot be stopped at a store")
@pytest.mark.parametrize("bits", [32, 128])
@settings(max_examples=40)
@given(data=st.data())
def test_at_every_store_each_answer_is_the_old_or_the_new_one_and_turns_once(bits: int, data: st.DataObject) -> None:
    """The default route is left out, and what is shorter than twelve bits: too many roots to stop at each."""
    first, second = ({key: v for key, v in data.draw(batches(bits)).items() if key[1] > 12} for _ in range(2))
    for key in data.draw(st.sets(st.sampled_from(sorted(first)))) if first else ():
        second[key] = None
    trie = make_trie()
    apply(trie, first, bits)
    trie.reclaim()  # so that pieces are used again while the second batch is made
    asked = sorted({address for key in (*first, *second) for address in corners(key, bits)})
    seen = [look(trie, asked, bits)]
    t = trie._arrays
    trie._arrays = t._replace(roots=t.roots.view(Watched), nodes=t.nodes.view(Watched))

    def stored() -> None:
        found = look(trie, asked, bits)
        if found != seen[-1]:
            seen.append(found)

    Watched.stored = staticmethod(stored)
    try:
        apply(trie, second, bits)
    finally:
        Watched.stored = staticmethod(lambda: None)
    after = look(trie, asked, bits)
    for answers, last in zip(zip(*seen, strict=True), after, strict=True):
        changes = [answer for k, answer in enumerate(answers) if k == 0 or answer != answers[k - 1]]
        assert changes in ([last], [answers[0], last])


@pytest.mark.parametrize("bits", [32, 128])
@given(data=st.data())
def test_nothing_changes_before_blocks_are_published(bits: int, data: st.DataObject) -> None:
    trie = make_trie()
    apply(trie, data.draw(batches(bits)), bits)
    batch = data.draw(batches(bits))
    asked = sorted({address for key in batch for address in corners(key, bits)})
    before = look(trie, asked, bits)
    where, values = Prefixes.of(bits, *batch), np.array([value or 0xFFFFFFFF for value in batch.values()], np.uint32)
    assert edit.edit(trie._arrays, trie._tops[0], 0, *where, values, 0) == len(batch)
    build.spread(trie._arrays)
    assert look(trie, asked, bits) == before


@inline
def linger(control: I64, rounds: int) -> None:
    """Let other threads do something: some 20 microseconds for 10,000 rounds."""
    for _ in range(rounds):
        fetch(control, STOP)


@jit
def read_all(roots: U32, nodes: U32, high: U64, low: U64, one: U32, other: U32, control: I64, slowly: int) -> int:
    """Look all addresses up, again and again, until told to stop; how many answers were neither. Echoes like a worker.

    A slow reader lingers between the loads of a lookup, as one does that loses its processor there.
    """
    strange, rounds = 0, 0
    while not fetch(control, STOP):
        publish(control, SYNC_SEEN, fetch(control, SYNC_ASKED))
        for i in range(len(high)):
            above, below = high[i] << uint64(18) | low[i] >> uint64(46), low[i] << uint64(18)
            found = int64(roots[int64(high[i] >> uint64(46))]) | CHILD
            while found & CHILD:
                linger(control, slowly)
                at, bits = found & POSITION, uint64(6)
                if found & SKIP:
                    bits, target, miss = uint64(nodes[at]), int64(nodes[at + 1]), int64(nodes[at + 4])
                    linger(control, slowly)
                    found = target if above >> (uint64(64) - bits) == load64(nodes, at + 2) else miss
                else:
                    found = entry_of(nodes, at, int64(above >> uint64(58)))
                above, below = above << bits | below >> (uint64(64) - bits), below << bits
            if found != one[i] and found != other[i]:
                strange += 1
        rounds += 1
        publish(control, 63, rounds)
    return strange


@pytest.mark.slow
@pytest.mark.skipif(not COMPILED, reason="needs a reader without the GIL")
@pytest.mark.parametrize("slowly", [0, 10_000])
@pytest.mark.parametrize("bits", [32, 128])
def test_a_reader_never_sees_anything_else(bits: int, slowly: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Routes come and go beside, above and below a steady one, through pieces that are used again and again."""
    monkeypatch.setattr(owner, "REST", 16)
    control = np.zeros(64, np.int64)
    readers: list[threading.Thread] = []

    def synchronize() -> None:
        announce(control, SYNC_ASKED, int(control[SYNC_ASKED]) + 1)
        while any(map(threading.Thread.is_alive, readers)) and control[SYNC_SEEN] != control[SYNC_ASKED]:
            time.sleep(0)

    trie = make_trie(synchronize=synchronize)
    base = 0x0A << (bits - 8)
    step = 1 << (bits - 24)
    steady = {(base + 2 * i * step, 24): 100 + i for i in range(40)}
    coming = {(base + (2 * i + 1) * step, 24): 200 + i for i in range(40)}
    coming |= {(base + 2 * i * step + (step >> 1), 25 + i % 7): 300 + i for i in range(20)}
    if bits == 128:  # skips come and go too, and change their ends
        coming |= {(base + 2 * i * step + i + (3 << 40), 128): 400 + i for i in range(20, 40)}
        steady |= {(base + 2 * i * step + (3 << 40), 128 - i % 7): 500 + i for i in range(24, 40, 2)}
    apply(trie, {(0, 0): 1, **steady}, bits)
    trie._renew()
    wide = trie._nodes_table.zeros(1 << 20)  # growing needs a barrier, which the reader knows nothing of
    wide[: len(trie._arrays.nodes)] = trie._arrays.nodes
    trie._arrays = trie._arrays._replace(nodes=wide)
    asked = sorted({address for key in (*steady, *coming) for address in corners(key, bits)})
    one = look(trie, asked, bits)
    apply(trie, coming, bits)
    other = look(trie, asked, bits)
    assert one != other
    where = Prefixes.of(bits, *((address, bits) for address in asked))
    strange: list[int] = []
    t = trie._arrays
    answers = np.array(one, np.uint32), np.array(other, np.uint32)
    arguments = (t.roots, t.nodes, where.high, where.low, *answers, control, slowly)
    control[STOP] = 1
    read_all(*arguments)  # compiled before the thread starts
    control[STOP] = 0
    readers.append(threading.Thread(target=lambda: strange.append(read_all(*arguments))))
    readers[0].start()
    until = time.monotonic() + 1.5
    changes = 0
    while time.monotonic() < until:
        for key, value in coming.items():
            apply(trie, {key: value if changes % 2 else None}, bits)
        changes += 1
    announce(control, STOP, 1)
    readers[0].join()
    assert strange == [0]
    assert int(control[63]) > 10 and changes > 10 and control[SYNC_ASKED] > 0
    assert trie._arrays.nodes is wide
