# SPDX-License-Identifier: Apache-2.0
"""One invocation of `pyvpp bench`: measures part after part, shows each as it is done, and keeps it all as JSON."""

import argparse
from collections.abc import Callable, Mapping
from typing import Any

from pyvpp.bench import cost, kernels, report, sweep
from pyvpp.bench.commentary import Commentary
from pyvpp.bench.errors import AbsentError, BenchError
from pyvpp.bench.machine import Neighbours, machine
from pyvpp.bench.measure import Figures
from pyvpp.bench.path import run_scenario, vpp_of
from pyvpp.bench.replay import replay
from pyvpp.bench.scenario import Scenario, Traffic, scenarios_among
from pyvpp.bench.start import measure_start
from pyvpp.bench.workers import measure_workers
from pyvpp.errors import OperatorError
from pyvpp.loader import Declarations
from pyvpp.warmup import warm_up

BASE, BASE_ROUTES = "ip4", "ip4-1m"
"""the scenarios of curves and costs when none is named"""


class Session(Commentary):
    """`run` is the JSON. Scenarios that failed are in its `errors`, those that cannot be had in its `absent`."""

    def __init__(
        self, options: argparse.Namespace, declarations: Declarations, declared: Mapping[str, Traffic]
    ) -> None:
        self.options = options
        self.declarations = declarations
        self.declared = declared
        self.scenarios = scenarios_among(declared)
        self.console = report.console(stderr=options.json == "-")
        self.run: dict[str, Any] = {
            "schema": 1, "machine": machine(options.hugepages), "scenarios": [], "absent": [], "errors": [],
        }  # fmt: skip

    def measure(self) -> None:
        """Everything that was asked for. Raises OperatorError for the user's own files."""
        options = self.options
        warm_up(self.declarations)
        self.show(report.machine_lines(self.run["machine"]))
        neighbours = Neighbours()
        if options.pcap:
            self.replay()
        else:
            if options.html or not (
                options.vectors or options.sizes or options.routes or options.nodes or options.cost or options.workers
            ):
                self.measure_scenarios(options.scenario or list(self.scenarios))
            self.measure_curves()
            if options.nodes:
                self.measure_nodes()
            if options.cost:
                self.attempt(self.base, self.measure_costs)
            if options.workers:
                for name in options.scenario or [BASE]:
                    self.attempt(name, self.measure_workers)
        self.run["machine"].update(neighbours.shares())
        self.show(report.load_line(self.run["machine"]))

    def attempt(self, name: str, measure: Callable[[Scenario], None]) -> bool:
        """Measures a scenario; what goes wrong is told, and the next one has its turn. Whether it went well."""
        try:
            measure(self.scenarios[name])
        except AbsentError as error:
            self.run["absent"].append({"name": name, "reason": str(error)})
            self.show(f"{name}: not measured: {error}")
        except (BenchError, OperatorError) as error:
            self.run["errors"].append({"name": name, "error": str(error)})
            self.complain(name, error)
        else:
            return True
        return False

    # ---- the parts --------------------------------------------------------------------------------------------------
    def replay(self) -> None:
        options = self.options
        self.told(options.pcap.name)
        result = replay(options.pcap, options.script, options.seconds, options.vector, options.hugepages)
        self.run["scenarios"].append(result)
        self.show(report.scenario_table(result))
        self.show(report.fate_lines(result))

    def measure_scenarios(self, names: list[str]) -> None:
        """Each `repeat` times, all in turn, so that a neighbour's busy minute does not hit one of them alone."""
        options = self.options
        figures: dict[str, Figures] = {}
        results: dict[str, dict[str, Any]] = {}
        left = list(dict.fromkeys(names))
        for turn in range(1, options.repeat + 1):

            def measure(scenario: Scenario, turn: int = turn) -> None:
                name = scenario.name
                self.told(f"{name}, {turn} of {options.repeat}" if options.repeat > 1 else name)
                figures[name], results[name] = run_scenario(
                    scenario, options.seconds, options.vector, hugepages=options.hugepages, earlier=figures.get(name)
                )
                if turn == options.repeat:
                    self.show(report.scenario_table(results[name]))

            left = [name for name in left if self.attempt(name, measure)]
        self.run["scenarios"] = [results[name] for name in left]
        if len(left) > 1:
            self.show(report.summary_table(self.run["scenarios"]))
        if left:
            self.attempt(left[0], self.measure_start)

    def measure_start(self, scenario: Scenario) -> None:
        self.told("a new process")
        self.run["start"] = measure_start(scenario.name)
        self.show(report.start_line(self.run["start"]))

    @property
    def base(self) -> str:
        return self.options.scenario[0] if self.options.scenario else BASE

    def measure_curves(self) -> None:
        """The curves that were asked for; all three for a page."""
        options, full = self.options, bool(self.options.html)
        self.run["curves"] = []
        names = options.scenario or [BASE]
        if full and BASE in names:
            names = [BASE]
        for name in names:
            if options.vectors or full:
                self.curve(name, sweep.vector_curve, options.vectors or sweep.VECTORS)
            if options.sizes or full:
                self.curve(name, sweep.size_curve, options.sizes or sweep.SIZES)
        if options.routes or full:
            sized = [name for name in options.scenario or () if self.scenarios[name].with_routes] or [BASE_ROUTES]
            self.curve(sized[0], sweep.route_curve, options.routes or sweep.ROUTES)

    def curve(self, name: str, measure: sweep.Curve, values: tuple[int, ...]) -> None:
        options = self.options

        def of(scenario: Scenario) -> None:
            conditions = sweep.Conditions(options.seconds, options.vector, options.hugepages, self.told)
            curve = measure(scenario, values, conditions)
            if curve["over"] == "routes":
                relatives = [each for each in self.scenarios.values() if each.vpp and each.family == scenario.family]
                curve["vpp"] = [{"x": each.routes, **(vpp_of(each) or {})} for each in relatives]
            self.run["curves"].append(curve)
            self.show(report.curve_table(curve))

        self.attempt(name, of)

    def measure_nodes(self) -> None:
        """Scenarios first: a kernel is measured on its everyday frames where it has any."""
        options = self.options
        everything = [*self.scenarios.values(), *(t for t in self.declared.values() if t.name not in self.scenarios)]
        chosen = [self.scenarios[name] for name in options.scenario] if options.scenario else everything
        found = kernels.measure_nodes(chosen, options.hugepages, told=lambda name: self.told(f"kernels, {name}"))
        self.run["kernels"] = [figures.as_json() for figures in found]
        self.run["kernels_unreached"] = [] if options.scenario else kernels.unreached(self.declarations, found)
        self.show(report.kernel_table(self.run["kernels"], self.run["kernels_unreached"]))

    def measure_workers(self, scenario: Scenario) -> None:
        options = self.options
        self.told(f"{scenario.name}, {options.workers} workers")
        result = measure_workers(scenario, options.workers, options.seconds, options.vector, options.hugepages)
        self.run.setdefault("workers", []).append(result)
        self.show(report.worker_table(result))

    def measure_costs(self, scenario: Scenario) -> None:
        self.told(f"{scenario.name}, what costs something")
        costs = [each.as_json() for each in cost.measure_costs(scenario, self.options.hugepages)]
        self.run["costs"] = {"scenario": scenario.name, "rows": costs}
        self.show(report.cost_table(costs, scenario.name))
