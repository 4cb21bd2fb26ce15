# SPDX-License-Identifier: Apache-2.0
"""Commands about interfaces, against a stand-in for the engine that has what they touch and no more."""

from contextlib import nullcontext
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pyvpp.cli import commands
from pyvpp.cli.registry import CommandError

COUNTER = np.dtype([("packets", "u8"), ("bytes", "u8")])


@dataclass
class Interface:
    sw_if_index: int
    name: str
    kind: str = "tap"
    mac: Any = 0
    mtu: int = 9000
    admin_up: bool = True
    link_up: bool = True
    device: Any = None


class Interfaces(list[Interface]):
    def by_name(self, name: str) -> Interface | None:
        return next((each for each in self if each.name == name), None)

    def set_admin(self, interface: Interface, up: bool) -> None:
        interface.admin_up = up

    def set_mtu(self, interface: Interface, mtu: int) -> None:
        interface.mtu = mtu

    def set_mac(self, interface: Interface, mac: bytes) -> None:
        interface.mac = mac


class PerWorker:
    def __init__(self, dtype: Any) -> None:
        self.arrays = [np.zeros(4, dtype), np.zeros(4, dtype)]

    def sum(self) -> Any:
        total = np.zeros_like(self.arrays[0])
        for field in total.dtype.names or (...,):
            total[field] = np.sum([array[field] for array in self.arrays], axis=0)
        return total


class Engine:
    def __init__(self) -> None:
        self.interfaces = Interfaces(
            [
                Interface(1, "host-vbv1", "af-packet", 0x0200000000AA),
                Interface(0, "local0", "local", mtu=0, admin_up=False, link_up=False),
            ]
        )
        self.tables = {
            name: PerWorker(COUNTER if name in ("interface_rx", "interface_tx") else np.uint64)
            for name in commands.COUNTER_TABLES
        }
        for array, count in zip(self.tables["interface_rx"].arrays, (2, 40), strict=True):
            array[1] = (count, 100 * count)
        self.tables["interface_drops"].arrays[1][1] = 5
        self.tables["interface_rx_miss"].arrays[0][1] = 3
        self.barrier = nullcontext
        self.rx_queues = SimpleNamespace(of=lambda interface: [])


@pytest.fixture
def engine() -> Engine:
    return Engine()


def test_show_interface_adds_up_the_workers(engine: Engine) -> None:
    shown = commands.show_interface(engine)
    assert shown.text.splitlines() == [
        "              Name               Idx    State  MTU (L3/IP4/IP6/MPLS)     Counter          Count     ",
        "host-vbv1                         1      up          9000/0/0/0     rx packets                    42",
        "                                                                    rx bytes                    4200",
        "                                                                    drops                          5",
        "                                                                    rx-miss                        3",
        "local0                            0     down          0/0/0/0       ",
    ]
    assert [each["name"] for each in shown.data] == ["host-vbv1", "local0"]
    assert shown.data[0]["counters"]["rx packets"] == 42
    assert shown.data[0]["mac"] == "02:00:00:00:00:aa"
    assert [each["name"] for each in commands.show_interface(engine, "local0").data] == ["local0"]


def test_clear_interfaces(engine: Engine) -> None:
    commands.clear_interfaces(engine)
    assert not any(commands.interface_counters(commands.interface_totals(engine), 1).values())


def test_show_hardware_interfaces(engine: Engine) -> None:
    shown = commands.show_hardware_interfaces(engine)
    assert shown.text.splitlines()[1:] == [
        "host-vbv1                          1     up   host-vbv1",
        "  Ethernet address 02:00:00:00:00:aa",
        "  af-packet",
        "local0                             0    down  local0",
        "  local",
    ]
    assert len(commands.show_hardware_interfaces(engine, "brief host-vbv1").text.splitlines()) == 2


def test_setting_an_interface(engine: Engine) -> None:
    commands.set_interface_state(engine, "host-vbv1 down")
    commands.set_interface_mtu(engine, "packet 1500 host-vbv1")
    commands.set_interface_mac_address(engine, "host-vbv1 02:00:00:00:00:01")
    assert engine.interfaces[0] == Interface(1, "host-vbv1", "af-packet", b"\2\0\0\0\0\1", 1500, False)
    commands.set_interface_mtu(engine, "9000 host-vbv1")
    assert engine.interfaces[0].mtu == 9000


@pytest.mark.parametrize(
    ("handler", "words", "message"),
    [
        (commands.set_interface_state, "host-vbv1", "unknown flags `' (expected up or down)"),
        (commands.set_interface_state, "host-vbv1 sideways", "unknown flags `sideways' (expected up or down)"),
        (commands.set_interface_state, "nosuch up", "unknown interface `nosuch' (expected host-vbv1 or local0)"),
        (commands.set_interface_mtu, "10 host-vbv1", "10 out of range (expected an MTU from 68 to 65535)"),
        (commands.set_interface_mtu, "1500", "unexpected end of input (expected an interface)"),
        (
            commands.set_interface_mac_address,
            "host-vbv1 01:00:00:00:00:01",
            "`01:00:00:00:00:01' is a multicast address (expected a MAC address whose first byte is even)",
        ),
        (commands.show_interface, "host-vbv", "unknown interface `host-vbv' (did you mean host-vbv1?)"),
    ],
)
def test_mistakes_change_nothing(engine: Engine, handler: Any, words: str, message: str) -> None:
    with pytest.raises(CommandError) as caught:
        handler(engine, words)
    assert str(caught.value) == message
    assert engine.interfaces[0] == Engine().interfaces[0]
