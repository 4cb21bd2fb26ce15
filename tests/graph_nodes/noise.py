# SPDX-License-Identifier: Apache-2.0
"""Packets that nobody should send: noise of every length, and scapy's packets damaged. For lab.py's addresses."""

import random
from collections.abc import Iterator

from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_Router_Alert, IPOption_Timestamp
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoRequest,
    ICMPv6ND_NS,
    IPv6,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    PadN,
)
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet, Raw

from pyvpp.buffers import SMALL_SLOT
from tests.graph_nodes.forwarding import with_checksum
from tests.graph_nodes.lab import (
    GATEWAY,
    NEIGHBOR_MAC,
    PG_IP,
    PG_IP6,
    PG_MAC,
    POD_IP,
    REMOTES,
    UPLINK_IP,
    UPLINK_MAC,
    VLAN_GATEWAY,
    VLAN_IP,
    VNIS,
    virtio,
)

STRANGER = "198.51.100.7"
DESTINATIONS = (
    UPLINK_IP, POD_IP, PG_IP, GATEWAY, STRANGER, "10.0.0.2", "10.0.0.77", "10.1.2.3", "10.50.0.1", "10.50.0.2",
    "10.50.0.9", "10.51.1.1", "10.52.1.1", "10.60.1.1", "10.61.1.1", "10.62.0.1", "10.63.0.1", "10.64.0.1",
    "10.65.0.1", "10.66.0.1", VLAN_IP, VLAN_GATEWAY, "10.53.0.1", "10.53.0.2", "10.54.0.2", "10.55.0.1", "10.55.0.2",
    "10.67.0.1", "224.0.0.1", "255.255.255.255", "127.0.0.1", "0.0.0.0",
)  # fmt: skip
SOURCES = (STRANGER, "10.0.0.2", "10.1.2.3", POD_IP, UPLINK_IP, "192.0.2.2", "0.0.0.0", "224.0.0.1")
DESTINATIONS6 = (
    PG_IP6, "2001:db8::2", "2001:db8::77", "2001:db8:1::1", "2001:db8:50::9", "2001:db8:51::1", "2001:db8:52::1",
    "2001:db8:60::1", "2001:db8:62::1", "2001:db8:63::1", "2001:db8:66::1", "3ffe::1", "fe80::1", "ff02::1", "::1", "::",
)  # fmt: skip
SOURCES6 = ("2001:db8::2", "2001:db8::2", "2001:db8:51::2", "3ffe::2", "fe80::2", "ff02::2", "::", PG_IP6)
WORDS = (0, 1, 7, 8, 19, 20, 28, 0x7FFF, 0x8000, 0xFFFE, 0xFFFF, 0x0800, 0x0806, 0x8100, 4789)


def payloads(destination: str, source: str) -> Iterator[Packet]:
    """IPv4 packets of every kind the stack treats in a way of its own."""
    ip = IP(src=source, dst=destination)
    yield ip / UDP(sport=1000, dport=2000) / Raw(b"x" * 30)
    yield ip / TCP(sport=1000, dport=80, flags="S", options=[("MSS", 1460)])
    yield ip / ICMP() / Raw(b"ping" * 10)
    yield ip / ICMP(type=0, id=7)
    yield ip / ICMP(type=3, code=4) / IP(src=destination, dst=source) / UDP() / Raw(b"12345678")
    yield IP(src=source, dst=destination, ttl=1) / UDP() / Raw(b"late")
    yield IP(src=source, dst=destination, ttl=0) / UDP() / Raw(b"later")
    yield IP(src=source, dst=destination, options=[IPOption_Router_Alert()], proto=2) / Raw(bytes(8))
    yield IP(src=source, dst=destination, options=[IPOption_Timestamp(flg=0, timestamp=0)]) / UDP() / Raw(b"opt")
    yield IP(src=source, dst=destination, flags="MF", frag=0, id=9) / UDP() / Raw(bytes(16))
    yield IP(src=source, dst=destination, frag=3, id=9, proto=17) / Raw(bytes(16))
    yield IP(src=source, dst=destination, flags="DF") / UDP() / Raw(bytes(1470))
    yield IP(src=source, dst=destination, id=0) / UDP() / Raw(bytes(1600))
    yield IP(src=source, dst=destination, proto=99) / Raw(b"unknown")


def payloads6(destination: str, source: str) -> Iterator[Packet]:
    """IPv6 packets of every kind the stack treats in a way of its own."""
    ip = IPv6(src=source, dst=destination)
    yield ip / UDP(sport=1000, dport=2000) / Raw(b"x" * 30)
    yield IPv6(src=source, dst=destination, fl=0x12345) / TCP(sport=1000, dport=80, flags="S")
    yield ip / ICMPv6EchoRequest() / Raw(b"ping" * 10)
    yield ip / ICMPv6DestUnreach() / IPv6(src=destination, dst=source) / UDP() / Raw(b"12345678")
    yield IPv6(src=source, dst=destination, hlim=255) / ICMPv6ND_NS(tgt="fe80::1")
    yield from (IPv6(src=source, dst=destination, hlim=hops) / UDP() / Raw(b"late") for hops in (0, 1))
    yield ip / IPv6ExtHdrHopByHop(options=[PadN(optdata=bytes(4))]) / UDP() / Raw(b"options")
    yield ip / IPv6ExtHdrFragment(offset=8, m=1) / Raw(bytes(32))
    yield ip / UDP() / Raw(bytes(1600))
    yield IPv6(src=source, dst=destination, nh=99) / Raw(b"unknown")


def outer_packets(inner: Packet) -> Iterator[Packet]:
    """In every tunnel there is, in one that is not, nested, and cut off."""
    ether = Ether(dst=NEIGHBOR_MAC.hex(":"), src=NEIGHBOR_MAC.hex(":"))
    for name, remote in REMOTES.items():
        outer = IP(src=remote, dst=UPLINK_IP)
        if name == "ipip":
            yield outer / inner
            yield outer / IP(src=remote, dst=UPLINK_IP) / inner
            yield outer / Raw(bytes(inner)[:15])
        else:
            frame = inner if name == "vxlan-l3" else ether / inner
            header = outer / UDP(sport=50000, dport=4789)
            yield header / VXLAN(vni=VNIS[name], flags=8) / frame
            yield header / VXLAN(vni=VNIS[name], flags=0) / frame
            yield header / VXLAN(vni=77, flags=8) / frame
            yield header / Raw(bytes(VXLAN(vni=VNIS[name], flags=8) / frame)[:11])
            nested = IP(src=STRANGER, dst=UPLINK_IP) / UDP(dport=4789) / VXLAN(vni=VNIS[name], flags=8) / frame
            yield header / VXLAN(vni=VNIS[name], flags=8) / (nested if name == "vxlan-l3" else ether / nested)


def ip4_corpus(chance: random.Random) -> list[bytes]:
    """Valid packets without Ethernet headers, a selection for each run."""
    plain = [
        packet
        for destination in DESTINATIONS
        for packet in payloads(destination, chance.choice(SOURCES))
        if chance.random() < 0.4
    ]
    tunnelled = [outer for inner in chance.sample(plain, 12) for outer in outer_packets(inner)]
    return [bytes(packet) for packet in (*plain, *tunnelled)]


def ip6_corpus(chance: random.Random) -> list[bytes]:
    return [
        bytes(packet)
        for destination in DESTINATIONS6
        for packet in payloads6(destination, chance.choice(SOURCES6))
        if chance.random() < 0.4
    ]


def framed(chance: random.Random, packet: bytes) -> bytes:
    """In an Ethernet frame for one of ours, or for somebody else."""
    to = chance.choice([UPLINK_MAC, UPLINK_MAC, PG_MAC, PG_MAC, b"\xff" * 6, b"\1\0\x5e\0\0\1", NEIGHBOR_MAC])
    header = to + NEIGHBOR_MAC
    for tag in range(chance.choice([0, 0, 0, 0, 1, 2])):
        header += (0x88A8 if tag else 0x8100).to_bytes(2, "big") + chance.choice([b"\0\0", b"\0\5", b"\0\5", b"\0\6"])
    ethertype = b"\x86\xdd" if packet[:1] and packet[0] >> 4 == 6 else b"\x08\0"
    return header + ethertype + packet + bytes(chance.choice([0, 0, 0, 18]))


def other_frames() -> list[bytes]:
    """ARP of every kind, IPv6, LLC, tags without end."""
    ether = Ether(dst="ff:ff:ff:ff:ff:ff", src=NEIGHBOR_MAC.hex(":"))
    mine = Ether(dst=UPLINK_MAC.hex(":"), src=NEIGHBOR_MAC.hex(":"))
    neighbor = NEIGHBOR_MAC.hex(":")
    found: list[Packet] = [
        ether / ARP(op=op, hwsrc=hwsrc, psrc=psrc, pdst=pdst)
        for op in (1, 2, 3)
        for hwsrc in (neighbor, "02:fe:00:00:00:77")
        for psrc, pdst in (
            ("10.0.0.2", PG_IP), ("10.0.0.88", PG_IP), ("10.0.0.88", "10.0.0.88"), ("10.0.0.2", "10.0.0.3"),
            (PG_IP, PG_IP), (GATEWAY, UPLINK_IP), ("192.0.2.77", UPLINK_IP), ("10.0.0.2", "0.0.0.0"),
        )
    ]  # fmt: skip
    found += [mine / ARP(op=2, hwsrc=neighbor, psrc=GATEWAY, pdst=UPLINK_IP), mine / IPv6() / UDP()]
    found += [mine / Dot1Q(vlan=0) / Dot1Q(vlan=0) / Dot1Q(vlan=0) / ARP(), ether / Raw(bytes(40))]
    return [bytes(packet) for packet in found]


def damaged(chance: random.Random, data: bytes, most: int) -> bytes:
    """A packet with some bytes, words or bits changed, cut, or lengthened; two thirds are left whole."""
    if chance.random() < 0.66:
        return data
    changed = bytearray(data)
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(min(len(changed), 64)) if changed else 0
        match chance.randrange(5):
            case 0 if changed:
                changed[at] ^= 1 << chance.randrange(8)
            case 1:
                changed[at : at + 2] = chance.choice(WORDS).to_bytes(2, "big")
            case 2:
                del changed[chance.randrange(len(changed) + 1) :]
            case 3:
                changed += chance.randbytes(chance.choice([1, 2, 7, 100, 2000]))
            case 4:
                changed[at:at] = chance.randbytes(chance.randrange(5))
    return bytes(changed[:most])


def repaired(chance: random.Random, packet: bytes) -> bytes:
    """Most damaged headers get a good checksum again, so that it is what lies behind that is tested."""
    long_enough = len(packet) >= 20 and 20 <= 4 * (packet[0] & 15) <= len(packet)
    return with_checksum(packet) if long_enough and chance.random() < 0.8 else packet


def noise(chance: random.Random, most: int) -> bytes:
    """Every length there is a reason for, and any other."""
    n = chance.choice([0, 1, 13, 14, 33, 34, 41, 42, 59, 60, chance.randrange(SMALL_SLOT + 1)])
    if chance.random() < 0.03:
        n = chance.choice([2112, 2113, 9000, 65535, most])
    return chance.randbytes(min(n, most))


def offloads(chance: random.Random) -> bytes:
    """A virtio_net_hdr, as Linux would write it or as nobody would."""
    if chance.random() < 0.5:
        return virtio()
    if chance.random() < 0.5:
        return virtio(chance.choice([1, 2]), chance.choice([0, 1, 5]), chance.choice([0, 1, 536, 1400]), 34, 16)
    size, start, offset = chance.choice(WORDS), chance.choice(WORDS), chance.choice((0, 6, 16, *WORDS))
    return virtio(
        chance.randrange(256), chance.choice([0, 1, 3, 4, 5, 0x81, chance.randrange(256)]), size, start, offset
    )


class Feeder:
    """Draws packets; with the same seed the same ones."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.packets = ip4_corpus(self.chance) + ip6_corpus(self.chance)
        self.frames = [framed(self.chance, packet) for packet in self.packets] + other_frames() * 3

    def packet(self, most: int) -> bytes:
        chance = self.chance
        if chance.random() < 0.3:
            return noise(chance, most)
        return repaired(chance, damaged(chance, chance.choice(self.packets), most))

    def frame(self, most: int) -> bytes:
        chance = self.chance
        if chance.random() < 0.3:
            return noise(chance, most)
        if chance.random() < 0.5:
            return framed(chance, self.packet(most - 50))
        return damaged(chance, chance.choice(self.frames), most)
