# SPDX-License-Identifier: Apache-2.0
"""`plugin reload`: other versions of plugins are compiled beside the running engine and put into place in one moment.

Packets flow on the whole time: compiling is left to processes of its own (`builder`), control code is exchanged on the
main thread, and each worker takes the new kernels between two rounds of its loop. A version that does not compile, does
not fit or fails when it is tried is refused, and the old one stays.
"""

import asyncio
import contextlib
import json
import logging
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pyvpp import cache, loader
from pyvpp.cli.parser import CommandTree
from pyvpp.compile import KernelError
from pyvpp.errors import OperatorError, in_one_line
from pyvpp.faults import meant
from pyvpp.plugin import snapshot
from pyvpp.plugin.builder import Answer, Request
from pyvpp.plugin.exchange import exchange
from pyvpp.plugin.find import Plugin
from pyvpp.tables import TableInstance

if TYPE_CHECKING:
    from pyvpp.engine import Engine

log = logging.getLogger(__name__)

FRAMES = 12  # random ones on which each kernel is tried
PATIENCE = 20.0  # seconds that a kernel may take for them, compiling it once more for that included
MOST_EARLIER = 8
MOST_SOUND = 8
CHECKED = "NUMBA_BOUNDSCHECK"


@dataclass(frozen=True)
class Earlier:
    """A version that was in use: where its sources are kept, and the tables that only it had."""

    generation: int
    digest: str
    path: Path
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
            f"plugin {plugin.name}: version {plugin.generation} ({plugin.digest[:8]}) is in place; "
            f"compiled and tried in {self.compiled:.2f} s, exchanged in {1000 * self.held:.1f} ms"
        )
        return "\n".join((first, *(f"  {note}" for note in self.notes)))


class Builder:
    """The other end of a `pyvpp.plugin.builder` process, started when first needed."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = environment
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> "subprocess.Popen[str]":
        if self._process is None or self._process.poll() is not None:
            self.close()
            self._process = subprocess.Popen(
                [sys.executable, "-m", "pyvpp.plugin.builder"], env={**os.environ, **self._environment},
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
        return self._process

    def build(self, request: Request) -> Answer:
        """Waits for the answer: for a thread of its own."""
        process = self.start()
        assert process.stdin and process.stdout
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(json.dumps(asdict(request)) + "\n")
            process.stdin.flush()
        line = process.stdout.readline()
        return Answer(**json.loads(line)) if line else Answer(f"the compiler process ended: status {process.wait()}")

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                assert pipe
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
            self._process = None


class Reloader:
    """Reloads and rolls back an engine's plugins, one at a time; `tree` has their commands afterwards."""

    def __init__(self, engine: "Engine", tree: CommandTree | None = None) -> None:
        self._engine = engine
        self._tree = tree
        self._one_at_a_time = asyncio.Lock()
        self.patience = PATIENCE
        self._sound: list[dict[str, str]] = []  # versions that were compiled and tried together
        self._latest: dict[str, int] = {}  # the highest number of a version
        checked = {CHECKED: "1", "NUMBA_CACHE_DIR": f"{cache.directory()}-{CHECKED.lower()}"}
        self._builders = (Builder({}), Builder(checked))
        for plugin in engine.declarations.plugins:
            if not engine.declarations.is_essential(plugin):
                with contextlib.suppress(OperatorError):  # told when it is to be rolled back to
                    plugin.path, plugin.digest = snapshot.keep(plugin)
        engine.on_close.append(self.close)

    def close(self) -> None:
        for builder in self._builders:
            builder.close()
        loader.forget_versions()

    def plugin(self, name: str) -> Plugin:
        """A plugin that can be reloaded, by its name. Raises OperatorError."""
        plugins = {each.name: each for each in self._engine.declarations.plugins}
        if name not in plugins:
            raise OperatorError(f"no plugin is called `{name}'{meant(name, plugins)}")
        if self._engine.declarations.is_essential(plugins[name]):
            raise OperatorError(f"plugin {name} is the stack, without which no packet flows")
        return plugins[name]

    async def reload(self, name: str) -> Reloaded:
        """Puts a plugin's sources, as they are now, in the place of its version in use. Raises OperatorError."""
        async with self._one_at_a_time:
            old = self.plugin(name)
            path, digest = await asyncio.to_thread(snapshot.keep, old)
            if digest == old.digest and not old.error:
                raise OperatorError(
                    f"plugin {name}: its sources are those of version {old.generation}, in place already"
                )
            wanted = Earlier(self._latest.get(name, 1) + 1, digest, path)
            done, unused = await self._replace(old, wanted)
            self._latest[name] = wanted.generation
            if old.path is not None:
                before = Earlier(old.generation, old.digest, old.path, unused)
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
        request = Request(old.name, {**versions, old.name: str(wanted.path)}, FRAMES, self.patience)
        began = time.monotonic()
        if request.versions not in self._sound:
            answers = await asyncio.gather(*(asyncio.to_thread(builder.build, request) for builder in self._builders))
            fault = next((answer.error for answer in answers if answer.error), "")
            if fault:
                raise _refused(old, wanted, fault)
            self._sound = [*self._sound, request.versions][-MOST_SOUND:]
        compiled = time.monotonic()
        new = Plugin(
            old.name, old.source, "" if old.is_path else old.version, path=wanted.path, origin=old.origin,
            generation=wanted.generation, digest=wanted.digest,
        )  # fmt: skip
        try:
            done = exchange(self._engine, self._tree, old, new, wanted.tables)
        except (Exception, SystemExit) as error:
            told = isinstance(error, OperatorError | loader.PluginError | KernelError)
            if not told:
                log.error("plugin %s: a version was refused", old.name, exc_info=error)
            raise _refused(old, wanted, str(error) if told else in_one_line(error)) from error
        return Reloaded(new, compiled - began, time.monotonic() - compiled, tuple(done.notes)), done.tables


def _refused(old: Plugin, wanted: Earlier, reason: str) -> OperatorError:
    """Notes why a version was refused, for `show plugins`; places in its sources are told as its author knows them."""
    with contextlib.suppress(OperatorError):
        reason = reason.replace(str(wanted.path), str(snapshot.origin(old)))
    old.refused = reason
    log.warning("plugin %s: a version was refused, version %d stays: %s", old.name, old.generation, reason)
    return OperatorError(f"plugin {old.name}: version {old.generation} stays: {reason}")
