# SPDX-License-Identifier: Apache-2.0
"""The figures of a live run as tables for a terminal, from the JSON alone."""

from typing import Any

from rich.console import Group

from pyvpp.bench.machine import warning
from pyvpp.bench.report import below, table

TITLES = {"linux": "Linux", "af_packet": "pyvpp af_packet", "af_xdp": "pyvpp AF_XDP"}
METHOD = (
    "Medians of the rounds, ±: the distance between their quartiles. Ratios to Linux are taken within a round, in "
    "brackets their extremes. CPU in all is what the whole lab made the machine busy, ends included; Linux forwards in "
    "soft interrupts, which only that figure shows."
)


def figure(value: float) -> str:
    """Three digits, or as many as stand before the point."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def cell(result: dict[str, Any] | None) -> str:
    if result is None:
        return ""
    noise = f" ±{100 * result['noise']:.0f}%" if len(result["samples"]) > 1 else ""
    return f"{figure(result['median'])}{noise}"


def ratio(result: dict[str, Any] | None, unit: str) -> str:
    """Beside Linux, with the extremes of the rounds; of a latency the microseconds more, for which there is a goal."""
    if result is None or "ratio" not in result:
        return ""
    if unit == "us":
        return f"{result['more']:+.0f} us ({result['ratio']:.2f})"
    extremes = f" ({result['ratio_least']:.2f}..{result['ratio_most']:.2f})" if len(result["samples"]) > 1 else ""
    return f"{result['ratio']:.2f}{extremes}"


def live_table(live: dict[str, Any]) -> Group:
    """A line a metric, a group of lines a scenario."""
    ways = [way for way in live["ways"] if way != "linux"]
    columns = ["scenario", "", "Linux"]
    for way in ways:
        columns += [way, "to Linux"]
    made = table(f"Live traffic, {live['rounds']} rounds of {live['seconds']:g} s each, TCP by {live['tcp']}", *columns)
    made.columns[1].justify = "left"
    for scenario in live["scenarios"]:
        for k, metric in enumerate(scenario["metrics"]):
            if not metric["ways"]:
                continue
            name = f"{metric['name']}, {metric['unit']}"
            cells = [scenario["name"] if k == 0 else "", name, cell(metric["ways"].get("linux"))]
            for way in ways:
                result = metric["ways"].get(way)
                cells += [cell(result), ratio(result, metric["unit"])]
            made.add_row(*cells)
        made.add_section()
    return below(made, METHOD)


def load_line(machine: dict[str, Any]) -> str:
    """Who else was working, and what that does to the figures."""
    if "load" not in machine:
        return ""
    said = f"load average {machine['load']}, others took {machine['others_busy']} processors meanwhile"
    if not warning(machine):
        return said
    return f"the machine was busy: {said}; user space waits for a processor then, soft interrupts do not"


def absent_lines(live: dict[str, Any]) -> str:
    return "\n".join(
        f"{TITLES[each['way']]} ({each['lab']}): not measured: {each['reason']}" for each in live["absent"]
    )
