# SPDX-License-Identifier: Apache-2.0
"""What tests of the bench's engine side share: the scenarios there are, and a short way to try one."""

from typing import Any

from pyvpp.bench.path import figures_of
from pyvpp.bench.scenario import Scenario, declared_in, scenarios_among
from pyvpp.bench.stand import Stand
from pyvpp.loader import load

DECLARED = declared_in(load().packages)
SCENARIOS = scenarios_among(DECLARED)
RUNS = 5


def tried(stand: Stand, scenario: Scenario, count: int = 512, frame: int = 64) -> Any:
    """Figures of a few short runs, verified."""
    return figures_of(stand, scenario, scenario.packets(stand.engine, count=count), frame, 0.01, RUNS)
