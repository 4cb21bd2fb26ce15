# SPDX-License-Identifier: Apache-2.0
"""The command line of `pyvpp bench`: what is measured, shown, written and compared."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pyvpp.bench import compare, page, report, sweep
from pyvpp.bench.scenario import declared_in, scenarios_among
from pyvpp.bench.session import Session
from pyvpp.errors import OperatorError
from pyvpp.loader import load
from pyvpp.node import FRAME_SIZE

SECONDS = 2.0
OF_VECTORS = ("vectors", "sizes", "routes", "nodes", "cost", "pcap", "script", "compare", "other")
"""options that say nothing to live traffic"""
MAX_WORKERS = 64  # each needs buffers of its own


def numbers(text: str) -> tuple[int, ...]:
    """`1,4,16`, as an argument. Raises ValueError."""
    found = tuple(int(word) for word in text.split(","))
    if not found or min(found) < 1:
        raise ValueError(text)
    return found


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="pyvpp bench",
        description="Clocks a packet, per path and per node. Needs neither root nor a network. Without options: every "
        "scenario.",
    )
    what = p.add_argument_group("what is measured")
    what.add_argument("--scenario", action="append", metavar="NAME", help="one scenario; may be repeated")
    what.add_argument("--list", action="store_true", help="list the scenarios and end")
    what.add_argument(
        "--vectors", nargs="?", type=numbers, const=sweep.VECTORS, metavar="N,N", help="a curve over packets a vector"
    )
    what.add_argument(
        "--sizes", nargs="?", type=numbers, const=sweep.SIZES, metavar="N,N", help="a curve over bytes a packet"
    )
    what.add_argument(
        "--routes", nargs="?", type=numbers, const=sweep.ROUTES, metavar="N,N", help="a curve over numbers of routes"
    )
    what.add_argument("--nodes", action="store_true", help="each kernel alone")
    what.add_argument("--cost", action="store_true", help="what trace, capture, features and counters cost")
    what.add_argument("--workers", type=int, metavar="N", help="N workers at once beside one, of ip4 or --scenario")
    what.add_argument("--pcap", type=Path, metavar="FILE", help="packets of a capture instead; they arrive on pg0")
    what.add_argument("--exec", dest="script", type=Path, metavar="FILE", help="with --pcap: commands that set it up")
    what.add_argument(
        "--live", action="store_true", help="real traffic in namespaces of its own, beside Linux; needs root"
    )
    how = p.add_argument_group("how")
    how.add_argument("--seconds", type=float, metavar="S", help="how long each scenario runs (2; with --live 0.7)")
    how.add_argument("--vector", type=int, default=FRAME_SIZE, metavar="N", help="packets at a time, at most 256")
    how.add_argument("--repeat", type=int, metavar="N", help="all scenarios so many times, in turn (1; with --live 5)")
    how.add_argument("--hugepages", default="auto", metavar="auto|off|N", help="memory of the packets")
    out = p.add_argument_group("what becomes of it")
    out.add_argument("--json", metavar="FILE", help="write the figures as JSON, - for standard output")
    out.add_argument("--html", type=Path, metavar="FILE", help="write one page with plots; adds the three curves")
    out.add_argument("--compare", type=Path, metavar="FILE", help="beside a run that --json wrote")
    out.add_argument(
        "--with", dest="other", type=Path, metavar="FILE", help="with --compare: a second file, no new run"
    )
    return p


def checked(options: argparse.Namespace, p: argparse.ArgumentParser, scenarios: Mapping[str, object]) -> None:
    """Ends with argparse's error when options do not fit."""
    unknown = [name for name in options.scenario or () if name not in scenarios]
    if unknown:
        p.error(f"unknown scenario {unknown[0]} (available: {', '.join(scenarios)})")
    if not 1 <= options.vector <= FRAME_SIZE:
        p.error(f"--vector {options.vector}: must be from 1 to {FRAME_SIZE}")
    if options.vectors and max(options.vectors) > FRAME_SIZE:
        p.error(f"--vectors {max(options.vectors)}: must be from 1 to {FRAME_SIZE}")
    if options.sizes and not 64 <= min(options.sizes) <= max(options.sizes) <= 1500:
        p.error("--sizes: must be from 64 to 1500")
    if options.seconds is not None and not options.seconds > 0:
        p.error("--seconds must be more than 0")
    if options.workers is not None and not 2 <= options.workers <= MAX_WORKERS:
        p.error(f"--workers {options.workers}: must be from 2 to {MAX_WORKERS}")
    if options.repeat is not None and options.repeat < 1:
        p.error("--repeat must be at least 1")
    if options.hugepages not in ("auto", "off") and not options.hugepages.isdecimal():
        p.error(f"--hugepages {options.hugepages}: auto, off or a number")
    for needed, needing in (("pcap", "script"), ("compare", "other")):
        if getattr(options, needing) and not getattr(options, needed):
            p.error(f"--{'exec' if needing == 'script' else 'with'} goes with --{needed}")


def main(argv: list[str]) -> int:
    """Exit status 0, 1 when a scenario's output is wrong or nothing could be measured, 2 for wrong arguments.

    Raises OperatorError for files of the user's that cannot be used.
    """
    p = parser()
    options = p.parse_args(argv)
    if options.live:
        return live(options, p)
    declarations = load()
    declared = declared_in(declarations.packages)
    scenarios = scenarios_among(declared)
    checked(options, p, scenarios)
    options.seconds = options.seconds or SECONDS
    options.repeat = options.repeat or 1
    if options.list:
        report.console().print(report.list_table(scenarios.values()))
        return 0
    if options.html:
        page.require_plotly()
    before = compare.read_run(options.compare) if options.compare else None
    if before and options.other:
        return compared(before, compare.read_run(options.other), options)
    if before and not options.scenario:
        names = [each["name"] for each in before["scenarios"]]
        options.scenario = [name for name in names if name in scenarios] or None
    session = Session(options, declarations, declared)
    session.measure()
    written(session.run, options)
    if before:
        compared(before, session.run, options)
    measured = any(session.run.get(part) for part in ("scenarios", "curves", "kernels", "costs", "workers"))
    return 0 if measured and not session.run["errors"] else 1


def live(options: argparse.Namespace, p: argparse.ArgumentParser) -> int:
    """`--live`; exit status as of `main`, 130 when it was interrupted. Raises OperatorError without root."""
    from pyvpp.bench.live.page import page as live_page
    from pyvpp.bench.live.scenarios import BY_NAME
    from pyvpp.bench.live.session import LiveSession

    checked(options, p, BY_NAME)
    if alien := [f"--{name}" for name in OF_VECTORS if getattr(options, name)]:
        p.error(f"{alien[0]} does not go with --live")
    if options.list:
        report.console().print(report.list_table(BY_NAME.values(), "Live scenarios"))
        return 0
    if os.geteuid() != 0:
        raise OperatorError("bench --live needs root: it builds network namespaces and takes NICs over in them")
    if options.html:
        page.require_plotly()
    session = LiveSession(options)
    try:
        session.measure()
    except KeyboardInterrupt:
        print("pyvpp bench: interrupted; everything is cleaned up", file=sys.stderr)
        return 130
    written(session.run, options, live_page)
    return 0 if session.live["scenarios"] and not session.run["errors"] else 1


def written(
    run: dict[str, Any], options: argparse.Namespace, as_page: Callable[[dict[str, Any]], str] = page.page
) -> None:
    """The run as JSON and as a page, where that was asked for. Raises OperatorError."""
    if options.json:
        text = json.dumps(run, indent=2) + "\n"
        if options.json == "-":
            sys.stdout.write(text)
        else:
            try:
                Path(options.json).write_text(text)
            except OSError as error:
                raise OperatorError(f"{options.json}: {error.strerror}") from None
    if options.html:
        page.write_page(run, options.html, as_page)


def compared(before: dict[str, Any], after: dict[str, Any], options: argparse.Namespace) -> int:
    """Two runs side by side."""
    console = report.console(stderr=options.json == "-")
    for line in compare.differences_of_machines(before, after):
        console.print(line, markup=False)
    titles = (options.compare.name, options.other.name if options.other else "now")
    console.print(compare.change_table(compare.changes(before, after), titles))
    return 0
