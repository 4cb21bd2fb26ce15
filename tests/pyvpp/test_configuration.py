# SPDX-License-Identifier: Apache-2.0
"""What is configured, as commands: giving them again makes the same, however often minds were changed."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyvpp.cli.parser import CommandTree
from pyvpp.cli.registry import Arguments, CommandError, command
from pyvpp.configuration import Configuration, Entry, repeat
from pyvpp.errors import OperatorError
from pyvpp.events import Events

DRAWN = itertools.count(1)


class Interfaces:
    """Names and numbers, as pyvpp.interface.Interfaces gives them out."""

    def __init__(self, events: Events) -> None:
        self.events = events
        self.all: dict[str, Any] = {}
        self.numbers: Mapping[str, int] = {}

    def by_name(self, name: str) -> Any:
        return self.all.get(name)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.all.values())

    @contextlib.contextmanager
    def promised(self, numbers: Mapping[str, int]) -> Iterator[None]:
        self.numbers = numbers
        yield
        self.numbers = {}

    def create(self) -> str:
        free = next(k for k in range(100) if f"loop{k}" not in self.all)
        name = next(iter(self.numbers), f"loop{free}")
        taken = {each.sw_if_index for each in self}
        number = self.numbers.get(name, next(k for k in range(1, 100) if k not in taken))
        mac = b"\x02" + next(DRAWN).to_bytes(5)
        self.all[name] = SimpleNamespace(name=name, sw_if_index=number, mac=mac, up=False)
        self.events.fire("interface-created", self.all[name])
        return name

    def delete(self, interface: Any) -> None:
        self.events.fire("interface-deleted", interface)
        del self.all[interface.name]

    def set_mac(self, interface: Any, mac: bytes) -> None:
        interface.mac = mac
        self.events.fire("interface-mac", interface)


class Engine:
    def __init__(self) -> None:
        self.events = Events()
        self.configuration = Configuration(self.events)
        self.interfaces = Interfaces(self.events)
        self.routes: set[tuple[str, str]] = set()
        self.rules = 0
        self.events.on("interface-deleted", self.forget_routes)

    def forget_routes(self, interface: Any) -> None:
        self.routes = {route for route in self.routes if route[1] != interface.name}

    def view(self) -> Any:
        interfaces = [(each.name, each.sw_if_index, each.mac, each.up) for each in self.interfaces]
        return sorted(interfaces), self.routes


@command("create loop", help="create loop")
def create(engine: Engine, args: Arguments) -> str:
    return engine.interfaces.create()


@command("delete loop", help="delete loop INTERFACE")
def delete(engine: Engine, args: Arguments) -> None:
    engine.interfaces.delete(args.interface(engine))


@command("set state", help="set state INTERFACE up|down")
def set_state(engine: Engine, args: Arguments) -> None:
    interface = args.interface(engine)
    interface.up = args.choice("up", "down") == "up"


@command("route", help="route add|del PREFIX [INTERFACE]")
def route(engine: Engine, args: Arguments) -> None:
    """`del` without an interface deletes them all."""
    add = args.expect("add", "del") == "add"
    prefix = args.word()
    if not add and not args:
        if not any(route[0] == prefix for route in engine.routes):
            raise CommandError("no such route")
        engine.routes = {route for route in engine.routes if route[0] != prefix}
        return
    key = prefix, args.interface(engine).name
    if add == (key in engine.routes):
        raise CommandError("there is such a route" if add else "no such route")
    engine.routes ^= {key}


@command("flush", help="flush del PREFIX")
def flush(engine: Engine, args: Arguments) -> None:
    """Deletes routes by less words than they were added with."""
    args.expect("del")
    prefix = args.word()
    if not any(route[0] == prefix for route in engine.routes):
        raise CommandError("no such route")
    engine.routes = {route for route in engine.routes if route[0] != prefix}


@command("set rule", help="set rule")
def set_rule(engine: Engine, args: Arguments) -> None:
    """Makes another each time, with a number of its own."""
    engine.rules += 1


@command("delete rule", help="delete rule N")
def delete_rule(engine: Engine, args: Arguments) -> None:
    """The rules that are left have the lowest numbers."""
    if not 0 < args.unsigned() <= engine.rules:
        raise CommandError("no such rule")
    engine.rules -= 1


@command("show nothing", help="show nothing")
def show(engine: Engine, args: Arguments) -> str:
    return "nothing"


TREE = CommandTree([create, delete, set_state, route, flush, set_rule, delete_rule, show])
LOOPS = st.integers(0, 3).map(lambda k: f"loop{k}")
LINES = st.one_of(
    st.just("create loop"),
    st.just("sh no"),
    st.builds("flush del {}".format, st.sampled_from(["10.0.0.0/8", "11.0.0.0/8"])),
    st.builds("delete loop {}".format, LOOPS),
    st.builds("set state {} {}".format, LOOPS, st.sampled_from(["up", "down"])),
    st.builds("route del {}".format, st.sampled_from(["10.0.0.0/8", "11.0.0.0/8"])),
    st.builds("rou {} {} {}".format, st.sampled_from(["add", "del"]), st.sampled_from(["10.0.0.0/8", "11.0.0.0/8"]), LOOPS),
)  # fmt: skip


def run(engine: Engine, line: str) -> None:
    asyncio.run(TREE.run(engine, line))


@given(st.lists(LINES, max_size=40))
def test_the_same_again(lines: list[str]) -> None:
    engine = Engine()
    for line in lines:
        with contextlib.suppress(CommandError):
            run(engine, line)
    entries = engine.configuration.entries
    again = Engine()
    assert asyncio.run(repeat(again, TREE, entries)) == []  # type: ignore[arg-type]
    assert again.view() == engine.view()
    assert len(entries) <= 4 + 4 + 2 * 2 * 4 + 2  # however long what happened was
    assert all(not entry.line.startswith("show") for entry in entries)


@pytest.mark.parametrize(
    ("undoing", "left"),
    [
        ("ip route del 10.0.0.0/8", [1, 3]),
        ("ip route del 10.0.0.0/8 via pg0", [1, 2, 3]),
        ("ip route del 10.0.0.0/8 via pg1", [0, 1, 2, 3]),
        ("ip route del 10.0.0.0/8 table 5", [0, 2, 3]),
        ("ip route del all", [1]),
    ],
)
def test_what_a_deletion_by_fewer_words_undoes(undoing: str, left: list[int]) -> None:
    """Not a route of another table, nor one whose other paths stay."""
    lines = [
        "ip route add 10.0.0.0/8 via pg0",
        "ip route add 10.0.0.0/8 table 5 via pg0",
        "ip route add 10.0.0.0/8 via pg0 via pg1",
        "ip route add 10.0.0.0/9 via pg0",
    ]
    configuration = Configuration(Events())
    for line in (*lines, undoing):
        with configuration.noting(line):
            pass
    noted = [entry.line for entry in configuration.entries]
    assert [line for line in noted if line in lines] == [lines[number] for number in left]


def test_of_a_neighbor_the_last_address_stays_and_any_deletes_it() -> None:
    configuration = Configuration(Events())
    for line, left in (
        ("set ip neighbor pg0 10.0.0.2 02:00:00:00:00:01 static", 1),
        ("set ip neighbor pg0 10.0.0.3 02:00:00:00:00:01", 2),
        ("set ip neighbor pg0 10.0.0.3 02:00:00:00:00:02", 2),
        ("set ip neighbor del pg0 10.0.0.3 00:00:00:00:00:00", 1),
        ("set ip neighbor del pg0 10.0.0.2", 0),
    ):
        with configuration.noting(line):
            pass
        assert len(configuration.entries) == left
        assert line in [entry.line for entry in configuration.entries] or "del" in line


def test_words_are_kept_in_full_and_failures_are_not_kept() -> None:
    engine = Engine()
    run(engine, "cre  lo")
    with pytest.raises(CommandError):
        run(engine, "route del 10.0.0.0/8 loop0")
    assert [entry.line for entry in engine.configuration.entries] == ["create loop"]


def test_what_cannot_be_repeated_is_told_and_the_rest_is_done() -> None:
    engine = Engine()
    entries = [Entry("set state loop7 up"), Entry("create loop")]
    (failure,) = asyncio.run(repeat(engine, TREE, entries))  # type: ignore[arg-type]
    assert failure.startswith("set state loop7 up: set state: unknown interface `loop7'")
    assert "loop0" in engine.interfaces.all


def test_what_is_made_twice_by_the_same_words_is_made_twice() -> None:
    engine, again = Engine(), Engine()
    for _ in range(3):
        run(engine, "set rule")
    asyncio.run(repeat(again, TREE, engine.configuration.entries))  # type: ignore[arg-type]
    assert again.rules == 3


def test_a_third_process_has_the_addresses_of_the_first() -> None:
    """Those of the second were drawn before it was told which to have."""
    first, second, third = Engine(), Engine(), Engine()
    run(first, "create loop")
    for one, next_ in ((first, second), (second, third)):
        asyncio.run(repeat(next_, TREE, one.configuration.entries))  # type: ignore[arg-type]
    assert third.view() == second.view() == first.view()


def test_numbers_that_are_given_again() -> None:
    engine, again = Engine(), Engine()
    for line in ("set rule", "delete rule 1", "set rule", "delete rule 1", "set rule"):
        run(engine, line)
    asyncio.run(repeat(again, TREE, engine.configuration.entries))  # type: ignore[arg-type]
    assert again.rules == engine.rules == 1


def test_frozen() -> None:
    engine = Engine()
    engine.configuration.frozen = "not now"
    with pytest.raises(CommandError, match="create loop: not now"):
        run(engine, "create loop")
    run(engine, "show nothing")
    assert not engine.interfaces.all


def test_whose_a_command_is_survives_repeating() -> None:
    engine = Engine()
    with engine.configuration.from_script():
        run(engine, "create loop")
    run(engine, "create loop")
    again = Engine()
    asyncio.run(repeat(again, TREE, engine.configuration.entries))  # type: ignore[arg-type]
    assert [entry.script for entry in again.configuration.entries] == [True, False]


def test_a_change_is_counted_and_a_look_is_not() -> None:
    engine = Engine()
    run(engine, "create loop")
    changes = engine.configuration.changes
    run(engine, "show nothing")
    assert engine.configuration.changes == changes
    with pytest.raises(OperatorError):
        run(engine, "delete loop loop5")
    assert engine.configuration.changes == changes
    run(engine, "delete loop loop0")
    assert engine.configuration.changes > changes
    assert engine.configuration.entries == []
