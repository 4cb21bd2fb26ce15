# SPDX-License-Identifier: Apache-2.0
"""The engine: tables, graph, buffers, interfaces and workers, put together from what plugins declare."""

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np

from pyvpp import dispatch as d
from pyvpp.buffers import HEADROOM, POOL_ENTRIES, POOL_SMALL, SMALL_ROOM, Buffers, slot_start
from pyvpp.clock import read_cycles
from pyvpp.config import Config
from pyvpp.configuration import Configuration
from pyvpp.errors import OperatorError, in_one_line
from pyvpp.events import Events
from pyvpp.features import NODE_BY_NODE, Features
from pyvpp.graph import Graph
from pyvpp.handoff import Handoff
from pyvpp.inheritance import Inheritance
from pyvpp.interface import Interface, Interfaces
from pyvpp.loader import Declarations, disabled, load
from pyvpp.plugin.find import Plugin
from pyvpp.process import Processes
from pyvpp.rx_queue import RxQueues
from pyvpp.slow_path import SlowPath
from pyvpp.tables import Tables
from pyvpp.worker import Worker, clock_rate

log = logging.getLogger(__name__)

INJECT_BUFFERS = 64


class Engine:
    """A packet processor in one process. Make it, `start` it, `close` it.

    `cpus` are those the workers stay on, one each; else Linux chooses. `settings`: tables of the file of `--config`.
    Raises GraphError when declarations do not fit together.
    """

    def __init__(
        self,
        declarations: Declarations | None = None,
        *,
        workers: int = 1,
        cpus: Sequence[int] | None = None,
        buffers: int = 16384,
        hugepages: str = "auto",
        withheld: frozenset[str] = frozenset(),
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self._settings = settings or {}
        self.withheld = withheld  # features that nobody but the operator enables
        self.declarations = declarations or load()
        self.declarations.sift(compile_=True)
        self.events = Events(self.blame)
        self.configuration = Configuration(self.events)
        self.started = time.time()
        self._barrier_depth = 0
        self._parked = False
        self._lingering: contextlib.ExitStack | None = None
        self._running = False
        self._synchronized = 0
        arcs = self.declarations.arcs
        declared = [*self.declarations.tables.values(), *(arc.table for arc in arcs.values())]
        self.buffers = Buffers(buffers, workers, hugepages)
        self.tables = Tables(declared, workers, self.barrier, len(self.buffers.meta))
        self.main_event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.clock_rate = clock_rate()
        began = read_cycles()
        self.workers = [Worker(k, self.buffers, self.main_event, self.clock_rate, began=began) for k in range(workers)]
        for worker, cpu in zip(self.workers, cpus or (), strict=False):
            worker.cpu = cpu
        self.graph = Graph(self, self.declarations.nodes, arcs)
        for instance in self.tables.values():
            instance.moved = self.graph.rebind
        self.features = Features(self, arcs, self.declarations.nodes.values())
        self.interfaces = Interfaces(self)
        self.rx_queues = RxQueues(self)
        self.handoff = Handoff(self)
        self.stack = SimpleNamespace()
        self._inject_buffers: list[int] = []
        self._timers: list[Callable[[], None]] = []
        self.processes = Processes(self)
        self._slow_path = SlowPath(self)
        self.on_close: list[Callable[[], None]] = []
        self.uplinks: list[Any] = []  # what is taken over from Linux (pyvpp.linux.taken.TakenUplink)
        self.reloader: Any = None  # pyvpp.plugin.reload.Reloader, where plugins can be reloaded
        self.inheritance = Inheritance()
        self.upgrade: Callable[[], Awaitable[str]] | None = None  # has another process go on in place of this one
        self.confirmation: Any = None  # pyvpp.confirm.Confirmation, where something can be given back
        self._reserve_inject_buffers()
        for package in list(self.declarations.packages):
            start = getattr(package, "start", None)
            if start:
                try:
                    start(self)
                except Exception as error:
                    if not self.blame(start, error):
                        raise

    def settings(self, config: Config) -> Any:
        """What the file of `--config` says of a plugin: an instance of the keys it declares. Raises OperatorError."""
        return config.read(self._settings.get(config.name, {}))

    # ---- plugins ----------------------------------------------------------------------------------------------------
    def plugin_of(self, function: Any) -> Plugin | None:
        """The plugin that a function, or a module, is part of; not the stack, without which nothing runs."""
        module = getattr(function, "__module__", None) or getattr(function, "__name__", "")
        plugin = self.declarations.plugin_of(str(module))
        return None if plugin is None or self.declarations.is_essential(plugin) else plugin

    def blame(self, function: Any, error: Exception) -> bool:
        """Disables the plugin whose function, or module, raised in control code; False when it is no plugin's.

        Its features are off then, its processes end, its timers, subscriptions and nodes in Python are not called any
        more; its kernels stay in the graph for packets that reach them by another way.
        """
        plugin = self.plugin_of(function)
        if plugin is None:
            return False
        disabled(plugin, error)
        self.processes.end(plugin)
        self._forget_calls(plugin)
        for node in self.declarations.nodes.values():
            if plugin.owns(node.module):
                self.features.disable_node(node.name)
        return True

    def _forget_calls(self, plugin: Plugin) -> None:
        """Ends a plugin's subscriptions and timers."""
        self.events.forget(lambda other: self.plugin_of(other) is plugin)
        self._timers = [timer for timer in self._timers if self.plugin_of(timer) is not plugin]

    def copy_hooks(self) -> tuple[Any, ...]:
        """Whom events, timers and the end of the engine call, for `restore_hooks`."""
        return self.events.copy(), list(self._timers), list(self.on_close)

    def restore_hooks(self, hooks: tuple[Any, ...]) -> None:
        """What `copy_hooks` answered."""
        subscribers, self._timers, self.on_close = hooks
        self.events.restore(subscribers)

    def forget_hooks(self, plugin: Plugin) -> list[Callable[[], None]]:
        """Ends a plugin's subscriptions and timers; answers what it wanted called at the engine's end, latest first."""
        self._forget_calls(plugin)
        theirs = [undo for undo in self.on_close if self.plugin_of(undo) is plugin]
        self.on_close = [undo for undo in self.on_close if undo not in theirs]
        return theirs[::-1]

    # ---- workers ----------------------------------------------------------------------------------------------------
    def start(self, rounds: int = 0) -> None:
        """Starts the worker threads, each for so many rounds of its loop or until stopped."""
        self._running = True
        for worker in self.workers:
            worker.start(rounds)

    def stop(self) -> None:
        """Stops the worker threads; state stays."""
        for worker in self.workers:
            worker.stop()
        self._running = False

    def close(self) -> None:
        """Stops everything and closes devices."""
        self.processes.end()
        self.stop()
        for undo in reversed(self.on_close):
            try:
                undo()
            except Exception as error:
                if not self.blame(undo, error):
                    raise
        for interface in list(self.interfaces):
            for undo in interface.on_delete:
                try:
                    undo()
                except OSError as error:
                    log.debug("closing %s: %s", interface.name, error)
        for worker in self.workers:
            worker.close()
        os.close(self.main_event)

    @contextmanager
    def barrier(self) -> Iterator[None]:
        """Workers stand still between two rounds of their loop while the block runs. Nests."""
        first = self._barrier_depth == 0 and getattr(self, "_running", False)
        self._barrier_depth += 1
        try:
            if first:
                self._parked = True
                for worker in self.workers:
                    worker.control[d.PARK] = 1
                    worker.wake()
                deadline = time.monotonic() + 5.0
                while not all(int(worker.control[d.PARKED]) or not worker.running for worker in self.workers):
                    time.sleep(0)
                    if time.monotonic() > deadline:
                        raise RuntimeError("a worker did not reach the barrier within 5 s")
            if self._lingering is not None:
                held, self._lingering = self._lingering, None
                held.enter_context(self.barrier())
            yield
        finally:
            self._barrier_depth -= 1
            if self._parked and not self._barrier_depth:
                self._parked = False
                for worker in self.workers:
                    worker.control[d.PARK] = 0
                while any(int(worker.control[d.PARKED]) and worker.running for worker in self.workers):
                    time.sleep(0)

    @contextmanager
    def lingering(self) -> Iterator[None]:
        """The first barrier that is entered in the block holds until the block ends.

        What control code publishes in it and what it does afterwards is one change then, as workers see it.
        """
        with contextlib.ExitStack() as held:
            self._lingering = held
            try:
                yield
            finally:
                self._lingering = None

    def synchronize(self) -> None:
        """Returns once every worker has begun a new round of its loop: it holds nothing it read from a table before.

        What was replaced in a table before the call may be used anew after it. Workers are not stopped: each echoes the
        number it is asked for, so it has seen every store made before the number (acquire and release).
        """
        if self._barrier_depth or not self._running:
            return
        self._synchronized += 1
        for worker in self.workers:
            worker.ask(self._synchronized)
        deadline = time.monotonic() + 5.0
        while any(int(worker.control[d.SYNC_SEEN]) < self._synchronized and worker.running for worker in self.workers):
            time.sleep(0)
            if time.monotonic() > deadline:
                raise RuntimeError("a worker did not begin a new round within 5 s")

    def exchange(self, changes: Sequence[Any]) -> None:
        """Gives nodes other code, arrays and nexts: one array of EXCHANGE records for each worker.

        A worker takes all of its changes between two rounds, when it sees one number stored: each packet of a round
        meets the nodes as they were or as they are now, and none waits. What was there before is no longer in use when
        this returns.
        """
        for worker, theirs in zip(self.workers, changes, strict=True):
            worker.prepare(theirs)
        if not self._barrier_depth and self._running:
            self.synchronize()
        for worker in self.workers:
            worker.adopt()

    def set_inputs(self) -> None:
        """Tells workers which input nodes there are."""
        self.rx_queues.set_inputs()

    def add_input(
        self,
        template: str,
        name: str,
        interface: Interface,
        fds: Sequence[int],
        worker: int | None = None,
        *,
        instance: int | None = None,
        placed: Callable[[Worker], None] = lambda worker: None,
        mapped: bool = False,
    ) -> int:
        """An input node for a queue of an interface, asked when one of the descriptors is readable.

        It is read by the worker with the fewest queues unless one is named, and goes with the interface. `instance` is
        what the kernel finds its row by, the interface's number unless said otherwise; `placed` is told by which worker
        the queue is read; what `mapped` means says `RxQueue`. When there can be none, the interface is deleted, and the
        exception goes on.
        """
        try:
            index = self.graph.instantiate(template, name, interface.sw_if_index if instance is None else instance)
        except BaseException:
            self.interfaces.delete(interface)
            raise
        interface.nodes.append(index)
        queue = self.rx_queues.add(interface, index, tuple(fds), worker, placed, mapped)
        interface.on_delete.insert(0, lambda: self.rx_queues.remove(queue))
        return index

    # ---- packets to and from Python ---------------------------------------------------------------------------------
    def _reserve_inject_buffers(self) -> None:
        """Buffers for packets made by control code, taken from the pool while no worker runs."""
        pool = self.buffers.pools[0]
        while len(self._inject_buffers) < INJECT_BUFFERS and int(pool[POOL_SMALL]):
            pool[POOL_SMALL] -= 1
            self._inject_buffers.append(int(pool[POOL_ENTRIES + int(pool[POOL_SMALL])]))

    def inject_from(self, buffers: list[int]) -> None:
        """Packets of control code lie in these buffers from now on; those they had are the caller's."""
        self._inject_buffers = list(buffers)

    @property
    def free_buffers(self) -> int:
        """Buffers that hold no packet: in the pools, or kept for packets of control code."""
        return self.buffers.free + len(self._inject_buffers)

    def inject(self, data: bytes, node: str, *, tx: int = 0, rx: int = 0, adj: int = 0, flags: int = 0) -> bool:
        """Sends a packet made here into a node, on the first worker. False when no buffer or no room is left.

        A buffer injected is replaced by a punted packet's or at the next `tick`.
        """
        worker = self.workers[0]
        if not self._inject_buffers or len(data) > SMALL_ROOM or not worker.room:
            return False
        b = self._inject_buffers.pop()
        start = slot_start(b) + HEADROOM
        self.buffers.heap.array[start : start + len(data)] = np.frombuffer(data, np.uint8)
        m = self.buffers.meta[b]
        self.buffers.meta[b] = np.zeros((), self.buffers.meta.dtype)
        m["cur"], m["len"], m["l2"], m["l3"], m["l4"] = start, len(data), start, start, start
        m["tx"], m["rx"], m["adj"], m["flags"], m["ref"] = tx, rx, adj, flags, 1
        worker.push(b, self.graph.index_of(node))
        return True

    @property
    def fusion(self) -> bool:
        """Whether a node may do the work of those behind it, where a frame's packets have the same way before them."""
        return not self.tables[NODE_BY_NODE.name].array[0]

    @fusion.setter
    def fusion(self, on: bool) -> None:
        self.tables[NODE_BY_NODE.name].array[0] = not on

    def drain_punts(self) -> int:
        """Runs SLOW and PYTHON nodes on the packets that wait for them; returns how many. See `SlowPath`."""
        return self._slow_path.drain()

    def keep_to_inject(self, b: int) -> bool:
        """Takes a small buffer of the first worker for `inject`; False when there are enough."""
        if len(self._inject_buffers) >= INJECT_BUFFERS:
            return False
        self._inject_buffers.append(b)
        return True

    def is_disabled(self, function: Any) -> bool:
        """Whether a function is a plugin's that is disabled."""
        plugin = self.plugin_of(function)
        return plugin is not None and bool(plugin.error)

    def every_second(self, function: Callable[[], None]) -> None:
        """Calls a function once a second on the main thread."""
        self._timers.append(function)

    def tick(self) -> None:
        """What happens once a second on the main thread."""
        if len(self._inject_buffers) < INJECT_BUFFERS // 2:
            with self.barrier():
                self._reserve_inject_buffers()
        if len(self.workers) > 1 and self.buffers.have_strayed():
            with self.barrier():
                self.buffers.send_home()
        for function in list(self._timers):
            try:
                function()
            except Exception as error:
                if self.blame(function, error):
                    continue
                log.error("timer %s failed: %s", function.__qualname__, in_one_line(error))
                log.debug("the same, in full", exc_info=True)

    async def serve(self) -> None:
        """The main thread's life while packets flow: slow-path packets and timers."""
        woken = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_reader(self.main_event, woken.set)
        next_tick = time.monotonic() + 1.0
        self.processes.begin()
        try:
            while True:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(woken.wait(), max(0.0, next_tick - time.monotonic()))
                woken.clear()
                with contextlib.suppress(BlockingIOError):
                    os.eventfd_read(self.main_event)
                try:
                    self.drain_punts()
                    if time.monotonic() >= next_tick:
                        next_tick = time.monotonic() + 1.0
                        self.tick()
                except Exception as error:  # packets flow without the main thread, so it goes on as well
                    log.error("the main thread failed: %s", in_one_line(error))
                    log.debug("the same, in full", exc_info=True)
                await asyncio.sleep(0)
        finally:
            self.processes.end()
            loop.remove_reader(self.main_event)

    # ---- figures ----------------------------------------------------------------------------------------------------
    def require_interface(self, name: str) -> Interface:
        """An interface by its name. Raises OperatorError when there is none."""
        interface = self.interfaces.by_name(name)
        if interface is None:
            raise OperatorError(f"unknown interface `{name}'")
        return interface

    def run(self, rounds: int) -> None:
        """Runs the loop of the first worker in this thread: for tests and benches, without threads."""
        self.workers[0].run(rounds)
