# SPDX-License-Identifier: Apache-2.0
"""A scenario from its setup to its figure: verified before, at random moments of, and after the runs."""

import random
from typing import Any

from pyvpp.bench.errors import BenchError
from pyvpp.bench.machine import resident_bytes
from pyvpp.bench.measure import RUNS, Figures, as_json, run_for
from pyvpp.bench.scenario import Scenario
from pyvpp.bench.stand import Stand, stand_for
from pyvpp.bench.verify import verify
from pyvpp.bench.walk import walk
from pyvpp.node import FRAME_SIZE

CHECKS = 3  # at random moments, besides the first and the last


def figures_of(
    stand: Stand, scenario: Scenario, packets: list[bytes], frame: int, seconds: float, runs: int = RUNS
) -> Figures:
    """Figures on a stand that is set up. Raises BenchError when packets or buffers are lost or a packet is wrong."""
    stand.generate(packets, frame)
    verify(stand, scenario)
    stand.settle()
    free = stand.engine.free_buffers
    stand.enable(True)
    moments = set(random.sample(range(1, runs), min(CHECKS, runs - 1)))

    def check(made: int) -> None:
        if made in moments:
            verify(stand, scenario)

    figures = run_for(stand, seconds, runs=runs, between=check)
    verify(stand, scenario)
    stand.settle()
    if stand.engine.free_buffers != free:
        raise BenchError(f"{free - stand.engine.free_buffers} buffers did not return to the pool")
    return figures


def run_scenario(
    scenario: Scenario,
    seconds: float,
    frame: int = FRAME_SIZE,
    size: int | None = None,
    hugepages: str = "auto",
    earlier: Figures | None = None,
) -> tuple[Figures, dict[str, Any]]:
    """A scenario on an engine of its own: its figures, and the same for JSON.

    `earlier` figures of the same are taken into account. Raises BenchError, AbsentError.
    """
    with stand_for(scenario, hugepages) as stand:
        packets = scenario.packets(stand.engine, size)
        figures = figures_of(stand, scenario, packets, frame, seconds)
        if earlier:
            figures.runs[:0] = earlier.runs
        stand.enable(True)
        path = list(dict.fromkeys(path_of(stand)))
        tables = sum(array.nbytes for table in stand.engine.tables.values() for array in table.arrays)
        return figures, {
            "name": scenario.name,
            "packet_bytes": len(packets[0]),
            "vector_size": frame,
            "routes": scenario.routes,
            **as_json(figures),
            "verified": True,
            "summary": scenario.summary,
            "path": path,
            "pages": stand.pages,
            "tables_bytes": tables,
            "resident_bytes": resident_bytes(),
            "vpp": vpp_of(scenario),
        }


def path_of(stand: Stand) -> list[str]:
    """The nodes that a frame of the stand's packets passes, in their order."""
    names: list[str] = []
    walk(stand.engine, lambda node, frame: names.append(node.name))
    return names


def vpp_of(scenario: Scenario) -> dict[str, Any] | None:
    """VPP's figures for the scenario, where there are any."""
    vpp = scenario.vpp
    if vpp is None:
        return None
    return {"clocks_per_packet": vpp.clocks, "clocks_without_generation": vpp.without_generation, "note": vpp.note}
