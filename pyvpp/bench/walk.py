# SPDX-License-Identifier: Apache-2.0
"""A frame's way through the graph, one kernel after another from Python: which nodes it reaches, and in what state.

The dispatcher keeps nothing of a frame once it has moved on, and a frame to measure a kernel on must be exactly what
the kernel gets. So this walks the way the dispatcher does, slowly, with a look at each frame before its node runs.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from pyvpp.bench.native import call_node
from pyvpp.buffers import give_back
from pyvpp.graph import GraphNode
from pyvpp.jit import plain
from pyvpp.node import FRAME_SIZE, FREE, HELD, TO_NODE, Kind
from pyvpp.typing import U32

Visit = Callable[[GraphNode, U32], None]
MAX_VISITS = 1000  # a loop of the graph ends here


def walk(engine: Any, visit: Visit) -> None:
    """Lets pg-input make one frame and follows it until nothing is left; `visit` sees every node but Python's.

    Its argument is the node and the buffers it is about to get; empty for pg-input. Nothing may be pending in the
    engine. Counters and tables are the engine's own.
    """
    waiting: list[tuple[GraphNode, list[int]]] = [(engine.graph.by_index(engine.graph.index_of("pg-input")), [])]
    for _ in range(MAX_VISITS):
        if not waiting:
            return
        node, buffers = waiting.pop(0)
        if not node.node.kind.compiled:
            release(engine, buffers)
            continue
        for start in range(0, max(len(buffers), 1), FRAME_SIZE):
            frame = np.array(buffers[start : start + FRAME_SIZE], np.uint32)
            visit(node, frame)
            for target, b in step(engine, node, frame):
                place(waiting, engine.graph.by_index(target), b)
    raise RuntimeError(f"a frame is still under way after {MAX_VISITS} nodes")


def step(engine: Any, node: GraphNode, frame: U32) -> list[tuple[int, int]]:
    """Runs a node on a frame: the packets that go on, each with the index of its next node."""
    worker = engine.workers[0]
    row = worker.rows[node.index]
    is_input = node.node.kind is Kind.INPUT
    room = np.zeros(FRAME_SIZE, np.uint32)
    room[: len(frame)] = frame
    nexts = np.zeros(FRAME_SIZE, np.uint16)
    worker.emit[0] = 0
    made = call_node(
        int(row["entry"]),
        worker.context.ctypes.data,
        int(row["runtime"]),
        room.ctypes.data,
        FRAME_SIZE if is_input else len(frame),
        nexts.ctypes.data,
    )
    n = made if is_input else len(frame)
    emitted = range(int(worker.emit[0]))
    pairs = [(int(room[k]), int(nexts[k])) for k in range(n)]
    pairs += [(int(worker.emit[1 + 2 * k]), int(worker.emit[2 + 2 * k])) for k in emitted]
    release(engine, [b for b, value in pairs if value == FREE])
    return [
        (value & ~TO_NODE if value & TO_NODE else node.nexts[value], b)
        for b, value in pairs
        if value not in (FREE, HELD)
    ]


def place(waiting: list[tuple[GraphNode, list[int]]], node: GraphNode, b: int) -> None:
    for queued, buffers in waiting:
        if queued is node:
            buffers.append(b)
            return
    waiting.append((node, [b]))


def release(engine: Any, buffers: list[int]) -> None:
    """Buffers nobody else holds go back to the pool."""
    pool, meta = engine.workers[0].pool, engine.buffers.meta
    for b in buffers:
        if int(meta["ref"][b]) > 1:
            meta["ref"][b] -= 1
        else:
            meta["flags"][b] = 0
            give_back_(pool, b)


give_back_ = plain(give_back)
