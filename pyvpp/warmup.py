# SPDX-License-Identifier: Apache-2.0
"""`pyvpp warmup`: everything compiled before anything is taken over."""

import sys
from typing import Any

from pyvpp.options import Parser


def main(argv: list[str]) -> int:
    Parser(prog="pyvpp warmup", description="Compile everything now.").parse_args(argv)
    warm_up()
    return 0


def warm_up(declarations: Any = None) -> None:
    """Compiles what is not in the cache, in parallel, with a progress bar on a terminal."""
    from pyvpp.compile import compile_in_parallel
    from pyvpp.loader import load

    declarations = declarations or load()
    nodes, native = list(declarations.nodes.values()), list(declarations.native)
    if not sys.stderr.isatty():
        told: list[int] = []

        def once(done: int, total: int, name: str) -> None:
            if not told:
                told.append(1)
                print(f"pyvpp: compiling {total} nodes, once per version and CPU", file=sys.stderr, flush=True)

        compile_in_parallel(nodes, once, native=native)
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("compiling", total=None)
        compile_in_parallel(
            nodes,
            lambda done, total, name: bar.update(task, completed=done, total=total, description=f"compiling {name}"),
            native=native,
        )
