# SPDX-License-Identifier: Apache-2.0
"""The command line of `pyvpp plugin`."""

import os
import sys
from pathlib import Path

from pyvpp.errors import OperatorError
from pyvpp.plugin.new import new_plugin

FRAMES, MOST_FRAMES = 50, 100_000


def run(argv: list[str]) -> int:
    """The exit status; raises OperatorError."""
    from pyvpp.options import Parser

    parser = Parser(prog="pyvpp plugin", description="Write and examine plugins.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="new|check|api")
    new = commands.add_parser("new", help="make a package with one node that passes its tests")
    new.add_argument("name", metavar="NAME", help="of the plugin and its node: words with - between")
    new.add_argument("--directory", type=Path, default=Path(), metavar="DIR", help="where it is made; here")
    examine = commands.add_parser("check", help="run its kernels against their plain-Python selves, and time them")
    examine.add_argument("plugin", metavar="PATH|NAME", help="a file, the folder of a package or project, or a name")
    examine.add_argument("--frames", type=int, default=FRAMES, metavar="N", help=f"random frames a node; {FRAMES}")
    told = commands.add_parser("api", help="what the plugin kit offers, from its docstrings")
    told.add_argument(
        "name", nargs="?", default="", metavar="NAME", help="a module, a function or a class; else a list"
    )
    told.add_argument("--all", action="store_true", help="the whole reference")
    options = parser.parse_args(argv)
    if options.command == "api":
        return tell(options.name, options.all)
    return make(options.name, options.directory) if options.command == "new" else report(options.plugin, options.frames)


def tell(name: str, everything: bool) -> int:
    """Prints the reference, or a part of it."""
    from pyvpp.loader import load
    from pyvpp.plugin.api import reference

    try:
        print(reference(name, load().packages, everything), end="")
    except BrokenPipeError:  # into `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def make(name: str, directory: Path) -> int:
    project = new_plugin(name, directory)
    print(f"{project} has the node {name}, its commands, tests and bench. In it:")
    print("  python -m pytest          its tests; the first run compiles the whole graph")
    print("  pyvpp plugin check .      the kernel beside its plain-Python self, and what it costs")
    print("  pyvpp --plugin .          runs it without installing; `pip install .` makes pyvpp find it")
    return 0


def report(word: str, frames: int) -> int:
    """Checks a plugin, a line for each node and each fault; status 1 when there is one."""
    from pyvpp.plugin.check import check, find

    if not 1 <= frames <= MOST_FRAMES:
        raise OperatorError(f"--frames {frames}: from 1 to {MOST_FRAMES}")
    plugin = find(word)
    reports = check(plugin, frames)
    for each in reports:
        if each.faults:
            print(f"fail  {each.node}")
            print("\n".join(f"      {fault}" for fault in each.faults))
        elif each.note:
            print(f"ok    {each.node}: {each.note}")
        else:
            print(
                f"ok    {each.node}: {each.frames} random frames, compiled with bounds checks as in plain Python; "
                f"{each.clocks:.1f} clocks a packet"
            )
    if not reports:
        print(f"ok    {plugin.name} has no nodes")
    return 1 if any(each.faults for each in reports) else 0
