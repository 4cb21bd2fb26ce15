# SPDX-License-Identifier: Apache-2.0
"""Handoff as control code sees it: whose packets pass the node that spreads them, and how the rings are used.

Nothing of it is there before the first interface hands packets on: no rings, no node that asks them.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pyvpp import handoff_ring as ring
from pyvpp.dispatch import HANDOFF_ADDRESS, HANDOFF_WORDS
from pyvpp.errors import OperatorError
from pyvpp.interface import Interface
from pyvpp.node import FREE

if TYPE_CHECKING:
    from pyvpp.engine import Engine


@dataclass(frozen=True)
class RingUse:
    """What went from one worker to another. Owed: buffers that the target still has to send home."""

    source: int
    target: int
    packets: int
    waiting: int
    congestion_drops: int
    wakeups: int
    owed: int


class Handoff:
    """The rings of an engine and the inputs in front of them: `engine.handoff`."""

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine
        self._generated: set[Interface] = set()
        engine.events.on("interface-deleted", self._interface_deleted)

    @property
    def is_open(self) -> bool:
        """Whether any interface has handed packets on yet."""
        return int(self._rings[ring.WORKERS]) > 0

    @property
    def slots(self) -> int:
        """How many packets wait in a ring at most, 0 before there are rings."""
        return int(self._rings[ring.SLOTS])

    @property
    def _rings(self) -> Any:
        return self._engine.tables[ring.HANDOFF_RINGS.name].array

    def send_via(self, interface: Interface, node: str | None) -> None:
        """All packets that arrive on an interface pass a node first; None: they go straight on.

        Raises OperatorError when it has no input.
        """
        queues = [queue.node for queue in self._engine.rx_queues.of(interface)]
        generated = interface.kind == "pg"
        if not queues and not generated:
            raise OperatorError(f"{interface.name} has no receive queues")
        if node is not None:
            self._open(node)
        if generated:  # their packets share an input
            (self._generated.discard if node is None else self._generated.add)(interface)
            queues = [self._engine.graph.index_of("pg-input")]
            if node is None and self._generated:
                return
        via = 0 if node is None else self._engine.graph.index_of(node)
        for worker in self._engine.workers:
            worker.rows["via"][queues] = via

    def used(self) -> list[RingUse]:
        """Every ring that joins two workers."""
        rings, workers = self._rings, range(int(self._rings[ring.WORKERS]))
        found = []
        for source in workers:
            for target in workers:
                if source != target:
                    at = int(ring.ring_at(rings, source, target))
                    packets, congested, wakes, waiting = (
                        int(rings[at + word]) for word in (ring.PACKETS, ring.CONGESTED, ring.WAKES, ring.WRITTEN)
                    )
                    owed = int(rings[at + ring.OWED_SMALL] + rings[at + ring.OWED_LARGE])
                    waiting -= int(rings[at + ring.READ])
                    found.append(RingUse(source, target, packets, waiting, congested, wakes, owed))
        return found

    def _open(self, node: str) -> None:
        """Makes the rings, and on every worker the input node that asks those to it."""
        if self.is_open:
            return
        engine = self._engine
        workers = len(engine.workers)
        share = engine.buffers.small // workers
        slots = ring.MOST_SLOTS
        while slots > ring.LEAST_SLOTS and slots * 2 * (workers - 1) > share:
            slots //= 2
        with engine.barrier():
            engine.tables[ring.HANDOFF_RINGS.name].grow(ring.words(workers, slots))
            rings = self._rings
            rings[[ring.WORKERS, ring.SLOTS, ring.ONE]] = workers, slots, 1
            index = engine.graph.instantiate(ring.HANDOFF_INPUT, ring.HANDOFF_INPUT, 0)
            for worker in engine.workers:
                rings[ring.worker_at(worker.index) + ring.EVENT_FD] = worker.event
                worker.control[HANDOFF_ADDRESS], worker.control[HANDOFF_WORDS] = rings.ctypes.data, len(rings)
                worker.rows["stages"][engine.graph.index_of(node)] = 1
                for field in ("asked", "ready", "adaptive"):
                    worker.rows[field][index] = 1
            engine.set_inputs()

    def _interface_deleted(self, interface: Interface) -> None:
        """Its packets that wait end here: its number is another interface's soon."""
        self._generated.discard(interface)
        if not self.is_open:
            return
        with self._engine.barrier():
            rings, rx = self._rings, self._engine.buffers.meta["rx"]
            for use in self.used():
                at = int(ring.ring_at(rings, use.source, use.target))
                for position in range(int(rings[at + ring.READ]), int(rings[at + ring.WRITTEN])):
                    slot = at + ring.FIRST + (position & (self.slots - 1))
                    word = int(rings[slot])
                    if word >> 32 != FREE and int(rx[word & 0xFFFFFFFF]) == interface.sw_if_index:
                        rings[slot] = ring.FORGOTTEN << 32 | (word & 0xFFFFFFFF)
