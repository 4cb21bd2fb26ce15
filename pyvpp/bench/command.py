# SPDX-License-Identifier: Apache-2.0
"""The command line of `pyvpp bench`: what is measured, shown, written and compared."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from pyvpp.bench import compare, page, report, sweep
from pyvpp.bench.scenario import Scenario, declared_in, scenarios_among
from pyvpp.bench.session import Session
from pyvpp.errors import OperatorError
from pyvpp.loader import load
from pyvpp.node import FRAME_SIZE

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
    how = p.add_argument_group("how")
    how.add_argument("--seconds", type=float, default=2.0, metavar="S", help="how long each scenario runs (2)")
    how.add_argument("--vector", type=int, default=FRAME_SIZE, metavar="N", help="packets at a time, at most 256")
    how.add_argument("--repeat", type=int, default=1, metavar="N", help="all scenarios so many times, in turn")
    how.add_argument("--hugepages", default="auto", metavar="auto|off|N", help="memory of the packets")
    out = p.add_argument_group("what becomes of it")
    out.add_argument("--json", metavar="FILE", help="write the figures as JSON, - for standard output")
    out.add_argument("--html", type=Path, metavar="FILE", help="write one page with plots; adds the three curves")
    out.add_argument("--compare", type=Path, metavar="FILE", help="beside a run that --json wrote")
    out.add_argument(
        "--with", dest="other", type=Path, metavar="FILE", help="with --compare: a second file, no new run"
    )
    return p


def checked(options: argparse.Namespace, p: argparse.ArgumentParser, scenarios: dict[str, Scenario]) -> None:
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
    if not options.seconds > 0:
        p.error("--seconds must be more than 0")
    if options.workers is not None and not 2 <= options.workers <= MAX_WORKERS:
        p.error(f"--workers {options.workers}: must be from 2 to {MAX_WORKERS}")
    if options.repeat < 1:
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
    declarations = load()
    declared = declared_in(declarations.packages)
    scenarios = scenarios_among(declared)
    checked(options, p, scenarios)
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


def written(run: dict[str, Any], options: argparse.Namespace) -> None:
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
        page.write_page(run, options.html)


def compared(before: dict[str, Any], after: dict[str, Any], options: argparse.Namespace) -> int:
    """Two runs side by side."""
    console = report.console(stderr=options.json == "-")
    for line in compare.differences_of_machines(before, after):
        console.print(line, markup=False)
    titles = (options.compare.name, options.other.name if options.other else "now")
    console.print(compare.change_table(compare.changes(before, after), titles))
    return 0
