# SPDX-License-Identifier: Apache-2.0
"""The test kit of nodes: run one kernel on packets, without an engine and without root.

    result = run_kernel(ip4_input, [Packet(data, rx=1), ...], {"interfaces": table})

Buffers start filled with 0xa5 and lie in the heap in a shuffled order. A table the test does not give is all zeros. A
packet's row of a `buffer_table` is given like its metadata, `Packet(data, my_mark=7)`, and found afterwards in
`result.tables["my_mark"][result.buffers]`.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pyvpp.buffers import (
    BUFFER,
    EMIT_PACKETS,
    HEADROOM,
    LARGE_BUFFERS,
    LARGE_ROOM,
    LARGE_SLOT,
    POOL_ENTRIES,
    POOL_LARGE,
    POOL_LARGE_START,
    POOL_SMALL,
    SMALL_ROOM,
    SMALL_SLOT,
    slot_start,
)
from pyvpp.features import FEATURE_CHAINS, NODE_BY_NODE
from pyvpp.interface import TABLES
from pyvpp.loader import declared_table, tables_beside
from pyvpp.node import Kind, Node

FILL = 0xA5
OFFSETS = {"l2", "l3", "l4", "csum_start"}


@dataclass
class Packet:
    """A packet before the node: bytes and metadata. `cur`, `l2`, `l3`, `l4`, `csum_start` count from the first byte."""

    data: bytes
    rx: int = 1
    cur: int = 0
    fields: dict[str, int] = field(default_factory=dict)

    def __init__(self, data: bytes, rx: int = 1, cur: int = 0, **fields: int) -> None:
        self.data, self.rx, self.cur, self.fields = data, rx, cur, fields


@dataclass
class Result:
    """What a kernel left behind: for each packet its next, its bytes from cur, a copy of its metadata; and the rest."""

    nexts: list[int]
    packets: list[bytes]
    meta: list[Any]
    counters: Any
    emitted: list[tuple[bytes, int]]
    emitted_meta: list[Any]
    tables: dict[str, Any]
    n: Any
    free_buffers: int
    heap: Any
    buffers: list[int]


_heaps: dict[int, Any] = {}


def _heap(small: int) -> Any:
    """Only the slots in use: the large ones lie first, so one heap serves all tests of a size."""
    size = LARGE_BUFFERS * LARGE_SLOT + small * SMALL_SLOT
    if size not in _heaps:
        _heaps.clear()
        _heaps[size] = np.full(size, FILL, np.uint8)
    return _heaps[size]


@dataclass
class Arranged:
    """Packets in buffers, and every array that a kernel takes, by the name of its parameter."""

    given: dict[str, Any]
    tables: dict[str, Any]

    def arguments(self, node: Node) -> list[Any]:
        """In the order of the kernel's parameters."""
        return [self.given[name] if name in self.given else self.tables[name] for name in node.parameters]


def arrange(
    node: Node,
    packets: Sequence[Packet],
    tables: Mapping[str, Any] | None = None,
    *,
    instance: int = 0,
    now: int = 0,
    worker: int = 0,
    error_base: int = 0,
    buffers: int = 64,
    seed: int = 1,
    engine: Any = None,
) -> Arranged:
    """What `run_kernel` calls a kernel with. The heap is shared: the next arrangement takes it."""
    random_ = random.Random(seed)
    declared = {t.name: t for t in (*TABLES, FEATURE_CHAINS, NODE_BY_NODE, *tables_beside(node))}
    small_total = max(256, len(packets) + buffers + 1)
    heap = _heap(small_total)
    meta = np.zeros(LARGE_BUFFERS + small_total, BUFFER)
    small = list(range(LARGE_BUFFERS, LARGE_BUFFERS + small_total))
    large = list(range(1, LARGE_BUFFERS))
    random_.shuffle(small)
    random_.shuffle(large)
    frame = np.zeros(max(len(packets), 256 if node.kind is Kind.INPUT else 0), np.uint32)
    by_buffer = {name: np.zeros(len(meta), t.dtype) for name, t in declared.items() if t.by_buffer}
    for i, packet in enumerate(packets):
        fits = len(packet.data) <= SMALL_ROOM
        b = small.pop() if fits else large.pop()
        start = slot_start(b)
        room = SMALL_SLOT if fits else LARGE_SLOT
        assert len(packet.data) <= LARGE_ROOM, "a packet larger than any buffer"
        heap[start : start + room] = FILL
        first = start + HEADROOM
        heap[first : first + len(packet.data)] = np.frombuffer(packet.data, np.uint8)
        meta["cur"][b] = first + packet.cur
        meta["len"][b] = len(packet.data) - packet.cur
        meta["rx"][b] = packet.rx
        meta["ref"][b] = 1
        for name in ("l2", "l3", "l4"):
            meta[name][b] = first + packet.cur
        for name, value in packet.fields.items():
            if name in by_buffer:
                by_buffer[name][b] = value
            else:
                meta[name][b] = value + (first if name in OFFSETS else 0)
        frame[i] = b
    small, large = small[:buffers], large[:buffers]
    pool = np.zeros(POOL_ENTRIES + small_total + LARGE_BUFFERS, np.uint32)
    pool[POOL_LARGE_START] = POOL_ENTRIES + small_total
    pool[POOL_ENTRIES : POOL_ENTRIES + len(small)] = small
    pool[POOL_ENTRIES + small_total :][: len(large)] = large
    pool[POOL_SMALL], pool[POOL_LARGE] = len(small), len(large)
    for b in (*small, *large):
        heap[slot_start(b) : slot_start(b) + SMALL_SLOT] = FILL
    nexts = np.full(len(frame), 0xFFF0, np.uint16)
    emit = np.zeros(1 + 2 * EMIT_PACKETS, np.uint32)
    counters = np.zeros(max(len(node.counters), 1), np.uint64)
    given: dict[str, Any] = {
        "heap": heap, "meta": meta, "frame": frame, "nexts": nexts, "counters": counters, "pool": pool, "emit": emit,
        "instance": instance, "error_base": error_base, "now": now, "worker": worker, "heap_address": heap.ctypes.data,
        "engine": engine,
    }  # fmt: skip
    used: dict[str, Any] = {}
    for name in node.parameters:
        if name in given:
            continue
        if tables is not None and name in tables:
            used[name] = np.array(tables[name], copy=True)
        elif name in by_buffer:
            used[name] = by_buffer[name]
        elif name in declared:
            used[name] = np.zeros(declared[name].capacity, declared[name].dtype)
        elif name.endswith("_arc"):
            used[name] = np.zeros(1024, np.uint32)
        elif (table := declared_table(name)) is not None:  # another package's, such as the stack's adjacencies
            used[name] = np.zeros(table.capacity, table.dtype)
        else:
            raise LookupError(f"node {node.name}: no table {name} is declared, and the test gives none")
    return Arranged(given, used)


def run_kernel(
    node: Node,
    packets: Sequence[Packet],
    tables: Mapping[str, Any] | None = None,
    *,
    instance: int = 0,
    now: int = 0,
    worker: int = 0,
    error_base: int = 0,
    buffers: int = 64,
    seed: int = 1,
    engine: Any = None,
) -> Result:
    """Runs a node's kernel once on these packets; so many small and large `buffers` are free besides theirs."""
    arranged = arrange(
        node, packets, tables, instance=instance, now=now, worker=worker, error_base=error_base, buffers=buffers,
        seed=seed, engine=engine,
    )  # fmt: skip
    heap, meta, frame, nexts, counters, pool, emit = (
        arranged.given[name] for name in ("heap", "meta", "frame", "nexts", "counters", "pool", "emit")
    )
    n = node.kernel(*arranged.arguments(node))
    indices = [int(b) for b in frame[: n if node.kind is Kind.INPUT else len(packets)]]

    def bytes_of(b: int) -> bytes:
        cur = int(meta["cur"][b])
        return bytes(heap[cur : cur + int(meta["len"][b])])

    emitted = [(int(emit[1 + 2 * k]), int(emit[2 + 2 * k])) for k in range(int(emit[0]))]
    return Result(
        nexts=[int(x) for x in nexts[: len(indices)]],
        packets=[bytes_of(b) for b in indices],
        meta=[meta[b].copy() for b in indices],
        counters=counters,
        emitted=[(bytes_of(b), next_) for b, next_ in emitted],
        emitted_meta=[meta[b].copy() for b, _ in emitted],
        tables=arranged.tables,
        n=n,
        free_buffers=int(pool[POOL_SMALL]) + int(pool[POOL_LARGE]),
        heap=heap,
        buffers=indices,
    )
