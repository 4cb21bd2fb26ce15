# SPDX-License-Identifier: Apache-2.0
"""`plugin reload`: other versions of plugins are compiled beside the running engine and put into place in one moment.

Packets flow on the whole time: compiling is left to processes of its own (`builder`), control code is exchanged on the
main thread, and each worker takes the new kernels between two rounds of its loop. A version that does not compile, does
not fit or fails when it is tried is refused, and the old one stays.
"""

import asyncio
import contextlib
import logging
import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyvpp import cache, loader
from pyvpp.cli.parser import CommandTree
from pyvpp.compile import KernelError
from pyvpp.errors import OperatorError, in_one_line
from pyvpp.faults import meant
from pyvpp.plugin import snapshot
from pyvpp.plugin.background import Builder, Request
from pyvpp.plugin.bounds import BoundsReports
from pyvpp.plugin.exchange import Exchange
from pyvpp.plugin.find import PATHS, Plugin
from pyvpp.plugin.watch import Watcher
from pyvpp.tables import TableInstance

if TYPE_CHECKING:
    from pyvpp.engine import Engine

log = logging.getLogger(__name__)

FRAMES = 12  # random ones on which each kernel is tried
PATIENCE = 10.0  # seconds that a kernel may take for them
MOST_EARLIER = 8
MOST_SOUND = 8


@dataclass(frozen=True)
class Earlier:
    """A version that was in use: where its sources are kept, and the tables that only it had."""

    generation: int
    digest: str
    path: Path
    checked: bool = False
    tables: dict[str, TableInstance] = field(default_factory=dict)


@dataclass(frozen=True)
class Reloaded:
    """What came of a reload, and how long it took, in seconds: in the background, and on the main thread."""

    plugin: Plugin
    compiled: float
    held: float
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        plugin = self.plugin
        first = (
            f"plugin {plugin.name}: version {plugin.generation} ({plugin.digest[:8]}) is in place"
            f"{', with bounds checks' if plugin.checked else ''}; "
            f"compiled and tried in {self.compiled:.2f} s, exchanged in {1000 * self.held:.1f} ms"
        )
        return "\n".join((first, *(f"  {note}" for note in self.notes)))


class Reloader:
    """Reloads and rolls back an engine's plugins, one at a time; `tree` has their commands afterwards.

    `tell` is given what `watcher` has put into place.
    """

    def __init__(
        self, engine: "Engine", tree: CommandTree | None = None, tell: Callable[[str], Any] = lambda text: None
    ) -> None:
        self._engine = engine
        self._tree = tree
        self._one_at_a_time = asyncio.Lock()
        self.patience = PATIENCE
        self._sound: list[Request] = []  # what was compiled and tried without fault
        self._latest: dict[str, int] = {}  # the highest number of a version
        self._reports = BoundsReports(engine)
        self.watcher = Watcher(self, tell)
        for plugin in engine.declarations.plugins:
            if not engine.declarations.is_essential(plugin):
                if plugin.path is not None:  # it ran in the process whose place this one has taken
                    snapshot.hold(plugin.path)
                    self._latest[plugin.name] = plugin.generation
                    continue
                with contextlib.suppress(OperatorError):  # told when it is to be rolled back to
                    plugin.path, plugin.digest = snapshot.keep(plugin)
        # What an author has written since is no concern of theirs until they are asked.
        in_use = {PATHS: os.pathsep.join(str(p.path or p.source) for p in engine.declarations.plugins if p.is_path)}
        checked = {cache.BOUNDSCHECK: "1", "NUMBA_CACHE_DIR": str(cache.checked_directory())}
        self._builders = (Builder(in_use), Builder({**in_use, **checked}))
        engine.on_close.append(self.close)

    def close(self) -> None:
        for builder in self._builders:
            builder.close()
        self._reports.close()
        self.watcher.close()
        loader.forget_versions()

    @property
    def running(self) -> dict[str, tuple[str, int]]:
        """Of plugins that were reloaded or rolled back: where the sources of the version in use are, and its number."""
        plugins = {plugin.name: plugin for plugin in self._engine.declarations.plugins}
        return {name: (str(plugins[name].path), plugins[name].generation) for name in self._latest}

    @property
    def raised(self) -> Counter[tuple[str, str]]:
        """How often a node's kernel has raised what, since it runs with bounds checks."""
        return self._reports.counts

    def plugin(self, name: str) -> Plugin:
        """A plugin that can be reloaded, by its name. Raises OperatorError."""
        plugins = {each.name: each for each in self._engine.declarations.plugins}
        if name not in plugins:
            raise OperatorError(f"no plugin is called `{name}'{meant(name, plugins)}")
        if self._engine.declarations.is_essential(plugins[name]):
            raise OperatorError(f"plugin {name} is the stack, without which no packet flows")
        return plugins[name]

    def given(self) -> list[str]:
        """The plugins given by their paths."""
        return [plugin.name for plugin in self._engine.declarations.plugins if plugin.is_path]

    def prepare(self) -> None:
        """Starts the processes that compile, which takes some seconds, before they are needed."""
        for builder in self._builders:
            builder.start()

    async def reload(self, name: str, checked: bool = False) -> Reloaded:
        """Puts a plugin's sources, as they are now, in the place of its version in use. Raises OperatorError.

        `checked`: its kernels run with bounds checks, see `bounds`.
        """
        async with self._one_at_a_time:
            old = self.plugin(name)
            path, digest = await asyncio.to_thread(snapshot.keep, old)
            if (digest, checked) == (old.digest, old.checked) and not old.error:
                raise OperatorError(
                    f"plugin {name}: its sources are those of version {old.generation}, in place already"
                )
            wanted = Earlier(self._latest.get(name, 1) + 1, digest, path, checked)
            done, unused = await self._replace(old, wanted)
            self._latest[name] = wanted.generation
            if old.path is not None:
                before = Earlier(old.generation, old.digest, old.path, old.checked, unused)
                done.plugin.earlier = [*old.earlier, before][-MOST_EARLIER:]
            return done

    async def rollback(self, name: str) -> Reloaded:
        """Puts the version that was in use before in place again. Raises OperatorError."""
        async with self._one_at_a_time:
            old = self.plugin(name)
            if not old.earlier:
                raise OperatorError(f"plugin {name}: there is no version before {old.generation}")
            *rest, wanted = old.earlier
            done, _ = await self._replace(old, wanted)
            done.plugin.earlier = rest
            return done

    async def _replace(self, old: Plugin, wanted: Earlier) -> tuple[Reloaded, dict[str, TableInstance]]:
        """Compiles, tries and exchanges; answers also the tables that are no longer in use."""
        versions = {
            plugin.name: str(plugin.path)
            for plugin in self._engine.declarations.plugins
            if plugin.generation > 1 and plugin is not old and not plugin.error
        }
        request = Request(old.name, {**versions, old.name: str(wanted.path)}, FRAMES, self.patience, wanted.checked)
        began = time.monotonic()
        if request not in self._sound:
            answers = await asyncio.gather(*(asyncio.to_thread(builder.build, request) for builder in self._builders))
            fault = next((answer.error for answer in answers if answer.error), "")
            if fault:
                raise _refused(old, wanted, fault)
            self._sound = [*self._sound, request][-MOST_SOUND:]
        compiled = time.monotonic()
        new = Plugin(
            old.name, old.source, "" if old.is_path else old.version, path=wanted.path, origin=old.origin,
            generation=wanted.generation, digest=wanted.digest, checked=wanted.checked,
        )  # fmt: skip
        if new.checked:
            self._reports.listen()
        try:
            done = Exchange(self._engine, self._tree, old, new, wanted.tables).carried_out()
        except (Exception, SystemExit) as error:
            told = isinstance(error, OperatorError | loader.PluginError | KernelError)
            if not told:
                log.error("plugin %s: a version was refused", old.name, exc_info=error)
            raise _refused(old, wanted, str(error) if told else in_one_line(error)) from error
        return Reloaded(new, compiled - began, time.monotonic() - compiled, tuple(done.notes)), done.moving


def _refused(old: Plugin, wanted: Earlier, reason: str) -> OperatorError:
    """Notes why a version was refused, for `show plugins`; places in its sources are told as its author knows them."""
    with contextlib.suppress(OperatorError):
        reason = reason.replace(str(wanted.path), str(snapshot.origin(old)))
    old.refused = reason
    log.warning("plugin %s: a version was refused, version %d stays: %s", old.name, old.generation, reason)
    return OperatorError(f"plugin {old.name}: version {old.generation} stays: {reason}")
