# SPDX-License-Identifier: Apache-2.0
"""Short runs of the worker's loop, and the figure they give: the least clocks a packet.

A neighbour on the machine only ever makes a run longer, so the shortest of many short runs is nearest to what the code
takes. How far it can be trusted is shown beside it: the runs are put into GROUPS of neighbours in time, and the noise
is how far the groups' own minima lie apart. The median tells how busy the machine was.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pyvpp.bench.errors import BenchError
from pyvpp.bench.stand import Stand
from pyvpp.bench.verify import losses
from pyvpp.clock import read_cycles

RUNS = 50
GROUPS = 5
PROBE_ROUNDS = 100
GENERATION = "pg-input"


@dataclass(frozen=True)
class NodeShare:
    """A node's part in a run."""

    clocks: float
    """a packet of those that came to it"""
    vectors_per_call: float
    packets: int


@dataclass(frozen=True)
class Run:
    packets: int
    ns: int
    clocks: float
    """a packet"""
    nodes: dict[str, NodeShare]


@dataclass
class Figures:
    """What runs of the same gave, in the order they were made."""

    runs: list[Run] = field(default_factory=list)

    @property
    def best(self) -> Run:
        return min(self.runs, key=lambda run: run.clocks)

    @property
    def median(self) -> float:
        return statistics.median(run.clocks for run in self.runs)

    @property
    def without_generation(self) -> float:
        return self.best.clocks - self.best.nodes[GENERATION].clocks

    @property
    def group_bests(self) -> list[Run]:
        """The best of each of GROUPS stretches of time."""
        n = max(1, len(self.runs) // GROUPS)
        return [min(self.runs[i : i + n], key=lambda run: run.clocks) for i in range(0, len(self.runs), n)]

    @property
    def groups(self) -> list[float]:
        return [run.clocks for run in self.group_bests]

    def groups_of(self, node: str) -> list[float]:
        return [run.nodes[node].clocks for run in self.group_bests if node in run.nodes]


def noise(groups: Sequence[float]) -> float:
    """How far the groups' minima lie apart, as a part of the least."""
    return (max(groups) - min(groups)) / min(groups) if groups and min(groups) > 0 else 0.0


def run_once(stand: Stand, rounds: int, lossless: bool = True) -> Run:
    """So many rounds of the loop, by the cycle counter. Raises BenchError when packets were lost that must not be."""
    engine = stand.engine
    rows = engine.workers[0].rows
    before = rows[["vectors", "calls", "clocks"]].copy()
    into, out = stand.generated, stand.sent
    start, start_ns = read_cycles(), time.perf_counter_ns()
    engine.run(rounds)
    clocks, ns = read_cycles() - start, time.perf_counter_ns() - start_ns
    packets, left = stand.generated - into, stand.sent - out
    if not packets or (lossless and packets != left):
        raise BenchError(f"{packets} packets in, {left} out{losses(stand)}")
    nodes = {}
    for node in engine.graph:
        vectors, calls, spent = (
            int(rows[node.index][name] - before[node.index][name]) for name in ("vectors", "calls", "clocks")
        )
        if vectors and node.node.kind.compiled:
            nodes[node.name] = NodeShare(spent / vectors, vectors / calls, vectors)
    return Run(packets, ns, clocks / packets, nodes)


def run_for(
    stand: Stand,
    seconds: float,
    *,
    runs: int = RUNS,
    lossless: bool = True,
    between: Callable[[int], None] | None = None,
) -> Figures:
    """Runs that take about so long altogether; `between` is called with the number of runs made, after each."""
    run_once(stand, PROBE_ROUNDS, lossless)
    probe = run_once(stand, PROBE_ROUNDS, lossless)
    rounds = max(1, int(PROBE_ROUNDS * seconds * 1e9 / runs / probe.ns))
    figures = Figures()
    for made in range(1, runs + 1):
        figures.runs.append(run_once(stand, rounds, lossless))
        stand.engine.drain_punts()
        if between:
            between(made)
    return figures


def as_json(figures: Figures) -> dict[str, Any]:
    """The figures by the names of the JSON schema; a node's clocks are those of the best run, so that they add up."""
    best = figures.best
    return {
        "packets": best.packets,
        "seconds": best.ns / 1e9,
        "mpps": round(best.packets / best.ns * 1e3, 3),
        "ns_per_packet": round(best.ns / best.packets, 2),
        "clocks_per_packet": round(best.clocks, 2),
        "clocks_without_generation": round(figures.without_generation, 2),
        "clocks_median": round(figures.median, 2),
        "runs": len(figures.runs),
        "groups": [round(clocks, 2) for clocks in figures.groups],
        "noise": round(noise(figures.groups), 4),
        "nodes": [
            {
                "name": name,
                "clocks_per_packet": round(share.clocks, 2),
                "vectors_per_call": round(share.vectors_per_call, 2),
                "share": round(share.packets / best.packets, 4),
                "groups": [round(clocks, 2) for clocks in figures.groups_of(name)],
            }
            for name, share in sorted(best.nodes.items(), key=lambda each: -each[1].clocks * each[1].packets)
        ],
    }
