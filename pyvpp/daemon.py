# SPDX-License-Identifier: Apache-2.0
"""`pyvpp` in the foreground, between its options and its end: the uplinks taken over, commands run, packets served.

What takes long to import is imported late: the guardian comes first.
"""

import argparse
import asyncio
import logging
import signal
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyvpp.errors import OperatorError, in_one_line
from pyvpp.service import notify
from pyvpp.warmup import warm_up

if TYPE_CHECKING:
    from pyvpp.cli.parser import CommandTree
    from pyvpp.engine import Engine
    from pyvpp.heir import Heir

log = logging.getLogger("pyvpp")


class HandedOver(Exception):
    """Another process goes on; nothing is left to do in this one. It must not be forgotten: that would bury it."""

    def __init__(self, successor: Any) -> None:
        super().__init__(successor)
        self.successor = successor


def run_first(options: argparse.Namespace, script: str | None) -> int:
    """Begins with nothing taken over, and ends so."""
    from pyvpp.cli.server import SOCKET_NAME, make_room
    from pyvpp.linux.capture import inspect_uplink
    from pyvpp.linux.guardian import start_guardian
    from pyvpp.linux.journal import lock_runtime_dir
    from pyvpp.linux.names import interface_names_of
    from pyvpp.linux.restore import restore

    with lock_runtime_dir(options.runtime_dir):
        for problem in restore(options.runtime_dir):
            log.warning("after an earlier crash: %s", problem)
        make_room(Path(options.runtime_dir) / SOCKET_NAME)  # what stands in the way is told before anything moves
        options.uplink = interface_names_of(options.uplink)  # those restored just now have their names again
        for name in options.uplink:
            inspect_uplink(name)
        guardian = start_guardian(options.runtime_dir) if options.uplink else None
        try:
            return asyncio.run(serve(options, script))
        finally:
            if guardian:
                guardian.done()


def run_on(options: argparse.Namespace, heir: "Heir") -> int:
    """Begins with what another process had, and ends with nothing taken over."""
    try:
        return asyncio.run(serve(options, None, heir))
    finally:
        if heir.guardian:
            heir.guardian.done()


def _log_task(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """A task of the control plane that failed: packets flow on."""
    error = context.get("exception")
    log.error("%s%s", context["message"], f": {in_one_line(error)}" if error else "")


def tell_gaps(uplink: Any, given_back_ms: float | None) -> None:
    """How long an uplink's packets had nobody, as far as it came: None when the NIC was not given back."""
    told = []
    if uplink.taken_over_ms:
        told.append(f"{uplink.taken_over_ms:.1f} ms when it was taken over")
    if given_back_ms is not None:
        told.append(f"{given_back_ms:.1f} ms when it was given back")
    if told:
        print(f"pyvpp: {uplink.tap_name}: nobody handled its packets for {', '.join(told)}", flush=True)


def make_engine(options: argparse.Namespace, declarations: Any) -> "Engine":
    from pyvpp.engine import Engine

    withheld = frozenset[str]() if options.gro in ("on", "graph") else frozenset({"gro"})
    try:
        return Engine(
            declarations, workers=options.workers, cpus=options.cpus, buffers=options.buffers,
            hugepages=options.hugepages, withheld=withheld,
        )  # fmt: skip
    except (OSError, MemoryError) as error:
        raise OperatorError(f"--buffers {options.buffers}: no memory for so many: {error}") from error


async def take_uplinks(engine: "Engine", options: argparse.Namespace, stop: asyncio.Event) -> None:
    """Takes the uplinks over, one after the other, unless told to stop."""
    from pyvpp.device.uplink import add_uplink, choose_driver, settle_uplink, take_over_by
    from pyvpp.linux.capture import inspect_uplink

    for name in options.uplink:
        if stop.is_set():
            break
        state = await asyncio.to_thread(inspect_uplink, name)
        choice = await asyncio.to_thread(choose_driver, name, options.driver, engine.buffers.heap.pages, options.nic)
        taking = take_over_by(choice, state, options.runtime_dir, options.workers, options.gro, engine)
        uplink = await asyncio.to_thread(taking.run, settled=False)
        engine.uplinks.append(uplink)
        nic, _ = add_uplink(engine, uplink, choice)
        uplink.taken_over_ms = 1000 * (time.monotonic() - uplink.left_at)
        if options.driver == "auto":
            print(f"pyvpp: {name} is driven by {nic.kind}: {nic.driver_reason}", flush=True)
        for warning in (*uplink.warnings, *await asyncio.to_thread(settle_uplink, uplink, nic)):
            log.warning("%s: %s", name, warning)


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


async def give_back(engine: "Engine", runtime_dir: str, hung: bool) -> list[str]:
    """Gives Linux its NICs back; what could not be restored. The graph forwards until the TAP is gone."""
    from pyvpp.device.uplink import let_go
    from pyvpp.linux.restore import restore

    notify("STOPPING=1")
    let_go(engine)
    gaps: dict[str, float] = {}
    problems = await asyncio.to_thread(partial(restore, runtime_dir, gaps=gaps)) if engine.uplinks else []
    if not hung:  # a thread that hangs cannot be waited for; it ends with the process
        engine.stop()
    for problem in problems:
        print(f"pyvpp: restore: {problem}", file=sys.stderr)
    for uplink in engine.uplinks:
        tell_gaps(uplink, gaps.get(uplink.tap_name))
    return problems


async def serve(options: argparse.Namespace, script: str | None, heir: "Heir | None" = None) -> int:
    """From the first look at the nodes to the last packet: the exit status. Raises HandedOver."""
    from pyvpp.cli.assembly import command_tree
    from pyvpp.cli.server import CliServer
    from pyvpp.device.interfaces import follow_devices
    from pyvpp.linux.keeper import die_with_keeper
    from pyvpp.loader import load
    from pyvpp.plugin.reload import Reloader
    from pyvpp.state_file import StateFile
    from pyvpp.upgrade import Upgrades
    from pyvpp.watchdog import Watchdog

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_log_task)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    declarations = load()
    await asyncio.to_thread(warm_up, declarations)
    engine = make_engine(options, declarations)
    tree = command_tree(declarations.packages, engine.blame)
    engine.reloader = Reloader(engine, tree, lambda text: print(f"pyvpp: {text}", flush=True))
    server = CliServer(engine, tree, options.runtime_dir)
    state_file = StateFile(engine, options.runtime_dir)
    engine.upgrade = upgrades = Upgrades(engine, options.runtime_dir, stop.set)
    engine.every_second(lambda: follow_devices(engine))
    watchdog = Watchdog(engine, options.watchdog)
    hung: list[str] = []

    def look() -> None:
        notify("WATCHDOG=1")
        if options.watchdog and not hung and (found := watchdog.look()):
            log.error("%s; Linux gets its NIC back", found)
            hung.append(found)
            stop.set()

    engine.every_second(look)
    status, served = 1, False
    problems: list[str] = []
    try:
        engine.start()
        for name in options.check:
            print(f"pyvpp: {await engine.reloader.reload(name, checked=True)}", flush=True)
        if heir is not None:
            told = await heir.take_on(engine, tree, server, options.runtime_dir)
            print(f"pyvpp: {told}", flush=True)
        else:
            await take_uplinks(engine, options, stop)
            await configure(engine, tree, options, script)
        for name in engine.reloader.given() if options.watch else ():
            engine.reloader.watcher.watch(name)
        state_file.save()
        server.changed = state_file.save_soon
        await server.start()
        served = True
        loop.add_signal_handler(signal.SIGHUP, upgrades.on_signal)
        print("pyvpp: ready", flush=True)
        notify("READY=1")
        if heir is not None:
            die_with_keeper(loop)
        main = asyncio.create_task(engine.serve())
        waiting = asyncio.create_task(stop.wait())
        await asyncio.wait({main, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if main.done() and not stop.is_set():
            log.error("the main loop ended: %s", main.exception())
        else:
            status = 1 if hung else 0
        main.cancel()
        waiting.cancel()
    finally:
        await upgrades.cancel()
        if upgrades.successor is None and (heir is None or heir.goes_on):
            problems = await give_back(engine, options.runtime_dir, bool(hung))
            await server.stop()
            if status == 0 and not options.keep:
                state_file.forget()
            else:
                if served:
                    state_file.save()
                state_file.leave()
            if not hung:
                engine.close()
            for uplink in engine.uplinks:
                uplink.close()
    if upgrades.successor is not None:
        state_file.leave()
        await server.stop(replaced=True)
        engine.stop()
        raise HandedOver(upgrades.successor)
    return 1 if problems else status
