# SPDX-License-Identifier: Apache-2.0
"""Curves: the same scenario over vector sizes, packet sizes, table sizes. Every point is verified like any figure."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pyvpp.bench.errors import BenchError
from pyvpp.bench.measure import Figures, as_json
from pyvpp.bench.path import figures_of, run_scenario
from pyvpp.bench.scenario import Scenario
from pyvpp.bench.stand import stand_for
from pyvpp.node import FRAME_SIZE

VECTORS = (1, 4, 16, 64, 256)
SIZES = (64, 128, 256, 512, 1500)
ROUTES = (1, 100, 10_000, 100_000, 1_000_000)
RUNS = 25  # a point


@dataclass(frozen=True)
class Conditions:
    """What is the same for all points of a curve."""

    seconds: float = 1.0
    """of measuring, a point"""
    frame: int = FRAME_SIZE
    hugepages: str = "auto"
    told: Callable[[str], None] = lambda what: None
    """hears of each point before it is measured"""


Curve = Callable[[Scenario, tuple[int, ...], Conditions], dict[str, Any]]


def point(x: int, figures: Figures) -> dict[str, Any]:
    return {"x": x, **as_json(figures)}


def vector_curve(scenario: Scenario, vectors: tuple[int, ...], conditions: Conditions) -> dict[str, Any]:
    """Clocks a packet by the number of packets in a vector: what vectors buy."""
    points = []
    with stand_for(scenario, conditions.hugepages) as stand:
        packets = scenario.packets(stand.engine)
        for frame in vectors:
            conditions.told(f"{scenario.name}: vectors of {frame}")
            points.append(point(frame, figures_of(stand, scenario, packets, frame, conditions.seconds, RUNS)))
    return {"name": scenario.name, "over": "vector_size", "points": points}


def size_curve(scenario: Scenario, sizes: tuple[int, ...], conditions: Conditions) -> dict[str, Any]:
    """Clocks a packet by the size of the packets, Ethernet header included.

    There are as many different ones as take the room of the scenario's own: what they are copied from is in the same
    cache at every size, and the curve shows what a longer packet costs, not what a larger set does.
    """
    points = []
    room = scenario.variations * scenario.packet_bytes
    with stand_for(scenario, conditions.hugepages) as stand:
        for size in sizes:
            conditions.told(f"{scenario.name}: packets of {size} bytes")
            packets = scenario.packets(
                stand.engine, size, max(conditions.frame, min(scenario.variations, room // size))
            )
            figures = figures_of(stand, scenario, packets, conditions.frame, conditions.seconds, RUNS)
            points.append(point(size, figures))
    return {"name": scenario.name, "over": "packet_bytes", "points": points}


def route_curve(scenario: Scenario, routes: tuple[int, ...], conditions: Conditions) -> dict[str, Any]:
    """Clocks a packet by the number of routes. Raises BenchError when the scenario is had with one number only."""
    if scenario.with_routes is None:
        raise BenchError(f"{scenario.name} cannot be had with another number of routes")
    points = []
    for count in routes:
        conditions.told(f"{scenario.name}: {count:,} routes")
        figures, found = run_scenario(
            scenario.with_routes(count), conditions.seconds, conditions.frame, hugepages=conditions.hugepages
        )
        points.append({**point(count, figures), "tables_bytes": found["tables_bytes"]})
    return {"name": scenario.name, "over": "routes", "points": points}
