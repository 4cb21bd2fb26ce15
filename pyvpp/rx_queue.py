# SPDX-License-Identifier: Apache-2.0
"""Receive queues: which worker asks which queue of an interface, and what wakes it.

A queue is an input node of its own and one or more file descriptors that are readable when packets wait. It belongs to
one worker at a time, in whose epoll its descriptors are and which alone runs the node, so a driver's kernel needs no
lock. Queues are spread evenly; `place` moves one, at a barrier.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from pyvpp.interface import Interface
from pyvpp.node import Kind

if TYPE_CHECKING:
    from pyvpp.engine import Engine
    from pyvpp.worker import Worker


class RxMode(Enum):
    """polling: asked in every round, and the worker never sleeps. interrupt: asked when Linux says that there is
    something, and the worker sleeps as soon as there is nothing. adaptive: as interrupt, but the worker stays awake for
    a moment when that is likely to pay; see `run_worker`."""

    POLLING = "polling"
    INTERRUPT = "interrupt"
    ADAPTIVE = "adaptive"


@dataclass(eq=False)
class RxQueue:
    """A queue of an interface. `placed` is told by which worker it is going to be read, at a barrier; what it raises
    leaves the queue where it is. `mapped`: a look into memory shows whether packets wait. A worker that is awake takes
    it in every round and needs no system call to learn of them."""

    interface: Interface
    number: int
    node: int
    fds: tuple[int, ...]
    worker: "Worker"
    placed: "Callable[[Worker], None]"
    mapped: bool = False
    mode: RxMode = RxMode.ADAPTIVE


class RxQueues:
    """All receive queues of an engine, in the order they were made."""

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine
        self._queues: list[RxQueue] = []

    def __iter__(self) -> Iterator[RxQueue]:
        return iter(list(self._queues))

    def of(self, interface: Interface) -> list[RxQueue]:
        return [queue for queue in self._queues if queue.interface is interface]

    def by_load(self) -> list[int]:
        """The workers, those with the fewest queues first."""
        counts = [sum(queue.worker is worker for queue in self._queues) for worker in self._engine.workers]
        return sorted(range(len(counts)), key=lambda index: counts[index])

    def least_busy(self) -> int:
        """The worker with the fewest queues, the first of several."""
        return self.by_load()[0]

    def add(
        self,
        interface: Interface,
        node: int,
        fds: tuple[int, ...],
        worker: int | None = None,
        placed: "Callable[[Worker], None]" = lambda worker: None,
        mapped: bool = False,
    ) -> RxQueue:
        """A queue read by an input node that is in the graph already."""
        chosen = self._engine.workers[self.least_busy() if worker is None else worker]
        queue = RxQueue(interface, len(self.of(interface)), node, fds, chosen, placed, mapped)
        placed(chosen)
        self._queues.append(queue)
        self._begin(queue)
        self.set_inputs()
        return queue

    def remove(self, queue: RxQueue) -> None:
        """Nobody asks it any more, and its descriptors may be closed."""
        self._queues.remove(queue)
        self._end(queue)
        self.set_inputs()

    def place(self, queue: RxQueue, worker: int) -> None:
        """Has another worker read it from now on. Raises OperatorError when its device refuses."""
        with self._engine.barrier():
            queue.placed(self._engine.workers[worker])
            self._end(queue)
            queue.worker = self._engine.workers[worker]
            self._begin(queue)
            self.set_inputs()

    def set_mode(self, queue: RxQueue, mode: RxMode) -> None:
        queue.mode = mode
        self._write_mode(queue)
        queue.worker.wake()

    def set_inputs(self) -> None:
        """Tells workers which input nodes are theirs: those of their queues, and those that all have."""
        engine = self._engine
        placed = {queue.node: queue.worker for queue in self._queues}
        inputs = [node.index for node in engine.graph if node.node.kind is Kind.INPUT]
        with engine.barrier():
            for worker in engine.workers:
                mine = [index for index in inputs if placed.get(index, worker) is worker]
                worker.inputs[1 : 1 + len(mine)] = mine
                worker.inputs[0] = len(mine)

    def _begin(self, queue: RxQueue) -> None:
        for fd in queue.fds:
            queue.worker.watch(fd, queue.node)
        self._write_mode(queue)
        queue.worker.rows[queue.node]["ready"] = 1
        queue.worker.wake()

    @staticmethod
    def _end(queue: RxQueue) -> None:
        for fd in queue.fds:
            queue.worker.unwatch(fd)
        for field in ("ready", "polled", "adaptive", "asked"):
            queue.worker.rows[queue.node][field] = 0

    @staticmethod
    def _write_mode(queue: RxQueue) -> None:
        row = queue.worker.rows[queue.node]
        row["polled"] = queue.mode is RxMode.POLLING
        row["adaptive"] = queue.mode is RxMode.ADAPTIVE
        row["asked"] = queue.mapped
