# SPDX-License-Identifier: Apache-2.0
"""Figures as tables for a terminal. Everything here reads the JSON, so it shows a file as well as a run."""

from collections.abc import Iterable
from typing import Any, Protocol

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from pyvpp.bench.machine import warning
from pyvpp.bench.measure import noise
from pyvpp.bench.scenario import VPP_PROVENANCE

WIDTH = 120  # where there is no terminal
AXES = {"vector_size": "packets a vector", "packet_bytes": "bytes a packet", "routes": "routes"}


def console(stderr: bool = False) -> Console:
    """Where tables go: as wide as the terminal, and wide enough where there is none."""
    made = Console(stderr=stderr, highlight=False)
    return made if made.is_terminal else Console(stderr=stderr, highlight=False, width=WIDTH)


def table(title: str, *columns: str) -> Table:
    """A table whose first column is words and whose others are numbers."""
    made = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    for k, column in enumerate(columns):
        made.add_column(column, justify="left" if k == 0 else "right", no_wrap=k == 0)
    return made


def below(what: Table, words: str) -> Group:
    """A table and what has to be said about it; a caption would be as narrow as the table."""
    return Group(what, Text(words, style="dim"))


def clocks(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}%"


def vpp_clocks(vpp: dict[str, Any] | None) -> str:
    return f"{vpp['clocks_per_packet']:g} / {vpp['clocks_without_generation']:g}" if vpp else ""


def machine_lines(machine: dict[str, Any]) -> str:
    lines = [
        f"{machine['cpu']}, {machine['cpus']} processors, cycle counter {machine['tsc_mhz']:.0f} MHz"
        f", Linux {machine['kernel']}",
        f"pyvpp {machine['pyvpp']}, Python {machine['python']}, numba {machine['numba']}, NumPy {machine['numpy']}"
        f", heap on {machine.get('pages', 'unknown pages')}",
    ]
    return "\n".join(lines)


def load_line(machine: dict[str, Any]) -> str:
    """How loaded the machine was meanwhile; the warning when that matters."""
    if "load" not in machine:
        return ""
    said = f"load average {machine['load']}, others took {machine['others_busy']} processors meanwhile"
    return warning(machine) or said


def scenario_table(result: dict[str, Any]) -> Group:
    """A scenario's nodes, the dearest first, and the sum."""
    count = result.get("routes")
    routes = f", {count:,} route{'s' if count > 1 else ''}" if count else ""
    title = f"{result['name']}: {result['packet_bytes']} bytes, vectors of {result['vector_size']}{routes}"
    made = table(title, "node", "clocks/packet", "noise", "vectors/call", "of the packets")
    for node in result["nodes"]:
        spread = _spread(node.get("groups", ()))
        made.add_row(
            node["name"],
            clocks(node["clocks_per_packet"]),
            percent(spread),
            clocks(node["vectors_per_call"]),
            f"{100 * node.get('share', 1):.0f}%",
        )
    made.add_section()
    made.add_row("all", clocks(result["clocks_per_packet"]), percent(result.get("noise")))
    if "clocks_without_generation" in result:
        made.add_row("all without pg-input", clocks(result["clocks_without_generation"]))
    return below(made, _verdict(result) + "\n")


def _spread(groups: Iterable[float]) -> float | None:
    values = list(groups)
    return noise(values) if values else None


def _verdict(result: dict[str, Any]) -> str:
    parts = [f"{result['mpps']:.2f} Mpps, {result['ns_per_packet']:.1f} ns a packet"]
    if "clocks_median" in result:
        parts.append(f"median of {result['runs']} runs {result['clocks_median']:.1f} clocks")
    if result.get("vpp"):
        note = result["vpp"].get("note")
        parts.append(f"VPP {vpp_clocks(result['vpp'])}" + (f" ({note})" if note else ""))
    if result["verified"] is not None:
        parts.append("output verified" if result["verified"] else "output not verified")
    return "; ".join(parts)


def summary_table(results: list[dict[str, Any]]) -> Group:
    """A line a scenario, beside VPP's figures."""
    columns = ("scenario", "clocks/packet", "without pg-input", "noise", "median", "Mpps", "VPP, same two")
    made = table("Clocks a packet, packet generation included", *columns)
    for result in results:
        made.add_row(
            result["name"],
            clocks(result["clocks_per_packet"]),
            clocks(result.get("clocks_without_generation")),
            percent(result.get("noise")),
            clocks(result.get("clocks_median")),
            f"{result['mpps']:.2f}",
            vpp_clocks(result.get("vpp")),
        )
    return below(made, VPP_PROVENANCE + "\n")


class Listed(Protocol):
    """A scenario of either bench."""

    @property
    def name(self) -> str: ...
    @property
    def summary(self) -> str: ...


def list_table(scenarios: Iterable[Listed], title: str = "Scenarios") -> Table:
    """What there is to choose from."""
    made = table(title, "name", "")
    made.columns[1].justify = "left"
    for scenario in scenarios:
        made.add_row(scenario.name, scenario.summary)
    return made


def curve_table(curve: dict[str, Any]) -> Table:
    """A curve's points, one a line."""
    axis = AXES[curve["over"]]
    made = table(f"{curve['name']} by {axis}", axis, "clocks/packet", "without pg-input", "noise", "Mpps", "tables MB")
    for point in curve["points"]:
        size = point.get("tables_bytes")
        made.add_row(
            f"{point['x']:,}",
            clocks(point["clocks_per_packet"]),
            clocks(point["clocks_without_generation"]),
            percent(point["noise"]),
            f"{point['mpps']:.2f}",
            f"{size / 1e6:.1f}" if size else "",
        )
    return made


def kernel_table(kernels: list[dict[str, Any]], unreached: list[str]) -> Group:
    """Each kernel alone, over vector sizes."""
    sizes = sorted({point["vector_size"] for kernel in kernels for point in kernel["vectors"]} & {1, 4, 16, 64, 256})
    caption = "Frames as they reach the node in that scenario, their memory in the caches."
    if unreached:
        caption += f" Reached by no traffic, so not measured: {', '.join(unreached)}."
    columns = ("node", *map(str, sizes), "noise", "frame from")
    made = table("Each kernel alone, clocks a packet by vector size", *columns)
    for kernel in kernels:
        by_size = {point["vector_size"]: point["clocks_per_packet"] for point in kernel["vectors"]}
        largest = max(by_size)
        cells = [clocks(by_size.get(n)) for n in sizes]
        if largest not in sizes:
            cells[-1] = f"{clocks(by_size[largest])} ({largest})"
        made.add_row(kernel["name"], *cells, percent(kernel["noise"]), kernel["traffic"])
    return below(made, caption)


def cost_table(costs: list[dict[str, Any]], scenario: str) -> Group:
    """What is on, and the clocks it adds to a packet."""
    caption = "Beside runs of the same length with nothing on, in turn; short runs contain the call from Python."
    made = table(f"Cost of what is on ({scenario})", "on", "more clocks/packet", "with", "without", "noise", "")
    for cost in costs:
        more = f"{cost['more']:+.1f}" if cost["measurable"] else f"{cost['more']:+.1f}, within noise"
        if not cost["noise"]:
            more = f"{cost['more']:+.1f}"
        made.add_row(
            cost["name"],
            more,
            clocks(cost["clocks_per_packet"]),
            clocks(cost["clocks_without"]),
            percent(cost["noise"] or None),
            cost["note"],
        )
    return below(made, caption)


def worker_table(result: dict[str, Any]) -> Group:
    """Several workers beside one of them."""
    n = result["workers"]
    made = table(f"{result['name']} on {n} workers", "", "Mpps", "median", "clocks/packet of each")
    for who, key, each in (
        ("one alone", "mpps_one", [result["clocks_per_packet_one"]]),
        (f"{n} at once", "mpps", result["clocks_per_packet"]),
    ):
        made.add_row(who, f"{result[key]:.2f}", f"{result[key + '_median']:.2f}", ", ".join(map(clocks, each)))
    made.add_section()
    made.add_row("times one", f"{result['scaling']:.2f}", f"{result['mpps_median'] / result['mpps_one_median']:.2f}")
    said = f"Best of {result['runs']} short runs of either kind, in turn. {result['packets']:,} packets in and out, "
    said += "none lost; output verified on every worker."
    if result["free_processors"] < n:
        said += (
            f" Fewer than {n} processors were free ({result['free_processors']:.1f} on average): the workers had to "
            "share them with others, so this says less than they can do."
        )
    return below(made, said)


def fate_lines(result: dict[str, Any]) -> str:
    """Where the packets of a capture went."""
    fate = result["fate"]
    sent = ", ".join(f"{count:,} by {name}" for name, count in fate["sent"].items()) or "none"
    lines = [f"{result['capture_packets']:,} packets in the capture; of {fate['arrived']:,} that arrived: sent {sent}"]
    lines[0] += f"; dropped {fate['dropped']:,}; to nodes in Python {fate['slow_path']:,}"
    if fate["held"]:
        lines.append(f"{fate['held']} buffers are still held")
    if result.get("pg0_mac"):
        lines.append(f"pg0 has the MAC address most frames are for: {result['pg0_mac']}")
    lines += [f"  {name}: {count:,}" for name, count in fate["counters"].items()]
    return "\n".join(lines)


def start_line(start: dict[str, Any]) -> str:
    return (
        f"a new process: {start['first_packet_seconds']:.2f} s to the first packet, "
        f"{start['resident_bytes'] / 1e6:.0f} MB resident with {start['buffers']:,} buffers ({start['scenario']})"
    )
