# SPDX-License-Identifier: Apache-2.0
"""Ring arithmetic and the ownership of buffers, against plain Python."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyvpp.buffers import (
    BEHIND_SLOTS,
    BUFFER,
    LARGE_BUFFERS,
    LARGE_SLOT,
    NO_BUFFER,
    POOL_ENTRIES,
    POOL_LARGE,
    POOL_LARGE_START,
    POOL_SMALL,
    SMALL_SLOT,
    SMALL_START,
    buffer_at,
    slot_start,
)
from pyvpp.device import af_xdp_ring, af_xdp_tables
from pyvpp.device.af_xdp import free_rows, longest_mtu, small_slots
from pyvpp.device.af_xdp_ring import LENT_RX, LENT_TX
from pyvpp.device.af_xdp_tables import AF_XDP_RX_QUEUE

SMALL = 64
TOTAL = LARGE_BUFFERS + SMALL
END = SMALL_START + SMALL * SMALL_SLOT
HEAP = END + BEHIND_SLOTS
U32 = st.integers(0, 2**32 - 1)
QUEUE = 5


@given(U32, st.integers(0, 12), st.integers(0, 2**32 - 1))
def test_entries_wait_between_two_counters_that_wrap(consumer: int, order: int, gap: int) -> None:
    slots = 1 << order
    producer = (consumer + gap) % 2**32
    assert af_xdp_ring.entries(producer, consumer, slots) == (gap if gap <= slots else 0)


@given(U32, st.integers(0, 12), st.sampled_from([8, 16]))
def test_an_entry_lies_at_its_index_modulo_the_ring(index: int, order: int, size: int) -> None:
    slots = 1 << order
    assert af_xdp_ring.entry(1000, index, slots, size) == 1000 + index % slots * size


def test_every_offset_belongs_to_the_buffer_whose_slot_it_lies_in() -> None:
    for b in (1, 2, LARGE_BUFFERS - 1, LARGE_BUFFERS, LARGE_BUFFERS + 1, TOTAL - 1):
        size = LARGE_SLOT if b < LARGE_BUFFERS else SMALL_SLOT
        for offset in (0, 1, size - 1):
            assert buffer_at(slot_start(b) + offset) == b
    every = np.arange(LARGE_BUFFERS, TOTAL)
    assert [slot_start(int(b)) for b in every] == list(small_slots(every))


@given(
    st.integers(0, END - 1), st.integers(1, LARGE_SLOT), st.sampled_from([1 << 40, 1 << 21, 4096]),
)  # fmt: skip
def test_pieces_cover_a_packet_and_cross_no_boundary(start: int, n: int, boundary: int) -> None:
    pieces = []
    at, left = start, n
    while left:
        size = af_xdp_ring.piece_bytes(at, left, boundary)
        pieces.append((at, size))
        at += size
        left -= size
    assert af_xdp_ring.pieces_of(start, n, boundary) == len(pieces)
    assert sum(size for _, size in pieces) == n
    assert all(0 < size <= SMALL_SLOT - 64 and at // boundary == (at + size - 1) // boundary for at, size in pieces)
    assert len(pieces) <= n // (SMALL_SLOT - 64) + 1 + (n // boundary + 1)


class Memory:
    """A heap, metadata and a pool without a driver; `descriptor` is where one is written."""

    descriptor = SMALL_START - 64

    def __init__(self) -> None:
        self.heap = np.zeros(HEAP, np.uint8)
        self.meta: Any = np.zeros(TOTAL, BUFFER)
        self.pool = np.zeros(POOL_ENTRIES + TOTAL + LARGE_BUFFERS, np.uint32)
        self.pool[POOL_LARGE_START] = POOL_ENTRIES + SMALL

    def describe(self, chunk: int, distance: int, n: int) -> int:
        address = chunk | distance << 48
        self.heap[self.descriptor : self.descriptor + 8] = list(address.to_bytes(8, "little"))
        self.heap[self.descriptor + 8 : self.descriptor + 12] = list(n.to_bytes(4, "little"))
        return self.descriptor

    @property
    def free(self) -> list[int]:
        small, large, start = (int(self.pool[k]) for k in (POOL_SMALL, POOL_LARGE, POOL_LARGE_START))
        return [*map(int, self.pool[POOL_ENTRIES:][:small]), *map(int, self.pool[start:][:large])]


MEMORY = Memory()


@given(st.one_of(st.integers(0, 2**48 - 1), st.integers(0, END + SMALL_SLOT)), st.integers(0, 2**16 - 1), U32)
def test_any_descriptor_of_memory_nobody_lent_is_refused(chunk: int, distance: int, n: int) -> None:
    MEMORY.meta["flags"] = 0
    at = MEMORY.describe(chunk, distance, n)
    assert af_xdp_ring.chunk_of(MEMORY.heap, at) == chunk
    assert af_xdp_ring.data_of(MEMORY.heap, at) == chunk + distance
    assert af_xdp_ring.lent_to(MEMORY.heap, MEMORY.meta, at, QUEUE) == NO_BUFFER
    assert not af_xdp_ring.take_back(MEMORY.heap, MEMORY.meta, MEMORY.pool, at)
    assert MEMORY.free == []


@given(st.integers(LARGE_BUFFERS, TOTAL - 1), st.integers(0, 4096), st.integers(0, 4096))
def test_a_lent_buffer_is_believed_for_its_queue_and_within_its_slot(b: int, distance: int, n: int) -> None:
    MEMORY.meta["flags"] = 0
    MEMORY.meta[b]["flags"], MEMORY.meta[b]["rx"] = LENT_RX, QUEUE
    at = MEMORY.describe(slot_start(b), distance, n)
    assert af_xdp_ring.lent_to(MEMORY.heap, MEMORY.meta, at, QUEUE) == b
    assert af_xdp_ring.lent_to(MEMORY.heap, MEMORY.meta, at, QUEUE + 1) == NO_BUFFER
    assert af_xdp_ring.is_inside(MEMORY.heap, at, b) == (distance + n <= SMALL_SLOT)
    MEMORY.describe(slot_start(b) + 1, distance, n)
    assert af_xdp_ring.lent_to(MEMORY.heap, MEMORY.meta, at, QUEUE) == NO_BUFFER


@pytest.mark.parametrize("b", [1, LARGE_BUFFERS - 1, LARGE_BUFFERS, TOTAL - 1])
@pytest.mark.parametrize("pieces", [1, 3])
def test_a_packet_is_free_when_all_of_it_has_left(b: int, pieces: int) -> None:
    memory = Memory()
    memory.meta[b]["flags"], memory.meta[b]["feature"], memory.meta[b]["ref"] = LENT_TX, pieces, 1
    for k in range(pieces):
        assert memory.free == []
        assert af_xdp_ring.take_back(memory.heap, memory.meta, memory.pool, memory.describe(slot_start(b), 256 + k, 0))
    assert memory.free == [b]
    assert not af_xdp_ring.take_back(memory.heap, memory.meta, memory.pool, memory.descriptor), "it came twice"
    assert memory.free == [b]


def test_a_packet_that_others_hold_stays_theirs() -> None:
    memory = Memory()
    memory.meta[550]["flags"], memory.meta[550]["feature"], memory.meta[550]["ref"] = LENT_TX | 16, 1, 2
    assert af_xdp_ring.take_back(memory.heap, memory.meta, memory.pool, memory.describe(slot_start(550), 256, 0))
    assert memory.free == []
    assert (int(memory.meta[550]["flags"]), int(memory.meta[550]["ref"])) == (16, 1)


def test_lending_goes_round_the_ring() -> None:
    memory = Memory()
    ring: Any = np.zeros(1, AF_XDP_RX_QUEUE)[0]
    ring.slots, ring.fill_ring, ring.fill_next = 4, 4096, 2**32 - 2
    for b in range(LARGE_BUFFERS, LARGE_BUFFERS + 4):
        af_xdp_ring.lend(memory.heap, memory.meta, ring, QUEUE, b)
    assert int(ring.fill_next) == 2
    given_to_linux = memory.heap[4096 : 4096 + 32].view(np.uint64)
    expected = [slot_start(LARGE_BUFFERS + k) for k in (2, 3, 0, 1)]
    assert list(map(int, given_to_linux)) == expected
    assert all(memory.meta["flags"][LARGE_BUFFERS : LARGE_BUFFERS + 4] == LENT_RX)
    assert all(memory.meta["rx"][LARGE_BUFFERS : LARGE_BUFFERS + 4] == QUEUE)


@given(st.lists(st.booleans(), max_size=12), st.integers(1, 4))
def test_free_rows_are_in_a_row_or_behind_the_last(used: list[bool], n: int) -> None:
    first = free_rows(used, n)
    assert 0 <= first <= len(used)
    assert not any(used[first : first + n])
    assert all(any(used[k : k + n]) or k + n > len(used) for k in range(first))


def test_the_longest_mtu() -> None:
    """17 pieces of 2048 bytes, or one; an Ethernet header and a tag go with it."""
    assert longest_mtu(multi_buffer=False) == 2048 - 18
    assert longest_mtu(multi_buffer=True) == 17 * 2048 - 18
    assert af_xdp_tables.TX_ROW_BYTES % 128 == 0 and AF_XDP_RX_QUEUE.itemsize == 128


def test_the_words_of_a_row_are_aligned() -> None:
    for dtype in (af_xdp_tables.AF_XDP_RX_QUEUE, af_xdp_tables.AF_XDP_TX_QUEUE):
        offsets = [dtype.fields[name] for name in dtype.names if name != "pad"]
        assert all(offset % kind.itemsize == 0 for kind, offset, *_ in offsets)
