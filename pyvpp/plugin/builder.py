# SPDX-License-Identifier: Apache-2.0
"""A process that compiles versions of plugins and tries them, beside the one that forwards packets.

    python -m pyvpp.plugin.builder      requests on standard input, answers on output: JSON, see `background`

It has imported everything and compiled something, then forks for each request, so that a version is compiled in a
fraction of a second, in a process that knows no other. Compiled code is left in the cache. With NUMBA_BOUNDSCHECK set
kernels run on random frames as well, as in `pyvpp plugin check`: one that reads beside its arrays, leaves a packet
without a next, writes what other workers may be writing or does not return is refused before it meets a packet.
"""

import json
import logging
import os
import random
import select
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numba
import numpy as np

from pyvpp import loader
from pyvpp.compile import KernelError, compile_node, in_kernel
from pyvpp.errors import in_one_line
from pyvpp.faults import where
from pyvpp.jit import BOUNDSCHECK, FLAGS, number_functions_from
from pyvpp.loader import Declarations, PluginError
from pyvpp.node import Kind
from pyvpp.plugin.background import Answer, Request
from pyvpp.plugin.check import wrong_next
from pyvpp.plugin.find import Plugin
from pyvpp.plugin.snapshot import withdraw
from pyvpp.plugin.trial import kernels_of, tables_for, try_node
from pyvpp.testing import run_kernel

NICE = 10  # workers come first
COMPILE_SECONDS = 120.0
SELF_CHECK = "self_check"
NUMBER_BITS = 40  # more functions than one process compiles


def build(declarations: Declarations, request: Request, tell: Callable[[str], None]) -> str:
    """Compiles and tries a version; answers what is wrong with it. `tell` is given the name of what is tried now.

    While it is empty, something is compiled.
    """
    plugins = {plugin.name: plugin for plugin in declarations.plugins}
    for name, path in request.versions.items():
        withdraw(plugins[name].module)
        plugins[name] = Plugin(name, plugins[name].source, path=Path(path))
        plugins[name].load()
        declarations = loader.with_version(declarations, plugins[name])
        loader.look_up_in(declarations)
    plugin = plugins[request.plugin]
    found = declarations.faults(plugin)
    if found:
        raise PluginError("\n".join(map(str, found)))
    nodes = [node for node in declarations.nodes_of(plugin) if node.kind.compiled]
    for node in nodes if request.checked or not BOUNDSCHECK else ():
        compile_node(node, checked=BOUNDSCHECK and node.kind is Kind.INTERNAL)
    if BOUNDSCHECK:
        return tried(declarations, plugin, request.frames, tell)
    for native in declarations.native.values():
        if plugin.owns(native.use.__module__):
            native.use()
    return ""


def tried(declarations: Declarations, plugin: Plugin, frames: int, tell: Callable[[str], None]) -> str:
    """What a version's kernels do wrong on random frames, or what it says itself."""
    assert plugin.package is not None
    shared = {table.name for table in declarations.tables.values() if table.shared}
    for node in kernels_of(declarations, plugin):
        try:
            run_kernel(node, [], tables_for(plugin.package, random.Random(1)), error_base=1)  # compiles it
        except Exception as error:  # any other the first frame meets again
            if isinstance(error, KeyError) or type(error).__module__.startswith("numba"):
                raise KernelError(in_kernel(node, error)) from error
        tell(node.name)
        for number in range(1, frames + 1):
            outcome = try_node(node, plugin.package, shared, number)
            wrong = [outcome.error] if outcome.error else [wrong_next(node, next_) for next_, _, _ in outcome.packets]
            wrong += [f"writes table {name}, which all workers share" for name in outcome.written]
            fault = next(filter(None, wrong), "")
            if fault:
                return f"{where(node)}: node {node.name}: random frame {number}, with bounds checks: {fault}"
        tell("")
    for module in loader.modules_of(plugin.package):
        own = getattr(module, SELF_CHECK, None)
        if own is not None and own.__module__ == module.__name__:
            tell(SELF_CHECK)
            own()
    return ""


def attempt(declarations: Declarations, request: Request, output: int) -> None:
    """`build` in a child process, its lines written to a pipe."""

    def tell(trying: str) -> None:
        os.write(output, json.dumps({"trying": trying}).encode() + b"\n")

    try:
        version = Path(request.versions[request.plugin]).parent.name
        number_functions_from((int(version, 16) << 1 | BOUNDSCHECK) << NUMBER_BITS)
        error = build(declarations, request, tell)
    except (Exception, SystemExit) as problem:
        told = isinstance(problem, PluginError | KernelError)
        error = str(problem) if told else in_one_line(problem)
    os.write(output, json.dumps({"error": error}).encode() + b"\n")


def supervised(declarations: Declarations, request: Request) -> Answer:
    """Forks for a request, and ends the child when it takes too long."""
    began = time.monotonic()
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        attempt(declarations, request, writing)
        os._exit(0)
    os.close(writing)
    trying, error, text = "", "", b""
    patience = COMPILE_SECONDS
    while True:
        if not select.select([reading], [], [], patience)[0]:
            os.kill(pid, signal.SIGKILL)
            what = f"{trying} does not come to an end" if trying else "it takes too long to compile"
            error = f"{what} (expected within {patience:.0f} s)"
            break
        more = os.read(reading, 1 << 16)
        if not more:
            error = f"{trying or 'its compiler'} ended the process it was tried in"
            break
        text += more
        *lines, text = text.split(b"\n")
        said = [json.loads(line) for line in lines]
        if said and "error" in said[-1]:
            error = said[-1]["error"]
            break
        if said:
            trying, patience = said[-1]["trying"], request.patience if said[-1]["trying"] else COMPILE_SECONDS
    os.close(reading)
    os.waitpid(pid, 0)
    return Answer(error, time.monotonic() - began)


def warm() -> Declarations:
    """Imports everything, and has numba load what it needs for its first function."""
    declarations = loader.load()
    numba.njit(**FLAGS)(lambda frame: frame[0] + len(frame))(np.zeros(1, np.uint32))
    return declarations


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a plugin prints is no answer
    os.nice(NICE)
    logging.disable()  # what is wrong is answered
    declarations = warm()
    for line in sys.stdin:
        answers.write(json.dumps(asdict(supervised(declarations, Request(**json.loads(line))))) + "\n")


if __name__ == "__main__":
    main()
