# SPDX-License-Identifier: Apache-2.0
"""Several workers at once: what they forward together, beside one of them alone.

Each has a stream of the scenario to itself and a thread that runs its loop without the GIL. They set out at the same
moment, make the same number of rounds, and the time counts until the last one is done: whom a neighbour keeps from its
processor holds all of them up. So a run is shorter than what Linux lets a thread have at a time, there are many, alone
and together in turn, and the best of either kind is compared.
"""

import statistics
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from pyvpp import dispatch as d
from pyvpp.bench.errors import BenchError
from pyvpp.bench.machine import Neighbours, free_processors
from pyvpp.bench.scenario import Scenario
from pyvpp.bench.stand import Stand, stand_for
from pyvpp.bench.verify import losses, verify
from pyvpp.clock import read_cycles
from pyvpp.node import FRAME_SIZE

RUN_NS = 1_500_000
LEAD_NS = 200_000  # in which all threads have taken the GIL in turn and left it for the loop
PROBES, PROBE_ROUNDS = 20, 50


@dataclass(frozen=True)
class Run:
    """A run of some workers at once."""

    packets: tuple[int, ...]
    """of each"""
    clocks: tuple[int, ...]
    """of each, from the common start to its end"""
    clock_rate: float
    """clocks a nanosecond"""

    @property
    def mpps(self) -> float:
        """All of them together, until the last one was done."""
        return sum(self.packets) / max(self.clocks) * self.clock_rate * 1e3

    @property
    def clocks_per_packet(self) -> list[float]:
        return [round(clocks / packets, 2) for clocks, packets in zip(self.clocks, self.packets, strict=True)]


Runner = Callable[[Sequence[int], int], Run]


@contextmanager
def crew(stand: Stand) -> Iterator[Runner]:
    """A thread for each worker. What it gives makes so many rounds of the chosen ones at once.

    That raises BenchError when one of them lost a packet.
    """
    workers, rate = stand.engine.workers, stand.engine.clock_rate

    def run(chosen: Sequence[int], rounds: int) -> Run:
        def set_out() -> None:
            start = read_cycles() + int(LEAD_NS * rate)
            for index in chosen:
                workers[index].control[d.START_AT] = start

        gate = threading.Barrier(len(chosen), set_out)

        def drive(index: int) -> int:
            gate.wait()
            workers[index].run(rounds)
            return int(workers[index].control[d.ENDED_AT] - workers[index].control[d.START_AT])

        before = [(stand.generated_by(index), stand.sent_by(index)) for index in chosen]
        futures = [threads[index].submit(drive, index) for index in chosen]
        clocks = tuple(future.result() for future in futures)
        packets = []
        for index, (generated, sent) in zip(chosen, before, strict=True):
            packets.append(stand.generated_by(index) - generated)
            left = stand.sent_by(index) - sent
            if packets[-1] != left or not left:
                raise BenchError(f"worker {index}: {packets[-1]} packets in, {left} out{losses(stand)}")
        return Run(tuple(packets), clocks, rate)

    with ExitStack() as stack:
        threads = [stack.enter_context(ThreadPoolExecutor(1, f"vpp_wk_{worker.index}")) for worker in workers]
        yield run


def measure_pairs(stand: Stand, seconds: float) -> tuple[list[Run], list[Run]]:
    """Runs of one worker, each in its turn, and of all of them, as many of either kind as that time is good for."""
    everybody = range(len(stand.engine.workers))
    with crew(stand) as run:
        for k in everybody[1:]:  # far from each other in the list: nobody finds in L3 what another has just fetched
            run([k], max(1, k * len(stand.packets) // len(everybody) // stand.frame))
        probe = min(max(run(everybody, PROBE_ROUNDS).clocks) for _ in range(PROBES))
        rounds = max(1, int(RUN_NS * stand.engine.clock_rate * PROBE_ROUNDS / probe))
        alone, together = [], []
        for k in range(max(2, int(seconds * 1e9 / 2 / (RUN_NS + LEAD_NS)))):
            alone.append(run([k % len(everybody)], rounds))
            together.append(run(everybody, rounds))
    return alone, together


def measure_workers(
    scenario: Scenario, workers: int, seconds: float, frame: int = FRAME_SIZE, hugepages: str = "auto"
) -> dict[str, Any]:  # fmt: skip
    """A scenario on an engine with so many workers, as JSON.

    Raises BenchError when packets or buffers are lost or a packet is wrong, AbsentError.
    """
    neighbours = Neighbours()
    with stand_for(scenario, hugepages, workers=workers) as stand:
        stand.generate(scenario.packets(stand.engine), frame)
        verify_each(stand, scenario)
        stand.settle()
        free = stand.free_buffers
        stand.enable(True)
        alone, together = measure_pairs(stand, seconds)
        verify_each(stand, scenario)
        stand.settle()
        if stand.free_buffers != free:
            raise BenchError(f"buffers did not return to their workers: {free} before, {stand.free_buffers} after")
        pages = stand.pages
    one, all_ = max(alone, key=lambda run: run.mpps), max(together, key=lambda run: run.mpps)
    return {
        "name": scenario.name,
        "workers": workers,
        "vector_size": frame,
        "mpps": round(all_.mpps, 3),
        "mpps_one": round(one.mpps, 3),
        "scaling": round(all_.mpps / one.mpps, 3),
        "mpps_median": round(statistics.median(run.mpps for run in together), 3),
        "mpps_one_median": round(statistics.median(run.mpps for run in alone), 3),
        "clocks_per_packet": all_.clocks_per_packet,
        "clocks_per_packet_one": one.clocks_per_packet[0],
        "packets": sum(sum(run.packets) for run in (*alone, *together)),
        "runs": len(together),
        "verified": True,
        "free_processors": free_processors(neighbours.shares()),
        "pages": pages,
    }


def verify_each(stand: Stand, scenario: Scenario) -> None:
    """Every worker's output against the model."""
    for worker in stand.engine.workers:
        verify(stand, scenario, worker=worker.index)
