# SPDX-License-Identifier: Apache-2.0
"""Another process goes on in place of this one, and no packet is lost.

The new process, of the pyvpp that is installed by then, is started with the same arguments while the old one forwards.
It compiles what is not compiled, builds its graph and says that it is warm. From now on nobody may change anything: the
old one sends what is configured, as commands, and the descriptors (SCM_RIGHTS) of packet and AF_XDP sockets, TAPs, TUNs
and namespaces, and of the packets' memory where that is a file (`packet_memory`). The new one makes its interfaces on
them, gives the commands again, and says that it is built; its workers stand still. Then comes the switch: the old one
takes no more packets, ends what it has begun (`standstill`), and says where in the rings it stopped and which buffers
Linux has; the new one says that it goes on, and does. Packets that come meanwhile wait in the same rings and queues, of
which none was opened or closed.

Until that last word the old one goes on whatever happens to the new one; after it the new one is alone, and has a
guardian of its own. `pyvpp upgrade` asks for all this and so does SIGHUP.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyvpp import packet_memory
from pyvpp.channel import Channel, Closed
from pyvpp.cli.client import SOCKET_NAME, Client, NoServerError, show
from pyvpp.cli.server import put_in_place
from pyvpp.device.af_packet import AfPacket
from pyvpp.device.af_xdp import AfXdp
from pyvpp.device.tap import Tap
from pyvpp.errors import OperatorError
from pyvpp.estate import (
    BUILT,
    BUILT_SECONDS,
    FAILED,
    FORMAT,
    GOING,
    SWITCH_SECONDS,
    WARM,
    WARM_SECONDS,
    Estate,
    HandedUplink,
    Numbers,
    Rings,
    Said,
    Switch,
    ring_rows,
)
from pyvpp.inheritance import Device, Memory
from pyvpp.interface import HOST
from pyvpp.keepsakes import Keepsakes
from pyvpp.linux.journal import lock_of
from pyvpp.linux.keeper import KEPT, is_kept, pass_signals_on
from pyvpp.options import DEFAULT_RUNTIME_DIR, HANDOVER, Parser
from pyvpp.plugin.find import RUNNING
from pyvpp.service import is_managed, notify
from pyvpp.standstill import take_no_more

if TYPE_CHECKING:
    from pyvpp.engine import Engine

log = logging.getLogger(__name__)


def check(engine: Engine) -> None:
    """Raises OperatorError when there is a device that nobody else can go on with."""
    for interface in engine.interfaces:
        if isinstance(interface.device, AfXdp) and engine.buffers.heap.file is None:
            raise OperatorError(
                f"{interface.name} is driven by AF_XDP, and its buffers are this process' own; restart pyvpp instead: "
                f"pods' connections stay, packets are lost for as long as a take-over takes"
            )


class Upgrades:
    """What `engine.upgrade` is: one upgrade at a time, which ends when this process is to stop."""

    def __init__(self, engine: Engine, runtime_dir: str, stop: Callable[[], None]) -> None:
        self._engine = engine
        self._runtime_dir = runtime_dir
        self._stop = stop
        self._task: asyncio.Task[str] | None = None
        self.successor: subprocess.Popen[bytes] | None = None  # once it has gone on

    async def __call__(self) -> str:
        """Hands over and stops this process; says how it went. Raises OperatorError; then this process goes on."""
        if self._task is not None:
            raise OperatorError("another process is about to take over already")
        self._task = asyncio.create_task(self._upgrade())
        try:
            return await asyncio.shield(self._task)
        except asyncio.CancelledError:
            if self._task is not None and self._task.cancelled():
                raise OperatorError("this process is told to stop") from None
            raise

    async def _upgrade(self) -> str:
        try:
            self.successor, text = await hand_over(self._engine, self._runtime_dir)
            pass_signals_on(asyncio.get_running_loop(), self.successor.pid)
            self._stop()
            return text
        finally:
            self._task = None

    def on_signal(self) -> None:
        """SIGHUP."""
        task = asyncio.get_running_loop().create_task(self._by_signal())
        task.add_done_callback(lambda task: None)

    async def _by_signal(self) -> None:
        try:
            log.info("%s", await self())
        except OperatorError as error:
            log.error("upgrade: %s", error)

    async def cancel(self) -> None:
        """Ends one that is under way; the new process is gone when this returns."""
        task = self._task
        if task is not None:
            task.cancel()
            await asyncio.wait({task})


async def hand_over(engine: Engine, runtime_dir: str) -> tuple[subprocess.Popen[bytes], str]:
    """Starts a successor and hands everything over; the process, and how it went.

    When it returns, the workers stand still for ever, and only the end of this process is left. Raises OperatorError
    when it could not be; then nothing has changed.
    """
    check(engine)
    channel, theirs = Channel.pair()
    process = _start_successor(theirs, engine.reloader.running if engine.reloader else {})
    memory: Memory | None = None
    try:
        await _hear(channel, process, WARM, WARM_SECONDS)
        engine.configuration.frozen = f"process {process.pid} is about to take over; try again in a moment"
        memory = packet_memory.offer(engine)
        estate, descriptors = _estate(engine, runtime_dir, memory)
        await asyncio.to_thread(channel.send, estate, descriptors)
        await _hear(channel, process, BUILT, BUILT_SECONDS)
        text = _switch(engine, channel, process, runtime_dir)
    except BaseException as error:
        process.kill()
        await asyncio.to_thread(process.wait)
        if memory is not None:
            packet_memory.withdraw(engine, memory)
        engine.configuration.frozen = ""
        if isinstance(error, Closed):
            raise OperatorError("the new process ended before it had everything; this one goes on") from None
        raise
    finally:
        channel.close()
    notify(f"MAINPID={process.pid}", wait=True)
    return process, text


def _start_successor(end: socket.socket, running: dict[str, tuple[str, int]]) -> subprocess.Popen[bytes]:
    """The same command again. It knows by its environment what it is, and which versions of plugins go on."""
    environment = {**os.environ, HANDOVER: str(end.fileno()), RUNNING: json.dumps(running)}
    if not is_managed() and not is_kept():
        environment[KEPT] = str(os.getpid())
    with end:
        try:
            return subprocess.Popen(
                [sys.executable, *sys.orig_argv[1:]], env=environment, pass_fds=[end.fileno()], stdin=subprocess.DEVNULL
            )
        except OSError as error:
            raise OperatorError(f"no new process can be started: {error.strerror}") from error


async def _hear(channel: Channel, process: subprocess.Popen[bytes], step: str, seconds: float) -> None:
    """Waits until the successor has reached a step. Raises OperatorError when it does not."""
    hearing = asyncio.to_thread(_understand, channel, process, step, seconds)
    try:
        await asyncio.shield(hearing)
    except asyncio.CancelledError:
        process.kill()  # which ends the thread, too
        raise


def _understand(channel: Channel, process: subprocess.Popen[bytes], step: str, seconds: float) -> str:
    try:
        said, _ = channel.receive(Said, seconds)
    except TimeoutError:
        raise OperatorError(f"the new process was not {step} within {seconds:.0f} s; this one goes on") from None
    except Closed:
        process.wait()
        raise OperatorError(
            f"the new process ended with status {process.returncode} before it was {step}; this one goes on"
        ) from None
    except ValueError as error:
        raise OperatorError(f"the new process speaks another language ({error}); this one goes on") from None
    if said.step == FAILED:
        raise OperatorError(f"the new process failed: {said.text}; this one goes on")
    if said.format != FORMAT:
        raise OperatorError(
            f"the pyvpp that is installed takes state over in format {said.format}, this one hands it over in format "
            f"{FORMAT}: restart it instead; this one goes on"
        )
    return said.text


def _estate(engine: Engine, runtime_dir: str, memory: Memory | None) -> tuple[Estate, list[int]]:
    """What is handed over, and its descriptors."""
    number = Numbers()
    uplinks = []
    for taken in engine.uplinks:
        nic = engine.interfaces.by_name(f"host-{taken.nic_name}")
        uplinks.append(
            HandedUplink(
                state=taken.state,
                tap_fds=[number(fd) for fd in taken.tap_fds],
                tap_offload=taken.tap_offload,
                tap_ifindex=taken.tap_ifindex,
                nic_name=taken.nic_name,
                nic_ifindex=taken.nic_ifindex,
                netns=number(taken.netns),
                marker=number(taken.hook.fileno()),
                driver_reason=nic.driver_reason if nic else "",
            )
        )
    devices: dict[str, Device] = {}
    for interface in engine.interfaces:
        kind = type(interface.device)
        if kind in (AfPacket, AfXdp) or (kind is Tap and not interface.flags & HOST):
            devices[interface.name] = interface.device.estate().mapped(number)
    extras: dict[str, Any] = {}
    engine.events.fire("hand-over", extras)
    lock = number(lock_of(runtime_dir).descriptor)
    given = memory.mapped(number) if memory is not None else None
    entries, until = engine.configuration.entries, engine.confirmation and engine.confirmation.until
    return Estate(os.getpid(), lock, uplinks, devices, entries, extras, until, given), number.descriptors


def _switch(engine: Engine, channel: Channel, process: subprocess.Popen[bytes], runtime_dir: str) -> str:
    """The moment itself. Returns with the workers at the barrier, which nobody lifts any more."""
    since = time.monotonic()
    try:
        if left := take_no_more(engine):
            log.warning("%d packets on their way from worker to worker are lost", left)
        with contextlib.ExitStack() as still:
            still.enter_context(engine.barrier())
            _send_switch(engine, channel, since)
            try:
                text = _understand(channel, process, GOING, SWITCH_SECONDS)
            except OperatorError:
                process.kill()
                process.wait()
                if not _went_on(channel):
                    raise
                text = f"process {process.pid} went on, and was killed"  # Linux gets its NIC from its guardian
            still.pop_all()
            packet_memory.leave(engine)
    except BaseException:
        engine.set_inputs()
        raise
    put_in_place(Path(runtime_dir) / SOCKET_NAME)  # before anybody hears of it
    return text


def _send_switch(engine: Engine, channel: Channel, since: float) -> None:
    """The last word, and what plugins keep of their tables, if they do."""
    keepsakes = Keepsakes()
    engine.events.fire("last-hand-over", keepsakes)
    rings, loans = _rings_of(engine), packet_memory.loans(engine)
    if not keepsakes:
        channel.send(Switch(rings, since, loans))
        return
    kept, descriptor = keepsakes.write()
    try:
        channel.send(Switch(rings, since, loans, kept), [descriptor])
    finally:
        os.close(descriptor)


def _went_on(channel: Channel) -> bool:
    """Whether a successor that is dead had said its last word: then packets were taken that we know nothing of."""
    try:
        return channel.receive(Said, 0)[0].step == GOING
    except (Closed, OSError, ValueError):
        return False


def _rings_of(engine: Engine) -> dict[str, Rings]:
    positions = {}
    for interface, rx, tx in ring_rows(engine):
        positions[interface] = Rings([int(row["next"]) for row in rx], [int(row["tx_next"]) for row in tx])
    return positions


def main(argv: list[str]) -> int:
    """`pyvpp upgrade`: asks the pyvpp of a runtime directory to do it, and waits until it is done."""
    p: argparse.ArgumentParser = Parser(
        prog="pyvpp upgrade", description="A new process goes on in place of the running one, without a packet lost."
    )
    p.add_argument("--runtime-dir", default=DEFAULT_RUNTIME_DIR, metavar="DIR", help="where the running one listens")
    options = p.parse_args(argv)
    try:
        with contextlib.closing(Client(Path(options.runtime_dir) / SOCKET_NAME)) as client:
            return show(client.command("upgrade"), "pyvpp ")
    except NoServerError as error:
        raise OperatorError(str(error)) from None
