# SPDX-License-Identifier: Apache-2.0
"""Finds what plugins declare. Importing a plugin has no effect; its modules are walked and the labels collected."""

import functools
import importlib
import logging
import os
import pkgutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np

from pyvpp.compile import KernelError, load_entry
from pyvpp.config import Config
from pyvpp.errors import in_one_line
from pyvpp.faults import Fault, arc_fault, circles, faults_of, place, table_fault
from pyvpp.features import FeatureArc
from pyvpp.jit import Native, plain
from pyvpp.metrics import Metric
from pyvpp.node import Node
from pyvpp.plugin.find import PATHS, Plugin, find_plugins
from pyvpp.tables import Table

log = logging.getLogger(__name__)

ERROR_DROP = "error-drop"


_told: set[tuple[str, str]] = set()
"""plugins and why they are disabled, as logged: a process may load them more than once"""


@dataclass
class Declarations:
    """What one or more packages declare, by kind and name; the packages, and what plugins were found."""

    nodes: dict[str, Node] = field(default_factory=dict)
    tables: dict[str, Table] = field(default_factory=dict)
    arcs: dict[str, FeatureArc] = field(default_factory=dict)
    native: dict[str, Native] = field(default_factory=dict)
    metrics: dict[str, Metric] = field(default_factory=dict)
    configs: dict[str, Config] = field(default_factory=dict)
    packages: list[ModuleType] = field(default_factory=list)
    plugins: list[Plugin] = field(default_factory=list)
    _names: dict[int, list[tuple[ModuleType, str]]] = field(default_factory=dict)
    """by a table's or feature arc's id: the modules that have it, and what they call it"""

    def add(self, module: ModuleType) -> None:
        """Collects a module's labels. Raises PluginError when a name is declared twice."""
        kinds: Any = (
            (Node, self.nodes), (Table, self.tables), (FeatureArc, self.arcs), (Native, self.native),
            (Metric, self.metrics), (Config, self.configs),
        )  # fmt: skip
        for attribute, value in list(vars(module).items()):
            for kind, known in kinds:
                if isinstance(value, kind):
                    first = known.setdefault(value.name, value)
                    if first is not value:
                        what = f"{kind.__name__.lower()} {value.name}"
                        raise PluginError(f"{place(module, attribute)}: {what} is declared twice")
            if isinstance(value, Table | FeatureArc):
                self._names.setdefault(id(value), []).append((module, attribute))

    def add_package(self, package: ModuleType) -> None:
        """Collects everything below a package. Raises PluginError, see `add`."""
        for module in modules_of(package):
            self.add(module)
        for table in self.tables.values():
            if fault := table_fault(table):
                raise PluginError(f"{self._home(table)[1]}: table {table.name}: {fault}")
        self.packages.append(package)

    def _home(self, declared: Table | FeatureArc) -> tuple[str, str]:
        """The module that declares a table or an arc, and file and line there; others may import it."""
        found = [(module.__name__, place(module, attribute)) for module, attribute in self._names[id(declared)]]
        return next((each for each in found if each[1][-1].isdigit()), found[0])

    def add_plugin(self, plugin: Plugin) -> None:
        """Imports a plugin and collects what it declares, all or nothing: one that cannot be loaded is disabled."""
        self.plugins.append(plugin)
        before = self._copy()
        try:
            self.add_package(plugin.load())
        except (Exception, SystemExit) as error:
            self._restore(before)
            disabled(plugin, error)

    def plugin_of(self, module: str) -> Plugin | None:
        """The plugin that a module, by its full name, is part of."""
        return next((plugin for plugin in self.plugins if plugin.owns(module)), None)

    def is_essential(self, plugin: Plugin) -> bool:
        """Whether nothing runs without it: it declares where dropped packets end."""
        return ERROR_DROP in self.nodes and plugin.owns(self.nodes[ERROR_DROP].module)

    def sift(self, compile_: bool = False) -> None:
        """Disables plugins whose declarations do not fit; with `compile_` also those that numba cannot compile."""
        while (found := self._unfit(compile_)) is not None:
            self.remove(*found)

    def remove(self, plugin: Plugin, error: Exception) -> None:
        """Disables a plugin before anything has been built of it: what it declares is gone."""
        rest = Declarations()
        for package in self.packages:
            if package is not plugin.package:
                rest.add_package(package)
        theirs = Declarations()
        if plugin.package is not None:
            theirs.add_package(plugin.package)
        for mine, gone, kept in zip(self._kinds(), theirs._kinds(), rest._kinds(), strict=True):
            for name in gone.keys() - kept.keys():
                mine.pop(name, None)
        self.packages = [package for package in self.packages if package is not plugin.package]
        disabled(plugin, error)

    def faults(self, plugin: Plugin) -> list[Fault]:
        """What is wrong with a plugin's declarations."""
        nodes = self.nodes_of(plugin)
        found = faults_of(self.nodes, self.tables, self.arcs, nodes)
        for arc in self.arcs.values():
            text = arc_fault(arc, self.nodes)
            module, where = self._home(arc) if text else ("", "")
            if plugin.owns(module):
                found.append(Fault("", where, text))
        names = {node.name for node in nodes}
        return found + [fault for fault in circles(self.arcs.values(), self.nodes.values()) if fault.node in names]

    def nodes_of(self, plugin: Plugin) -> list[Node]:
        return [node for node in self.nodes.values() if plugin.owns(node.module)]

    def _unfit(self, compile_: bool) -> tuple[Plugin, Exception] | None:
        """A plugin that cannot be used, and why."""
        for plugin in self.plugins:
            if plugin.error or self.is_essential(plugin):
                continue
            nodes, found = self.nodes_of(plugin), self.faults(plugin)
            if found:
                return plugin, PluginError("\n".join(map(str, found)))
            for node in nodes if compile_ else ():
                try:
                    if node.kind.compiled:
                        load_entry(node)
                except Exception as error:
                    return plugin, error
        return None

    def _kinds(self) -> list[dict[str, Any]]:
        return [self.nodes, self.tables, self.arcs, self.native, self.metrics, self.configs]

    def _copy(self) -> tuple[list[dict[str, Any]], list[ModuleType]]:
        return [dict(kind) for kind in self._kinds()], list(self.packages)

    def _restore(self, before: tuple[list[dict[str, Any]], list[ModuleType]]) -> None:
        for kind, then in zip(self._kinds(), before[0], strict=True):
            kind.clear()
            kind.update(then)
        self.packages = before[1]


class PluginError(ValueError):
    """The mistakes in a plugin's declarations."""


def disabled(plugin: Plugin, error: BaseException) -> None:
    """Notes why a plugin is disabled; the traceback goes to the log."""
    plugin.error = str(error) if isinstance(error, PluginError | KernelError) else in_one_line(error, plugin.root)
    if (plugin.source, plugin.error) not in _told:
        _told.add((plugin.source, plugin.error))
        told = isinstance(error, PluginError | KernelError)  # says where itself, more closely than a traceback
        log.error("plugin %s is disabled: %s", plugin.name, plugin.error, exc_info=None if told else error)


def modules_of(package: ModuleType) -> list[ModuleType]:
    """The package and every module below it, imported."""
    found = [package]
    for info in pkgutil.walk_packages(getattr(package, "__path__", []), package.__name__ + "."):
        found.append(importlib.import_module(info.name))
    return found


def with_version(declarations: Declarations, plugin: Plugin) -> Declarations:
    """What is declared when a plugin, loaded and named as one of them, stands in its place. Raises ValueError."""
    found = _of_engine()
    for each in declarations.plugins:
        found.plugins.append(plugin if each.name == plugin.name else each)
        package = found.plugins[-1].package
        if package is not None and (package is plugin.package or package in declarations.packages):
            found.add_package(package)
    return found


def load(names: Iterable[str] | None = None) -> Declarations:
    """Everything the engine and the plugins declare; of `names` alone when given, which have to be without fault."""
    declarations = _of_engine()
    if names is not None:
        for name in names:
            declarations.add_package(importlib.import_module(name))
        return declarations
    for plugin in find_plugins():
        declarations.add_plugin(plugin)
    if ERROR_DROP not in declarations.nodes:
        raise RuntimeError(f"no plugin declares {ERROR_DROP}: {'; '.join(p.error for p in declarations.plugins)}")
    declarations.sift()
    return declarations


def _of_engine() -> Declarations:
    declarations = Declarations()
    for name in ("pyvpp.interface", "pyvpp.features", "pyvpp.handoff_ring", "pyvpp.packet_generator"):
        declarations.add(importlib.import_module(name))
    declarations.add_package(importlib.import_module("pyvpp.device"))
    declarations.packages.pop()
    return declarations


@functools.cache
def tables_beside(node: Node) -> tuple[Any, ...]:
    """Tables declared in the distribution package of a node: what its kernel may name without any engine."""
    top = plain(node.kernel).__module__.split(".")[0]
    if top == "pyvpp":
        return tuple(load([]).tables.values())
    if top not in sys.modules:
        return ()
    if not hasattr(sys.modules[top], "__path__"):
        beside = Declarations()
        beside.add(sys.modules[top])
        return tuple(beside.tables.values())
    try:
        return tuple(load([top]).tables.values())
    except ImportError as error:
        log.warning("tables of %s are incomplete: %s", top, error)
        return ()


@functools.cache
def _declared_with(paths: str) -> Declarations:
    return load()


_current: list[Declarations] = []


def look_up_in(declarations: Declarations) -> None:
    """From now on `declared_dtype` finds tables there: a plugin has been reloaded, or is about to be."""
    _current[:] = [declarations]


def forget_versions() -> None:
    """Ends what `look_up_in` began."""
    _current.clear()


def _everything() -> Declarations:
    return _current[0] if _current else _declared_with(os.environ.get(PATHS, ""))


def declared_table(name: str) -> Table | None:
    """A table that any plugin declares."""
    return _everything().tables.get(name)


def declared_dtype(name: str) -> Any:
    """The dtype of a table, for generated entries."""
    table = declared_table(name)
    if table is not None:
        return table.dtype
    if name.endswith("_arc"):
        return np.dtype(np.uint32)
    raise LookupError(f"no table {name} is declared")
