# SPDX-License-Identifier: Apache-2.0
"""What an operator configured, as the commands that would do it again in another process.

Every command that lasts is noted when it has succeeded, with the interfaces it made. Not all have to stay: of those
that differ only in `up` or `down`, `enable` or `disable`, or in a MAC address, the last does, of the same `add` the
first and the last. With a `del` all goes that begins with the same words (`ip route del` need not name a path), and
with an interface all that name it. All others stay, in their order, so that what they number by themselves gets the
same numbers.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import msgspec

from pyvpp.errors import OperatorError

if TYPE_CHECKING:
    from pyvpp.engine import Engine
    from pyvpp.events import Events
    from pyvpp.interface import Interface

SWITCHES = frozenset(("up", "down", "enable", "disable", "on", "off", "polling", "interrupt", "adaptive"))
CONTRARY = SWITCHES | {"add", "del"}
MAC_ADDRESS = re.compile(r"([0-9a-f]{2}:){5}[0-9a-f]{2}", re.IGNORECASE)


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
    def subject(self) -> tuple[str, ...]:
        """What it is about, whatever it says of it."""
        return tuple(word for word in self.line.split() if word not in CONTRARY and not MAC_ADDRESS.fullmatch(word))

    @property
    def adds(self) -> bool:
        return "add" in self.line.split()

    @property
    def deletes(self) -> bool:
        return bool({"del", "delete"} & set(self.line.split()))

    @property
    def switches(self) -> bool:
        return any(word in SWITCHES or MAC_ADDRESS.fullmatch(word) for word in self.line.split())

    def names(self, interface: str) -> bool:
        """Whether it makes an interface or speaks of it."""
        return interface in self.made or interface in self.line.split()


def covers(beginning: tuple[str, ...], subject: tuple[str, ...]) -> bool:
    """Whether a `del` of a subject that begins so is meant, too: not one in another table, nor one with more paths."""
    rest = subject[len(beginning) :]
    return "table" not in rest and not ("via" in beginning and "via" in rest)


class Configuration:
    """The commands that last, in the order they have to be given in."""

    def __init__(self, events: Events) -> None:
        self._entries: dict[int, Entry] = {}  # by a number, in their order
        self._about: defaultdict[tuple[str, ...], dict[int, None]] = defaultdict(dict)  # by each beginning of a subject
        self._number = 0
        self._noting: ContextVar[Entry | None] = ContextVar("noting", default=None)
        self._undoes: set[int] = set()  # entries, by id, whose command deleted an interface
        self._script = False
        self.frozen = ""  # why nothing may be changed at this moment
        self.changes = 0
        self._makers: dict[str, Entry] = {}  # by the interface that they made
        events.on("interface-created", self._created)
        events.on("interface-mac", self._mac_changed)
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
        subject = entry.subject
        if not entry.made:
            beginning = subject[:-1] if subject[-1:] == ("all",) else subject
            others = {number: self._entries[number].subject for number in self._about.get(beginning, ())}
            about = [number for number, other in others.items() if other == subject]
            related = [number for number, other in others.items() if covers(beginning, other)]
            if "del" in entry.line.split():  # `delete` takes numbers, which mean another thing by now
                undone = any(not self._entries[number].deletes for number in related)
                self._forget(related)
                if undone:
                    return
            elif entry.switches:
                self._forget(about)
            elif entry.adds:
                self._forget(about[1:])
        self._number += 1
        self._entries[self._number] = entry
        for words in range(1, len(subject) + 1):
            self._about[subject[:words]][self._number] = None

    def _forget(self, numbers: list[int]) -> None:
        for number in numbers:
            subject = self._entries.pop(number).subject
            for words in range(1, len(subject) + 1):
                others = self._about[subject[:words]]
                del others[number]
                if not others:
                    del self._about[subject[:words]]

    def forget(self, meant: Callable[[list[str]], bool]) -> None:
        """Forgets commands by their words: another one undoes them that does not begin with the same."""
        self._forget([number for number, entry in self._entries.items() if meant(entry.line.split())])

    def _created(self, interface: Interface) -> None:
        entry = self._noting.get()
        if entry is not None:
            self._makers[interface.name] = entry
            entry.made[interface.name] = Made(interface.sw_if_index, interface.mac.hex())

    def _mac_changed(self, interface: Interface) -> None:
        """It is made again with the address that it has by now: one may have been drawn, another promised."""
        entry = self._makers.get(interface.name)
        if entry is not None:
            entry.made[interface.name] = Made(interface.sw_if_index, interface.mac.hex())

    def _deleted(self, interface: Interface) -> None:
        entry = self._noting.get()
        if entry is not None:
            self._undoes.add(id(entry))
        self.changes += 1
        self._makers.pop(interface.name, None)
        self._forget([number for number, other in self._entries.items() if other.names(interface.name)])


async def repeat(engine: Engine, tree: Any, entries: list[Entry]) -> list[str]:
    """Gives the commands again, the interfaces with the names, numbers and MAC addresses they had.

    Returns what failed, a line each; the others are carried out. What one deletes may be gone already.
    """
    failures = []
    for entry in entries:
        numbers = {name: made.sw_if_index for name, made in entry.made.items()}
        with engine.interfaces.promised(numbers), engine.configuration.from_script(entry.script):
            try:
                await tree.run(engine, entry.line)
            except OperatorError as error:
                if not entry.deletes:
                    failures.append(f"{entry.line}: {error}")
                continue
        for name, made in entry.made.items():
            interface = engine.interfaces.by_name(name)
            mac = bytes.fromhex(made.mac)
            if interface is not None and any(mac) and interface.mac != mac:
                engine.interfaces.set_mac(interface, mac)
    return failures
