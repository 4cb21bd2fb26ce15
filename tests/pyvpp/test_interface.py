# SPDX-License-Identifier: Apache-2.0
"""Interfaces on a real engine: more of them than tables had room for at first, and features on what leaves by them."""

import os
from collections.abc import Iterator
from ipaddress import IPv4Address
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from pyvpp import dispatch as d
from pyvpp.device.interfaces import add_tap_interface
from pyvpp.engine import Engine
from pyvpp.errors import OperatorError
from pyvpp.features import Feature, next_feature
from pyvpp.interface import ADMIN_UP, Interface
from pyvpp.jit import COMPILED, jit
from pyvpp.loader import load
from pyvpp.node import node
from pyvpp.packet_generator import generator_of
from pyvpp.tables import INTERFACES_AT_FIRST, interface_table
from pyvpp.trace import show_trace
from pyvpp.typing import U16, U32, U64, Records
from pyvpp_nodes.vxlan.cli import tunnels_of
from tests.graph_nodes.forwarding import arp, ethernet, ip4, udp
from tests.graph_nodes.lab import Plug

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not COMPILED, reason="the dispatcher is native code")]

MANY = INTERFACES_AT_FIRST + 100
MAC, NEIGHBOR = b"\x02\xfe\0\0\0\1", b"\x02\xfe\0\0\0\2"
SEEN = interface_table("test_seen_leaving", np.uint64)


@node(name="test-leaving", next={0: "error-drop"}, features=(Feature(arc="interface-output"),))
@jit
def leaving(meta: Records, frame: U32, nexts: U16, feature_chains: U16, test_seen_leaving: U64) -> None:
    for i, b in enumerate(frame):
        test_seen_leaving[meta[b].tx] += 1
        nexts[i] = next_feature(feature_chains, meta[b])


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    module = ModuleType("declared_by_a_test")
    vars(module).update(seen=SEEN, leaving=leaving)
    found = load()
    found.add(module)
    monkeypatch.setattr("pyvpp.loader._everything", lambda: found)
    engine = Engine(found, buffers=512, hugepages="off")
    yield engine
    engine.close()


def loopback(engine: Engine, number: int) -> Interface:
    return engine.interfaces.create(
        f"loop{number}", "loopback", mac=MAC, admin_up=False, output="interface-output", tx="loopback-tx"
    )


def pg(engine: Engine, name: str, address: str) -> Interface:
    made = generator_of(engine).create_interface(name, MAC)
    engine.interfaces.set_admin(made, True)
    engine.stack.fib4.add_address(made.sw_if_index, int(IPv4Address(address)), 24)
    return made


def settle(engine: Engine) -> None:
    for _ in range(3):
        engine.run(4)
        engine.drain_punts()


def counter(engine: Engine, name: str, text: str) -> int:
    found = engine.graph.find(name)
    assert found
    return next(int(n) for each, n in zip(found.counter_names, found.counts(), strict=True) if each.text == text)


def sent(engine: Engine, interface: Interface) -> int:
    return counter(engine, f"{interface.name}-tx", "packets sent")


def dropped(engine: Engine) -> int:
    return int(engine.workers[0].rows["vectors"][engine.graph.index_of("error-drop")])


def features(engine: Engine, interface: Interface) -> list[str]:
    return engine.features.enabled("interface-output", interface.sw_if_index)


def test_more_interfaces_than_tables_had_room_for(engine: Engine) -> None:
    """Made while the worker runs: every table has a row for each, and the last ones forward, answer ARP, carry tunnels."""
    engine.start()
    made = [loopback(engine, number) for number in range(MANY)]
    first, last = pg(engine, "pg0", "10.0.0.1"), pg(engine, "pg1", "10.1.0.1")
    engine.stop()
    engine.workers[0].control[d.STOP], engine.workers[0].control[d.EPOLL_FD] = 0, -1
    assert [interface.sw_if_index for interface in made] == list(range(1, MANY + 1))
    by_interface = [table for table in engine.tables.values() if table.table.by_interface]
    assert len(by_interface) > 10
    assert all(len(array) > last.sw_if_index for table in by_interface for array in table.arrays)

    request = arp(1, NEIGHBOR.hex(":"), "10.1.0.9", "00:00:00:00:00:00", "10.1.0.1")
    request = ethernet(request, "ff:ff:ff:ff:ff:ff", NEIGHBOR.hex(":"), 0x0806)
    assert engine.inject(request, "ethernet-input", rx=last.sw_if_index)
    settle(engine)
    assert sent(engine, last) == 1
    assert engine.stack.neighbors.get(last.sw_if_index, int(IPv4Address("10.1.0.9"))).mac == NEIGHBOR
    packet = ethernet(ip4(udp(b"x"), "10.0.0.9", "10.1.0.9"), MAC.hex(":"))
    assert engine.inject(packet, "ethernet-input", rx=first.sw_if_index)
    settle(engine)
    assert sent(engine, last) == 2
    assert int(engine.tables["interface_tx"].sum()["packets"][last.sw_if_index]) == 2
    assert int(engine.tables["ip4_interface_address"].array[last.sw_if_index]) == int(IPv4Address("10.1.0.1"))

    for arc in engine.features.arcs:
        assert engine.features.enabled(arc, last.sw_if_index) == []
    engine.features.enable("interface-output", "test-leaving", last.sw_if_index)
    assert engine.inject(packet, "ethernet-input", rx=first.sw_if_index)
    settle(engine)
    assert (sent(engine, last), int(engine.tables["test_seen_leaving"].array[last.sw_if_index])) == (3, 1)

    tunnel = tunnels_of(engine).create(IPv4Address("10.1.0.1"), IPv4Address("10.1.0.9"), 7, l3=True)
    assert engine.inject(
        ip4(udp(b"x"), "10.0.0.9", "10.9.0.9"), f"{tunnel.interface.name}-output", tx=tunnel.sw_if_index
    )
    settle(engine)
    assert sent(engine, last) == 4
    assert dropped(engine) == 0
    nodes = len(engine.graph.nodes)
    for interface in made:
        engine.interfaces.delete(interface)
    assert len(engine.graph.nodes) == nodes - 2 * MANY


def test_a_feature_on_what_leaves_and_its_end_with_the_interface(engine: Engine) -> None:
    interface = pg(engine, "pg0", "10.0.0.1")
    number = interface.sw_if_index
    for expected in (0, 1):
        assert engine.inject(bytes(60), "pg0-output", tx=number)
        settle(engine)
        assert int(engine.tables["test_seen_leaving"].array[number]) == expected
        assert (sent(engine, interface), dropped(engine)) == (expected + 1, 0)
        engine.features.enable("interface-output", "test-leaving", number)
    engine.interfaces.delete(interface)
    heir = pg(engine, "pg1", "10.0.0.1")
    assert heir.sw_if_index == number
    assert (features(engine, heir), int(engine.tables["interface_output_arc"].array[number])) == ([], 0)
    assert int(engine.tables["test_seen_leaving"].array[number]) == 0
    assert engine.inject(bytes(60), "pg1-output", tx=number)
    settle(engine)
    assert (sent(engine, heir), int(engine.tables["test_seen_leaving"].array[number])) == (1, 0)


def test_what_passed_the_features_of_a_deleted_interface_is_dropped(engine: Engine) -> None:
    interface = pg(engine, "pg0", "10.0.0.1")
    engine.interfaces.delete(interface)
    assert engine.inject(bytes(60), "interface-output-arc-end", tx=interface.sw_if_index)
    settle(engine)
    assert counter(engine, "interface-output-arc-end", "interface is deleted") == 1


def test_a_packet_sent_to_a_node_that_is_removed_before_it_is_taken(engine: Engine) -> None:
    """Its number may be another node's at once; its buffer comes back."""
    interface = pg(engine, "pg0", "10.0.0.1")
    free = engine.buffers.free + len(engine._inject_buffers)
    assert engine.inject(bytes(60), "pg0-output", tx=interface.sw_if_index)
    engine.interfaces.delete(interface)
    heir = pg(engine, "pg1", "10.0.0.1")
    settle(engine)
    assert sent(engine, heir) == 0
    assert engine.buffers.free + len(engine._inject_buffers) == free


def test_an_interface_that_cannot_be_made_leaves_nothing(engine: Engine) -> None:
    before = len(engine.graph.nodes), len(engine.interfaces)
    rows = engine.workers[0].rows
    engine.workers[0].rows = rows[: before[0] + 1]  # room for one node, where an interface has two
    with pytest.raises(OperatorError, match=f"loop0-output: the graph is full with {before[0] + 1} nodes"):
        loopback(engine, 0)
    assert (len(engine.graph.nodes), len(engine.interfaces)) == before
    engine.workers[0].rows = rows
    made = loopback(engine, 0)
    assert (made.sw_if_index, made.flags & ADMIN_UP) == (before[1], 0)


@pytest.mark.parametrize("room", range(3))
def test_a_device_is_closed_when_there_can_be_no_interface_on_it(engine: Engine, room: int) -> None:
    """An interface on a TAP has three nodes: the graph has room for none, one, or two of them."""
    before = len(engine.graph.nodes), len(engine.interfaces)
    rows, plug = engine.workers[0].rows, Plug(layer3=False)
    descriptor = plug.fd
    engine.workers[0].rows = rows[: before[0] + room]
    with pytest.raises(OperatorError, match="the graph is full"):
        add_tap_interface(engine, plug, name="tap0")  # type: ignore[arg-type]
    engine.workers[0].rows = rows
    assert (len(engine.graph.nodes), len(engine.interfaces)) == before
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_inputs_are_forgotten_with_their_interface(engine: Engine) -> None:
    def inputs() -> list[int]:
        listed: Any = engine.workers[0].inputs
        return [int(index) for index in listed[1 : 1 + int(listed[0])]]

    engine.set_inputs()
    before = inputs()
    interface = pg(engine, "pg0", "10.0.0.1")
    index = engine.add_input("tap-input", "pg0-input", interface, [])
    assert inputs() == [*before, index]
    engine.interfaces.delete(interface)
    assert inputs() == before


def test_a_trace_can_be_shown_after_its_interface_is_gone(engine: Engine) -> None:
    interface = pg(engine, "pg0", "10.0.0.1")
    output = interface.output
    engine.workers[0].rows["trace_limit"][output] = 1
    engine.workers[0].control[d.TRACE_ON] = 1
    assert engine.inject(bytes(60), "pg0-output", tx=interface.sw_if_index)
    settle(engine)
    assert [hop["node"] for hop in show_trace(engine)[1][0]["nodes"]] == ["pg0-output", "pg0-tx"]
    engine.interfaces.delete(interface)
    text, data = show_trace(engine)
    assert [hop["node"] for hop in data[0]["nodes"]] == [f"node {output}", f"node {interface.tx}"]
    assert f"node {output}" in text
