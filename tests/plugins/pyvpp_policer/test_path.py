# SPDX-License-Identifier: Apache-2.0
"""policer in the graph: its commands, and packets of which a burst passes."""

import os
from collections.abc import Iterator

import pytest

import pyvpp_policer
from pyvpp.bench.stand import Stand, stand_for
from pyvpp.cli.registry import CommandError
from pyvpp.keepsakes import Keepsakes
from pyvpp_nodes.bench.ground import rewritten
from pyvpp_policer import cli
from pyvpp_policer.bench import SCENARIO

pytestmark = pytest.mark.slow
COUNT = 64
BYTES = 50  # of an IP packet in a frame of 64


@pytest.fixture(scope="module")
def whole() -> Iterator[Stand]:
    with stand_for(SCENARIO, hugepages="off") as stand:
        stand.generate(SCENARIO.packets(stand.engine, count=COUNT), COUNT)
        cli.policer_del(stand.engine, "name wide")
        yield stand


@pytest.fixture
def stand(whole: Stand) -> Stand:
    for name in list(whole.engine.stack.policers.by_name):
        cli.policer_del(whole.engine, f"name {name}")
    return whole


SLOW = "policer add name slow cir 1 cb 1000"  # a byte in 8 ms


@pytest.mark.parametrize(("way", "interface"), [("input", "pg0"), ("output", "pg1")])
def test_a_burst_passes_and_the_rest_is_dropped(stand: Stand, way: str, interface: str) -> None:
    cli.policer_add(stand.engine, SLOW.removeprefix("policer add "))
    command = cli.policer_input if way == "input" else cli.policer_output
    command(stand.engine, f"name slow {interface}")
    arrived, left = stand.catch(COUNT)
    assert left == [rewritten(stand.engine, packet) for packet in arrived[: 1000 // BYTES]]
    (row,) = cli.show_policer(stand.engine).data
    assert (row["conform"]["packets"], row["violate"]["packets"]) == (20, COUNT - 20)
    assert row[way] == [interface] and row["conform"]["bytes"] == 1000
    cli.policer_reset(stand.engine, "name slow")
    assert len(stand.catch(COUNT)[1]) == 20
    command(stand.engine, f"unapply name slow {interface}")
    assert len(stand.catch(COUNT)[1]) == COUNT
    command(stand.engine, f"apply name slow {interface}")
    cli.policer_del(stand.engine, "name slow")
    assert len(stand.catch(COUNT)[1]) == COUNT


def test_another_version_takes_over_policers_and_their_tokens(stand: Stand) -> None:
    cli.policer_add(stand.engine, SLOW.removeprefix("policer add "))
    cli.policer_input(stand.engine, "name slow pg0")
    assert len(stand.catch(COUNT)[1]) == 20
    shown = cli.show_policer(stand.engine).text
    pyvpp_policer.resume(stand.engine, pyvpp_policer)
    assert cli.show_policer(stand.engine).text == shown
    assert len(stand.catch(COUNT)[1]) <= 1
    cli.policer_input(stand.engine, "unapply name slow pg0")
    assert len(stand.catch(COUNT)[1]) == COUNT


def test_tokens_go_on_in_another_process(stand: Stand) -> None:
    """Which numbers policers by other numbers."""
    for name in ("other", "slow"):
        cli.policer_add(stand.engine, SLOW.removeprefix("policer add ").replace("slow", name))
    cli.policer_input(stand.engine, "name slow pg0")
    assert len(stand.catch(COUNT)[1]) == 20
    given = Keepsakes()
    stand.engine.events.fire("last-hand-over", given)
    kept, descriptor = given.write()
    found = Keepsakes.read(kept, descriptor)
    os.close(descriptor)
    for name in ("other", "slow"):
        cli.policer_del(stand.engine, f"name {name}")
    cli.policer_add(stand.engine, SLOW.removeprefix("policer add "))
    cli.policer_input(stand.engine, "name slow pg0")
    stand.engine.events.fire("last-take-on", found)
    assert len(stand.catch(COUNT)[1]) <= 1
    (row,) = cli.show_policer(stand.engine).data
    assert row["conform"]["packets"] in (20, 21)


def test_classes_have_policers_of_their_own(stand: Stand) -> None:
    """All packets here are of DSCP 0."""
    for name in ("slow", "voice"):
        cli.policer_add(stand.engine, SLOW.removeprefix("policer add ").replace("slow", name))
    cli.policer_input(stand.engine, "name voice pg0 dscp EF 5")
    assert len(stand.catch(COUNT)[1]) == COUNT
    cli.policer_input(stand.engine, "name slow pg0 dscp CS0 7")
    assert len(stand.catch(COUNT)[1]) == 20
    assert [row["input"] for row in cli.show_policer(stand.engine).data] == [["pg0 dscp 0 7"], ["pg0 dscp 5 46"]]
    with pytest.raises(CommandError, match="policer slow: dscp 46 of the interface's input has voice"):
        cli.policer_input(stand.engine, "name slow pg0 dscp 8 46")
    cli.policer_input(stand.engine, "unapply name slow pg0 dscp 0")
    assert len(stand.catch(COUNT)[1]) == COUNT
    cli.policer_del(stand.engine, "name voice")
    cli.policer_input(stand.engine, "unapply name slow pg0 dscp 7")
    cli.policer_input(stand.engine, "name slow pg0")
    assert cli.show_policer(stand.engine).data[0]["input"] == ["pg0"]


def test_a_colour_aware_one_goes_by_what_was_marked_before(stand: Stand) -> None:
    """A policer on input marks what is beyond its burst AF13; the one on output drops what is marked so."""
    cli.policer_add(stand.engine, "name marks rate pps cir 1 cb 10 violate-action mark-and-transmit AF13")
    cli.policer_add(stand.engine, "name drops color-aware type 1r3c rate pps cir 1 cb 1000 eb 1000")
    cli.policer_input(stand.engine, "name marks pg0")
    cli.policer_output(stand.engine, "name drops pg1")
    assert len(stand.catch(COUNT)[1]) == 10
    drops = cli.show_policer(stand.engine, "name drops")
    assert 'Name "drops" type 1r3c color-aware: cir 1 pps' in drops.text
    assert [drops.data[0][colour]["packets"] for colour in cli.COLOURS] == [10, 0, COUNT - 10]


def test_packets_may_be_counted_and_marked(stand: Stand) -> None:
    text = (
        "name marks type 1r3c rate pps cir 1 cb 10 eb 20 exceed-action mark-and-transmit AF11 violate-action transmit"
    )
    cli.policer_add(stand.engine, text)
    cli.policer_input(stand.engine, "name marks pg0")
    _, left = stand.catch(COUNT)
    assert [packet[15] >> 2 for packet in left] == [0] * 10 + [10] * 20 + [0] * (COUNT - 30)
    assert cli.show_policer(stand.engine).text.splitlines() == [
        'Name "marks" type 1r3c: cir 1 pps, eir 0 pps, cb 10 bytes, eb 20 bytes',
        "  conform action transmit: 10 packets, 500 bytes",
        "  exceed action mark-and-transmit 10: 20 packets, 1000 bytes",
        f"  violate action transmit: {COUNT - 30} packets, {(COUNT - 30) * BYTES} bytes",
        "  input: pg0",
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("name x cir 1", "type 1r2c without cb"),
        ("name x cir 1 cb 1 eb 1", "type 1r2c has no eb"),
        ("name x type 2r3c-2698 cir 2 cb 1 eir 1 eb 1", "eir 1, the peak rate, is below cir 2"),
        ("name x type 3r", "unknown type `3r' (expected 1r2c, 1r3c, 2r3c-2698 or 2r3c-4115)"),
        ("name x cir 1 cb 1 exceed-action mark-and-transmit 64", "64 out of range (expected a DSCP from 0 to 63)"),
        ("name x type 1r3c cir 1 cb 4294967295 eb 4294967295", "bursts of more than"),
    ],
)
def test_a_mistake_is_named_and_changes_nothing(stand: Stand, words: str, said: str) -> None:
    with pytest.raises(CommandError) as refused:
        cli.policer_add(stand.engine, words)
    assert said in str(refused.value)
    assert cli.show_policer(stand.engine).data == []


def test_one_policer_an_interface(stand: Stand) -> None:
    for name in ("one", "two"):
        cli.policer_add(stand.engine, f"name {name} cir 1 cb 1000")
    cli.policer_input(stand.engine, "name one pg0")
    with pytest.raises(CommandError, match="policer two: the interface's input has one"):
        cli.policer_input(stand.engine, "name two pg0")
    with pytest.raises(CommandError, match="policer two: the interface's input has one"):
        cli.policer_input(stand.engine, "unapply name two pg0")
    with pytest.raises(CommandError, match="no policer three"):
        cli.policer_input(stand.engine, "name three pg0")
