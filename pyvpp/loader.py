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
from pyvpp.errors import in_one_line
from pyvpp.faults import Fault, circles, faults_of
from pyvpp.features import FeatureArc
from pyvpp.jit import Native, plain
from pyvpp.node import Kind, Node
from pyvpp.plugin.find import PATHS, Plugin, find_plugins
from pyvpp.tables import Table

log = logging.getLogger(__name__)

ERROR_DROP = "error-drop"


_told: set[tuple[str, str]] = set()
"""plugins and why they are disabled, as logged: a process may load them more than once"""


@dataclass
class Declarations:
    """The nodes, tables, arcs and native code of one or more packages, the packages, and what plugins were found."""

    nodes: dict[str, Node] = field(default_factory=dict)
    tables: dict[str, Table] = field(default_factory=dict)
    arcs: dict[str, FeatureArc] = field(default_factory=dict)
    native: dict[str, Native] = field(default_factory=dict)
    packages: list[ModuleType] = field(default_factory=list)
    plugins: list[Plugin] = field(default_factory=list)

    def add(self, module: ModuleType) -> None:
        """Collects a module's labels. Raises ValueError when a name is declared twice."""
        kinds: Any = ((Node, self.nodes), (Table, self.tables), (FeatureArc, self.arcs), (Native, self.native))
        for value in list(vars(module).values()):
            for kind, known in kinds:
                if isinstance(value, kind):
                    first = known.setdefault(value.name, value)
                    if first is not value:
                        raise PluginError(
                            f"{kind.__name__.lower()} {value.name} is declared twice, again in {module.__name__}"
                        )

    def add_package(self, package: ModuleType) -> None:
        """Collects everything below a package."""
        for module in modules_of(package):
            self.add(module)
        self.packages.append(package)

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
                    if node.kind is not Kind.PYTHON:
                        load_entry(node)
                except Exception as error:
                    return plugin, error
        return None

    def _kinds(self) -> list[dict[str, Any]]:
        return [self.nodes, self.tables, self.arcs, self.native]

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
    plugin.error = str(error) if isinstance(error, PluginError | KernelError) else in_one_line(error)
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
