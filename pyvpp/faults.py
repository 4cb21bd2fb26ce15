# SPDX-License-Identifier: Apache-2.0
"""What is wrong with declarations, found before the graph is built: each with file and line, and what would be right.

A kernel's parameters have to be tables, its nexts nodes; `Next.X` and `Counter.X` in its body have to be declared, and
an annotation such as `U64` has to be the dtype of its table. What numba alone can say is in `compile.load_entry`.
"""

import builtins
import difflib
import dis
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import EnumMeta, IntEnum
from graphlib import CycleError
from typing import Any

import numpy as np

from pyvpp.compile import table_parameters
from pyvpp.dispatch import MAX_SLOTS
from pyvpp.features import FeatureArc, order_of
from pyvpp.jit import plain
from pyvpp.node import Kind, Node, NodeCounter
from pyvpp.tables import Table


@dataclass(frozen=True)
class Fault:
    """A mistake in a node's declaration or kernel; `str` of it is what the programmer reads."""

    node: str
    where: str
    text: str

    def __str__(self) -> str:
        return f"{self.where}: node {self.node}: {self.text}"


def faults_of(
    nodes: Mapping[str, Node], tables: Mapping[str, Table], arcs: Mapping[str, FeatureArc], given: Iterable[Node]
) -> list[Fault]:
    """Every fault of the `given` nodes, in a graph of all `nodes`, `tables` and `arcs`."""
    arc_tables = {arc.table.name: arc.table for arc in arcs.values()}
    known = {**tables, **arc_tables}
    found: list[Fault] = []
    for node in given:
        found += [Fault(node.name, where(node), text) for text in _declared(node, nodes, arcs)]
        if node.kind is not Kind.PYTHON:
            found += [Fault(node.name, where(node), text) for text in _parameters(node, known)]
        found += _body(node)
    return found


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
    permanent = {name for name, other in nodes.items() if not other.template}
    found = [
        f"its next {target} does not exist{meant(target, permanent)}"
        for target in node.next.values()
        if target not in permanent and "{interface}" not in target
    ]
    if len(node.next) > MAX_SLOTS:
        found.append(f"{len(node.next)} nexts, at most {MAX_SLOTS} are possible")
    for feature in node.features:
        if feature.arc not in arcs:
            found.append(f"there is no feature arc {feature.arc}{meant(feature.arc, arcs)}")
    return found


def _parameters(node: Node, tables: Mapping[str, Table]) -> list[str]:
    found = []
    if "counters" in node.parameters and not node.counters:
        found.append("its kernel has a parameter counters, but no counters are declared (expected counters=Counter)")
    hints = _dtypes(plain(node.kernel))
    for name in table_parameters(node):
        table = tables.get(name)
        if table is None:
            found.append(f"no table {name} is declared anywhere{meant(name, tables)}")
            continue
        try:
            dtype = np.dtype(table.dtype)
        except TypeError:
            found.append(f"table {name} has the dtype {table.dtype!r}, which NumPy does not know")
            continue
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
