# SPDX-License-Identifier: Apache-2.0
"""Buffers: one flat heap without chains, a 64-byte metadata record for each buffer, and the free lists of a worker.

A buffer's index is a row of `meta`. Indices below LARGE_BUFFERS have slots for 64 KiB GSO packets, all others small
slots; index 0 is never used. Offsets in metadata are absolute, so a kernel never asks which kind a buffer is. The last
buffer given back is the first taken again: its lines are still in the cache, which is worth more than hugepages.
"""

import ctypes
import logging
import mmap
import os
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numba import uint32

from pyvpp.jit import inline
from pyvpp.tables import own_lines, record_dtype
from pyvpp.typing import U8, U32, Records

log = logging.getLogger(__name__)

HEADROOM = 192
SMALL_SLOT = 2304
LARGE_SLOT = 69632  # 17 pages: 64 KiB, an Ethernet header, headroom
SMALL_ROOM = SMALL_SLOT - HEADROOM
LARGE_ROOM = LARGE_SLOT - HEADROOM
LARGE_BUFFERS = 512
SMALL_START = LARGE_BUFFERS * LARGE_SLOT
BEHIND_SLOTS = 4096  # bytes behind the last slot: a header is read before it is known to be whole
NO_BUFFER = 0

TRACED = 1
CSUM_PARTIAL = 2
CSUM_VALID = 4
LOCALLY_ORIGINATED = 8
L2_VALID = 16
FLOW_HASH = 32

BUFFER = record_dtype(
    [
        ("cur", np.int64),  # absolute heap offset of the current header
        ("len", np.uint32),  # bytes from cur
        ("flags", np.uint32),
        ("l2", np.uint32),  # absolute heap offsets of the headers
        ("l3", np.uint32),
        ("l4", np.uint32),
        ("rx", np.uint32),  # sw_if_index
        ("tx", np.uint32),
        ("adj", np.uint32),
        ("flow_hash", np.uint32),
        ("csum_start", np.uint32),  # absolute heap offset, with CSUM_PARTIAL
        ("gso_size", np.uint16),
        ("csum_offset", np.uint16),
        ("error", np.uint16),
        ("gso_type", np.uint8),  # as in virtio_net_hdr
        ("ref", np.uint8),
        ("feature", np.uint32),  # position in feature_chains
        ("trace", np.uint32),  # number of the packet in the trace
    ]
)
assert BUFFER.itemsize == 64

POOL_SMALL, POOL_LARGE, POOL_LARGE_START, POOL_ENTRIES = 0, 1, 2, 3


@inline
def is_small_with_room(b: int, cur: int, n: int) -> bool:
    """Whether it is a small buffer whose slot has n bytes before `cur`."""
    return b >= LARGE_BUFFERS and cur - n >= SMALL_START + (b - LARGE_BUFFERS) * SMALL_SLOT


@inline
def slot_start(b: int) -> int:
    """Absolute heap offset of the buffer's slot; its packet usually starts HEADROOM further."""
    if b < LARGE_BUFFERS:
        return b * LARGE_SLOT
    return SMALL_START + (b - LARGE_BUFFERS) * SMALL_SLOT


@inline
def buffer_at(offset: int) -> int:
    """The buffer whose slot a heap offset lies in."""
    if offset < SMALL_START:
        return offset // LARGE_SLOT
    return LARGE_BUFFERS + (offset - SMALL_START) // SMALL_SLOT


@inline
def take_small(pool: U32) -> int:
    """The small buffer given back last, or NO_BUFFER."""
    n = int(pool[POOL_SMALL])
    if n == 0:
        return NO_BUFFER
    pool[POOL_SMALL] = uint32(n - 1)
    return int(pool[POOL_ENTRIES + n - 1])


@inline
def take_large(pool: U32) -> int:
    """The large buffer given back last, or NO_BUFFER."""
    n = int(pool[POOL_LARGE])
    if n == 0:
        return NO_BUFFER
    pool[POOL_LARGE] = uint32(n - 1)
    return int(pool[int(pool[POOL_LARGE_START]) + n - 1])


@inline
def take_many(pool: U32, into: U32, large: bool) -> int:
    """Fills `into` with buffers of one kind, those given back last; answers how many there were.

    The free list's length stays in a register: taken one by one, each take waits for the last one's store.
    """
    counter = POOL_LARGE if large else POOL_SMALL
    free = int(pool[counter])
    n = min(len(into), free)
    first = (int(pool[POOL_LARGE_START]) if large else POOL_ENTRIES) + free - n
    taken = pool[first : first + n]
    for k in range(n):
        into[k] = taken[k]
    pool[counter] = uint32(free - n)
    return n


@inline
def give_back(pool: U32, b: int) -> None:
    """Puts a buffer on top of its free list."""
    if b < LARGE_BUFFERS:
        n = int(pool[POOL_LARGE])
        pool[int(pool[POOL_LARGE_START]) + n] = uint32(b)
        pool[POOL_LARGE] = uint32(n + 1)
    else:
        n = int(pool[POOL_SMALL])
        pool[POOL_ENTRIES + n] = uint32(b)
        pool[POOL_SMALL] = uint32(n + 1)


@inline
def emit_to(emit: U32, b: int, next_: int) -> bool:
    """Sends an extra packet, one that was not in the frame, to a next of this node; False when `emit` is full."""
    n = int(emit[0])
    if 2 * n + 2 >= len(emit):
        return False
    emit[1 + 2 * n] = uint32(b)
    emit[2 + 2 * n] = uint32(next_)
    emit[0] = uint32(n + 1)
    return True


HUGEPAGES, ORDINARY_PAGES = "2 MB hugepages", "ordinary pages"
EMIT_PACKETS = 12288  # a vector of 256 packets of 64 KiB, each cut into 46 for an MTU of 1450


class Heap:
    """The memory of all packets: slots first, then a reserved range into which drivers map their rings.

    `array` is the whole range as bytes, `address` where it begins. `pages` says what it is made of. `file` is a file
    that holds the slots, which another process can map as well (memfd_create(2)): None while they are memory of this
    process alone, as on ordinary pages, of which Linux makes larger ones by itself only in such memory.
    """

    _RESERVED = 8 << 30
    _MAP_FIXED, _MAP_NORESERVE, _PROT_NONE = 0x10, 0x4000, 0

    def __init__(self, small_buffers: int, hugepages: str = "auto") -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._mmap: Any = libc.mmap
        self._mmap.restype = ctypes.c_void_p
        self._mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
        self._munmap: Any = libc.munmap
        self._munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
        huge = 2 << 20
        self.slot_bytes = -(-(SMALL_START + small_buffers * SMALL_SLOT + BEHIND_SLOTS) // huge) * huge
        anonymous = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        base = self._map(None, self._RESERVED + huge, self._PROT_NONE, anonymous | self._MAP_NORESERVE, -1)
        self._base = base
        self.address = -(-base // huge) * huge
        self.file: int | None = None
        self.pages = self._map_slots(anonymous, hugepages)
        self._next_ring = self.slot_bytes
        self._free_rings: dict[int, list[int]] = {}
        self.array: U8 = np.ctypeslib.as_array((ctypes.c_uint8 * self._RESERVED).from_address(self.address))

    def _map(self, address: int | None, length: int, protection: int, flags: int, fd: int, start: int = 0) -> int:
        result = self._mmap(address, length, protection, flags, fd, start)
        if result is None or result == ctypes.c_void_p(-1).value:
            code = ctypes.get_errno()
            raise OSError(code, f"mmap of {length} bytes failed: {os.strerror(code)}")
        return int(result)

    def _map_slots(self, anonymous: int, hugepages: str) -> str:
        if hugepages != "off":
            try:
                self._map_file(self._new_file(os.MFD_HUGETLB | os.MFD_HUGE_2MB))
                return HUGEPAGES
            except OSError as error:
                log.info("no hugepages for the heap (%s): ordinary pages are used", error)
        access = mmap.PROT_READ | mmap.PROT_WRITE
        self._map(self.address, self.slot_bytes, access, anonymous | self._MAP_FIXED | self._MAP_NORESERVE, -1)
        return ORDINARY_PAGES

    def _new_file(self, kind: int = 0) -> int:
        descriptor = os.memfd_create("pyvpp-heap", os.MFD_CLOEXEC | kind)
        try:
            os.ftruncate(descriptor, self.slot_bytes)
        except OSError:
            os.close(descriptor)
            raise
        return descriptor

    def _map_file(self, descriptor: int) -> None:
        access = mmap.PROT_READ | mmap.PROT_WRITE
        try:
            self._map(self.address, self.slot_bytes, access, mmap.MAP_SHARED | self._MAP_FIXED, descriptor)
        except OSError:
            os.close(descriptor)
            raise
        if self.file is not None:
            os.close(self.file)
        self.file = descriptor

    def share(self, used: Iterable[tuple[int, int]]) -> None:
        """Puts the slots into a file, at the same addresses. Of what is in them only the ranges `used` stay, each an
        offset and a length. While nobody reads or writes. Raises OSError; then nothing has changed."""
        if self.file is not None:
            return
        kept = [(at, self.array[at : at + length].tobytes()) for at, length in used]
        self._map_file(self._new_file())
        for at, content in kept:
            self.array[at : at + len(content)] = np.frombuffer(content, np.uint8)

    def adopt(self, descriptor: int, pages: str) -> None:
        """Has the slots of another process, from its file, in place of our own; what was in those is lost.

        Raises OSError."""
        self._map_file(descriptor)
        self.pages = pages

    def map_ring(self, fd: int, length: int, start: int = 0) -> int:
        """Maps a file's memory (a packet socket's rings) from `start` on into the heap; returns its heap offset.

        Raises OSError. Freed by `unmap_ring`.
        """
        length = -(-length // mmap.PAGESIZE) * mmap.PAGESIZE
        free = self._free_rings.get(length)
        offset = free.pop() if free else self._next_ring
        if offset + length > self._RESERVED:
            raise OSError(12, "no room for another ring in the heap's address range")
        access = mmap.PROT_READ | mmap.PROT_WRITE
        self._map(self.address + offset, length, access, mmap.MAP_SHARED | self._MAP_FIXED, fd, start)
        if offset == self._next_ring:
            self._next_ring += length
        return offset

    def unmap_ring(self, offset: int, length: int) -> None:
        """Gives a ring's memory back; the range can be mapped anew."""
        length = -(-length // mmap.PAGESIZE) * mmap.PAGESIZE
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | self._MAP_NORESERVE | self._MAP_FIXED
        self._map(self.address + offset, length, self._PROT_NONE, flags, -1)
        self._free_rings.setdefault(length, []).append(offset)

    def close(self) -> None:
        """Unmaps everything; `array` must not be touched afterwards."""
        if self._base:
            self._munmap(self._base, self._RESERVED + (2 << 20))
            self._base = 0
        if self.file is not None:
            os.close(self.file)
            self.file = None


class Buffers:
    """Heap, metadata and the workers' pools: `small` small buffers in all, shared out evenly.

    A worker's are neighbors: the processor fetches the line after the one it was asked for, which must not be one
    that another worker writes. They stay its own, since it ends every packet that it took one for. Devices that hold
    buffers may mix them: see `charge` and `send_home`.
    """

    def __init__(self, small: int = 16384, workers: int = 1, hugepages: str = "auto", heap: Any = None) -> None:
        self.heap = heap or Heap(small, hugepages)
        self.small = small
        total = LARGE_BUFFERS + small
        room = np.zeros((total + 1) * 64, np.uint8)
        self.meta: Records = room[-room.ctypes.data % 64 :][: total * 64].view(BUFFER)
        self.pools: list[U32] = []
        self._owner = np.zeros(total, np.uint16)
        every_small = np.arange(total - 1, LARGE_BUFFERS - 1, -1, dtype=np.uint32)
        every_large = np.arange(LARGE_BUFFERS - 1, NO_BUFFER, -1, dtype=np.uint32)
        shares = zip(np.array_split(every_small, workers), np.array_split(every_large, workers), strict=True)
        for mine, large in shares:
            pool = own_lines(POOL_ENTRIES + small + LARGE_BUFFERS, np.uint32)
            pool[POOL_LARGE_START] = POOL_ENTRIES + small
            pool[POOL_ENTRIES : POOL_ENTRIES + len(mine)] = mine
            pool[POOL_ENTRIES + small : POOL_ENTRIES + small + len(large)] = large
            pool[POOL_SMALL], pool[POOL_LARGE] = len(mine), len(large)
            self._owner[mine] = self._owner[large] = len(self.pools)
            self.pools.append(pool)

    @property
    def total(self) -> int:
        """How many buffers there are, small and large."""
        return self.small + LARGE_BUFFERS - 1

    @property
    def free(self) -> int:
        """How many of them are free at this moment."""
        return sum(int(pool[POOL_SMALL]) + int(pool[POOL_LARGE]) for pool in self.pools)

    def take_free(self, worker: int, n: int, usable: Callable[[U32], Any]) -> U32:
        """Up to n free small buffers of a worker, of those that `usable` says True of; at a barrier only."""
        pool = self.pools[worker]
        free = pool[POOL_ENTRIES : POOL_ENTRIES + int(pool[POOL_SMALL])].copy()
        positions = np.flatnonzero(usable(free))[-n:] if n else np.zeros(0, np.int64)
        kept = np.delete(free, positions)
        pool[POOL_ENTRIES : POOL_ENTRIES + len(kept)] = kept
        pool[POOL_SMALL] = len(kept)
        return free[positions]

    def share(self) -> None:
        """Has the packets lie in a file from now on, which another process can go on with; at a barrier only.

        Raises OSError.
        """
        free = np.concatenate([self._free(pool, large) for pool in self.pools for large in (False, True)])
        used = np.setdiff1d(np.arange(1, LARGE_BUFFERS + self.small, dtype=np.uint32), free)
        self.heap.share((slot_start(b), LARGE_SLOT if b < LARGE_BUFFERS else SMALL_SLOT) for b in map(int, used))

    def empty(self) -> None:
        """Takes all buffers out of the pools: they are another process' for the time being. At a barrier only."""
        for pool in self.pools:
            pool[POOL_SMALL] = pool[POOL_LARGE] = 0

    def fill(self, but: U32) -> None:
        """Puts all buffers but for some into the pools that `empty` has emptied. At a barrier only."""
        self.put_back(np.setdiff1d(np.arange(1, LARGE_BUFFERS + self.small, dtype=np.uint32), but))

    def charge(self, lent: U32, worker: int) -> bool:
        """Has a worker answer for small buffers that a device holds, in place of those who did; at a barrier only.

        They get as many free ones of its own for them, so that all workers have as many as before. False when it has
        too few: then nothing is changed.
        """
        lent = lent[self._owner[lent] != worker]
        if len(lent) > int(self.pools[worker][POOL_SMALL]):
            return False
        given = self.take_free(worker, len(lent), lambda free: np.ones(len(free), bool))
        self._owner[given] = self._owner[lent]
        self._owner[lent] = worker
        self.put_back(given)
        return True

    def have_strayed(self) -> bool:
        """Whether a quarter of what one worker may have are free buffers of others, who may run short of them.

        A packet that leaves by a queue which several workers send by ends at whoever looks first. A guess while workers
        run, which take and give meanwhile.
        """
        return any(
            4 * len(self.pools) * np.count_nonzero(self._owner[free] != worker) > total
            for worker, pool in enumerate(self.pools)
            for free, total in ((self._free(pool, False), self.small), (self._free(pool, True), LARGE_BUFFERS))
        )

    def send_home(self) -> None:
        """Gives each worker its free buffers back from the others; at a barrier only."""
        strayed = []
        for worker, pool in enumerate(self.pools):
            for large in (False, True):
                free = self._free(pool, large)
                away = self._owner[free] != worker
                strayed.append(free[away])
                kept = free[~away]
                free[: len(kept)] = kept
                pool[POOL_LARGE if large else POOL_SMALL] = len(kept)
        self.put_back(np.concatenate(strayed))

    @staticmethod
    def _free(pool: U32, large: bool) -> U32:
        """A worker's free list of one kind, the buffers themselves and no copy."""
        start, n = (int(pool[POOL_LARGE_START]), POOL_LARGE) if large else (POOL_ENTRIES, POOL_SMALL)
        return pool[start : start + int(pool[n])]

    def put_back(self, buffers: U32) -> None:
        """Frees buffers, each for the worker that answers for it; at a barrier only.

        Workers wait meanwhile, so there is no loop over buffers: 8,192 took 24 ms one by one, and take 0.2.
        """
        owner, large = self._owner[buffers], buffers < LARGE_BUFFERS
        for worker, pool in enumerate(self.pools):
            for counter, kind in ((POOL_SMALL, ~large), (POOL_LARGE, large)):
                mine = buffers[(owner == worker) & kind]
                free = int(pool[counter])
                pool[counter] = free + len(mine)
                self._free(pool, counter == POOL_LARGE)[free:] = mine
