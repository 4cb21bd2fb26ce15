# SPDX-License-Identifier: Apache-2.0
"""Puts another version of a plugin into a running engine's place, on the main thread, all of it or nothing.

What control code knows (modules, declarations, commands, features, subscriptions, timers) is exchanged first, while the
old kernels run on the old tables. `Graph.exchange` comes last: it is the only step that packets see, and cannot fail.
"""

import logging
from collections.abc import Callable, Iterable
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pyvpp import loader
from pyvpp.cli.assembly import command_tree
from pyvpp.cli.parser import CommandTree
from pyvpp.errors import OperatorError, in_one_line
from pyvpp.node import Kind
from pyvpp.plugin.find import Plugin
from pyvpp.plugin.snapshot import put_back, withdraw
from pyvpp.tables import TableInstance, same_type

if TYPE_CHECKING:
    from pyvpp.engine import Engine
    from pyvpp.loader import Declarations

log = logging.getLogger(__name__)


@dataclass
class Exchanged:
    """What came of it: the tables that are no longer in use, and what the operator should know."""

    tables: dict[str, TableInstance] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def exchange(
    engine: "Engine", tree: CommandTree | None, old: Plugin, new: Plugin, kept: dict[str, TableInstance]
) -> Exchanged:
    """Puts `new`, whose kernels are compiled, in the place of `old`.

    `kept` are tables as they were when this version was left; they are used again where a type differs. Raises whatever
    is wrong with the version; then everything is as it was.
    """
    done = Exchanged()
    with ExitStack() as undo:
        modules = withdraw(old.module)
        undo.callback(put_back, old.module, modules)
        new.load()
        declarations = loader.with_version(engine.declarations, new)
        found = declarations.faults(new)
        if found:
            raise loader.PluginError("\n".join(map(str, found)))
        fits(engine, declarations, new)
        try:
            commands = command_tree(declarations.packages, lambda package, error: _was_disabled(declarations, package))
        except ValueError as error:
            raise OperatorError(str(error)) from error
        loader.look_up_in(declarations)
        undo.callback(loader.look_up_in, engine.declarations)

        declared = [*declarations.tables.values(), *(arc.table for arc in declarations.arcs.values())]
        fresh = engine.tables.successors(declared)
        for table in declared:
            if table.name not in fresh:
                engine.tables[table.name].grow(table.capacity)
        moving = {name: engine.tables[name] for name in fresh if name in engine.tables}
        standing = any(each.table.per_worker for each in moving.values())
        with engine.barrier() if standing else nullcontext():
            done.notes += carry_over(new, moving, fresh, kept)
            undo.callback(engine.tables.restore, engine.tables.copy())
            engine.tables.put(fresh)
            for instance in fresh.values():
                instance.moved = engine.graph.rebind
            nodes = {node.name: node for node in declarations.nodes_of(new)}
            declared_before = engine.graph.declared
            undo.callback(setattr, engine.graph, "declared", declared_before)
            engine.graph.declared = dict(declarations.nodes)
            undo.callback(setattr, engine.graph, "checked", engine.graph.checked)
            others = engine.graph.checked - {node.name for node in engine.declarations.nodes_of(old)}
            engine.graph.checked = others | nodes.keys() if new.checked else others
            there = {graph_node.node.name for graph_node in engine.graph}
            added = [node for node in nodes.values() if not node.template and node.name not in there]
            undo.callback(engine.graph.remove, engine.graph.add(added))
            successors = engine.graph.successors(nodes)
            undo.callback(engine.features.restore, engine.features.copy())
            turned_off = engine.features.declare(declarations.arcs, declarations.nodes.values())
            done.notes += [f"{node} is off on {name_of(engine, k)}: no feature of {arc}" for node, arc, k in turned_off]
            undo.callback(engine.restore_hooks, engine.copy_hooks())
            closers = engine.forget_hooks(old)
            before, engine.declarations = engine.declarations, declarations
            undo.callback(setattr, engine, "declarations", before)
            begin(engine, old, new)
            undo.pop_all()
            engine.graph.exchange(successors)
    if any(node.kind is Kind.INPUT for node in added):
        engine.set_inputs()
    if tree is not None:
        tree.become(commands)
    done.tables = moving
    for node in before.nodes_of(old):
        if node.name not in nodes:
            done.notes.append(f"node {node.name} is no more: its old code stays for packets that still reach it")
    if getattr(new.package, "resume", None) is None:
        close(closers)
    return done


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
        readers = [each for each in engine.graph if each.node.kind is not Kind.PYTHON and name in each.node.parameters]
        for reader in readers:
            if not new.owns(reader.node.module):
                raise OperatorError(f"table {name} cannot have another type: node {reader.name} is compiled for it")


def carry_over(
    new: Plugin, moving: dict[str, TableInstance], fresh: dict[str, TableInstance], kept: dict[str, TableInstance]
) -> list[str]:
    """Fills tables of another type from those in use: by the author's `migrate(name, old, new)`, if there is one."""
    migrate = getattr(new.package, "migrate", None)
    notes = []
    for name, old in moving.items():
        was_kept = kept.get(name)
        if was_kept is not None and same_type(was_kept.table, fresh[name].table):
            was_kept.grow(len(old))
            fresh[name] = was_kept
            notes.append(f"table {name} is as it was when this version was left")
            continue
        told = f"{old.dtype}{' per worker' if old.table.per_worker else ''}"
        if migrate is None:
            notes.append(f"table {name} begins anew: it held {told} (a function migrate(name, old, new) would keep it)")
            continue
        for worker, array in enumerate(fresh[name].arrays):
            shared_now = old.table.per_worker and not fresh[name].table.per_worker
            migrate(name, old.sum() if shared_now else old.worker(worker), array)
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


def _was_disabled(declarations: "Declarations", package: Any) -> bool:
    plugin = declarations.plugin_of(package.__name__)
    return plugin is not None and bool(plugin.error)
