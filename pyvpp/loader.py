# SPDX-License-Identifier: Apache-2.0
"""Finds what plugins declare. Importing a plugin has no effect; its modules are walked and the labels collected."""

import functools
import importlib
import logging
import pkgutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from types import ModuleType
from typing import Any

import numpy as np

from pyvpp.features import FeatureArc
from pyvpp.jit import Native, plain
from pyvpp.node import Node
from pyvpp.tables import Table

log = logging.getLogger(__name__)


@dataclass
class Declarations:
    """The nodes, tables, arcs and native code of one or more packages, and the packages themselves."""

    nodes: dict[str, Node] = field(default_factory=dict)
    tables: dict[str, Table] = field(default_factory=dict)
    arcs: dict[str, FeatureArc] = field(default_factory=dict)
    native: dict[str, Native] = field(default_factory=dict)
    packages: list[ModuleType] = field(default_factory=list)

    def add(self, module: ModuleType) -> None:
        """Collects a module's labels. Raises ValueError when a name is declared twice."""
        kinds: Any = ((Node, self.nodes), (Table, self.tables), (FeatureArc, self.arcs), (Native, self.native))
        for value in list(vars(module).values()):
            for kind, known in kinds:
                if isinstance(value, kind):
                    first = known.setdefault(value.name, value)
                    if first is not value:
                        raise ValueError(
                            f"{kind.__name__.lower()} {value.name} is declared twice, again in {module.__name__}"
                        )

    def add_package(self, package: ModuleType) -> None:
        """Collects everything below a package."""
        for module in modules_of(package):
            self.add(module)
        self.packages.append(package)


def modules_of(package: ModuleType) -> list[ModuleType]:
    """The package and every module below it, imported."""
    found = [package]
    for info in pkgutil.walk_packages(getattr(package, "__path__", []), package.__name__ + "."):
        found.append(importlib.import_module(info.name))
    return found


def plugin_packages() -> list[str]:
    """Packages that installed distributions offer as `pyvpp.plugins`; the stack also in a bare checkout."""
    names = [entry.value for entry in entry_points(group="pyvpp.plugins")]
    return list(dict.fromkeys(names)) or ["pyvpp_" + "nodes"]


def load(names: Iterable[str] | None = None) -> Declarations:
    """Everything the engine and the plugins declare."""
    declarations = Declarations()
    for name in ("pyvpp.interface", "pyvpp.features", "pyvpp.packet_generator"):
        declarations.add(importlib.import_module(name))
    declarations.add_package(importlib.import_module("pyvpp.device"))
    declarations.packages.pop()
    for name in plugin_packages() if names is None else names:
        declarations.add_package(importlib.import_module(name))
    return declarations


@functools.cache
def tables_beside(node: Node) -> tuple[Any, ...]:
    """Tables declared in the distribution package of a node: what its kernel may name without any engine."""
    top = plain(node.kernel).__module__.split(".")[0]
    if top == "pyvpp":
        return tuple(load([]).tables.values())
    if top not in sys.modules or not hasattr(sys.modules[top], "__path__"):
        return ()
    try:
        return tuple(load([top]).tables.values())
    except ImportError as error:
        log.warning("tables of %s are incomplete: %s", top, error)
        return ()


@functools.cache
def _everything() -> Declarations:
    return load()


def declared_dtype(name: str) -> Any:
    """The dtype of a table, for generated entries."""
    tables = _everything().tables
    if name in tables:
        return tables[name].dtype
    if name.endswith("_arc"):
        return np.dtype(np.uint32)
    raise LookupError(f"no table {name} is declared")
