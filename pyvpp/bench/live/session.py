# SPDX-License-Identifier: Apache-2.0
"""One invocation of `pyvpp bench --live`: builds the labs, measures in rounds, leaves nothing behind."""

import argparse
import time
from typing import Any

from pyvpp.bench import report as bench_report
from pyvpp.bench.commentary import Commentary
from pyvpp.bench.live import report
from pyvpp.bench.live.figures import Samples
from pyvpp.bench.live.labs import AF_XDP, WAYS, Builder, Ends
from pyvpp.bench.live.scenario import Conditions
from pyvpp.bench.live.scenarios import BY_NAME
from pyvpp.bench.live.traffic import TcpGenerator, tcp_generator
from pyvpp.bench.machine import Neighbours, machine
from pyvpp.lab.place import workplace
from pyvpp.lab.process import LabError
from pyvpp.warmup import warm_up

SECONDS, ROUNDS, LEAST_ROUNDS = 0.7, 5, 3
TIME_LIMIT = 170.0  # s, from which on no further round begins, unless rounds were asked for
PATIENCE = 10.0


class LiveSession(Commentary):
    """`run` is the JSON. A way that cannot be had is in `absent`, what failed while it was measured in `errors`."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.scenarios = [BY_NAME[name] for name in dict.fromkeys(options.scenario or BY_NAME)]
        self.seconds = options.seconds or SECONDS
        self.rounds = options.repeat or ROUNDS
        self.tcp: TcpGenerator = tcp_generator()
        self.console = bench_report.console(stderr=options.json == "-")
        self.ends: dict[tuple[str, str], dict[str, Ends]] = {}
        self.live: dict[str, Any] = {
            "tcp": self.tcp.name, "seconds": self.seconds, "rounds": 0, "ways": list(WAYS), "scenarios": [],
            "absent": [],
        }  # fmt: skip
        self.run: dict[str, Any] = {
            "schema": 1, "machine": machine(options.hugepages), "scenarios": [], "errors": [], "live": self.live,
        }  # fmt: skip

    def measure(self) -> None:
        """Everything that was asked for. Raises KeyboardInterrupt when told to end; the labs are gone then, too."""
        warm_up()
        self.show(bench_report.machine_lines(self.run["machine"]))
        neighbours = Neighbours()
        with workplace("pyvpp-live") as (sandbox, directory):
            began = time.monotonic()
            builder = Builder(sandbox, directory, self._pyvpp_options())
            try:
                self.build(builder)
                self.measure_rounds(builder, began)
            finally:
                self.told("cleaning up")
                for agent in builder.agents:
                    agent.close()
        self.run["machine"].update(neighbours.shares())
        if text := report.absent_lines(self.live):
            self.show(text)
        self.show(report.live_table(self.live))
        self.show(report.load_line(self.run["machine"]))

    def _pyvpp_options(self) -> tuple[str, ...]:
        workers = ("--workers", str(self.options.workers)) if self.options.workers else ()
        return ("--hugepages", self.options.hugepages, *workers)

    def build(self, builder: Builder) -> None:
        """Each lab that a scenario needs, in each way. AF_XDP may be absent, nothing else."""
        for lab in dict.fromkeys(scenario.lab for scenario in self.scenarios):
            for way in WAYS:
                self.told(f"building {lab}, {way}")
                try:
                    self.ends[lab, way] = builder.build(lab, way)
                    for ends in self.ends[lab, way].values():
                        meet(ends)
                except (LabError, OSError, ValueError) as error:
                    self.ends.pop((lab, way), None)
                    self.live["absent"].append({"lab": lab, "way": way, "reason": str(error)})
                    if way != AF_XDP:
                        self.failed(lab, way, error)
        self.live["ways"] = [way for way in WAYS if any(each == way for _, each in self.ends)]

    def measure_rounds(self, builder: Builder, began: float) -> None:
        """Every scenario over every way, in turn, as often as was asked for or as the time allows."""
        sessions = tuple(agent.process.pid for agent in builder.agents) + tuple(p.pid for p in builder.pyvpps)
        conditions = Conditions(self.tcp, self.seconds, sessions)
        samples = {scenario.name: Samples(scenario) for scenario in self.scenarios}
        broken: set[tuple[str, str]] = set()
        for number in range(self.rounds):
            round_began = time.monotonic()
            for scenario in self.scenarios:
                for way in scenario.ways:
                    ends = self.ends.get((scenario.lab, way))
                    if ends and (scenario.name, way) not in broken:
                        self.told(f"round {number + 1} of {self.rounds}: {scenario.name}, {way}")
                        try:
                            measured = scenario.measure(ends[scenario.ends], conditions)
                        except (LabError, OSError) as error:
                            broken.add((scenario.name, way))
                            self.failed(scenario.name, way, error)
                        else:
                            samples[scenario.name].add(number, way, measured)
            self.live["rounds"] = number + 1
            now = time.monotonic()
            if not self.options.repeat and number + 1 >= LEAST_ROUNDS and 2 * now - round_began - began > TIME_LIMIT:
                break
        self.live["scenarios"] = [each.as_json() for each in samples.values() if each.rounds]

    def failed(self, name: str, way: str, error: Exception) -> None:
        self.run["errors"].append({"name": f"{name}, {way}", "error": str(error)})
        self.complain(f"{name}, {way}", error)


def meet(ends: Ends) -> None:
    """A request and its answer, so that all neighbors on the way are known. Raises LabError when none comes."""
    port = ends.server.call("echo", address=ends.server_address)
    deadline = time.monotonic() + PATIENCE
    try:
        while time.monotonic() < deadline:
            if ends.client.call("ask", address=ends.server_address, port=port, seconds=0.01, gap=0.0)["times"]:
                return
    finally:
        ends.server.call("stop")
    raise LabError(f"no packet passes between {ends.client_address} and {ends.server_address}")
