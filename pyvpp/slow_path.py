# SPDX-License-Identifier: Apache-2.0
"""Where packets leave the workers for nodes in Python, and come back: the main thread's half of the punt rings.

A PYTHON node gets one packet after another, as bytes; their buffers are free. A SLOW node gets what a kernel gets, a
frame of the packets that one worker has sent it, and says by `nexts` where they go on, on the worker they came from. So
it may be written and tried in NumPy, or as a loop, with the declaration a kernel has, and become one by `@jit`.
"""

import logging
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pyvpp import dispatch as d
from pyvpp.buffers import LARGE_BUFFERS
from pyvpp.errors import in_one_line
from pyvpp.node import FRAME_SIZE, FREE, HELD, TO_NODE, Kind

if TYPE_CHECKING:
    from pyvpp.engine import Engine
    from pyvpp.graph import GraphNode
    from pyvpp.worker import Worker

log = logging.getLogger(__name__)

PUNTS_AT_ONCE = 256  # then the command line and timers have their turn
DROP = 0  # error-drop's index


@dataclass
class PuntedPacket:
    """A packet on its way through a PYTHON node: its bytes from the current header, and a copy of its metadata."""

    data: bytes
    meta: Any

    @property
    def rx(self) -> int:
        """The sw_if_index of the interface it came in on."""
        return int(self.meta["rx"])


class SlowPath:
    """Runs SLOW and PYTHON nodes of an engine on what workers have sent there."""

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine

    def drain(self) -> int:
        """Runs nodes on the packets that wait for them; returns how many.

        Of each worker as many are taken as of the others; the rest, and what finds no room on the way back, waits for
        the next call.
        """
        workers = self._engine.workers
        done = sum(self._drain(worker, max(1, PUNTS_AT_ONCE // len(workers))) for worker in workers)
        if any(int(w.control[d.PUNT_HEAD]) < int(w.control[d.PUNT_TAIL]) for w in workers):
            os.eventfd_write(self._engine.main_event, 1)
        return done

    def _drain(self, worker: "Worker", most: int) -> int:
        engine = self._engine
        waiting: list[int] = []
        at: GraphNode | None = None
        done = 0
        while (
            done < most
            and worker.room > len(waiting)
            and int(worker.control[d.PUNT_HEAD]) < int(worker.control[d.PUNT_TAIL])
        ):
            b, index = worker.take_punted()
            done += 1
            node = engine.graph.by_index(index)
            if at is not None and (node is not at or len(waiting) == FRAME_SIZE):
                self._run_frame(worker, at, waiting)
                waiting, at = [], None
            if node.node.kind is Kind.SLOW:
                waiting.append(b)
                at = node
            else:
                self._run_packet(worker, node, b)
        if at is not None:
            self._run_frame(worker, at, waiting)
        return done

    def _run_packet(self, worker: "Worker", node: "GraphNode", b: int) -> None:
        engine = self._engine
        m = engine.buffers.meta[b].copy()
        cur = int(m["cur"])
        packet = PuntedPacket(engine.buffers.heap.array[cur : cur + int(m["len"])].tobytes(), m)
        engine.buffers.meta["flags"][b] = 0
        small = b >= LARGE_BUFFERS and int(m["ref"]) <= 1
        if worker is not engine.workers[0] or not small or not engine.keep_to_inject(b):
            worker.push(b, FREE)
        function = node.node.kernel
        try:
            if node.node.kind is Kind.PYTHON and not engine.is_disabled(function):
                function(engine, packet)
        except Exception as error:
            self._failed(node, error)

    def _run_frame(self, worker: "Worker", node: "GraphNode", buffers: list[int]) -> None:
        """Packets of a node that raises, or whose plugin is disabled, are dropped."""
        engine, function = self._engine, node.node.kernel
        frame, nexts = np.array(buffers, np.uint32), np.full(len(buffers), HELD, np.uint16)
        if not engine.is_disabled(function):
            try:
                function(*self._arguments(worker, node, frame, nexts))
            except Exception as error:
                self._failed(node, error)
                nexts[:] = HELD
        for b, value in zip(buffers, nexts.tolist(), strict=True):
            worker.push(b, self._target(node, value))

    def _arguments(self, worker: "Worker", node: "GraphNode", frame: Any, nexts: Any) -> list[Any]:
        engine = self._engine
        given = {
            "heap": engine.buffers.heap.array, "meta": engine.buffers.meta, "frame": frame, "nexts": nexts,
            "counters": node.counters[worker.index], "now": worker.now, "worker": worker.index,
            "instance": node.instance, "error_base": node.error_base, "engine": engine,
        }  # fmt: skip
        return [
            given[name] if name in given else engine.tables[name].worker(worker.index) for name in node.node.parameters
        ]

    def _target(self, node: "GraphNode", value: int) -> int:
        """A node's index, or FREE. What leads nowhere is dropped, and so is what a node would keep."""
        if value == FREE:
            return FREE
        if value < len(node.nexts):
            return node.nexts[value]
        index = value & ~TO_NODE
        return index if value & TO_NODE and value != HELD and self._engine.graph.get(index) is not None else DROP

    def _failed(self, node: "GraphNode", error: Exception) -> None:
        if not self._engine.blame(node.node.kernel, error):
            log.error("node %s failed: %s", node.name, in_one_line(error))
            log.debug("the same, in full", exc_info=True)
