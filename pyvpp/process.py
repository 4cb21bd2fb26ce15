# SPDX-License-Identifier: Apache-2.0
"""Process nodes: async functions on the main thread, for whatever has to happen again and again or wait for something.

    @node(name="beacon-process", kind=Kind.PROCESS)
    async def beacon_process(engine: Engine) -> None:
        while True:
            await asyncio.sleep(10)
            engine.inject(...)

One begins when packets flow (`Engine.serve`) and is cancelled when they stop to, when its plugin is disabled, and when
another version of its plugin takes over: that one's begins once this one has ended. It must not work long without an
`await`, since the command line and timers share its thread. What it raises disables its plugin.
"""

import asyncio
import contextlib
from typing import TYPE_CHECKING

from pyvpp.node import Kind, Node

if TYPE_CHECKING:
    from pyvpp.engine import Engine
    from pyvpp.plugin.find import Plugin


class Processes:
    """The process nodes of an engine: `engine.processes`."""

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine
        self._tasks: dict[str, tuple[Node, asyncio.Task[None]]] = {}
        self._begun = False

    def begin(self) -> None:
        """Begins all that do not run; called in the event loop they are to run in."""
        self._begun = True
        self.follow()

    def follow(self) -> None:
        """Ends those that another version has taken the place of, or none; begins the others. See `begin`."""
        declared = {node.name: node for node in self._engine.graph.declared.values() if node.kind is Kind.PROCESS}
        for name, (node, task) in list(self._tasks.items()):
            if declared.get(name) is not node:
                task.cancel()
        if not self._begun:
            return
        for name, node in declared.items():
            before = self._tasks.get(name)
            if (before is None or before[0] is not node) and not self._engine.is_disabled(node.kernel):
                task = asyncio.create_task(self._live(node, before[1] if before else None), name=name)
                self._tasks[name] = node, task

    async def _live(self, node: Node, before: "asyncio.Task[None] | None") -> None:
        if before is not None:
            await asyncio.wait([before])
        try:
            await node.kernel(self._engine)
        except Exception as error:
            if not self._engine.blame(node.kernel, error):
                raise

    def end(self, plugin: "Plugin | None" = None) -> None:
        """Cancels all, or those of a plugin; but not the one that asks for it, which ends by itself."""
        asking = None
        with contextlib.suppress(RuntimeError):  # no event loop
            asking = asyncio.current_task()
        for node, task in self._tasks.values():
            if task is not asking and (plugin is None or plugin.owns(node.module)):
                task.cancel()
        if plugin is None:
            self._tasks.clear()
            self._begun = False

    def state(self, name: str) -> str:
        """`any wait` while it runs, as VPP has it; else `done`, or `not started`."""
        if name not in self._tasks:
            return "not started"
        return "done" if self._tasks[name][1].done() else "any wait"
