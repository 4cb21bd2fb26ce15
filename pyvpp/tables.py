# SPDX-License-Identifier: Apache-2.0
"""Tables: the arrays that kernels read and control code writes.

A `Table` is a declaration at module level; the plugin loader collects it, and a kernel has the table by naming a
parameter after it. `engine.tables["adjacencies"]` is its instance: `.array` (read again after every `grow`, which
moves it), or `.arrays[worker]` and `.sum()` of a table that each worker has for itself.
"""

import mmap
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np


class FieldRecord(np.record):  # type: ignore[misc]
    """A record whose fields win over NumPy's own attributes of the same name (`flags`, `trace`)."""

    @property
    def flags(self) -> Any:
        """The record's own field."""
        return self["flags"]

    @flags.setter
    def flags(self, value: int) -> None:
        self["flags"] = value

    @property
    def trace(self) -> Any:
        """The record's own field."""
        return self["trace"]

    @trace.setter
    def trace(self, value: int) -> None:
        self["trace"] = value


def record_dtype(fields: Any, align: bool = False) -> "np.dtype[Any]":
    """A structured dtype whose records have their fields as attributes, in kernels and in Python."""
    return np.dtype((FieldRecord, np.dtype(fields, align=align)))


COUNTER = record_dtype([("packets", np.uint64), ("bytes", np.uint64)])


@dataclass(frozen=True)
class Table:
    """Declares a table: its name (also the kernel parameter's), an element's dtype, how many there are at first.

    One `by_interface` (see `interface_table`) grows with the interfaces, and a new interface's row is all zeros. One
    `by_buffer` (see `buffer_table`) has a row for each buffer, whatever its capacity says.
    """

    name: str
    dtype: Any
    capacity: int
    per_worker: bool = False
    by_interface: bool = False
    by_buffer: bool = False

    @property
    def shared(self) -> bool:
        """Whether a kernel that writes it may meet another worker's that does."""
        return not self.per_worker and not self.by_buffer


INTERFACES_AT_FIRST = 1024


HUGE_PAGE = 2 << 20
LARGE = HUGE_PAGE // 2
"""Bytes from which a table gets pages of its own."""


LINE_PAIR = 128
"""Bytes: processors fetch cache lines in pairs, and two workers that write into one pair wait for each other."""


def own_lines(n: int, dtype: Any) -> Any:
    """Zeroed array of `n` items in cache lines of its own: what one worker writes and no other should have to fetch."""
    size = n * np.dtype(dtype).itemsize
    room = np.zeros(-(-size // LINE_PAIR) * LINE_PAIR + LINE_PAIR, np.uint8)
    start = -room.ctypes.data % LINE_PAIR
    return room[start : start + size].view(dtype)


def interface_table(name: str, dtype: Any, *, per_worker: bool = False) -> Table:
    """Declares a table by sw_if_index."""
    return Table(name, dtype, INTERFACES_AT_FIRST, per_worker, by_interface=True)


def buffer_table(name: str, dtype: Any) -> Table:
    """Declares metadata of a plugin's own: a table by buffer index, so `my_mark[b]` is a packet's beside `meta[b]`.

    A kernel reads and writes the rows of its frame's packets, whose buffers nobody else has meanwhile. A row holds what
    it was given for the buffer's last packet until a node writes it: one that sees every packet first has to.
    """
    return Table(name, dtype, 1, by_buffer=True)


def _large_pages(size: int) -> Any:
    """Zeroed memory with room for `size` bytes from a hugepage's boundary on."""
    rounded = -(-size // HUGE_PAGE) * HUGE_PAGE
    memory = mmap.mmap(-1, rounded + HUGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError):  # a kernel without them: ordinary pages
        memory.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(memory, np.uint8)


def clear_row(array: Any, row: int, *descriptors: str) -> None:
    """Makes a row a new one's, but for fields that hold file descriptors, which name none: 0 is somebody's."""
    array[row] = np.zeros((), array.dtype)
    for field in descriptors:
        array[field][row] = -1


class TableInstance:
    """A declared table's arrays: one, or one for each worker. All zeros at first."""

    def __init__(
        self, table: Table, workers: int, barrier: Callable[[], AbstractContextManager[None]] = nullcontext,
        buffers: int = 1,
    ) -> None:  # fmt: skip
        self.table = table
        self.dtype = np.dtype(table.dtype)
        self._barrier = barrier
        self.moved: Callable[[TableInstance], None] = lambda instance: None
        capacity = max(table.capacity, buffers) if table.by_buffer else table.capacity
        self.arrays: list[Any] = [self.zeros(capacity) for _ in range(workers if table.per_worker else 1)]

    def zeros(self, n: int) -> Any:
        """An array for this table. It starts on a cache line: a record of 64 bytes never straddles two.

        A large one lies on transparent hugepages where Linux has them: random lookups in a million routes wait less
        for the TLB.
        """
        size = n * self.dtype.itemsize
        if size < LARGE:
            return own_lines(n, self.dtype)
        room = _large_pages(size)
        start = -room.ctypes.data % HUGE_PAGE
        return room[start : start + size].view(self.dtype)

    @property
    def array(self) -> Any:
        """The array, of shape (len(self),) and the table's dtype; the first worker's where each has one."""
        return self.arrays[0]

    def worker(self, index: int) -> Any:
        """The array that a worker's kernels get."""
        return self.arrays[index if self.table.per_worker else 0]

    def __len__(self) -> int:
        return len(self.arrays[0])

    def sum(self) -> Any:
        """The workers' arrays added up, field by field."""
        total = self.arrays[0].copy()
        for array in self.arrays[1:]:
            for field in self.dtype.names or (None,):
                if field is None:
                    total += array
                else:
                    total[field] += array[field]
        return total

    def grow(self, n: int) -> None:
        """Makes room for at least `n` elements; what is there stays. Workers stop for the moment of the copy."""
        size = len(self)
        if n <= size:
            return
        while size < n:
            size *= 2
        larger = [self.zeros(size) for _ in self.arrays]
        with self._barrier():
            for new, old in zip(larger, self.arrays, strict=True):
                new[: len(old)] = old
            self._kept = self.arrays  # until the next growth: whoever read `.array` just now still has memory below it
            self.arrays = larger
            self.moved(self)

    def swap(self, array: Any) -> None:
        """Puts an array made by `zeros` and filled into the table's place; for a table that all workers share."""
        with self._barrier():
            self.arrays = [array]
            self.moved(self)


class Tables(Mapping[str, TableInstance]):
    """All tables of an engine by name."""

    def __init__(
        self,
        declared: Iterable[Table],
        workers: int = 1,
        barrier: Callable[[], AbstractContextManager[None]] = nullcontext,
        buffers: int = 1,
    ) -> None:
        self._workers, self._barrier, self._buffers = workers, barrier, buffers
        self._instances: dict[str, TableInstance] = {}
        for table in declared:
            existing = self._instances.get(table.name)
            if existing and existing.table is not table:
                raise ValueError(f"two tables are named {table.name}")
            self._instances[table.name] = existing or TableInstance(table, workers, barrier, buffers)

    def __getitem__(self, name: str) -> TableInstance:
        return self._instances[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._instances)

    def __len__(self) -> int:
        return len(self._instances)

    def successors(self, declared: Iterable[Table]) -> dict[str, TableInstance]:
        """Instances for other declarations, by name: for a new table, or one of another type than is here.

        The latter have as many elements as the former at least: what indexes them reaches as far as before.
        """
        found = {}
        for table in declared:
            old = self._instances.get(table.name)
            if old is None or not same_type(old.table, table):
                capacity = max(table.capacity, len(old) if old else 0)
                found[table.name] = TableInstance(
                    replace(table, capacity=capacity), self._workers, self._barrier, self._buffers
                )
        return found

    def put(self, instances: Mapping[str, TableInstance]) -> None:
        """Adds instances, or puts them in the place of others."""
        self._instances.update(instances)

    def copy(self) -> dict[str, TableInstance]:
        """The instances there are, by name; for `restore`."""
        return dict(self._instances)

    def restore(self, instances: dict[str, TableInstance]) -> None:
        """What `copy` answered."""
        self._instances = instances


def same_type(one: Table, other: Table) -> bool:
    """Whether a table can stay as it is when the other declaration replaces the one."""
    return np.dtype(one.dtype) == np.dtype(other.dtype) and (one.per_worker, one.by_interface, one.by_buffer) == (
        other.per_worker,
        other.by_interface,
        other.by_buffer,
    )
