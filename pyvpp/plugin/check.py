# SPDX-License-Identifier: Apache-2.0
"""`pyvpp plugin check`: is a plugin's every kernel what its author wrote, and what does it cost?

Its declarations are checked as when the graph is built; each kernel runs on random frames compiled with bounds checks
and as plain Python, and both have to do the same; then it is timed, packets and metadata put back before each call.
"""

import os
import pickle
import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from pyvpp import cache
from pyvpp import compile as compiling
from pyvpp.buffers import slot_start
from pyvpp.errors import OperatorError
from pyvpp.faults import meant, where
from pyvpp.loader import load
from pyvpp.node import FRAME_SIZE, FREE, HELD, TO_NODE, Kind, Node
from pyvpp.plugin.find import Plugin, find_plugins, give_path
from pyvpp.plugin.trial import Outcome, frame_for, kernels_of, tables_for
from pyvpp.tables import own_lines
from pyvpp.testing import Arranged, Packet, arrange

UNSET = 0xFFF0  # what `testing` fills nexts with
CALLS, GROUPS = 400, 6
CONTEXT_WORDS = 16
MODES = {"with bounds checks": {"NUMBA_BOUNDSCHECK": "1"}, "as plain Python": {"NUMBA_DISABLE_JIT": "1"}}


@dataclass(frozen=True)
class Report:
    """What was found out about a node: its faults, else what a packet costs."""

    node: str
    faults: tuple[str, ...] = ()
    frames: int = 0
    clocks: float = 0.0
    note: str = ""


def find(word: str) -> Plugin:
    """The plugin that a path or a name means. Raises OperatorError."""
    if os.sep in word or word.endswith(".py") or word in (".", "..") or Path(word).is_dir():
        path = str(give_path(word))
        return next(plugin for plugin in find_plugins() if plugin.source == path)
    names = [plugin.name for plugin in find_plugins()]
    if word not in names:
        raise OperatorError(f"plugin check {word}: no such plugin{meant(word, names)}")
    return next(plugin for plugin in find_plugins() if plugin.name == word)


def check(wanted: Plugin, frames: int) -> list[Report]:
    """A report for each node. Raises OperatorError when the plugin cannot be loaded, with what is wrong with it."""
    declarations = load()
    plugin = next(plugin for plugin in declarations.plugins if plugin.source == wanted.source)
    if plugin.error or plugin.package is None:
        raise OperatorError(f"plugin check {plugin.name}: {plugin.error}")
    found: list[Report] = []
    for node in declarations.nodes.values():
        if plugin.owns(node.module) and node.kind is not Kind.INTERNAL:
            found.append(Report(node.name, note=f"kind {node.kind.value}: declarations checked, not run"))
    kernels = kernels_of(declarations, plugin)
    faulty = {node.name: fault for node in kernels if (fault := compiled(node))}
    outcomes = {} if faulty else tried(plugin, frames)
    for node in kernels:
        if faulty:
            faults = [faulty[node.name]] if node.name in faulty else []
        else:
            faults = list(compared(node, outcomes))
        if faults:
            found.append(Report(node.name, tuple(dict.fromkeys(faults))))
        elif faulty:
            found.append(Report(node.name, note="not run, since another node cannot be compiled"))
        else:
            found.append(Report(node.name, frames=frames, clocks=timed(node, plugin.package)))
    return found


def compiled(node: Node) -> str:
    """Why numba cannot compile a node; empty when it can."""
    try:
        compiling.load_entry(node)
    except compiling.KernelError as error:
        return str(error)
    return ""


def tried(plugin: Plugin, frames: int) -> dict[str, dict[tuple[str, int], Outcome]]:
    """The outcomes of each way to run a kernel, by node and frame. Raises OperatorError."""
    found = {}
    for mode, variables in MODES.items():
        environment = {**os.environ, **variables}
        # a warm cache would hide the checks
        environment["NUMBA_CACHE_DIR"] = f"{cache.directory()}-{next(iter(variables)).lower()}"
        command = [sys.executable, "-m", "pyvpp.plugin.trial", plugin.name, str(frames)]
        ran = subprocess.run(command, env=environment, capture_output=True)
        if ran.returncode:
            last = (ran.stderr.decode(errors="replace").strip().splitlines() or [f"status {ran.returncode}"])[-1]
            raise OperatorError(f"plugin check {plugin.name}: its kernels cannot be run {mode}: {last}")
        outcomes: list[Outcome] = pickle.loads(ran.stdout)
        found[mode] = {(outcome.node, outcome.frame): outcome for outcome in outcomes}
    return found


def compared(node: Node, outcomes: dict[str, dict[tuple[str, int], Outcome]]) -> Iterator[str]:
    """What the two ways to run a kernel did differently, and what neither may do."""
    first, second = outcomes.values()
    place = where(node)
    for key, native in first.items():
        if key[0] != node.name:
            continue
        python = second[key]
        at = f"frame {native.frame}"
        for mode, outcome in zip(outcomes, (native, python), strict=True):
            if outcome.error:
                yield f"{place}: {mode} on {at}: {outcome.error}"
        if native.error or python.error:
            return
        for i, (mine, plain_) in enumerate(zip(native.packets, python.packets, strict=True)):
            if mine != plain_:
                yield f"{place}: {at}, packet {i}: {difference(mine, plain_)}"
                return
            fault = wrong_next(node, mine[0])
            if fault:
                yield f"{place}: {at}, packet {i}: {fault}"
                return
        for what in ("counters", "emitted", "tables"):
            if getattr(native, what) != getattr(python, what):
                yield f"{place}: {at}: {what} differ between compiled and plain Python"
                return
        for table in native.written:
            yield f"{place}: {at}: writes table {table}, which all workers share (expected per_worker=True)"
            return


def difference(mine: tuple[int, bytes, bytes], plain_: tuple[int, bytes, bytes]) -> str:
    """How what became of a packet differs between the compiled kernel and plain Python."""
    if mine[0] != plain_[0]:
        return f"compiled its next is {mine[0]:#x}, in plain Python {plain_[0]:#x}"
    what, one, other = ("bytes", mine[1], plain_[1]) if mine[1] != plain_[1] else ("metadata", mine[2], plain_[2])
    k = next((k for k, (x, y) in enumerate(zip(one, other, strict=False)) if x != y), min(len(one), len(other)))
    return f"its {what} differ from byte {k} on between compiled and plain Python"


def wrong_next(node: Node, next_: int) -> str:
    """What is wrong with a next; empty for one that leads somewhere."""
    if next_ == UNSET:
        return "it has no next (expected nexts[i] to be set for every packet)"
    if next_ in (FREE, HELD) or next_ & TO_NODE or next_ in node.next:
        return ""
    return f"its next is {next_}, but there are {len(node.next)}"


def timed(node: Node, package: ModuleType) -> float:
    """Clocks a packet of the compiled kernel on full frames."""
    random_ = random.Random(1)
    tables = tables_for(package, random_)
    packets: list[Packet] = []
    while len(packets) < FRAME_SIZE:
        packets += frame_for(node, random_)
    return clocks_of(node, arrange(node, packets[:FRAME_SIZE], tables, error_base=1), FRAME_SIZE)


def clocks_of(node: Node, arranged: Arranged, packets: int) -> float:
    """The least of some groups; in each the mean of the middle half of the calls, as `pyvpp bench --nodes` has it."""
    from pyvpp.bench.native import KEPT, replay

    given = arranged.given
    heap, meta, frame = given["heap"], given["meta"], given["frame"]
    runtime, context = runtime_of(node, arranged), np.zeros(CONTEXT_WORDS, np.int64)
    for k, name in enumerate(("heap", "meta", "pool", "emit")):
        context[2 * k : 2 * k + 2] = given[name].ctypes.data, len(given[name])
    kept = meta[frame].copy()
    starts = np.array([slot_start(int(b)) for b in frame], np.int64)
    lengths = -(-(kept["cur"] + kept["len"] - starts) // 8) * 8
    memory = np.concatenate([heap[at : at + n] for at, n in zip(starts, lengths, strict=True)])
    entry = compiling.load_entry(node)
    nexts, room, clocks = np.zeros(FRAME_SIZE, np.uint16), np.zeros(FRAME_SIZE, np.uint32), np.zeros(CALLS, np.int64)
    groups = []
    for _ in range(GROUPS):
        replay(
            entry.address, runtime.ctypes.data, context, packets, nexts, room, frame, kept, starts,
            lengths.astype(np.int64), memory, heap, meta, given["pool"], given["emit"], np.zeros(2 * KEPT, np.uint32),
            clocks,
        )  # fmt: skip
        clocks.sort()
        groups.append(float(clocks[CALLS // 4 : CALLS * 3 // 4].mean()) / packets)
    return min(groups)


def runtime_of(node: Node, arranged: Arranged) -> Any:
    """The runtime record with which the graph would call the node; see `compile`."""
    runtime = own_lines(compiling.RUNTIME_WORDS, np.int64)
    runtime[compiling.RUNTIME_ERROR_BASE] = arranged.given["error_base"]
    counters = arranged.given["counters"]
    runtime[compiling.RUNTIME_COUNTERS : compiling.RUNTIME_COUNTERS + 2] = counters.ctypes.data, len(counters)
    for k, name in enumerate(compiling.table_parameters(node)):
        at = compiling.RUNTIME_TABLES + 2 * k
        runtime[at : at + 2] = arranged.tables[name].ctypes.data, len(arranged.tables[name])
    return runtime
