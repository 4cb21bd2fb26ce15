# SPDX-License-Identifier: Apache-2.0
"""What benches share: a clock that counts what is timed and nothing else, kernels on their frames, references beside.

pytest-benchmark times a whole call of a function. A kernel's call takes less than the call from Python, and its packets
must be put back before the next; so a bench times itself, and tells the result to CLOCK, which pytest-benchmark asks.
Its tables then show the time of one packet (or of one route, one call: what the bench says it counts).
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from pyvpp.bench.kernels import Snapshot, clocks_of_a_call, frames_of
from pyvpp.bench.scenario import Traffic, declared_in
from pyvpp.bench.stand import Stand, stand_for
from pyvpp.graph import GraphNode
from pyvpp.loader import load
from pyvpp.node import FRAME_SIZE

ROUNDS = 30
VECTORS = (1, 32, 256)
CALLS = 200  # of a kernel, a round


class Clock:
    """Seconds that benches say have passed."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        self.seconds += 1e-13  # pytest-benchmark wants a clock that moves
        return self.seconds


CLOCK = Clock()


def timed(benchmark: Any, seconds: Callable[[], float], rounds: int = ROUNDS) -> None:
    """A bench that answers how many seconds one of what it counts took. The first round does not count."""

    def round_() -> None:
        CLOCK.seconds += seconds()

    benchmark.pedantic(round_, rounds=rounds, warmup_rounds=1)


def a_piece(work: Callable[[], object], pieces: int) -> Callable[[], float]:
    """For Python and for calls into native code that take long enough: the seconds of one of so many pieces of work."""

    def seconds() -> float:
        began = time.perf_counter()
        work()
        return (time.perf_counter() - began) / pieces

    return seconds


# ---- kernels --------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Case:
    """A node, the traffic that brings it its frames, and the same for one packet in plain Python."""

    node: str
    traffic: str
    reference: Callable[[], object]


_open: list[Any] = []


@cache
def declared() -> dict[str, Traffic]:
    return declared_in(load().packages)


@cache
def frames(traffic: str) -> tuple[Stand, dict[str, tuple[GraphNode, Snapshot]]]:
    """A stand with the traffic, and the frame each node gets. Stays until the end of the session."""
    chosen = declared()[traffic]
    context = stand_for(chosen)
    stand = context.__enter__()
    _open.append(context)
    stand.engine.fusion = False
    stand.generate(chosen.packets(stand.engine, count=FRAME_SIZE))
    return stand, frames_of(stand)


def close_stands() -> None:
    frames.cache_clear()
    while _open:
        _open.pop().__exit__(None, None, None)


def bench_kernel(case: Case, vector: int, benchmark: Any) -> None:
    """The compiled kernel on the first packets of its frame."""
    stand, found = frames(case.traffic)
    node, kept = found[case.node]
    per_ns = stand.engine.clock_rate

    def seconds() -> float:
        clocks, packets = clocks_of_a_call(stand, node, kept, vector, CALLS)
        assert packets == vector
        return clocks / packets / per_ns / 1e9

    timed(benchmark, seconds)
    benchmark.extra_info["clocks_per_packet"] = benchmark.stats.stats.min * per_ns * 1e9 if benchmark.stats else None


def bench_reference(case: Case, benchmark: Any) -> None:
    """What a packet costs in plain Python."""
    timed(benchmark, a_piece(lambda: [case.reference() for _ in range(100)], 100), rounds=10)
