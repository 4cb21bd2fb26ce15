# SPDX-License-Identifier: Apache-2.0
"""Whole paths through a real engine: into a tunnel, out of it, segmented and fragmented; every buffer comes back."""

from collections.abc import Iterator
from ipaddress import IPv4Address
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, defragment
from scapy.layers.l2 import ARP, Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Raw

from pyvpp.buffers import CSUM_PARTIAL, HEADROOM, POOL_LARGE, POOL_LARGE_START, slot_start
from pyvpp.engine import Engine
from pyvpp.interface import L2
from pyvpp.jit import COMPILED
from pyvpp.loader import load
from pyvpp.node import Kind, Node
from pyvpp_nodes.fib.entry import Source, attached, attached_nexthop
from pyvpp_nodes.ipip.cli import tunnels_of as ipip_of
from pyvpp_nodes.vxlan.cli import tunnels_of as vxlan_of

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not COMPILED, reason="the dispatcher is native code")]

LOCAL, REMOTE, GATEWAY_MAC = "10.1.2.1", "10.1.2.2", "36:df:74:c4:25:f4"
POD = "10.244.1.5"


sent: list[tuple[str, bytes]] = []


def keep(engine: Any, packet: Any) -> None:
    sent.append((engine.interfaces[int(packet.meta["tx"])].name, packet.data))


class Path:
    """eth0 (10.1.2.1/24, to the underlay) and tun0 (to a pod), whose drivers hand over what they would send."""

    def __init__(self) -> None:
        declarations = load()
        declarations.nodes["test-tx"] = Node("test-tx", keep, kind=Kind.PYTHON, template=True)
        self.engine = engine = Engine(declarations, buffers=4096, hugepages="off")
        self.fib = engine.stack.fib4
        ports: dict[str, Any] = {"output": "interface-output", "tx": "test-tx"}
        self.eth0 = engine.interfaces.create("eth0", "test", mac=b"\x02\0\0\0\0\x01", mtu=1500, **ports)
        self.fib.add_address(self.eth0.sw_if_index, int(IPv4Address(LOCAL)), 24)
        self.tun0 = engine.interfaces.create("tun0", "test", mtu=1480, flags=4, **ports)
        self.fib.update(f"{POD}/32", [attached(self.tun0.sw_if_index)], Source.API)
        mac = bytes.fromhex(GATEWAY_MAC.replace(":", ""))
        engine.stack.neighbors.learn(self.eth0.sw_if_index, int(IPv4Address(REMOTE)), mac)
        self.settle()
        self.free = engine.buffers.free + len(engine._inject_buffers)

    def settle(self) -> list[tuple[str, bytes]]:
        sent.clear()
        for _ in range(6):
            self.engine.run(4)
            self.engine.drain_punts()
        return list(sent)

    def send(self, data: bytes, interface: Any, node: str) -> list[tuple[str, bytes]]:
        assert self.engine.inject(data, node, rx=interface.sw_if_index)
        out = self.settle()
        assert self.engine.buffers.free + len(self.engine._inject_buffers) == self.free
        return out

    def send_large(self, data: bytes, csum_start: int, size: int) -> list[tuple[str, bytes]]:
        """A GSO packet from the pod, as its driver would hand it over."""
        engine = self.engine
        pool = engine.buffers.pools[0]
        pool[POOL_LARGE] -= 1
        b = int(pool[int(pool[POOL_LARGE_START]) + int(pool[POOL_LARGE])])
        start = slot_start(b) + HEADROOM
        engine.buffers.heap.array[start : start + len(data)] = bytearray(data)
        m = engine.buffers.meta[b : b + 1]
        m[:] = 0
        m["cur"] = m["l2"] = m["l3"] = m["l4"] = start
        m["len"], m["rx"], m["ref"], m["flags"] = len(data), self.tun0.sw_if_index, 1, CSUM_PARTIAL
        m["csum_start"], m["csum_offset"], m["gso_size"], m["gso_type"] = start + csum_start, 16, size, 1
        engine.workers[0].push(b, engine.graph.index_of("ip4-input"))
        out = self.settle()
        assert engine.buffers.free + len(engine._inject_buffers) == self.free
        return out

    def counted(self, node: str) -> dict[str, int]:
        found = self.engine.graph.find(node)
        return {counter.text: int(n) for counter, n in zip(found.counter_names, found.counts(), strict=False) if n}


@pytest.fixture(scope="module")
def path() -> Iterator[Path]:
    path = Path()
    yield path
    path.engine.close()


def from_pod(destination: str, **fields: Any) -> bytes:
    return bytes(IP(src=POD, dst=destination, **fields) / UDP(sport=1, dport=2) / Raw(b"from a pod"))


def outer_of(out: list[tuple[str, bytes]]) -> IP:
    [(name, data)] = out
    frame = Ether(data)
    assert (name, frame.src, frame.dst) == ("eth0", "02:00:00:00:00:01", GATEWAY_MAC)
    return frame[IP]


def test_ipip(path):
    tunnels = ipip_of(path.engine)
    tunnel = tunnels.create(IPv4Address(LOCAL), IPv4Address(REMOTE))
    path.engine.interfaces.set_admin(tunnel.interface, True)
    path.fib.update("10.60.0.0/16", [attached(tunnel.sw_if_index)], Source.CLI)
    outer = outer_of(path.send(from_pod("10.60.0.1"), path.tun0, "ip4-input"))
    assert (outer.src, outer.dst, outer.ttl, outer.proto, outer.id) == (LOCAL, REMOTE, 63, 4, 0)
    assert bytes(outer.payload) == from_pod("10.60.0.1", ttl=63)
    assert bytes(IP(bytes(outer))) == bytes(outer)

    reply = IP(src="10.60.0.1", dst=POD) / ICMP(id=77) / Raw(b"abc")
    frame = Ether(dst="02:00:00:00:00:01") / IP(src=REMOTE, dst=LOCAL) / reply
    [(name, data)] = path.send(bytes(frame), path.eth0, "ethernet-input")
    reply.ttl = 63
    assert (name, data) == ("tun0", bytes(reply))
    assert path.counted("ipip4-input") == {"packets decapsulated": 1}

    large = (
        IP(src=POD, dst="10.60.0.1", id=5, flags="DF")
        / TCP(sport=9, dport=80, flags="PA", seq=1)
        / Raw(bytes(range(250)) * 200)
    )
    out = path.send_large(bytes(large), 20, 1440)
    inners = [outer_of([each]).payload for each in out]
    assert len(out) == -(-50000 // 1440)
    assert b"".join(bytes(inner[TCP].payload) for inner in inners) == bytes(large[TCP].payload)
    for k, inner in enumerate(inners):
        again = IP(bytes(inner))
        del again.chksum, again[TCP].chksum
        assert bytes(again) == bytes(inner)
        assert (inner.id, inner[TCP].seq, inner.ttl) == (5 + k, 1 + 1440 * k, 63)

    whole = IP(src=POD, dst="10.60.0.1", id=7) / UDP(sport=1, dport=2) / Raw(bytes(1800))
    inners = [outer_of([each]).payload for each in path.send(bytes(whole), path.tun0, "ip4-input")]
    assert len(inners) == 2
    assert bytes(defragment(inners)[0][UDP]) == bytes(IP(bytes(whole))[UDP])

    tunnels.delete(tunnel.sw_if_index)
    assert path.send(from_pod("10.60.0.1"), path.tun0, "ip4-input") == []


@pytest.mark.parametrize("l3", [False, True])
def test_vxlan(path, l3):
    tunnels = vxlan_of(path.engine)
    tunnel = tunnels.create(IPv4Address(LOCAL), IPv4Address(REMOTE), 4096, l3=l3)
    interface = tunnel.interface
    if l3:
        path.fib.update("10.70.0.0/16", [attached(tunnel.sw_if_index)], Source.CLI)
    else:
        path.fib.add_address(tunnel.sw_if_index, int(IPv4Address("10.200.0.1")), 24)
        path.fib.update(
            "10.70.0.0/16", [attached_nexthop(int(IPv4Address("10.200.0.2")), tunnel.sw_if_index)], Source.CLI
        )
        path.engine.stack.neighbors.learn(tunnel.sw_if_index, int(IPv4Address("10.200.0.2")), b"\x02\0\0\0\0\x77")
    outer = outer_of(path.send(from_pod("10.70.0.1"), path.tun0, "ip4-input"))
    assert (outer.ttl, outer[UDP].dport, outer[UDP].chksum, outer[VXLAN].vni) == (253, 4789, 0, 4096)
    inner = bytes(outer[VXLAN].payload)
    link = b"" if l3 else b"\x02\0\0\0\0\x77" + interface.mac + b"\x08\0"
    assert inner == link + from_pod("10.70.0.1", ttl=63)
    assert int(path.engine.tables["interface_tx"].sum()["packets"][tunnel.sw_if_index]) == 1

    back = IP(src="10.70.0.1", dst=POD) / ICMP(id=7)
    header = (
        Ether(dst="02:00:00:00:00:01")
        / IP(src=REMOTE, dst=LOCAL)
        / UDP(sport=50000, dport=4789, chksum=0)
        / VXLAN(vni=4096, flags=8)
    )
    wrapped = header / (bytes(back) if l3 else bytes(Ether(dst=interface.mac.hex(":"), src="02:00:00:00:00:77") / back))
    [(name, data)] = path.send(bytes(wrapped), path.eth0, "ethernet-input")
    back.ttl = 63
    assert (name, data) == ("tun0", bytes(back))

    large = (
        IP(src=POD, dst="10.70.0.1", id=5, flags="DF")
        / TCP(sport=9, dport=80, flags="PA", seq=1)
        / Raw(bytes(range(250)) * 100)
    )
    path.engine.features.enable("interface-output", "gso", path.eth0.sw_if_index)
    out = path.send_large(bytes(large), 20, 1400)
    path.engine.features.enable("interface-output", "gso", path.eth0.sw_if_index, on=False)
    assert path.counted("gso") == {"packets segmented": 1 + l3, "segments sent": (1 + l3) * len(out)}
    inners = [bytes(outer_of([each])[VXLAN].payload)[len(link) :] for each in out]
    assert len(out) == -(-25000 // 1400)
    assert b"".join(inner[40:] for inner in inners) == bytes(large[TCP].payload)
    for data in inners:
        again = IP(data)
        del again.chksum, again[TCP].chksum
        assert bytes(again) == data

    if not l3:  # ARP inside the tunnel
        who = Ether(dst="ff:ff:ff:ff:ff:ff", src="02:00:00:00:00:77") / ARP(
            psrc="10.200.0.2", pdst="10.200.0.1", hwsrc="02:00:00:00:00:77"
        )
        answer = Ether(
            bytes(outer_of(path.send(bytes(header / bytes(who)), path.eth0, "ethernet-input"))[VXLAN].payload)
        )
        assert (answer[ARP].op, answer[ARP].hwsrc) == (2, interface.mac.hex(":"))

    tunnels.delete(tunnel.sw_if_index)
    assert path.send(bytes(wrapped), path.eth0, "ethernet-input")[:1] != [("tun0", bytes(back))]


def test_cross_connect(path):
    """A frame from a port goes through the tunnel as it is, and one from the tunnel out of the port."""
    engine, tunnels = path.engine, vxlan_of(path.engine)
    tunnel = tunnels.create(IPv4Address(LOCAL), IPv4Address(REMOTE), 9)
    port = engine.interfaces.create("port0", "test", mac=b"\x02\0\0\0\0\x05", output="interface-output", tx="test-tx")
    for interface, peer in ((tunnel.interface, port), (port, tunnel.interface)):
        engine.interfaces.set_peer(interface, peer)
        engine.interfaces.set_flags(interface, L2, True)
    frame = bytes(Ether(dst="02:00:00:00:00:aa", src="02:00:00:00:00:bb", type=0x88B5) / Raw(b"anything"))
    outer = outer_of(path.send(frame, port, "ethernet-input"))
    assert bytes(outer[VXLAN].payload) == frame
    back = (
        Ether(dst="02:00:00:00:00:01") / IP(src=REMOTE, dst=LOCAL) / UDP(dport=4789, chksum=0) / VXLAN(vni=9, flags=8)
    )
    assert path.send(bytes(back / frame), path.eth0, "ethernet-input") == [("port0", frame)]
    tunnels.delete(tunnel.sw_if_index)
    engine.interfaces.delete(port)


def test_deleting_and_making_again(path):
    tunnels = vxlan_of(path.engine)
    nodes = len(path.engine.graph.nodes)
    for k in range(300):
        tunnel = tunnels.create(IPv4Address(LOCAL), IPv4Address(REMOTE), 1 + k)
        path.settle()
        tunnels.delete(tunnel.sw_if_index)
    assert len(path.engine.graph.nodes) == nodes
    assert path.engine.buffers.free + len(path.engine._inject_buffers) == path.free
