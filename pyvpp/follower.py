# SPDX-License-Identifier: Apache-2.0
"""Follows what others do to the uplinks that are taken over: to their TAPs, and to their NICs.

Addresses and routes of a TAP go into the journal and the FIB as they change, its MTU to the NIC. A TAP's MAC address,
which is the NIC's, is put back: udev and network managers like to give a new device one of its own, and the host would
not be reached any more. Without its TAP, or when a NIC that was pulled is plugged in again, pyvpp ends as after a
crash, so that Linux has the NIC at once and the next start begins anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pyvpp.device.af_packet import AfPacket
from pyvpp.device.linux_interface import LinuxInterface
from pyvpp.errors import OperatorError
from pyvpp.linux.follow import Changes, is_plugged_in, note_changes
from pyvpp.linux.neighbors import apply_neighbors

if TYPE_CHECKING:
    from pyvpp.engine import Engine
    from pyvpp.linux.taken import TakenUplink

log = logging.getLogger(__name__)

SETTLED = 0.1  # seconds: what one command of an operator changes comes as many messages
AGAIN = 1.0
LEARNED = 30  # seconds after which learned neighbors are noted as well: who is restored has not to ask for them


class Follower:
    """Between `begin` and `end` it hears of changes; `look` is called once a second.

    `lost` is told why pyvpp cannot go on.
    """

    def __init__(self, engine: Engine, runtime_dir: str, lost: Callable[[str], None]) -> None:
        self._engine, self._runtime_dir, self._lost = engine, runtime_dir, lost
        self._changes: Changes | None = None
        self._task: asyncio.Task[None] | None = None
        self._heard = False
        self._looks = 0  # since learned neighbors were noted
        self._taps: dict[str, LinuxInterface] = {}
        self._unplugged: set[str] = set()

    def begin(self) -> None:
        """To be called when the uplinks are taken over, in the event loop."""
        if not self._engine.uplinks:
            return
        for uplink in self._engine.uplinks:
            with contextlib.suppress(OSError):
                self._taps[uplink.tap_name] = LinuxInterface(socket.if_indextoname(uplink.tap_ifindex))
        try:
            self._changes = Changes()
        except OSError as error:
            log.warning("changes of uplinks are not followed: %s", error)
            return
        asyncio.get_running_loop().add_reader(self._changes, self._on_message)

    async def end(self) -> None:
        """Nothing is followed or written any more."""
        if self._changes is not None:
            asyncio.get_running_loop().remove_reader(self._changes)
            self._changes.close()
            self._changes = None
        if self._task is not None:
            await asyncio.wait([self._task])
        for tap in self._taps.values():
            tap.close()
        self._taps = {}

    def _on_message(self) -> None:
        assert self._changes is not None
        uplinks = self._engine.uplinks
        vlans = {vlan.state.ifindex for uplink in uplinks for vlan in uplink.state.vlans}
        if self._changes.concern(vlans | {uplink.tap_ifindex for uplink in uplinks}):
            self._see_to_links()
            self._note()

    def _note(self) -> None:
        self._heard = True
        if self._task is None:
            self._task = asyncio.create_task(self._follow())

    async def _follow(self) -> None:
        await asyncio.sleep(SETTLED)
        try:
            while self._heard and self._changes is not None:
                self._heard = False
                learned, self._looks = self._looks >= LEARNED, self._looks % LEARNED
                for before, now in await asyncio.to_thread(note_changes, self._runtime_dir, learned):
                    self._tell(before, now)
                await asyncio.sleep(AGAIN)
        except (OSError, OperatorError) as error:
            log.warning("what changed on an uplink is not kept: %s", error)
        finally:
            self._task = None

    def _tell(self, before: Any, now: Any) -> None:
        for uplink in self._engine.uplinks:
            if uplink.tap_name == now.name:
                uplink.state = now
                nic = self._engine.interfaces.by_name(f"host-{now.name}")
                self._engine.events.fire("uplink-changed", nic, before, now)

    def look(self) -> None:
        """Sees to TAPs and NICs."""
        self._looks += 1
        if self._changes is not None:
            self._see_to_links()
            if self._looks >= LEARNED:
                self._note()

    def _see_to_links(self) -> None:
        if reason := self._loss():
            self._lost(reason)

    def _loss(self) -> str:
        """Why pyvpp cannot go on, if so; what can be put right is."""
        for uplink in self._engine.uplinks:
            nic = self._engine.interfaces.by_name(f"host-{uplink.tap_name}")
            tap = self._taps.get(uplink.tap_name)
            if nic is None or tap is None:
                continue
            try:
                mac, mtu = tap.mac(), tap.mtu()
            except OSError:
                return f"{uplink.tap_name}: somebody removed its TAP"
            self._keep_mac(uplink, tap, mac)
            try:
                here = nic.device.linux.mtu()
            except OSError:
                if self._is_back(uplink):
                    return f"{uplink.tap_name}: its NIC was unplugged and is back"
                continue
            if mtu != here:
                self._set_mtu(uplink, tap, nic, mtu, here)
        return ""

    def _keep_mac(self, uplink: TakenUplink, tap: LinuxInterface, mac: bytes) -> None:
        wanted = bytes.fromhex(uplink.state.mac.replace(":", ""))
        if mac == wanted:
            return
        try:
            tap.set_mac(wanted)
            apply_neighbors(uplink.tap_ifindex, uplink.state.neighbors)  # Linux has forgotten them, permanent ones too
            log.warning("%s: somebody gave its TAP the MAC address %s; it is set back", uplink.tap_name, mac.hex(":"))
        except OSError as error:
            log.error("%s: its TAP has the MAC address %s, not its own: %s", uplink.tap_name, mac.hex(":"), error)

    def _set_mtu(self, uplink: TakenUplink, tap: LinuxInterface, nic: Any, mtu: int, before: int) -> None:
        """What the TAP takes the NIC has to carry."""
        if mtu > before and not isinstance(nic.device, AfPacket):
            log.warning(
                "%s: MTU %d stays: %s carries no more without being made anew", uplink.tap_name, before, nic.kind
            )
            with contextlib.suppress(OSError):
                tap.set_mtu(before)
            return
        peer = self._engine.interfaces.array["peer"][nic.sw_if_index]
        try:
            nic.device.linux.set_mtu(mtu)
            for interface in (nic, self._engine.interfaces.get(int(peer))):
                if interface is not None:
                    self._engine.interfaces.set_mtu(interface, mtu)
            log.info("%s: MTU %d, as its TAP", uplink.tap_name, mtu)
        except (OSError, OperatorError) as error:
            log.warning("%s: the NIC keeps MTU %d, and so does the TAP: %s", uplink.tap_name, before, error)
            with contextlib.suppress(OSError):
                tap.set_mtu(before)

    def _is_back(self, uplink: TakenUplink) -> bool:
        if uplink.tap_name not in self._unplugged:
            self._unplugged.add(uplink.tap_name)
            log.error("%s: its NIC is gone; its addresses stay on the TAP until it is back", uplink.tap_name)
        return is_plugged_in(uplink.state)
