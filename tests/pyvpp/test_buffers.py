# SPDX-License-Identifier: Apache-2.0
import mmap
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyvpp.buffers import (
    BUFFER,
    LARGE_BUFFERS,
    LARGE_SLOT,
    NO_BUFFER,
    POOL_SMALL,
    SMALL_SLOT,
    Buffers,
    emit_to,
    give_back,
    slot_start,
    take_large,
    take_small,
)

SMALL = 64


@pytest.fixture(scope="module")
def heap():
    buffers = Buffers(SMALL, hugepages="off")
    yield buffers.heap
    buffers.heap.close()


def test_slots_lie_one_behind_the_other(heap):
    starts = [int(slot_start(b)) for b in range(LARGE_BUFFERS + SMALL)]
    sizes = [LARGE_SLOT] * LARGE_BUFFERS + [SMALL_SLOT] * SMALL
    assert starts == [sum(sizes[:k]) for k in range(len(sizes))]
    assert starts[-1] + sizes[-1] <= heap.slot_bytes
    heap.array[starts[-1] : starts[-1] + SMALL_SLOT] = 0x5A


@given(st.integers(1, 5))
def test_workers_share_all_buffers_and_none_twice(heap, workers):
    buffers = Buffers(SMALL, workers, heap=heap)
    assert buffers.free == buffers.total == SMALL + LARGE_BUFFERS - 1
    shares = [[int(take_small(pool)) for _ in range(int(pool[POOL_SMALL]))] for pool in buffers.pools]
    assert all(share == list(range(share[0], share[0] + len(share))) for share in shares)  # neighbors
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    small = [b for share in shares for b in share]
    large = [b for pool in buffers.pools for b in iter(lambda p=pool: int(take_large(p)), NO_BUFFER)]
    assert sorted(large) == list(range(1, LARGE_BUFFERS))
    assert sorted(small) == list(range(LARGE_BUFFERS, LARGE_BUFFERS + SMALL))
    assert buffers.free == 0


@given(st.lists(st.sampled_from(["small", "large", "back"]), max_size=60))
def test_the_last_given_back_is_the_first_taken(heap, steps):
    buffers = Buffers(SMALL, heap=heap)
    pool, held = buffers.pools[0], []
    for step in steps:
        if step == "back":
            if held:
                b = held.pop()
                give_back(pool, b)
                again = take_large(pool) if b < LARGE_BUFFERS else take_small(pool)
                assert int(again) == b
                give_back(pool, b)
        else:
            held.append(int((take_small if step == "small" else take_large)(pool)))
        assert buffers.free + len(held) == buffers.total
    assert len(set(held)) == len(held)


def any_of(free):
    return np.ones(len(free), bool)


@pytest.mark.parametrize("lent", [0, 1, 20, 32])
def test_who_takes_a_device_over_answers_for_its_buffers(heap, lent):
    """Worker 0 has its own back, and when the device has gone, so has worker 1."""
    buffers = Buffers(SMALL, workers=2, heap=heap)
    with_device = buffers.take_free(0, lent, any_of)
    assert buffers.charge(with_device, 1)
    assert [int(pool[POOL_SMALL]) for pool in buffers.pools] == [32, 32 - lent]
    passed_on = with_device[: lent // 2]  # packets that worker 1 read and is done with; others took their place
    with_device = np.concatenate([with_device[lent // 2 :], buffers.take_free(1, min(lent // 2, 32 - lent), any_of)])
    for b in passed_on[: min(lent // 2, 32 - lent)]:
        give_back(buffers.pools[1], int(b))
    assert buffers.charge(with_device, 0) and buffers.charge(with_device, 1)
    buffers.put_back(np.concatenate([with_device, passed_on[min(lent // 2, 32 - lent) :]]))
    assert [int(pool[POOL_SMALL]) for pool in buffers.pools] == [32, 32]
    assert len({int(take_small(pool)) for pool in buffers.pools for _ in range(32)}) == SMALL


def test_who_has_too_few_buffers_takes_no_device_over(heap):
    buffers = Buffers(SMALL, workers=2, heap=heap)
    with_device = buffers.take_free(0, 20, any_of)
    kept = buffers.take_free(1, 13, any_of)
    assert not buffers.charge(with_device, 1)
    assert [int(pool[POOL_SMALL]) for pool in buffers.pools] == [12, 19]
    buffers.put_back(np.concatenate([with_device, kept]))
    assert [int(pool[POOL_SMALL]) for pool in buffers.pools] == [32, 32]


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 2), st.integers(0, 2)), max_size=300))
def test_strayed_buffers_are_sent_home(heap, moves):
    """Each worker has its own again, and none is free twice; buffers that are in use stay so."""
    buffers = Buffers(SMALL, workers=3, heap=heap)
    mine = [sorted(map(int, buffers._free(pool, large))) for pool in buffers.pools for large in (False, True)]
    used = int(take_small(buffers.pools[0]))
    assert not buffers.have_strayed()
    for large, giver, taker in moves:
        b = int((take_large if large else take_small)(buffers.pools[giver]))
        if b != NO_BUFFER:
            give_back(buffers.pools[taker], b)
    away = [
        max(sum(int(b) not in mine[2 * k + large] for b in buffers._free(pool, large)) for k, pool in enumerate(buffers.pools))
        for large in (False, True)
    ]  # fmt: skip
    assert buffers.have_strayed() == (away[0] > SMALL / 12 or away[1] > LARGE_BUFFERS / 12)
    buffers.send_home()
    assert not buffers.have_strayed()
    mine[0].remove(used)
    assert [
        sorted(map(int, buffers._free(pool, large))) for pool in buffers.pools for large in (False, True)
    ] == mine  # fmt: skip


def test_metadata_is_one_cache_line(heap):
    meta = Buffers(SMALL, heap=heap).meta
    assert (meta.ctypes.data % 64, BUFFER.itemsize) == (0, 64)
    meta[3].flags = 5
    assert (int(meta[3].flags), int(meta["flags"][3])) == (5, 5)


def test_emit_until_full():
    emit = np.zeros(1 + 2 * 3, np.uint32)
    assert [bool(emit_to(emit, b, b + 10)) for b in (1, 2, 3, 4)] == [True, True, True, False]
    assert list(emit) == [3, 1, 11, 2, 12, 3, 13]


def test_a_ring_is_memory_of_the_heap():
    buffers = Buffers(SMALL, hugepages="off")
    fd = os.memfd_create("ring")
    try:
        os.ftruncate(fd, 3 * mmap.PAGESIZE)
        os.pwrite(fd, b"ring", mmap.PAGESIZE)
        at = buffers.heap.map_ring(fd, 3 * mmap.PAGESIZE)
        assert at >= buffers.heap.slot_bytes
        assert buffers.heap.array[at + mmap.PAGESIZE :][:4].tobytes() == b"ring"
        buffers.heap.array[at] = 7
        assert os.pread(fd, 1, 0) == b"\7"
        other = buffers.heap.map_ring(fd, mmap.PAGESIZE)
        assert other >= at + 3 * mmap.PAGESIZE
        buffers.heap.unmap_ring(at, 3 * mmap.PAGESIZE)
        assert buffers.heap.map_ring(fd, 3 * mmap.PAGESIZE) == at
    finally:
        os.close(fd)
        buffers.heap.close()


def test_memory_that_another_goes_on_with():
    """What is in use stays, at the same addresses, and is the other's as well."""
    mine, other = Buffers(SMALL, workers=2, hugepages="off"), Buffers(SMALL, workers=2, hugepages="off")
    used = [int(take(pool)) for pool in mine.pools for take in (take_small, take_large) for _ in range(3)]
    address = mine.heap.address
    for b in used:
        mine.heap.array[slot_start(b) : slot_start(b) + 4] = list(b.to_bytes(4))
    mine.share()
    file = mine.heap.file
    mine.share()
    assert (mine.heap.address, mine.heap.file) == (address, file)
    other.heap.adopt(os.dup(file), mine.heap.pages)
    for heap in (mine.heap, other.heap):
        assert [int.from_bytes(heap.array[slot_start(b) :][:4].tobytes()) for b in used] == used
    other.heap.array[slot_start(used[0])] = 0xA5
    assert mine.heap.array[slot_start(used[0])] == 0xA5
    other.empty()
    assert other.free == 0
    other.fill(np.array(used, np.uint32))
    free = [int(b) for pool in other.pools for large in (False, True) for b in other._free(pool, large)]
    assert sorted([*free, *used]) == list(range(1, LARGE_BUFFERS + SMALL))
    for each in (mine, other):
        each.heap.close()
        assert each.heap.file is None
