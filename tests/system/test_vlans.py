# SPDX-License-Identifier: Apache-2.0
"""VLANs on real interfaces: Linux at both ends, tags beside the packets or in them, segments of 64 KiB among them."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
from collections.abc import Iterator
from functools import partial

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.l2 import ARP, Dot1Q, Ether

from pyvpp.linux import ethtool
from tests.system.conftest import Namespace, Pair, Sandbox
from tests.system.process import Pyvpp, eventually, ping, pyvpp_command, running
from tests.system.test_offloads import EVERY, bad_checksums
from tests.system.traffic import datagrams, transfer
from tests.system.vlans import Wire, in_vlan

LEFT, RIGHT, STATION = ("10.61.0", 10), ("10.62.0", 20), ("10.63.0", 30)
BROADCAST = "ff:ff:ff:ff:ff:ff"


def mac_of(namespace: Namespace, name: str = "eth0") -> str:
    (link,) = json.loads(namespace.ip("-j", "link", "show", name))
    return str(link["address"])


def add_vlan(pyvpp: Pyvpp, interface: str, end: Namespace, network: str, vlan: int) -> None:
    """A VLAN of an interface, and the address of the end that is in there, with a route by way of pyvpp."""
    pyvpp.ctl(f"create sub-interfaces {interface} {vlan}")
    pyvpp.ctl(f"set interface state {interface}.{vlan} up")
    pyvpp.ctl(f"set interface ip address {interface}.{vlan} {network}.1/24")
    end.ip("addr", "add", f"{network}.2/24", "dev", "eth0")
    end.ip("route", "add", "default", "via", f"{network}.1")


@contextlib.contextmanager
def offloads(namespaces: tuple[Namespace, ...], on: bool) -> Iterator[None]:
    """Whether Linux leaves checksums and segments to eth0 there, for a while; afterwards it does."""

    def switch(to: bool) -> None:
        for namespace, offload in itertools.product(namespaces, EVERY):
            namespace.inside(partial(ethtool.switch, "eth0", offload, to))

    switch(on)
    try:
        yield
    finally:
        switch(True)


class Net:
    """pyvpp between a client in VLAN 10 and a server in VLAN 20, on a veth pair each, and a TAP's end in VLAN 30."""

    def __init__(self, sandbox: Sandbox) -> None:
        names = ("client", "node", "server", "station")
        self.client, self.node, self.server, self.station = (sandbox.namespace(name) for name in names)
        for end in (
            self.client,
            self.server,
            self.station,
        ):  # which would look for IPv6 routers: drops nobody counts on
            end.run("sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1")
        sandbox.join(self.client, "eth0", self.node, "left")
        sandbox.join(self.server, "eth0", self.node, "right")

    def configure(self, pyvpp: Pyvpp) -> None:
        self.pyvpp = pyvpp
        for name, end, where in (("left", self.client, LEFT), ("right", self.server, RIGHT)):
            pyvpp.ctl(f"create host-interface name {name}")
            pyvpp.ctl(f"set interface state host-{name} up")
            add_vlan(pyvpp, f"host-{name}", end, *where)
        tap = pyvpp.ctl(f"create tap host-ns {self.station.name} host-if-name eth0 host-mtu-size 1500").strip()
        add_vlan(pyvpp, tap, self.station, *STATION)
        self.tap = tap


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Net]:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    sandbox = Sandbox(tmp_path_factory.mktemp("vlans"))
    try:
        made = Net(sandbox)
        with running(sandbox, made.node) as pyvpp:
            made.configure(pyvpp)
            yield made
    finally:
        sandbox.close()


@pytest.fixture
def ends(net: Net) -> Iterator[Net]:
    """Everybody in his VLAN."""
    try:
        with (
            in_vlan(net.client, LEFT[1]),
            in_vlan(net.server, RIGHT[1]),
            in_vlan(net.station, STATION[1]),
        ):
            eventually(lambda: ping(net.client, "10.62.0.2"), "the server answers")
            eventually(lambda: ping(net.station, "10.62.0.2"), "the server answers the station")
            yield net
    except OSError as error:
        pytest.skip(f"no BPF programs on interfaces here: {error}")


@pytest.mark.parametrize("offload", [True, False], ids=["offloads", "no offloads"])
def test_every_byte_goes_from_vlan_to_vlan(ends: Net, offload: bool) -> None:
    """TCP with segments of 64 KiB and UDP, both ways and by a TAP; nobody sees a wrong checksum."""
    everybody = (ends.client, ends.server, ends.station)
    names = ("host-left.10", "host-right.20", f"{ends.tap}.30")
    wrong = sum(map(bad_checksums, everybody))
    before = {name: ends.pyvpp.interface(name)["counters"] for name in names}
    with offloads(everybody, offload):
        for one, address in ((ends.client, "10.61.0.2"), (ends.station, "10.63.0.2")):
            transfer(one, ends.server, "10.62.0.2", megabytes=4)
            datagrams(one, ends.server, "10.62.0.2")
            datagrams(ends.server, one, address)
        transfer(ends.client, ends.station, "10.63.0.2", megabytes=4)
    assert sum(map(bad_checksums, everybody)) == wrong
    for name in names:
        counters = ends.pyvpp.interface(name)["counters"]
        assert counters["drops"] == before[name]["drops"]
        assert min(counters[way] - before[name][way] for way in ("rx bytes", "tx bytes")) > 4 << 20


def test_segments_pass_whole(ends: Net) -> None:
    """A tag in front changes nothing of what is left to Linux: 4 MB take fewer packets than segments."""
    before = ends.pyvpp.interface("host-right.20")["counters"]["tx packets"]
    transfer(ends.client, ends.server, "10.62.0.2", megabytes=4)
    sent = ends.pyvpp.interface("host-right.20")["counters"]["tx packets"] - before
    assert sent < (4 << 20) / 1448, "as many packets as segments"


def test_frames_with_tags_one_by_one(net: Net) -> None:
    """ARP and ping in the VLAN and with a priority, beside what has no tag, another one, or half of one."""
    own, mine = net.pyvpp.interface("host-left")["mac"], mac_of(net.client)
    unknown = net.pyvpp.counter("ethernet-input", "unknown vlan")
    link = Ether(src=mine, dst=own)
    ask = ARP(hwsrc=mine, psrc="10.61.0.2", pdst="10.61.0.1")
    echo = IP(src="10.61.0.2", dst="10.61.0.1") / ICMP(id=1) / b"the payload of a ping"
    with Wire(net.client) as wire:
        wire.send(bytes(Ether(src=mine, dst=BROADCAST) / Dot1Q(vlan=11) / ask))
        wire.send(bytes(link / Dot1Q(vlan=10) / Dot1Q(vlan=4) / echo))
        wire.send(bytes(Ether(src=mine, dst=BROADCAST) / Dot1Q(vlan=10) / ask))
        answer = wire.until(b"\x08\x06")
        assert (answer.vlan, Ether(answer.frame)[ARP].op, Ether(answer.frame)[ARP].hwsrc) == (10, 2, own)
        eventually(lambda: "10.61.0.2" in net.pyvpp.ctl("show ip neighbors"), "who asked is known")
        for priority in (0, 7):
            wire.send(bytes(link / Dot1Q(vlan=10, prio=priority) / echo))
            reply = wire.until(b"the payload of a ping")
            assert (reply.vlan, Ether(reply.frame)[ICMP].type) == (10, 0)
    eventually(
        lambda: net.pyvpp.counter("ethernet-input", "unknown vlan") == unknown + 2, "frames of other VLANs are counted"
    )


UPLINK_SETUP = """
create sub-interfaces host-eth0 20
set interface state host-eth0.20 up
set interface ip address host-eth0.20 10.62.0.1/24
"""


def test_vlans_on_an_uplink(sandbox: Pair) -> None:
    """VLAN 20 is pyvpp's, where pods' packets leave with a tag; the others are the host's, in and out, unchanged."""
    script = sandbox.directory / "setup"
    mac = mac_of(sandbox.peer)
    script.write_text(UPLINK_SETUP + f"set ip neighbor host-eth0.20 10.62.0.2 {mac} static\n")
    pod = sandbox.namespace("pod")
    with running(sandbox, sandbox.host, "--uplink", "eth0", "--exec", script) as pyvpp:
        pyvpp.ctl(f"create tap tun host-ns {pod.name} host-if-name eth0 host-ip4-addr 10.80.1.2/32")
        own = mac_of(sandbox.host)
        to_uplink = Ether(src=mac, dst=own)
        with Wire(sandbox.peer) as wire, Wire(sandbox.host) as host:
            echo = IP(src="10.62.0.2", dst="10.80.1.2") / ICMP(id=2) / b"from VLAN 20 to the pod"
            wire.send(bytes(to_uplink / Dot1Q(vlan=20) / echo))
            reply = wire.until(b"from VLAN 20 to the pod")
            assert (reply.vlan, Ether(reply.frame)[ICMP].type) == (20, 0)
            for vlan in (0, 21, 4094):
                text = b"for the host in VLAN %d" % vlan
                wire.send(
                    bytes(to_uplink / Dot1Q(vlan=vlan, prio=3) / IP(src="10.9.9.9", dst="10.77.0.1") / UDP() / text)
                )
                found = host.until(text)
                assert (found.vlan, Ether(found.frame).dst) == (vlan, own)
                text = b"of the host in VLAN %d" % vlan
                host.send(
                    bytes(
                        Ether(src=own, dst=mac) / Dot1Q(vlan=vlan) / IP(src="10.77.0.1", dst="10.9.9.9") / UDP() / text
                    )
                )
                assert wire.until(text).vlan == vlan
        assert ping(sandbox.peer, "10.77.0.1") == 1
        assert pyvpp.interface("host-eth0.20")["counters"]["rx packets"] == 1
        assert pyvpp.counter("uplink-input", "to a subinterface of pyvpp's own") == 1


def test_vlans_go_on_after_an_upgrade(sandbox: Pair) -> None:
    """The same, with the same numbers, in the process that goes on."""
    script = sandbox.directory / "setup"
    mac = mac_of(sandbox.peer)
    script.write_text(UPLINK_SETUP + f"set ip neighbor host-eth0.20 10.62.0.2 {mac} static\n")
    with running(sandbox, sandbox.host, "--uplink", "eth0", "--exec", script) as pyvpp:
        pyvpp.ctl("create sub-interfaces host-eth0 30 dot1ad 300")
        pyvpp.ctl("create sub-interfaces host-eth0.30 7")
        before = pyvpp.data("show vlan")
        assert [each["name"] for each in before] == ["host-eth0.20", "host-eth0.30", "host-eth0.30.7"]
        sandbox.host.run(*pyvpp_command("upgrade", "--runtime-dir", pyvpp.runtime_dir))
        assert pyvpp.data("show vlan") == before
        echo = IP(src="10.62.0.2", dst="10.62.0.1") / ICMP(id=3) / b"after an upgrade"
        with Wire(sandbox.peer) as wire:
            wire.send(bytes(Ether(src=mac, dst=mac_of(sandbox.host)) / Dot1Q(vlan=20) / echo))
            reply = wire.until(b"after an upgrade")
        assert (reply.vlan, Ether(reply.frame)[ICMP].type) == (20, 0)
