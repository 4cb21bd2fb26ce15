# SPDX-License-Identifier: Apache-2.0
"""What it costs while it is on: trace, packet capture, a feature, the nodes' counters; nothing once it is off again.

Each row is measured against the same path with nothing on, a run of one beside a run of the other in turn, since both
see the same neighbours then. Runs are as long as the trace's and the capture's memory lasts.
"""

import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pyvpp import dispatch as d
from pyvpp.bench import idle_feature
from pyvpp.bench.measure import Figures, noise, run_once
from pyvpp.bench.native import count_calls
from pyvpp.bench.scenario import Scenario
from pyvpp.bench.stand import Stand, stand_for
from pyvpp.clock import read_cycles
from pyvpp.loader import load
from pyvpp.trace import TRACE_RECORDS

PAIRS = 100  # runs with and without, in turn
CAPTURED = 8192  # packets of a run with capture, 2 KiB each
ROUNDS = 64  # of a run that nothing limits
COUNTED, GROUPS_OF_CALLS = 100_000, 6


@dataclass(frozen=True)
class Cost:
    """Clocks a packet without and with it, in runs of the same length."""

    name: str
    without: float
    clocks: float
    noise: float
    """of either, the larger"""
    note: str = ""

    @property
    def more(self) -> float:
        return self.clocks - self.without

    @property
    def measurable(self) -> bool:
        return abs(self.more) > max(self.noise * self.without, 0.01 * self.without)

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "clocks_per_packet": round(self.clocks, 2),
            "clocks_without": round(self.without, 2),
            "more": round(self.more, 2),
            "noise": round(self.noise, 4),
            "measurable": self.measurable,
            "note": self.note,
        }


def nothing() -> None:
    pass


def in_turn(
    stand: Stand,
    name: str,
    rounds: int,
    on: Callable[[], None],
    off: Callable[[], None],
    note: str = "",
    pairs: int = PAIRS,
) -> Cost:
    """Runs with `off` and with `on` by turns; both are called outside of what is timed."""
    plain, costly = Figures(), Figures()
    for _ in range(pairs):
        off()
        plain.runs.append(run_once(stand, rounds))
        on()
        costly.runs.append(run_once(stand, rounds))
        off()
    spread = max(noise(plain.groups), noise(costly.groups))
    return Cost(name, plain.best.clocks, costly.best.clocks, spread, note)


def measure_costs(scenario: Scenario, hugepages: str = "auto", pairs: int = PAIRS) -> list[Cost]:
    """Costs on a scenario's path. Raises BenchError."""
    declarations = load()
    declarations.add(sys.modules[idle_feature.__name__])
    with stand_for(scenario, hugepages, declarations) as stand:
        stand.generate(scenario.packets(stand.engine))
        run_once(stand, ROUNDS)
        path = len(run_once(stand, ROUNDS).nodes)
        stand.engine.fusion = False  # as it is for a packet that is traced
        every_node = len(run_once(stand, ROUNDS).nodes)
        stand.engine.fusion = True
        return [
            *trace_costs(stand, every_node, pairs),
            *capture_costs(stand, pairs),
            *feature_costs(stand, pairs),
            counter_cost(stand, path),
        ]


def trace_costs(stand: Stand, path: int, pairs: int) -> list[Cost]:
    """Every packet traced at every node, while there is room and after; and after `clear trace`."""
    rounds = max(1, TRACE_RECORDS // (path * stand.frame))
    control = stand.engine.workers[0].control

    def clear() -> None:
        stand.execute("clear trace", "trace")

    def every() -> None:
        stand.execute(f"trace add pg-input {1 << 30}", "trace")

    def full() -> None:
        every()
        control[d.TRACE_USED] = TRACE_RECORDS

    def over() -> None:
        every()
        clear()

    return [
        in_turn(stand, "trace of every packet", rounds, every, clear, f"a record at each of {path} nodes", pairs),
        in_turn(stand, "trace, its buffer full", rounds, full, clear, "packets are still marked", pairs),
        in_turn(stand, "trace off again", rounds, over, clear, "after `clear trace`", pairs),
    ]


def capture_costs(stand: Stand, pairs: int) -> list[Cost]:
    """`pcap trace` of every packet, received and sent, whole packets."""
    rounds = max(1, CAPTURED // (2 * stand.frame))
    control = stand.engine.workers[0].control
    with tempfile.TemporaryDirectory(prefix="pyvpp-bench-") as directory:
        path = Path(directory) / "cost.pcap"
        start = f"pcap trace rx tx max {CAPTURED} file {path} max-bytes-per-pkt 2048"
        stand.execute(start, "pcap")
        kinds = int(control[d.CAPTURE_KINDS])

        def on() -> None:
            control[d.CAPTURE_KINDS], control[d.CAPTURE_USED] = kinds, 0

        def full() -> None:
            control[d.CAPTURE_KINDS], control[d.CAPTURE_USED] = kinds, CAPTURED

        def off() -> None:
            control[d.CAPTURE_KINDS] = 0

        costs = [
            in_turn(stand, "pcap trace rx tx", rounds, on, off, "each packet copied twice", pairs),
            in_turn(stand, "pcap trace, its file full", rounds, full, off, "", pairs),
        ]
        on()
        stand.execute("pcap trace off", "pcap")
    costs.append(in_turn(stand, "pcap trace off again", rounds, nothing, nothing, "after `pcap trace off`", pairs))
    return costs


def feature_costs(stand: Stand, pairs: int) -> list[Cost]:
    """A feature that does nothing, on each arc that the path has: a node more, and the arc's table looked at."""
    features = stand.engine.features
    costs = []
    for arc in idle_feature.ARCS:
        interface = stand.pg1 if arc.endswith("output") else stand.pg0
        node = idle_feature.idle_feature.name

        def switch(on: bool, arc: str = arc, sw_if_index: int = interface.sw_if_index, node: str = node) -> None:
            features.enable(arc, node, sw_if_index, on)

        with suppress(ValueError):  # an arc nobody declares
            switch(False)
            costs.append(
                in_turn(
                    stand, f"a feature on {arc}", ROUNDS, lambda: switch(True), lambda: switch(False),
                    "one that does nothing", pairs,
                )
            )  # fmt: skip
    return costs


def counter_cost(stand: Stand, path: int) -> Cost:
    """The nodes' calls, vectors and clocks cannot be turned off, so they are timed by themselves."""
    rows: Any = np.zeros(1, d.NODE_ROW)
    times = []
    for _ in range(GROUPS_OF_CALLS):
        start = read_cycles()
        count_calls(rows, 0, COUNTED)
        times.append((read_cycles() - start) / COUNTED)
    a_call = min(times[1:])
    base = run_once(stand, ROUNDS).clocks
    a_packet = a_call * path / stand.frame
    note = f"{a_call:.0f} clocks a call, {path} nodes, vectors of {stand.frame}; cannot be turned off"
    return Cost("counters of the nodes", base - a_packet, base, 0.0, note)
