# SPDX-License-Identifier: Apache-2.0
"""Each kernel alone: a frame as it reaches the node in some scenario, run again and again from the same state.

Before each call packets, metadata and pool are put back as they were, outside of what is timed; tables and counters
stay as the calls before left them, so a throttle is closed and a cache is warm. What the kernel reads is in the
processor's caches: compared with the node's figure in a whole path, the difference is what memory costs there.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from pyvpp.bench.errors import AbsentError
from pyvpp.bench.measure import GROUPS, noise
from pyvpp.bench.native import KEPT, replay
from pyvpp.bench.scenario import Traffic
from pyvpp.bench.stand import Stand, stand_for
from pyvpp.bench.walk import walk
from pyvpp.buffers import slot_start
from pyvpp.graph import GraphNode
from pyvpp.loader import Declarations
from pyvpp.node import FRAME_SIZE, Kind
from pyvpp.typing import I64, U8, U32, Records

VECTORS = (1, 4, 16, 64, 256)
CALLS = 400  # a group


@dataclass
class Snapshot:
    """A frame that is about to reach a node: its buffers' indices, metadata and memory."""

    frame: U32
    meta: Records
    starts: I64
    """absolute heap offsets of the memory that is kept, one a buffer"""
    lengths: I64
    memory: U8
    pool: U32
    """the whole pool, as it was when the frame was caught"""


@dataclass
class KernelFigures:
    """Clocks a packet by vector size, and the groups' figures at the largest."""

    node: str
    traffic: str
    clocks: dict[int, float]
    groups: list[float]

    def as_json(self) -> dict[str, Any]:
        curve = [{"vector_size": n, "clocks_per_packet": round(c, 2)} for n, c in sorted(self.clocks.items())]
        return {
            "name": self.node,
            "traffic": self.traffic,
            "clocks_per_packet": curve[-1]["clocks_per_packet"],
            "noise": round(noise(self.groups), 4),
            "groups": [round(clocks, 2) for clocks in self.groups],
            "vectors": curve,
        }


def measure_nodes(
    declared: Iterable[Traffic],
    hugepages: str = "auto",
    calls: int = CALLS,
    told: Callable[[str], None] = lambda name: None,
) -> list[KernelFigures]:
    """Every kernel that any of the traffic reaches, on the first full frame it gets, or on the largest there is.

    `told` hears the name of each traffic before it is set up; what cannot be set up is left out.
    """
    found: dict[str, KernelFigures] = {}

    def wanted(node: str, packets: int) -> bool:
        return node not in found or packets > max(found[node].clocks)

    for traffic in declared:
        told(traffic.name)
        try:
            with stand_for(traffic, hugepages) as stand:
                stand.generate(traffic.packets(stand.engine, count=min(traffic.variations, FRAME_SIZE)))
                for figures in measure_kernels(stand, traffic.name, wanted, calls):
                    found[figures.node] = figures
        except AbsentError:
            continue
    return [found[name] for name in sorted(found)]


def unreached(declarations: Declarations, measured: Iterable[KernelFigures]) -> list[str]:
    """Kernels that no traffic reaches, most of them because they need a device."""
    reached = {each.node for each in measured}
    return sorted(name for name, node in declarations.nodes.items() if node.kind.compiled and name not in reached)


def measure_kernels(
    stand: Stand, traffic: str, wanted: Callable[[str, int], bool], calls: int = CALLS
) -> list[KernelFigures]:
    """The kernels that one frame of the stand's packets reaches, on the largest frame each gets.

    `wanted` is asked with the node's declared name and that frame's size. The engine is as it was afterwards, but for
    its counters.
    """
    pool = stand.engine.workers[0].pool
    before = pool.copy()
    stand.engine.fusion = False
    figures = [
        measure_kernel(stand, node, kept, traffic, calls)
        for name, (node, kept) in frames_of(stand).items()
        if wanted(name, size_of(node, kept))
    ]
    stand.engine.fusion = True
    pool[:] = before
    return figures


def frames_of(stand: Stand) -> dict[str, tuple[GraphNode, Snapshot]]:
    """The largest frame that reaches each node, by its declared name, on the way of one frame of the stand's packets.

    What only the first packets meet, as a neighbor that is not resolved, is over by then.
    """
    stand.engine.run(2)
    found: dict[str, tuple[GraphNode, Snapshot]] = {}

    def visit(node: GraphNode, frame: U32) -> None:
        name = node.node.name
        if name not in found or len(frame) > len(found[name][1].frame):
            found[name] = node, snapshot(stand, frame)

    walk(stand.engine, visit)
    return found


def size_of(node: GraphNode, kept: Snapshot) -> int:
    return FRAME_SIZE if node.node.kind is Kind.INPUT else len(kept.frame)


def snapshot(stand: Stand, frame: U32) -> Snapshot:
    buffers = stand.engine.buffers
    meta = buffers.meta[frame].copy()
    starts = np.array([slot_start(int(b)) for b in frame], np.int64)
    lengths = -(-(meta["cur"] + meta["len"] - starts) // 8) * 8
    heap = buffers.heap.array
    parts = [heap[start : start + n] for start, n in zip(starts, lengths, strict=True)]
    memory = np.concatenate(parts) if parts else np.zeros(0, np.uint8)
    return Snapshot(frame.copy(), meta, starts, lengths.astype(np.int64), memory, stand.engine.workers[0].pool.copy())


def measure_kernel(stand: Stand, node: GraphNode, kept: Snapshot, traffic: str, calls: int) -> KernelFigures:
    """The node's kernel on vectors of the sizes in VECTORS that the frame is large enough for, and on all of it."""
    largest = size_of(node, kept)
    figures: dict[int, float] = {}
    groups: list[float] = []
    for n in sorted({*(size for size in VECTORS if size <= largest), largest}):
        runs = [clocks_of_a_call(stand, node, kept, n, calls) for _ in range(GROUPS)]
        groups = [clocks / max(packets, 1) for clocks, packets in runs]
        figures[n] = min(groups)
    return KernelFigures(node.node.name, traffic, figures, groups)


def clocks_of_a_call(stand: Stand, node: GraphNode, kept: Snapshot, n: int, calls: int) -> tuple[float, int]:
    """The clocks of a call on the first `n` packets, and how many packets that were.

    The mean of the middle half of the calls: a virtual machine's cycle counter may move in steps of 26, which only a
    mean sees through, and the ends are calls that were interrupted or whose counter was read out of order.
    """
    worker, buffers = stand.engine.workers[0], stand.engine.buffers
    is_input = node.node.kind is Kind.INPUT
    row = worker.rows[node.index]
    count = 0 if is_input else n
    nexts, room = np.zeros(FRAME_SIZE, np.uint16), np.zeros(FRAME_SIZE, np.uint32)
    clocks = np.zeros(calls, np.int64)
    worker.pool[:] = kept.pool
    made = replay(
        int(row["entry"]), int(row["runtime"]), worker.context, n, nexts, room, kept.frame[:count], kept.meta[:count],
        kept.starts[:count], kept.lengths[:count], kept.memory, buffers.heap.array, buffers.meta, worker.pool,
        worker.emit, np.zeros(2 * KEPT, np.uint32), clocks,
    )  # fmt: skip
    clocks.sort()
    middle = clocks[calls // 4 : max(calls * 3 // 4, 1)]
    return float(middle.mean()), int(made) if is_input else n
