# SPDX-License-Identifier: Apache-2.0
"""The state file: what a pyvpp that was killed had, so that the next one has it again.

It holds the commands of `Configuration` and the TAPs and TUNs, which are persistent: Linux keeps them, with their
addresses, routes and the connections of whoever uses them, when nobody has them open. It is written beside and renamed,
so it is whole at every moment, and before a device becomes persistent, so none is left that it does not name. It counts
for this boot and this network namespace only.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from pyvpp.configuration import Entry, repeat
from pyvpp.device.tap import Tap, namespace_path
from pyvpp.inheritance import LeftDevice
from pyvpp.interface import HOST, Interface
from pyvpp.linux import netns, tap_link
from pyvpp.linux.journal import boot_id

if TYPE_CHECKING:
    from pyvpp.cli.parser import CommandTree
    from pyvpp.engine import Engine

log = logging.getLogger(__name__)

STATE_NAME = "state.json"
VERSION = 1
PAUSE = 10  # times the time that writing took is not written again: many commands in a row cost a tenth more


class State(msgspec.Struct):
    """The file's content."""

    version: int
    boot_id: str
    netns: tuple[int, int]
    entries: list[Entry]
    devices: list[LeftDevice]


class StateFile:
    """The state of an engine in a runtime directory. `save` after every change; `forget` at an orderly end."""

    def __init__(self, engine: Engine, runtime_dir: str | Path) -> None:
        self.path = Path(runtime_dir).absolute() / STATE_NAME
        self._engine = engine
        self._saved = 0  # of the configuration's changes
        self._not_before = 0.0
        self._later: asyncio.TimerHandle | None = None
        self._failed = False
        self.held = False  # what is configured is not confirmed: the file stays as it was found

    def save_soon(self) -> None:
        """Saves what has changed: at once, unless that was done a moment ago."""
        if self.held or self._later is not None or self._saved == self._engine.configuration.changes:
            return
        wait = self._not_before - time.monotonic()
        if wait <= 0:
            self.save()
        else:
            self._later = asyncio.get_running_loop().call_later(wait, self.save)

    def save(self) -> None:
        """Writes the file if something changed, and makes devices persistent. Without room the old one stays."""
        self._cancel()
        configuration = self._engine.configuration
        if self.held or self._saved == configuration.changes:
            return
        began = time.thread_time()
        taps = [each for each in self._engine.interfaces if _is_kept(each)]
        devices = [LeftDevice(each.name, each.device.name, each.device.home, each.device.netns) for each in taps]
        state = State(VERSION, boot_id(), netns.identity(), configuration.entries, devices)
        try:
            if state.entries or state.devices:
                _write(self.path, msgspec.json.encode(state))
            else:
                self.path.unlink(missing_ok=True)
        except OSError as error:
            if not self._failed:
                log.error("%s: %s; what is configured now would not survive a crash", self.path, error.strerror)
            self._failed = True
            return
        self._failed = False
        self._saved = configuration.changes
        self._not_before = time.monotonic() + PAUSE * (time.thread_time() - began)
        for interface in taps:
            if not interface.device.persistent:
                with contextlib.suppress(OSError):  # its other end is gone
                    interface.device.set_persistent(True)

    def release(self) -> None:
        """What is configured is confirmed."""
        self.held = False
        self.save()

    def forget(self) -> None:
        """Nothing is to be taken up again."""
        self._cancel()
        self._saved = self._engine.configuration.changes
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)

    def leave(self) -> None:
        """Has the persistent devices outlive us: another process takes them up."""
        self._cancel()
        for interface in self._engine.interfaces:
            if isinstance(interface.device, Tap):
                interface.device.persistent = False  # so that closing does not delete it

    def _cancel(self) -> None:
        if self._later is not None:
            self._later.cancel()
            self._later = None


def _is_kept(interface: Interface) -> bool:
    """The TAP that stands in for an uplink is none: it goes when the NIC is given back."""
    return isinstance(interface.device, Tap) and not interface.flags & HOST and interface.device.netns != (0, 0)


def _write(path: Path, content: bytes) -> None:
    unfinished = path.with_suffix(".new")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(content)
    unfinished.rename(path)


def read_state(runtime_dir: str | Path) -> State | None:
    """What a pyvpp left that was killed in this boot and this namespace. A file nobody can read is put aside."""
    path = Path(runtime_dir).absolute() / STATE_NAME
    try:
        state = msgspec.json.decode(path.read_bytes(), type=State)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        log.warning("%s cannot be read, its configuration is lost: %s", path, error)
        path.rename(path.with_suffix(".bad"))
        return None
    if state.version != VERSION or state.boot_id != boot_id() or state.netns != netns.identity():
        return None
    return state


def still_there(state: State) -> tuple[list[Entry], list[str]]:
    """The commands of a state but for those of `--exec`, and those whose pod is gone, a line each."""
    homes = {device.interface: device for device in state.devices}
    wanted, gone = [], []
    dead: set[str] = set()
    for entry in state.entries:
        lost = [name for name in entry.made if name in homes and not _is_there(homes[name])]
        if lost:
            dead.update(entry.made)
            gone.append(f"{', '.join(lost)}: its network namespace {homes[lost[0]].namespace} is gone")
        elif not entry.script and not any(entry.names(name) for name in dead):
            wanted.append(entry)
    return wanted, gone


async def take_up(engine: Engine, tree: CommandTree, state: State) -> list[str]:
    """Has everything again that a state names, after the commands of `--exec`; what could not be, a line each."""
    wanted, lost = still_there(state)
    lost += await repeat(engine, tree, wanted)
    sweep(engine.inheritance.left)
    return lost


def _is_there(device: LeftDevice) -> bool:
    try:
        return not device.namespace or netns.identity(namespace_path(device.namespace)) == device.netns
    except OSError:
        return False


def sweep(left: list[LeftDevice]) -> None:
    """Removes devices that nobody has taken up again."""
    for device in left:
        if not _is_there(device):
            continue
        descriptor = os.open(namespace_path(device.namespace), os.O_RDONLY | os.O_CLOEXEC) if device.namespace else None
        try:
            netns.run_in(descriptor, lambda name=device.name: tap_link.remove(name))  # type: ignore[misc]
        except OSError as error:
            log.warning("%s, which a pyvpp left, cannot be removed: %s", device.name, error.strerror)
        finally:
            if descriptor is not None:
                os.close(descriptor)
