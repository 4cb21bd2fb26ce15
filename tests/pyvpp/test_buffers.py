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
