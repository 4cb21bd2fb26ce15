# SPDX-License-Identifier: Apache-2.0
"""`pyvpp` in the foreground, between its options and its end: the uplinks taken over, commands run, packets served.

What takes long to import is imported late: the guardian comes first.
"""

import argparse
import asyncio
import gc
import logging
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from pyvpp.errors import OperatorError, in_one_line
from pyvpp.service import notify
from pyvpp.uplinks import give_back, hook_facts, take_uplinks
from pyvpp.warmup import warm_up

if TYPE_CHECKING:
    from pyvpp.cli.parser import CommandTree
    from pyvpp.engine import Engine
    from pyvpp.heir import Heir
    from pyvpp.linux.guardian import Guardian

log = logging.getLogger("pyvpp")


class HandedOver(Exception):
    """Another process goes on; nothing is left to do in this one. It must not be forgotten: that would bury it."""

    def __init__(self, successor: Any) -> None:
        super().__init__(successor)
        self.successor = successor


def run_first(options: argparse.Namespace, script: str | None) -> int:
    """Begins with nothing taken over, and ends so."""
    from pyvpp.cli.server import SOCKET_NAME, make_room
    from pyvpp.confirm import Confirmation
    from pyvpp.linux.capture import inspect_uplink
    from pyvpp.linux.guardian import start_guardian
    from pyvpp.linux.hooks import Hooks
    from pyvpp.linux.journal import lock_runtime_dir
    from pyvpp.linux.names import interface_names_of
    from pyvpp.linux.restore_hooked import restore_hooked

    with lock_runtime_dir(options.runtime_dir):
        problems, failures = restore_hooked(options.runtime_dir, Hooks(options.hooks), "crash")
        for problem in (*problems, *failures):
            log.warning("after an earlier crash: %s", problem)
        make_room(Path(options.runtime_dir) / SOCKET_NAME)  # what stands in the way is told before anything moves
        options.uplink = interface_names_of(options.uplink)  # those restored just now have their names again
        for name in options.uplink:
            inspect_uplink(name)
        confirmation = Confirmation(options.runtime_dir)
        if options.confirm is None:
            confirmation.forget()
        elif confirmation.check_start():
            options.confirm = None
        guardian = start_guardian(options.runtime_dir, options.hooks) if options.uplink else None
        try:
            return asyncio.run(serve(options, script, guardian))
        finally:
            if guardian:
                guardian.done()


def run_on(options: argparse.Namespace, heir: "Heir") -> int:
    """Begins with what another process had, and ends with nothing taken over."""
    try:
        return asyncio.run(serve(options, None, None, heir))
    finally:
        if heir.guardian:
            heir.guardian.done()


def _log_task(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """A task of the control plane that failed: packets flow on."""
    error = context.get("exception")
    log.error("%s%s", context["message"], f": {in_one_line(error)}" if error else "")


def make_engine(options: argparse.Namespace, declarations: Any) -> "Engine":
    from pyvpp.config import check_plugins
    from pyvpp.engine import Engine

    check_plugins(options.config, options.settings, declarations.configs.values())
    withheld = frozenset[str]() if options.gro in ("on", "graph") else frozenset({"gro"})
    try:
        return Engine(
            declarations, workers=options.workers, cpus=options.cpus, buffers=options.buffers,
            hugepages=options.hugepages, withheld=withheld, settings=options.settings,
        )  # fmt: skip
    except (OSError, MemoryError) as error:
        raise OperatorError(f"--buffers {options.buffers}: no memory for so many: {error}") from error


async def configure(engine: "Engine", tree: "CommandTree", options: argparse.Namespace, script: str | None) -> None:
    """Runs the commands of `--exec`, and those that a pyvpp was given before it was killed, on the devices it left."""
    from pyvpp.inheritance import Inheritance
    from pyvpp.state_file import read_state, take_up

    left = read_state(options.runtime_dir)
    if left is not None:
        engine.inheritance = Inheritance(left=left.devices)
    if script is not None:
        with engine.configuration.from_script():
            output = await tree.execute_script(engine, script, options.script)
        if output:
            print(output if isinstance(output, str) else getattr(output, "text", output), flush=True)
    if left is not None:
        for lost in await take_up(engine, tree, left):
            log.warning("not as it was before: %s", lost)


class Dataplane:
    """One run of the dataplane, from the first look at the nodes to the last packet."""

    def __init__(
        self, options: argparse.Namespace, declarations: Any, stop: asyncio.Event, guardian: "Guardian | None"
    ) -> None:
        """Built, with nothing running and nothing taken over. `stop` is set when it shall end."""
        from pyvpp.cli.assembly import command_tree
        from pyvpp.cli.server import CliServer
        from pyvpp.confirm import Confirmation
        from pyvpp.device.interfaces import follow_devices
        from pyvpp.follower import Follower
        from pyvpp.linux.hooks import Hooks
        from pyvpp.plugin.reload import Reloader
        from pyvpp.state_file import StateFile
        from pyvpp.upgrade import Upgrades
        from pyvpp.watchdog import Watchdog

        self.options = options
        self.stop = stop
        self.engine = engine = make_engine(options, declarations)
        self.tree = command_tree(declarations.packages, engine.blame)
        self.reloader = engine.reloader = Reloader(engine, self.tree, lambda text: print(f"pyvpp: {text}", flush=True))
        self.server = CliServer(engine, self.tree, options.runtime_dir)
        self.state_file = StateFile(engine, options.runtime_dir)
        self.upgrades = engine.upgrade = Upgrades(engine, options.runtime_dir, self.stop.set)
        self.confirmation = engine.confirmation = Confirmation(options.runtime_dir, guardian)
        self._watchdog = Watchdog(engine, options.watchdog)
        self._follower = Follower(engine, options.runtime_dir, self._on_loss)
        self.hung = ""  # what stands still, which ends this
        self.lost = ""  # without what this cannot go on
        self._served = False
        self._after = Hooks(options.hooks)  # for what runs beside the packets, when they flow
        self._told: asyncio.Task[None] | None = None
        self._metrics: asyncio.Server | None = None
        engine.every_second(lambda: follow_devices(engine))
        engine.every_second(self._look)

    def _look(self) -> None:
        notify("WATCHDOG=1")
        if self.options.watchdog and not self.hung and (found := self._watchdog.look()):
            log.error("%s; Linux gets its NIC back", found)
            self.hung = found
            self.stop.set()
        elif self.confirmation.look():
            self.stop.set()
        self._follower.look()

    def _on_loss(self, what: str) -> None:
        if not self.lost:
            log.error("%s; Linux gets its NIC back", what)
            self.lost = what
            self.stop.set()

    async def begin(self, script: str | None, heir: "Heir | None") -> None:
        """Until packets flow and commands are heard: with what is new, or with what another process had."""
        from pyvpp.linux.keeper import die_with_keeper

        engine, options, loop = self.engine, self.options, asyncio.get_running_loop()
        gc.freeze()  # looking through what numba has made for garbage takes 85 ms, and workers may wait at the barrier
        engine.start()
        for name in options.check:
            print(f"pyvpp: {await self.reloader.reload(name, checked=True)}", flush=True)
        if heir is not None:
            told = await heir.take_on(engine, self.tree, self.server, options.runtime_dir, options.hooks)
            print(f"pyvpp: {told}", flush=True)
        else:
            await take_uplinks(engine, options, self.stop)
            await configure(engine, self.tree, options, script)
        for name in self.reloader.given() if options.watch else ():
            self.reloader.watcher.watch(name)
        self.state_file.held = self.confirmation.left is not None
        self.confirmation.on_confirmed = self.state_file.release
        self.state_file.save()
        self.server.changed = self.state_file.save_soon
        self._follower.begin()
        await self.server.start()
        self._served = True
        if options.metrics is not None:
            from pyvpp import metrics

            self._metrics = await metrics.serve(engine, options.metrics)
        loop.add_signal_handler(signal.SIGHUP, self.upgrades.on_signal)
        if self.confirmation.told:
            print(f"pyvpp: {self.confirmation.told}", flush=True)
        print("pyvpp: ready", flush=True)
        notify("READY=1")
        if heir is not None:
            die_with_keeper(loop)
        elif engine.uplinks:
            self._told = asyncio.create_task(self._tell_hooks())

    async def _tell_hooks(self) -> None:
        from pyvpp.linux.hooks import AFTER_TAKE_OVER

        facts = hook_facts(self.engine, self.options.runtime_dir)
        for failure in await asyncio.to_thread(self._after.run, AFTER_TAKE_OVER, *facts):
            log.warning("%s", failure)

    async def until_told(self) -> int:
        """Serves until told to stop; the exit status."""
        main = asyncio.create_task(self.engine.serve())
        waiting = asyncio.create_task(self.stop.wait())
        await asyncio.wait({main, waiting}, return_when=asyncio.FIRST_COMPLETED)
        status = 1 if self.hung or self.lost else self.confirmation.status
        if main.done() and not self.stop.is_set():
            log.error("the main loop ended: %s", main.exception())
            status = 1
        main.cancel()
        waiting.cancel()
        return status

    async def end(self, status: int) -> list[str]:
        """Gives everything back; what could not be. What the next start may need stays after a failure, status 1."""
        engine, options = self.engine, self.options
        if self._told:
            self._after.hurry()
            await self._told
        await self._follower.end()
        problems = await give_back(engine, options, bool(self.hung))
        await self.server.stop()
        if status != 1 and not options.keep:
            self.state_file.forget()
        else:
            if self._served:
                self.state_file.save()
            self.state_file.leave()
        self.confirmation.end(orderly=status != 1 or not self._served, kept=options.keep)
        if not self.hung:
            engine.close()
        for uplink in engine.uplinks:
            uplink.close()
        return problems

    async def hand_over(self, successor: Any) -> NoReturn:
        """Ends without giving anything back. Raises HandedOver."""
        self._after.hurry()
        self.confirmation.settle()  # our guardian need not see to it any more, the successor's does
        self.state_file.leave()
        await self._follower.end()
        await self.server.stop(replaced=True)
        self.engine.stop()
        raise HandedOver(successor)


async def serve(
    options: argparse.Namespace, script: str | None, guardian: "Guardian | None" = None, heir: "Heir | None" = None
) -> int:
    """From the first look at the nodes to the last packet: the exit status. Raises HandedOver."""
    from pyvpp.confirm import UNCONFIRMED
    from pyvpp.loader import load

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_log_task)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    declarations = load()
    await asyncio.to_thread(warm_up, declarations)
    dataplane = Dataplane(options, declarations, stop, guardian)
    status = 1
    problems: list[str] = []
    try:
        await dataplane.begin(script, heir)
        status = await dataplane.until_told()
    finally:
        await dataplane.upgrades.cancel()
        if dataplane.upgrades.successor is None and (heir is None or heir.goes_on):
            problems = await dataplane.end(status)
    if dataplane.upgrades.successor is not None:
        await dataplane.hand_over(dataplane.upgrades.successor)
    if status == UNCONFIRMED:
        print("pyvpp: not confirmed in time; nothing is taken over any more", file=sys.stderr, flush=True)
    return status or int(bool(problems))
