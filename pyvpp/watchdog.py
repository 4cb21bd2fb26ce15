# SPDX-License-Identifier: Apache-2.0
"""The watchdog: finds a worker that stands still.

A worker begins a new round of its loop at least every 100 ms, even when it sleeps. One whose rounds do not advance
while the main thread has looked so many times, a second apart, hangs in a node. Looks are counted, not seconds: in a
virtual machine that was stopped for a minute the main thread has slept as long as the worker.
"""

from typing import Any

from pyvpp import dispatch as d


class Watchdog:
    """Asked once a second; `seconds` is how many looks a worker may stand still."""

    def __init__(self, engine: Any, seconds: int) -> None:
        self._engine = engine
        self._seconds = seconds
        self._rounds = [-1] * len(engine.workers)
        self._still = [0] * len(engine.workers)

    def look(self) -> str:
        """Nothing, or which worker hangs and where."""
        for k, worker in enumerate(self._engine.workers):
            rounds = int(worker.control[d.LOOPS])
            if rounds != self._rounds[k] or int(worker.control[d.PARKED]):
                self._rounds[k], self._still[k] = rounds, 0
                continue
            self._still[k] += 1
            if self._still[k] >= self._seconds:
                where = self._place(int(worker.control[d.AT_NODE]))
                return f"worker {worker.index} has stood still in {where} for {self._still[k]} s"
        return ""

    def _place(self, index: int) -> str:
        """A node, and whose it is."""
        graph_node = self._engine.graph.get(index)
        plugin = self._engine.declarations.plugin_of(graph_node.node.module) if graph_node else None
        of_plugin = (
            "" if plugin is None or self._engine.declarations.is_essential(plugin) else f" of plugin {plugin.name}"
        )
        return f"node {self._engine.graph.name_of(index)}{of_plugin}"
