# SPDX-License-Identifier: Apache-2.0
"""What a live scenario is, and under which conditions it is measured."""

from collections.abc import Callable
from dataclasses import dataclass

from pyvpp.bench.live.cpu import Meter
from pyvpp.bench.live.labs import WAYS, Ends
from pyvpp.bench.live.traffic import TcpGenerator

HIGHER, LOWER = "higher", "lower"


@dataclass(frozen=True)
class Metric:
    name: str
    unit: str
    better: str = HIGHER
    """`higher` or `lower`"""


@dataclass(frozen=True)
class Conditions:
    """How to measure."""

    tcp: TcpGenerator
    seconds: float
    sessions: tuple[int, ...] = ()
    """of everything in the lab"""

    def meter(self, ends: Ends) -> Meter:
        return Meter((pyvpp.pid for pyvpp in ends.pyvpps), self.sessions)


Measured = dict[str, float]
"""figures by the names of the metrics; one that does not apply is not there"""


@dataclass(frozen=True)
class LiveScenario:
    name: str
    summary: str
    lab: str
    ends: str
    """which of the lab's"""
    metrics: tuple[Metric, ...]
    measure: Callable[[Ends, Conditions], Measured]
    ways: tuple[str, ...] = WAYS
