# SPDX-License-Identifier: Apache-2.0
"""Puts another version of a plugin into a running engine's place, on the main thread, all of it or nothing.

What control code knows (modules, declarations, commands, features, subscriptions, timers) is exchanged first, while the
old kernels run on the old tables. `Graph.exchange` comes last: it is the only step that packets see, and cannot fail.

A table of the same type stays, and the version may fill it in another way when it begins (`resume`): then old kernels
must not read what is meant for the new. Whatever takes more than one store is published at a barrier, as ever; the
first one holds until the kernels are exchanged, so that a version may prepare as long as it likes while packets flow.
"""

import logging
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from pyvpp import loader
from pyvpp.cli.assembly import command_tree
from pyvpp.cli.parser import CommandTree
from pyvpp.errors import OperatorError, in_one_line
from pyvpp.graph import GraphNode
from pyvpp.node import Kind, Node
from pyvpp.plugin.find import Plugin
from pyvpp.plugin.snapshot import put_back, withdraw
from pyvpp.tables import TableInstance, same_type

if TYPE_CHECKING:
    from pyvpp.engine import Engine
    from pyvpp.loader import Declarations

log = logging.getLogger(__name__)


class Exchange:
    """Puts `new`, whose kernels are compiled, in the place of `old`, when it is `carried_out`.

    `kept` are tables as they were when this version was left; they are used again where a type differs. Afterwards
    `moving` are tables that are no longer in use, and `notes` is what the operator should know.
    """

    def __init__(
        self, engine: "Engine", tree: CommandTree | None, old: Plugin, new: Plugin, kept: dict[str, TableInstance]
    ) -> None:
        self.engine, self.tree, self.old, self.new, self.kept = engine, tree, old, new, kept
        self.undo = ExitStack()
        self.before = engine.declarations
        self.moving: dict[str, TableInstance] = {}
        self.notes: list[str] = []

    def carried_out(self) -> "Exchange":
        """Raises whatever is wrong with the version; then everything is as it was."""
        engine = self.engine
        with self.undo:
            declarations = self._declared()
            fits(engine, declarations, self.new)
            commands = self._commands(declarations)
            fresh = self._make_room(declarations)
            added, successors = self._nodes(declarations)
            closers = self._hand_over(declarations)
            standing = any(table.table.per_worker for table in self.moving.values())
            began = time.monotonic()
            # What the version publishes at a barrier as it begins is for its own kernels: workers wait for them.
            with engine.barrier() if standing else engine.lingering():
                self.notes += migrate(self.new, self.moving, fresh, self.kept)
                begin(engine, self.old, self.new)
                self.undo.pop_all()
                engine.graph.exchange(successors)
            stood = 1000 * (time.monotonic() - began)
            self._settle(fresh, added)
        if standing:
            self.notes.append(f"workers stood still for {stood:.1f} ms: a table that they write has another type")
        if self.tree is not None:
            self.tree.become(commands)
        if getattr(self.new.package, "resume", None) is None:
            close(closers)
        return self

    def _declared(self) -> "Declarations":
        """Imports the version; what everything declares then."""
        modules = withdraw(self.old.module)
        self.undo.callback(put_back, self.old.module, modules)
        self.new.load()
        declarations = loader.with_version(self.before, self.new)
        found = declarations.faults(self.new)
        if found:
            raise loader.PluginError("\n".join(map(str, found)))
        self.undo.callback(loader.look_up_in, self.before)
        loader.look_up_in(declarations)
        return declarations

    @staticmethod
    def _commands(declarations: "Declarations") -> CommandTree:
        def disabled(package: Any, error: Exception) -> bool:
            plugin = declarations.plugin_of(package.__name__)
            return plugin is not None and bool(plugin.error)

        try:
            return command_tree(declarations.packages, disabled)
        except ValueError as error:
            raise OperatorError(str(error)) from error

    def _make_room(self, declarations: "Declarations") -> dict[str, TableInstance]:
        """Tables that are new or of another type; no kernel that runs reads them."""
        tables = self.engine.tables
        declared = [*declarations.tables.values(), *(arc.table for arc in declarations.arcs.values())]
        fresh = tables.successors(declared)
        for table in declared:
            if table.name not in fresh:
                tables[table.name].grow(table.capacity)
        self.moving = {name: tables[name] for name in fresh if name in tables}
        for name, old in self.moving.items():
            was_kept = self.kept.get(name)
            if was_kept is not None and same_type(was_kept.table, fresh[name].table):
                was_kept.moved = lambda instance: None  # the kernels that run are for another type
                was_kept.grow(len(old))
                fresh[name] = was_kept
        for name in fresh.keys() - self.moving.keys():
            fresh[name].moved = self.engine.graph.rebind
        self.undo.callback(tables.restore, tables.copy())
        tables.put(fresh)
        return fresh

    def _nodes(self, declarations: "Declarations") -> tuple[list[Node], list[GraphNode]]:
        """Adds the version's new nodes to the graph; answers them, and what takes the others' places."""
        graph = self.engine.graph
        nodes = {node.name: node for node in declarations.nodes_of(self.new)}
        self.undo.callback(setattr, graph, "declared", graph.declared)
        self.undo.callback(setattr, graph, "checked", graph.checked)
        graph.declared = dict(declarations.nodes)
        gone = {node.name for node in self.before.nodes_of(self.old)} - nodes.keys()
        graph.checked = graph.checked - nodes.keys() - gone | (nodes.keys() if self.new.checked else set())
        self.notes += [f"node {name} is no more: its old code stays for packets that still reach it" for name in gone]
        there = {graph_node.node.name for graph_node in graph}
        added = [node for node in nodes.values() if not node.template and node.name not in there]
        self.undo.callback(graph.remove, graph.add(added))
        return added, graph.successors({name: node for name, node in nodes.items() if node not in added})

    def _hand_over(self, declarations: "Declarations") -> list[Callable[[], None]]:
        """Makes the version the one that control code is asked for; answers what the old one wanted done at the end."""
        engine = self.engine
        self.undo.callback(engine.features.restore, engine.features.copy())
        engine.features.declare(declarations.arcs, declarations.nodes.values())
        self.undo.callback(engine.restore_hooks, engine.copy_hooks())
        closers = engine.forget_hooks(self.old)
        self.undo.callback(setattr, engine, "declarations", self.before)
        engine.declarations = declarations
        return closers

    def _settle(self, fresh: dict[str, TableInstance], added: list[Node]) -> None:
        """What may wait until the kernels are in place."""
        engine = self.engine
        for name in self.moving:
            fresh[name].moved = engine.graph.rebind
        if self.moving and added:  # they may have met a table that has grown since
            with engine.barrier():
                for name in self.moving:
                    engine.graph.rebind(fresh[name])
        for node, arc, sw_if_index in engine.features.settle():
            self.notes.append(f"{node} is off on {name_of(engine, sw_if_index)}: no feature of {arc}")
        if any(node.kind is Kind.INPUT for node in added):
            engine.set_inputs()
        engine.processes.follow()


def fits(engine: "Engine", declarations: "Declarations", new: Plugin) -> None:
    """Raises OperatorError where a version cannot take the old one's place while packets flow."""
    for node in declarations.nodes_of(new):
        there = [each.node for each in engine.graph if each.node.name == node.name]
        for before in there[:1]:
            if before.kind is not node.kind or before.template is not node.template:
                kinds = [f"{each.kind.value}{' template' if each.template else ''}" for each in (before, node)]
                raise OperatorError(f"node {node.name} was of kind {kinds[0]} and is of kind {kinds[1]} now")
    for name, table in declarations.tables.items():
        if name not in engine.tables or same_type(engine.tables[name].table, table):
            continue
        readers = [each for each in engine.graph if each.node.kind.compiled and name in each.node.parameters]
        for reader in readers:
            if not new.owns(reader.node.module):
                raise OperatorError(f"table {name} cannot have another type: node {reader.name} is compiled for it")


def migrate(
    new: Plugin, moving: dict[str, TableInstance], fresh: dict[str, TableInstance], kept: dict[str, TableInstance]
) -> list[str]:
    """Fills tables of another type from those in use: by the author's `migrate(name, old, new)`, if there is one."""
    function = getattr(new.package, "migrate", None)
    notes = []
    for name, old in moving.items():
        told = f"{old.dtype}{' per worker' if old.table.per_worker else ''}"
        if kept.get(name) is fresh[name]:
            notes.append(f"table {name} is as it was when this version was left")
        elif function is None:
            notes.append(f"table {name} begins anew: it held {told} (a function migrate(name, old, new) would keep it)")
        else:
            for worker, array in enumerate(fresh[name].arrays):
                shared_now = old.table.per_worker and not fresh[name].table.per_worker
                function(name, old.sum() if shared_now else old.worker(worker), array)
            notes.append(f"table {name} was migrated: it held {told}")
    return notes


def begin(engine: "Engine", old: Plugin, new: Plugin) -> None:
    """Starts the version: `resume(engine, before)` of its package, given the old one's, else `start(engine)`."""
    resume, start = getattr(new.package, "resume", None), getattr(new.package, "start", None)
    if resume is not None and old.package is not None:
        resume(engine, old.package)
    elif start is not None:
        start(engine)
    if new.error:
        raise OperatorError(new.error)


def close(closers: Iterable[Callable[[], None]]) -> None:
    """What the old version wanted done at the end."""
    for undo in closers:
        try:
            undo()
        except Exception as error:
            log.warning("the old version does not end cleanly: %s", in_one_line(error))


def name_of(engine: "Engine", sw_if_index: int) -> str:
    return next((each.name for each in engine.interfaces if each.sw_if_index == sw_if_index), str(sw_if_index))
