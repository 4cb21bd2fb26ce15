# SPDX-License-Identifier: Apache-2.0
"""What an operator configured, as the commands that would do it again in another process.

Every command that lasts is noted when it has succeeded, with the interfaces it made. What is undone is forgotten
with it: a command that says the same again, or the contrary (`up` and `down`, `add` and `del`), replaces the one
before, and with an interface go all commands that name it. So the list is as long as what is configured, not as what
happened.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import msgspec

from pyvpp.errors import OperatorError

if TYPE_CHECKING:
    from pyvpp.engine import Engine
    from pyvpp.events import Events
    from pyvpp.interface import Interface

Subject = tuple[tuple[str, ...], tuple[str, ...]]  # words, and the interfaces made
CONTRARY = frozenset(("add", "del", "up", "down", "enable", "disable", "on", "off", "polling", "interrupt", "adaptive"))


class Made(msgspec.Struct, frozen=True):
    """An interface that a command made: its number and its MAC address in hex digits."""

    sw_if_index: int
    mac: str


class Entry(msgspec.Struct):
    """A command with its words in full, and the interfaces it made by their names."""

    line: str
    made: dict[str, Made] = {}
    script: bool = False  # from the file of `--exec`, which runs again at the next start

    @property
    def subject(self) -> Subject:
        """What it is about: commands with the same subject replace each other. Those that make something never do."""
        return tuple(word for word in self.line.split() if word not in CONTRARY), tuple(self.made)

    @property
    def deletes(self) -> bool:
        return "del" in self.line.split()

    def names(self, interface: str) -> bool:
        """Whether it makes an interface or speaks of it."""
        return interface in self.made or interface in self.line.split()


class Configuration:
    """The commands that last, in the order they have to be given in."""

    def __init__(self, events: Events) -> None:
        self._entries: dict[Subject, Entry] = {}
        self._noting: ContextVar[Entry | None] = ContextVar("noting", default=None)
        self._undoes: set[int] = set()  # entries, by id, whose command deleted an interface
        self._script = False
        self.frozen = ""  # why nothing may be changed at this moment
        self.changes = 0
        events.on("interface-created", self._created)
        events.on("interface-deleted", self._deleted)

    @property
    def entries(self) -> list[Entry]:
        return list(self._entries.values())

    @contextmanager
    def from_script(self, script: bool = True) -> Iterator[None]:
        """What is noted meanwhile comes from the file of `--exec`."""
        self._script = script
        try:
            yield
        finally:
            self._script = False

    @contextmanager
    def noting(self, line: str) -> Iterator[None]:
        """A command that lasts is carried out meanwhile; it is noted unless it fails.

        Raises OperatorError when nothing may be changed.
        """
        if self.frozen:
            raise OperatorError(self.frozen)
        entry = Entry(" ".join(line.split()), script=self._script)
        token = self._noting.set(entry)
        try:
            yield
            self.changes += 1
            if id(entry) not in self._undoes:
                self._note(entry)
        finally:
            self._undoes.discard(id(entry))
            self._noting.reset(token)

    def _note(self, entry: Entry) -> None:
        before = self._entries.pop(entry.subject, None)
        if not (entry.deletes and before is not None and not before.deletes):
            self._entries[entry.subject] = entry

    def _created(self, interface: Interface) -> None:
        entry = self._noting.get()
        if entry is not None:
            entry.made[interface.name] = Made(interface.sw_if_index, interface.mac.hex())

    def _deleted(self, interface: Interface) -> None:
        entry = self._noting.get()
        if entry is not None:
            self._undoes.add(id(entry))
        self.changes += 1
        for other in self.entries:
            if other.names(interface.name):
                del self._entries[other.subject]


async def repeat(engine: Engine, tree: Any, entries: list[Entry]) -> list[str]:
    """Gives the commands again, the interfaces with the names, numbers and MAC addresses they had.

    Returns what failed, a line each; the others are carried out.
    """
    failures = []
    for entry in entries:
        numbers = {name: made.sw_if_index for name, made in entry.made.items()}
        with engine.interfaces.promised(numbers), engine.configuration.from_script(entry.script):
            try:
                await tree.run(engine, entry.line)
            except OperatorError as error:
                failures.append(f"{entry.line}: {error}")
                continue
        for name, made in entry.made.items():
            interface = engine.interfaces.by_name(name)
            mac = bytes.fromhex(made.mac)
            if interface is not None and any(mac) and interface.mac != mac:
                engine.interfaces.set_mac(interface, mac)
    return failures
