# SPDX-License-Identifier: Apache-2.0
"""The process that takes another's place (`pyvpp.upgrade`): it makes everything as it was, and goes on with it."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import socket
import time
from typing import TYPE_CHECKING, NoReturn

from pyvpp import packet_memory
from pyvpp.channel import Channel, Closed
from pyvpp.configuration import repeat
from pyvpp.device.uplink import AF_PACKET_DRIVER, AF_XDP_DRIVER, Choice, add_uplink
from pyvpp.errors import OperatorError, in_one_line
from pyvpp.estate import (
    BUILT,
    BUILT_SECONDS,
    FAILED,
    GOING,
    WARM,
    WARM_SECONDS,
    Estate,
    HandedUplink,
    Rings,
    Said,
    Switch,
    ring_rows,
)
from pyvpp.inheritance import Inheritance, XdpSockets
from pyvpp.keepsakes import Keepsakes
from pyvpp.linux.guardian import Guardian, start_guardian
from pyvpp.linux.journal import adopt_lock
from pyvpp.linux.taken import TakenUplink
from pyvpp.options import HANDOVER

if TYPE_CHECKING:
    from pyvpp.cli.parser import CommandTree
    from pyvpp.cli.server import CliServer
    from pyvpp.engine import Engine

log = logging.getLogger(__name__)


class Heir:
    """A process on its way to take another's place. Until `goes_on` it leaves no trace when it ends."""

    def __init__(self, descriptor: int) -> None:
        self._channel = Channel(socket.socket(fileno=descriptor))
        self.goes_on = False
        self.guardian: Guardian | None = None

    @classmethod
    def by_environment(cls) -> Heir | None:
        """What the environment says of us; those whom we start are none."""
        descriptor = os.environ.pop(HANDOVER, "")
        if not descriptor:
            return None
        os.set_inheritable(int(descriptor), False)
        return cls(int(descriptor))

    def give_up(self, reason: str) -> NoReturn:
        """Ends this process at once: nothing of what it has open may be closed in an orderly way, which would take it
        from the one that goes on."""
        with contextlib.suppress(Closed, OSError):
            self._channel.send(Said(FAILED, reason))
        log.error("%s", reason)
        os._exit(1)

    async def take_on(self, engine: Engine, tree: CommandTree, server: CliServer, runtime_dir: str, hooks: str) -> str:
        """Makes everything as it was and goes on with it; says how that went. When it cannot be, this process ends."""
        try:
            return await self._take_on(engine, tree, server, runtime_dir, hooks)
        except Closed:
            self.give_up("the process that was to hand over is gone")
        except OperatorError as error:
            self.give_up(str(error))
        except Exception as error:
            log.debug("not taken over", exc_info=True)
            self.give_up(in_one_line(error))

    async def _take_on(self, engine: Engine, tree: CommandTree, server: CliServer, runtime_dir: str, hooks: str) -> str:
        self._channel.send(Said(WARM))
        estate, given = self._channel.receive(Estate, WARM_SECONDS)
        devices = {name: device.mapped(given.__getitem__) for name, device in estate.devices.items()}
        engine.inheritance = Inheritance(devices)
        memory = estate.memory.mapped(given.__getitem__) if estate.memory is not None else None
        if memory is not None:
            packet_memory.adopt(engine, memory)
        with engine.barrier():
            for each in estate.uplinks:
                uplink = _uplink(each, given)
                engine.uplinks.append(uplink)
                by_xdp = isinstance(devices.get(f"host-{each.nic_name}"), XdpSockets)
                driver = AF_XDP_DRIVER if by_xdp else AF_PACKET_DRIVER
                add_uplink(engine, uplink, Choice(driver, each.driver_reason))
            failures = await repeat(engine, tree, estate.entries)
            failures += [f"no command makes {name} again" for name in engine.inheritance.unclaimed]
            if failures:
                raise OperatorError("; ".join(failures))
            engine.events.fire("take-on", estate.extras)
            server.prepare()
            lock = adopt_lock(runtime_dir, given[estate.lock])
            if estate.uplinks:
                self.guardian = start_guardian(runtime_dir, hooks, armed=False)
            gc.collect()
            self._channel.send(Said(BUILT))
            switch, files = self._channel.receive(Switch, BUILT_SECONDS)
            if switch.kept:
                engine.events.fire("last-take-on", Keepsakes.read(switch.kept, files[0]))
            _set_rings(engine, switch.rings)
            if memory is not None:
                packet_memory.take_over(engine, memory, switch.loans)
            if self.guardian:
                self.guardian.arm()
            if estate.unconfirmed_until is not None:
                engine.confirmation.go_on(estate.unconfirmed_until, self.guardian)
            lock.sign()
            stood = 1000 * (time.monotonic() - switch.since)
            told = f"process {os.getpid()} goes on in place of {estate.process}; packets waited {stood:.1f} ms"
            if engine.reloader is not None:
                versions = engine.reloader.running.items()
                told += "".join(f"; plugin {name} is at version {number}, as it was" for name, (_, number) in versions)
            self._channel.send(Said(GOING, told))
            self.goes_on = True
        self._channel.close()
        return told


def _uplink(each: HandedUplink, given: list[int]) -> TakenUplink:
    return TakenUplink(
        state=each.state,
        tap_fds=[given[number] for number in each.tap_fds],
        tap_offload=each.tap_offload,
        tap_ifindex=each.tap_ifindex,
        nic_name=each.nic_name,
        nic_ifindex=each.nic_ifindex,
        netns=given[each.netns],
        hook=socket.socket(fileno=given[each.marker]),
    )


def _set_rings(engine: Engine, positions: dict[str, Rings]) -> None:
    for interface, rx, tx in ring_rows(engine):
        for row, position in zip(rx, positions[interface].rx, strict=True):
            row["next"] = position
        for row, position in zip(tx, positions[interface].tx, strict=True):
            row["tx_next"] = position
