# SPDX-License-Identifier: Apache-2.0
"""A stand: an engine with pg0, on which packets arrive, and pg1, set up for one scenario."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from pyvpp.bench.errors import AbsentError
from pyvpp.bench.scenario import IN_MAC, OUT_MAC, Traffic
from pyvpp.buffers import POOL_LARGE, POOL_SMALL
from pyvpp.cli.assembly import command_tree
from pyvpp.engine import Engine
from pyvpp.errors import OperatorError
from pyvpp.interface import Interface
from pyvpp.loader import Declarations, load
from pyvpp.node import FRAME_SIZE
from pyvpp.packet_generator import Stream, first_node, generator_of

STREAM = "bench"


class Stand:
    """Owns the engine; no thread runs, the caller drives the loop of its one worker, or of as many as it asked for."""

    def __init__(
        self,
        declarations: Declarations | None = None,
        *,
        hugepages: str = "auto",
        mac: bytes = IN_MAC,
        bare_ip: bool = False,
        workers: int = 1,
    ) -> None:
        self.engine = Engine(declarations or load(), workers=workers, hugepages=hugepages)
        self.generator = generator_of(self.engine)
        self.pg0 = self._interface("pg0", mac, bare_ip)
        self.pg1 = self._interface("pg1", OUT_MAC)
        self.packets: Sequence[bytes] = ()
        self.frame = FRAME_SIZE

    def _interface(self, name: str, mac: bytes, bare_ip: bool = False) -> Interface:
        made = self.generator.create_interface(name, mac, bare_ip)
        self.engine.interfaces.set_admin(made, True)
        return made

    def close(self) -> None:
        """Ends the engine and gives its memory back."""
        self.engine.close()
        self.engine.buffers.heap.close()

    @property
    def pages(self) -> str:
        return self.engine.buffers.heap.pages

    def execute(self, script: str, name: str) -> str:
        """Runs commands; what they print. Raises OperatorError with the script's name and the line."""
        tree = command_tree(self.engine.declarations.packages)
        return asyncio.run(tree.execute_script(self.engine, script, name))

    def generate(self, packets: Sequence[bytes], frame: int = FRAME_SIZE, limit: int = 0) -> None:
        """From now on these packets arrive on pg0 over and over, `frame` of them a round of each worker's loop.

        With a limit, so many and no more, until enabled again.
        """
        for name in list(self.generator.streams):
            self.generator.delete(name)
        node = first_node(self.pg0, packets[0])
        for k in range(len(self.engine.workers)):
            name = f"{STREAM}{k or ''}"
            self.generator.add(Stream(name, packets, self.pg0, node, limit, frame=frame, worker=k))
        self.packets, self.frame = packets, frame
        self.enable(True)

    def enable(self, on: bool) -> None:
        self.generator.set_enabled(None, on)

    def settle(self) -> None:
        """Nothing arrives any more; what is under way, or waits for Python, ends."""
        self.enable(False)
        self.run_all()
        while self.engine.drain_punts():
            self.run_all()
        self.run_all()

    def run_all(self) -> None:
        """A round of each worker, one after another."""
        for worker in self.engine.workers:
            worker.run(1)

    def catch(self, packets: int, worker: int = 0) -> tuple[list[bytes], list[bytes]]:
        """Lets about so many packets arrive on a worker: those that did, and what left pg1 meanwhile."""
        at = int(self.engine.tables["pg_streams"].worker(worker)["position"][worker])
        left: list[bytes] = []
        before = self.generated
        self.generator.capture(self.pg1, left.append)
        for _ in range(-(-packets // self.frame)):
            self.engine.workers[worker].run(1)
            while self.engine.drain_punts():
                pass
        self.generator.stop_capture(self.pg1)
        arrived = range(at, at + self.generated - before)
        return [self.packets[i % len(self.packets)] for i in arrived], left

    @property
    def generated(self) -> int:
        """Packets that arrived so far."""
        return sum(self.generated_by(worker.index) for worker in self.engine.workers)

    @property
    def sent(self) -> int:
        """Packets that left pg1 so far."""
        return sum(self.sent_by(worker.index) for worker in self.engine.workers)

    def generated_by(self, worker: int) -> int:
        """Packets that arrived on a worker so far."""
        return int(self.engine.workers[worker].rows["vectors"][self.engine.graph.index_of("pg-input")])

    def sent_by(self, worker: int) -> int:
        """Packets that left pg1 from a worker so far."""
        node = self.engine.graph.find("pg1-tx")
        assert node
        return int(node.counters[worker][0])

    @property
    def free_buffers(self) -> list[int]:
        """By worker; what the engine keeps for packets of its own is the first one's."""
        free = [int(pool[POOL_SMALL]) + int(pool[POOL_LARGE]) for pool in self.engine.buffers.pools]
        free[0] += self.engine.free_buffers - self.engine.buffers.free
        return free

    def counts(self) -> dict[str, int]:
        """The nodes' own counters that are not 0, for the reader of an error."""
        return {
            f"{node.name}: {counter.text}": int(count)
            for node in self.engine.graph
            for counter, count in zip(node.counter_names, node.counts(), strict=False)
            if count
        }


@contextmanager
def stand_for(
    traffic: Traffic, hugepages: str = "auto", declarations: Declarations | None = None, workers: int = 1
) -> Iterator[Stand]:
    """The stand of a scenario, without packets yet. Raises AbsentError when a node or a command it needs is missing."""
    declarations = declarations or load()
    missing = [name for name in traffic.needs if name not in declarations.nodes]
    if missing:
        raise AbsentError(f"needs {', '.join(missing)}, which no package declares")
    stand = Stand(declarations, hugepages=hugepages, workers=workers)
    try:
        try:
            stand.execute("\n".join(traffic.setup), traffic.name)
        except OperatorError as error:
            raise AbsentError(f"cannot be set up: {error}") from error
        if traffic.prepare:
            traffic.prepare(stand.engine)
        yield stand
    finally:
        stand.close()
