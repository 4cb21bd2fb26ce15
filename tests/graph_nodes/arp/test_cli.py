# SPDX-License-Identifier: Apache-2.0
"""Proxy ARP by command, answered by a whole engine."""

import pytest

from pyvpp.cli.registry import CommandError
from pyvpp.packet_generator import Stream
from tests.graph_nodes.forwarding import arp, ethernet
from tests.graph_nodes.test_churn import Console

pytestmark = pytest.mark.slow

ASKER = "02:fe:00:00:00:77"


@pytest.fixture
def console():
    made = Console()
    yield made
    made.close()


def asked(console: Console, target: str) -> list[bytes]:
    """What leaves pg0 when a neighbor asks there who has `target`."""
    answers: list[bytes] = []
    question = ethernet(arp(1, ASKER, "10.0.0.9", "00:00:00:00:00:00", target), "ff:ff:ff:ff:ff:ff", ASKER, 0x0806)
    console.generator.capture(console.pg0, answers.append)
    console.generator.add(Stream("question", [question], console.pg0, limit=1))
    console.generator.set_enabled("question", True)
    console.engine.run(4)
    console.engine.drain_punts()
    console.generator.delete("question")
    console.generator.stop_capture(console.pg0)
    return answers


def test_answers_for_a_range_while_it_is_on(console):
    assert asked(console, "10.9.0.7") == []
    console("set arp proxy start 10.9.0.5 end 10.9.0.8")
    assert asked(console, "10.9.0.7") == []
    console("set interface proxy-arp pg0 enable")
    for target, answered in (("10.9.0.4", 0), ("10.9.0.5", 1), ("10.9.0.8", 1), ("10.9.0.9", 0)):
        answers = asked(console, target)
        assert len(answers) == answered
        if answers:
            assert answers[0][28:32] == bytes(int(part) for part in target.split("."))
    assert console("show arp proxy").splitlines() == [
        "Proxy arps enabled for:", "  fib_index 0  10.9.0.5 - 10.9.0.8", "on: pg0",
    ]  # fmt: skip
    console("set interface proxy-arp pg0 disable")
    assert asked(console, "10.9.0.7") == []
    console("set interface proxy-arp pg0")
    console("set arp proxy del start 10.9.0.5 end 10.9.0.8")
    assert asked(console, "10.9.0.7") == []
    assert not console.engine.tables["arp_proxy"].array["used"].any()


def test_more_ranges_than_the_table_had_room_for(console):
    for k in range(40):
        console(f"set arp proxy start 10.{k}.0.0 end 10.{k}.0.255")
    console("set interface proxy-arp pg0")
    assert len(asked(console, "10.39.0.7")) == 1


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("set arp proxy start 10.9.0.8 end 10.9.0.5", "end 10.9.0.5 lies before start 10.9.0.8"),
        ("set arp proxy table-ID 7 start 10.9.0.5 end 10.9.0.8", "table-ID 7 does not exist"),
        ("set arp proxy del start 10.9.0.5 end 10.9.0.8", "no proxy ARP for 10.9.0.5 to 10.9.0.8"),
        ("set interface proxy-arp nosuch enable", "nosuch"),
        ("set interface proxy-arp pg0 sideways", "sideways"),
    ],
)
def test_what_cannot_be(console, line, words):
    with pytest.raises(CommandError, match=words):
        console(line)


def test_twice_the_same(console):
    console("set arp proxy start 10.9.0.5 end 10.9.0.8")
    with pytest.raises(CommandError, match="is on already"):
        console("set arp proxy start 10.9.0.5 end 10.9.0.8")
