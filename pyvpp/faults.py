# SPDX-License-Identifier: Apache-2.0
"""What is wrong with declarations, found before the graph is built: each with file and line, and what would be right.

A kernel's parameters have to be tables, its nexts nodes; `Next.X` and `Counter.X` in its body have to be declared, and
an annotation such as `U64` has to be the dtype of its table. A function has to be what its node's kind asks for, and a
table has to be one that can be made. What numba alone can say is in `compile.load_entry`.
"""

import builtins
import difflib
import dis
import inspect
import re
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import EnumMeta, IntEnum
from graphlib import CycleError
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from pyvpp.compile import table_parameters, table_parameters_of
from pyvpp.dispatch import MAX_SLOTS
from pyvpp.features import FeatureArc, order_of
from pyvpp.jit import plain
from pyvpp.node import Kind, Node, NodeCounter
from pyvpp.tables import Table

NAME = re.compile(r"[A-Za-z0-9]+([-_.][A-Za-z0-9]+)*")
KERNELS_ONLY = frozenset(("pool", "emit", "heap_address"))


@dataclass(frozen=True)
class Fault:
    """A mistake in a node's declaration or kernel, or elsewhere (`node` is empty); `str` of it is what is read."""

    node: str
    where: str
    text: str

    def __str__(self) -> str:
        return f"{self.where}: node {self.node}: {self.text}" if self.node else f"{self.where}: {self.text}"


def faults_of(
    nodes: Mapping[str, Node], tables: Mapping[str, Table], arcs: Mapping[str, FeatureArc], given: Iterable[Node]
) -> list[Fault]:
    """Every fault of the `given` nodes, in a graph of all `nodes`, `tables` and `arcs`."""
    arc_tables = {arc.table.name: arc.table for arc in arcs.values()}
    known = {**tables, **arc_tables}
    found: list[Fault] = []
    for node in given:
        found += [Fault(node.name, where(node), text) for text in _declared(node, nodes, arcs)]
        found += [Fault(node.name, where(node), text) for text in _function(node)]
        if node.kind.compiled or node.kind is Kind.SLOW:
            found += [Fault(node.name, where(node), text) for text in _parameters(node, known)]
        found += _body(node)
    return found


def place(module: ModuleType, attribute: str) -> str:
    """`file:line` where a module gives a name its value; the file alone where it does so in another way."""
    file = getattr(module, "__file__", None) or str(module)
    try:
        lines = Path(file).read_text().splitlines()
    except (OSError, ValueError):
        return file
    word = re.compile(rf"(?!from |import |def )([\w, ]*\b)?{re.escape(attribute)}\b")
    return next((f"{file}:{number}" for number, line in enumerate(lines, 1) if word.match(line)), file)


def table_fault(table: Table) -> str:
    """Why a table cannot be made; empty when it can."""
    try:
        dtype = np.dtype(table.dtype)
    except (TypeError, ValueError):
        return f"its dtype {table.dtype!r} is none that NumPy knows"
    if dtype.hasobject:
        return f"its dtype {dtype} holds Python objects, which a kernel cannot read"
    if not isinstance(table.capacity, int) or table.capacity < 1:
        return f"its capacity is {table.capacity!r} (expected 1 or more elements)"
    if not isinstance(table.name, str) or not table.name.isidentifier():
        return "a kernel names it by a parameter (expected a name of letters, digits and _)"
    if table_parameters_of([table.name]) == []:
        return "a kernel's parameter of that name is something else (expected another name)"
    return ""


def arc_fault(arc: FeatureArc, nodes: Mapping[str, Node]) -> str:
    """What is wrong with a feature arc; empty for one that is sound."""
    if arc.last not in nodes:
        return f"feature arc {arc.name}: its last node {arc.last} does not exist{meant(arc.last, nodes)}"
    return ""


def where(node: Node, line: int | None = None) -> str:
    """`file:line` of a kernel, or of a line in it."""
    code = plain(node.kernel).__code__
    return f"{code.co_filename}:{line or code.co_firstlineno}"


def meant(word: str, words: Iterable[str]) -> str:
    """The parenthesis with which a fault ends: what was probably meant, else what there is."""
    listed = sorted(words)
    near = difflib.get_close_matches(word, listed, n=1, cutoff=0.6)
    if near:
        return f" (did you mean {near[0]}?)"
    return f" (there are {', '.join(listed)})" if 0 < len(listed) <= 12 else ""


def _declared(node: Node, nodes: Mapping[str, Node], arcs: Mapping[str, FeatureArc]) -> list[str]:
    if not NAME.fullmatch(node.name):
        return [f"its name `{node.name}' cannot be one (expected words such as ip4-lookup)"]
    permanent = {name for name, other in nodes.items() if not other.template}
    found = [
        f"its next {target} does not exist{meant(target, permanent)}"
        for target in node.next.values()
        if target not in permanent and "{interface}" not in target
    ]
    for target in node.next.values():
        kind = nodes[target].kind if target in nodes else None
        if kind in (Kind.INPUT, Kind.PROCESS):
            found.append(f"its next {target} is of kind {kind.value}, which gets no packets")
    if len(node.next) > MAX_SLOTS:
        found.append(f"{len(node.next)} nexts, at most {MAX_SLOTS} are possible")
    for feature in node.features:
        if feature.arc not in arcs:
            found.append(f"there is no feature arc {feature.arc}{meant(feature.arc, arcs)}")
    return found


ARGUMENTS = {Kind.PYTHON: ["engine", "packet"], Kind.PROCESS: ["engine"]}


def _function(node: Node) -> list[str]:
    """What is wrong with a node's function for a node of its kind."""
    kind, name = node.kind, f"kind=Kind.{node.kind.name}"
    function = plain(node.kernel)
    found = []
    if inspect.iscoroutinefunction(function) and kind is not Kind.PROCESS:
        other = f"or no `async` with {name}"
        found.append(f"its function is a coroutine, which nobody awaits (expected kind=Kind.PROCESS, {other})")
    if kind is Kind.PROCESS and not inspect.iscoroutinefunction(function):
        found.append(f"its function is no coroutine (expected `async def` with {name})")
    if not kind.compiled and function is not node.kernel:
        found.append(f"its function is compiled (expected no @jit with {name}, which runs in Python)")
    expected = ARGUMENTS.get(kind)
    if expected is not None and len(node.parameters) != len(expected):
        given = ", ".join(node.parameters) or "nothing"
        found.append(f"its function takes {given} (expected {' and '.join(expected)} with {name})")
    if kind in (Kind.INPUT, Kind.PROCESS) and node.features:
        found.append(f"it is of kind {kind.value}, which gets no packets, so it can be no feature")
    if kind in (Kind.PYTHON, Kind.PROCESS) and node.next:
        found.append(f"it has next=, but packets do not go on from a node of {name} (Kind.SLOW has nexts)")
    if kind is Kind.PROCESS and node.template:
        found.append("a process is no template")
    return found


def _parameters(node: Node, tables: Mapping[str, Table]) -> list[str]:
    found = []
    if "counters" in node.parameters and not node.counters:
        found.append("its kernel has a parameter counters, but no counters are declared (expected counters=Counter)")
    hints = _dtypes(plain(node.kernel))
    if node.kind is Kind.SLOW:
        for name in sorted(set(node.parameters) & KERNELS_ONLY):
            found.append(f"its function takes {name}, which only a compiled kernel has: it is the worker's own")
    if node.kind.compiled and "engine" in node.parameters:
        found.append("its kernel takes engine, which compiled code cannot have (expected tables, or kind=Kind.SLOW)")
    for name in table_parameters(node):
        table = tables.get(name)
        if table is None:
            found.append(f"no table {name} is declared anywhere{meant(name, tables)}")
            continue
        dtype = np.dtype(table.dtype)
        if name in hints and hints[name] != dtype:
            found.append(f"its kernel takes {name} as an array of {hints[name]}, but table {name} holds {dtype}")
    return found


def _dtypes(kernel: Callable[..., Any]) -> dict[str, "np.dtype[Any]"]:
    """The dtypes that a kernel's annotations name: `U64` is NDArray[np.uint64]. Records name none."""
    try:
        hints = typing.get_type_hints(kernel)
    except (NameError, TypeError):
        return {}
    found = {}
    for name, hint in hints.items():
        if typing.get_origin(hint) is np.ndarray:
            item = typing.get_args(typing.get_args(hint)[1])
            if item and isinstance(item[0], type):
                found[name] = np.dtype(item[0])
    return found


def _body(node: Node) -> list[Fault]:
    """`Next.X` and `Counter.X` in the kernel's code that the enum, or the declaration, does not have."""
    kernel = plain(node.kernel)
    found: list[Fault] = []
    enum: EnumMeta | None = None
    line = kernel.__code__.co_firstlineno
    for step in dis.get_instructions(kernel):
        line = step.positions.lineno if step.positions and step.positions.lineno else line
        if step.opname == "LOAD_GLOBAL":
            if step.argval not in kernel.__globals__ and not hasattr(builtins, step.argval):
                near = meant(step.argval, [name for name in kernel.__globals__ if not name.startswith("_")])
                found.append(Fault(node.name, where(node, line), f"the name {step.argval} is not defined{near}"))
            value = kernel.__globals__.get(step.argval)
            enum = value if isinstance(value, EnumMeta) and issubclass(value, IntEnum) else None
        elif step.opname == "LOAD_ATTR" and enum is not None:
            text = _member(node, enum, step.argval)
            if text:
                found.append(Fault(node.name, where(node, line), text))
            enum = None
        elif step.opname != "CACHE":
            enum = None
    return found


def _member(node: Node, enum: EnumMeta, name: str) -> str:
    members: Mapping[str, Any] = enum.__members__
    written = f"{enum.__name__}.{name}"
    if name not in members:
        return f"{written} does not exist{meant(name, members)}" if not hasattr(enum, name) else ""
    value = members[name]
    if isinstance(value, NodeCounter) and value not in node.counters:
        return f"{written} is counted, but not declared (expected counters={enum.__name__})"
    if enum.__name__ == "Next" and int(value) not in node.next:
        return f"{written} is used, but next= does not say which node that is"
    return ""


def circles(arcs: Iterable[FeatureArc], nodes: Iterable[Node]) -> list[Fault]:
    """Feature nodes that run before themselves."""
    listed = list(nodes)
    found = []
    for arc in arcs:
        try:
            order_of(arc, listed)
        except CycleError as error:
            names = list(dict.fromkeys(error.args[1]))
            text = f"on the feature arc {arc.name} it runs before itself: {' -> '.join(error.args[1])}"
            found += [Fault(node.name, where(node), text) for node in listed if node.name in names]
    return found
