# SPDX-License-Identifier: Apache-2.0
"""Requests about VLAN devices, byte by byte: not every kernel has them, so pyroute2 says what Linux would read."""

from __future__ import annotations

import errno
import struct
from typing import Any

import pytest
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from pyvpp.linux import capture, stacked
from pyvpp.linux.capture import UplinkState, Vlan
from pyvpp.linux.rtnetlink import NLM_F_CREATE, NLM_F_EXCL, Refusal, Request, attribute

# As Linux tells of `ip link add link eth0 name eth0.100 type vlan proto 802.1ad id 100 gvrp on egress-qos-map 1:3`:
# protocol, id, flags with their mask, and the map (linux/if_link.h; integers of the machine, the protocol as on the wire)
EGRESS_MAP = attribute(3, attribute(1, struct.pack("=II", 1, 3)))
DATA = (
    attribute(5, b"\x88\xa8")
    + attribute(1, struct.pack("=H", 100))
    + attribute(2, struct.pack("=II", 3, 0xFFFFFFFF))
    + EGRESS_MAP
)
ETH0, VLAN = 4, 9


def state(name: str = "eth0.100", ifindex: int = VLAN, **more: Any) -> UplinkState:
    return UplinkState(
        name=name, ifindex=ifindex, kind="vlan", mac="02:00:00:00:00:01", mtu=1496, txqueuelen=1000, group=0, alias="",
        altnames=(), flags=1, address_generation=None, token="", sysctls={}, addresses=(), routes=(), neighbors=(), **more,
    )  # fmt: skip


def told(ifindex: int, below: int, kind: bytes = b"vlan", more: bytes = b"") -> bytes:
    """The body of Linux' RTM_NEWLINK about a device."""
    info = attribute(1, kind + b"\0") + attribute(2, DATA)
    return (
        struct.pack("=BxHiII", 0, 1, ifindex, 0x1043, 0)
        + attribute(3, b"eth0.100\0")
        + attribute(5, struct.pack("=I", below))
        + attribute(18, info)
        + more
    )


def read(request: Request) -> ifinfmsg:
    """What a request asks for, as pyroute2 reads it."""
    body = struct.pack("=IHHII", 16 + len(request.body), request.kind, request.flags, 0, 0) + request.body
    message = ifinfmsg(body)
    message.decode()
    return message


class FakeLinux:
    """In the place of the netlink socket: devices, what was asked for, and whether the index wanted is taken."""

    def __init__(self, *devices: bytes, taken: bool = False) -> None:
        self.devices, self.taken = devices, taken
        self.asked: list[Request] = []

    def __enter__(self) -> FakeLinux:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def dump(self, kind: int, body: bytes) -> list[bytes]:
        assert kind == 18
        return list(self.devices)

    def ask(self, requests: list[Request]) -> list[Refusal]:
        self.asked += requests
        wanted = [struct.unpack_from("=BxHi", request.body)[2] for request in requests]
        return [Refusal(errno.EEXIST if self.taken and index else 0) for index in wanted]


@pytest.fixture
def linux(monkeypatch: pytest.MonkeyPatch) -> FakeLinux:
    fake = FakeLinux(
        told(7, 5), told(VLAN, ETH0), told(8, ETH0, b"macvlan"), told(3, ETH0, more=attribute(37, bytes(4)))
    )
    monkeypatch.setattr(stacked, "Netlink", lambda: fake)
    monkeypatch.setattr(stacked.socket, "if_nametoindex", {"eth0.100": 77}.__getitem__)
    return fake


def test_the_vlans_on_a_link(linux: FakeLinux) -> None:
    """Not those on another, nor other kinds, nor one whose link is in another namespace."""
    assert stacked.built_on(ETH0) == [stacked.Device(VLAN, "vlan", DATA)]
    assert (stacked.vlan_id(DATA), stacked.tpid(DATA)) == (100, 0x88A8)
    assert stacked.tpid(attribute(1, struct.pack("=H", 5))) == 0x8100


def test_it_is_asked_for_as_it_was() -> None:
    request = stacked.creation(Vlan("vlan", DATA.hex(), state()), 12, VLAN)
    assert request[:2] == (16, NLM_F_CREATE | NLM_F_EXCL)
    message = read(request)
    assert message["index"] == VLAN
    assert message.get_attr("IFLA_IFNAME") == "eth0.100"
    assert (message.get_attr("IFLA_LINK"), message.get_attr("IFLA_MTU")) == (12, 1496)
    assert message.get_attr("IFLA_ADDRESS") == "02:00:00:00:00:01"
    info = message.get_attr("IFLA_LINKINFO")
    assert info.get_attr("IFLA_INFO_KIND") == "vlan"
    data = info.get_attr("IFLA_INFO_DATA")
    assert data.get_attr("IFLA_VLAN_ID") == 100
    assert data.get_attr("IFLA_VLAN_PROTOCOL") == 0x88A8
    assert data.get_attr("IFLA_VLAN_FLAGS")["flags"] == 3
    mapping = data.get_attr("IFLA_VLAN_EGRESS_QOS").get_attr("IFLA_VLAN_QOS_MAPPING")
    assert (mapping["from"], mapping["to"]) == (1, 3)


def test_one_that_is_there_is_not_made_again(linux: FakeLinux) -> None:
    assert stacked.make(Vlan("vlan", DATA.hex(), state()), ETH0) == VLAN
    assert linux.asked == []


@pytest.mark.parametrize("taken", [False, True])
def test_with_its_index_if_that_is_free(linux: FakeLinux, taken: bool) -> None:
    linux.taken = taken
    assert stacked.make(Vlan("vlan", DATA.hex(), state()), 12) == 77
    assert [read(request)["index"] for request in linux.asked] == [VLAN, 0][: 1 + taken]


def test_what_linux_refuses_is_said(linux: FakeLinux, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linux, "ask", lambda requests: [Refusal(errno.EOPNOTSUPP, "not on this device")])
    with pytest.raises(OSError, match=r"VLAN eth0\.100: not on this device"):
        stacked.make(Vlan("vlan", DATA.hex(), state()), 12)
    with pytest.raises(OSError, match="device 9: not on this device"):
        stacked.remove(VLAN)


def test_one_that_is_gone_need_not_be_removed(linux: FakeLinux, monkeypatch: pytest.MonkeyPatch) -> None:
    stacked.remove(VLAN)
    assert [(kind, struct.unpack_from("=BxHi", body)[2]) for kind, _, body in linux.asked] == [(17, VLAN)]
    monkeypatch.setattr(linux, "ask", lambda requests: [Refusal(errno.ENODEV)])
    stacked.remove(VLAN)


def test_a_journal_holds_vlans_in_vlans() -> None:
    inner = Vlan("vlan", DATA.hex(), state("eth0.100.5", 10))
    whole = state("eth0", ETH0, vlans=(Vlan("vlan", DATA.hex(), state(vlans=(inner,))),))
    read_again = capture.msgspec.json.decode(capture.msgspec.json.encode(whole), type=UplinkState)
    assert read_again == whole
    assert (read_again.vlans[0].id, read_again.vlans[0].tpid, read_again.vlans[0].state.vlans) == (
        100,
        0x88A8,
        (inner,),
    )
    before_there_were_any = capture.msgspec.to_builtins(whole)
    del before_there_were_any["vlans"]
    assert capture.msgspec.convert(before_there_were_any, UplinkState).vlans == ()
