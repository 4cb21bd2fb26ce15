# SPDX-License-Identifier: Apache-2.0
"""Linux at both ends, checksums and segments left to devices or finished, through every kind of device and tunnel.

The far end is Linux on the wire, with a vxlan device of its own; for IPIP, which not every kernel has, a pod of a second
pyvpp. What arrives is compared byte by byte, and no end may have seen a wrong checksum. Linux believes a packet whose checksum
is still to be computed; with the offloads of a veth off nothing is left to compute, and the other end verifies each.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from scapy.layers.inet import IP, UDP
from scapy.utils import rdpcap

from pyvpp.linux import ethtool
from pyvpp.linux.ethtool import Offload
from tests.system.conftest import Namespace, Pair
from tests.system.process import Pyvpp, eventually, running
from tests.system.traffic import datagrams, datagrams_to_nobody, transfer

HOST, PEER, HOST6, PEER6 = "10.77.0.1", "10.77.0.2", "2001:db8:77::1", "2001:db8:77::2"
POD, STATION, STATION6 = "10.80.1.2", "10.92.0.1", "2001:db8:92::1"
NEAR_NODE, FAR_NODE, FAR_POD = "10.78.0.1", "10.78.0.2", "10.80.2.2"
SETUP = f"""
create vxlan tunnel src {HOST} dst {PEER} vni 42
set interface ip address vxlan_tunnel0 10.90.0.1/24
create ipip tunnel src {NEAR_NODE} dst {FAR_NODE}
set interface state ipip0 up
ip route add {FAR_POD}/32 via ipip0
create vxlan tunnel src {HOST} dst {PEER} vni 43
create packet-generator interface pg0
set interface state pg0 up
set interface ip address pg0 10.93.0.1/24
set ip neighbor pg0 10.93.0.2 02:00:00:00:00:93
set interface feature gso pg0
"""
FAR_SETUP = f"""
create ipip tunnel src {FAR_NODE} dst {NEAR_NODE}
set interface state ipip0 up
ip route add 10.80.1.0/24 via ipip0
"""
EVERY = (Offload.TSO, Offload.GSO, Offload.TX_CHECKSUM)
WITHOUT = {"nobody": (), "far": ("peer", "far nic"), "near": ("nic", "nic to node"), "both": ("peer", "nic")}
# The near end, its address, that of the far end.
PATHS = {
    "TAP of the host, ip4": ("host", HOST, PEER),
    "TAP of the host, ip6": ("host", HOST6, PEER6),
    "TAP of the host, VXLAN": ("host", HOST, "10.90.0.2"),
    "TAP of the host, IPIP": ("host", NEAR_NODE, FAR_POD),
    "TUN of a pod": ("pod", POD, PEER),
    "TUN of a pod, VXLAN": ("pod", POD, "10.90.0.2"),
    "TUN of a pod, IPIP": ("pod", POD, FAR_POD),
    "TAP of a station, VXLAN, ip4": ("station", STATION, "10.92.0.2"),
    "TAP of a station, VXLAN, ip6": ("station", STATION6, "2001:db8:92::2"),
}


@dataclass
class Lab:
    """The near ends are behind pyvpp; `nics` are namespaces and the interface there that is as good as a NIC."""

    pyvpp: Pyvpp
    near: dict[str, Namespace]
    peer: Namespace
    far_pod: Namespace
    nics: dict[str, tuple[Namespace, str]]

    @contextlib.contextmanager
    def without_offloads(self, whose: tuple[str, ...]) -> Iterator[None]:
        """For a while Linux finishes checksums and segments before it sends them."""

        def switch(on: bool) -> None:
            for (namespace, name), offload in itertools.product((self.nics[each] for each in whose), EVERY):
                namespace.inside(partial(ethtool.switch, name, offload, on))

        switch(False)
        try:
            yield
        finally:
            switch(True)

    def wrong_checksums(self) -> int:
        """How many all ends have seen, of TCP and UDP."""
        return sum(bad_checksums(each) for each in (*self.near.values(), self.peer, self.far_pod))

    def far(self, address: str) -> Namespace:
        return self.far_pod if address == FAR_POD else self.peer

    def route_back(self, address: str, far: str) -> None:
        """The peer answers the pod by the way that its own address is on."""
        if address == POD and far != FAR_POD:
            way = "10.90.0.1" if far == "10.90.0.2" else HOST
            self.peer.ip("route", "replace", f"{POD}/32", "via", way)


def bad_checksums(namespace: Namespace) -> int:
    """Of both families: TCP counts them together, UDP apart."""
    read = "cat /proc/net/snmp /proc/net/snmp6"
    lines = [line.split() for line in namespace.run("sh", "-c", read).stdout.splitlines()]
    total = sum(int(line[1]) for line in lines if line[0] == "Udp6InCsumErrors")
    for names, values in itertools.pairwise(lines):
        if names[0] in ("Tcp:", "Udp:") and values[0] == names[0] and "InCsumErrors" in names:
            total += int(values[names.index("InCsumErrors")])
    return total


def add_far_ends(peer: Namespace) -> None:
    """Linux' ends of the VXLAN tunnels, with addresses."""
    for name, vni, addresses in (
        ("vx42", 42, ("10.90.0.2/24",)),
        ("vx43", 43, ("10.92.0.2/24", "2001:db8:92::2/64")),
    ):
        peer.ip(*f"link add {name} type vxlan id {vni} local {PEER} remote {HOST} dstport 4789".split())
        for address in addresses:
            peer.ip("addr", "add", address, "dev", name, *(("nodad",) if ":" in address else ()))
        peer.ip("link", "set", name, "up")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A TAP for the host, a pod's TUN, a TAP that is cross-connected with a VXLAN tunnel; and another node."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    directory = tmp_path_factory.mktemp("offloads")
    scripts = []
    for name, text in (("near", SETUP), ("far", FAR_SETUP)):
        scripts.append(directory / name)
        scripts[-1].write_text(text)
    with Pair(directory).as_joined() as sandbox:
        node = sandbox.namespace("node")
        sandbox.join(sandbox.host, "eth1", node, "eth0")
        sandbox.host.ip("addr", "add", f"{NEAR_NODE}/24", "dev", "eth1")
        node.ip("addr", "add", f"{FAR_NODE}/24", "dev", "eth0")
        sandbox.host.ip("route", "add", "10.90.0.0/16", "via", PEER)
        sandbox.host.ip("route", "add", f"{FAR_POD}/32", "via", FAR_NODE)
        add_far_ends(sandbox.peer)
        uplinks = ("--uplink", "eth0", "--uplink", "eth1")
        with (
            running(sandbox, sandbox.host, *uplinks, "--exec", scripts[0]) as pyvpp,
            running(sandbox, node, "--uplink", "eth0", "--exec", scripts[1]) as other,
        ):
            yield connected(sandbox, pyvpp, other)


def add_pod(sandbox: Pair, pyvpp: Pyvpp, name: str, address: str) -> Namespace:
    pod = sandbox.namespace(name)
    pyvpp.ctl(f"create tap tun host-ns {pod.name} host-if-name eth0 host-ip4-addr {address}/32 host-mtu-size 1450")
    return pod


def connected(sandbox: Pair, pyvpp: Pyvpp, other: Pyvpp) -> Lab:
    near = {"host": sandbox.host, "pod": add_pod(sandbox, pyvpp, "pod", POD), "station": sandbox.namespace("station")}
    tap = pyvpp.ctl(
        f"create tap host-ns {near['station'].name} host-if-name eth0 host-ip4-addr {STATION}/24 host-mtu-size 1450"
    ).strip()
    near["station"].ip("addr", "add", f"{STATION6}/64", "dev", "eth0", "nodad")
    pyvpp.ctl(f"set interface l2 xconnect {tap} vxlan_tunnel1")
    pyvpp.ctl(f"set interface l2 xconnect vxlan_tunnel1 {tap}")
    nics = {"peer": (sandbox.peer, "eth0")}
    for name, process, interface in (
        ("nic", pyvpp, "eth0"),
        ("nic to node", pyvpp, "eth1"),
        ("far nic", other, "eth0"),
    ):
        namespace = Namespace(name)
        namespace.path = process.runtime_dir / f"netns-{interface}"
        nics[name] = namespace, interface
    return Lab(pyvpp, near, sandbox.peer, add_pod(sandbox, other, "far-pod", FAR_POD), nics)


@pytest.mark.parametrize("whose", WITHOUT)
@pytest.mark.parametrize("path", PATHS)
def test_every_byte_arrives_and_no_checksum_is_wrong(lab: Lab, path: str, whose: str) -> None:
    name, address, far = PATHS[path]
    one, other = lab.near[name], lab.far(far)
    lab.route_back(address, far)
    with lab.without_offloads(WITHOUT[whose]):
        before = lab.wrong_checksums()
        transfer(one, other, far, megabytes=1)  # there and back
        datagrams(one, other, far)
        if name != "host" or far in (PEER, PEER6):  # the host's own address is not behind a tunnel
            datagrams(other, one, address)
        assert lab.wrong_checksums() == before


def test_a_capture_shows_segments_and_whole_checksums(lab: Lab, tmp_path: Path) -> None:
    """The packet generator does nothing itself, so the node gso does all for it."""
    capture = tmp_path / "pg0.pcap"
    lab.pyvpp.ctl(f"pcap trace tx max 100 max-bytes-per-pkt 2000 intfc pg0 file {capture}")
    datagrams_to_nobody(lab.near["pod"], "10.93.0.2", 1200, 4800 + 11)
    eventually(lambda: lab.pyvpp.counter("gso", "segments sent") >= 5, "segments on pg0")
    lab.pyvpp.ctl("pcap trace off")
    packets = [packet for packet in rdpcap(str(capture)) if UDP in packet]
    assert [len(packet[UDP].payload) for packet in packets] == [1200] * 4 + [11]
    for packet in packets:
        had = packet[IP].chksum, packet[UDP].chksum
        del packet[IP].chksum, packet[UDP].chksum
        again = type(packet)(bytes(packet))
        assert had == (again[IP].chksum, again[UDP].chksum)


def test_gro_has_joined_what_came_from_a_peer_without_offloads(lab: Lab) -> None:
    """Out of a VXLAN tunnel, where no driver does it."""
    lab.route_back(POD, "10.90.0.2")
    before = lab.pyvpp.counter("gro", "packets coalesced")
    deadline = time.monotonic() + 10
    with lab.without_offloads(("peer",)):
        while lab.pyvpp.counter("gro", "packets coalesced") == before:
            assert time.monotonic() < deadline
            transfer(lab.peer, lab.near["pod"], POD, megabytes=4)


def test_large_packets_cross_an_ipip_tunnel_whole(lab: Lab) -> None:
    """The veth behind it takes 64 KiB, so nobody segments; without TSO it is Linux that does, behind pyvpp."""
    eventually(
        lambda: "ipip-gso-enabled" in lab.pyvpp.ctl("show hardware-interfaces host-eth1"), "segments left to Linux"
    )
    for whose in ("nobody", "near"):
        with lab.without_offloads(WITHOUT[whose]):
            before = lab.pyvpp.counter("gso-ip4", "segments sent")
            transfer(lab.near["pod"], lab.far_pod, FAR_POD, megabytes=4)
            assert lab.pyvpp.counter("gso-ip4", "segments sent") == before


def test_segments_of_the_host_are_joined_on_their_way_out(lab: Lab) -> None:
    """A host that does not leave segmentation to its TAP. What a veth gets as one it hands over as one."""
    host, wrong = lab.near["host"], lab.wrong_checksums()
    before = read_packets(lab.peer)
    with without_segmentation(host):
        transfer(host, lab.peer, PEER, megabytes=8)
    assert read_packets(lab.peer) - before < (8 << 20) / 1448, "fewer packets than segments, acknowledgments included"
    assert lab.wrong_checksums() == wrong


def read_packets(namespace: Namespace) -> int:
    (link,) = json.loads(namespace.ip("-j", "-s", "link", "show", "eth0"))
    return int(link["stats64"]["rx"]["packets"])


@contextlib.contextmanager
def without_segmentation(namespace: Namespace) -> Iterator[None]:
    for offload in (Offload.TSO, Offload.GSO):
        namespace.inside(partial(ethtool.switch, "eth0", offload, False))
    try:
        yield
    finally:
        for offload in (Offload.TSO, Offload.GSO):
            namespace.inside(partial(ethtool.switch, "eth0", offload, True))
