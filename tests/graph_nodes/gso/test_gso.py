# SPDX-License-Identifier: Apache-2.0
"""gso: what leaves a device that does nothing, something or everything itself."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt
from scapy.layers.l2 import Dot1Q, Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet as Layers
from scapy.packet import Raw

from pyvpp.buffers import CSUM_PARTIAL, EMIT_PACKETS
from pyvpp.interface import (
    INTERFACE,
    OFFLOAD_ALL,
    OFFLOAD_CSUM,
    OFFLOAD_CSUM_ANYWHERE,
    OFFLOAD_TSO4,
    OFFLOAD_TSO6,
    OFFLOAD_USO,
    P2P,
)
from pyvpp.node import FREE, HELD
from pyvpp.testing import Packet, run_kernel
from pyvpp_nodes.gso import gso
from tests.graph_nodes.forwarding import internet_checksum
from tests.graph_nodes.gso.test_segment import sent_by_linux

TO = 0x8007
START, DONE = 9, 10  # m.feature before and after
FRAMES, BARE = 1, 2  # an Ethernet interface, and one of bare IP
TCP4, TCP6, UDP_L4 = 1, 4, 5


def run(packets: list[Packet], offload: int = 0, **options):
    interfaces = np.zeros(8, INTERFACE)
    interfaces["offload"] = offload
    interfaces["flags"][BARE] = P2P
    chains = np.zeros(16, np.uint16)
    chains[START] = TO
    return run_kernel(gso.gso, packets, {"interfaces": interfaces, "feature_chains": chains}, **options)


def left(result) -> list[bytes]:
    """What passes on, in the order in which the next node gets it: what stayed in the frame, then what was emitted."""
    assert all(next_ == TO for _, next_ in result.emitted)
    stayed = [data for data, next_ in zip(result.packets, result.nexts, strict=True) if next_ == TO]
    return stayed + [data for data, _ in result.emitted]


def addresses_at(data: bytes, ip: int) -> bytes:
    return data[ip + 12 : ip + 20] if data[ip] >> 4 == 4 else data[ip + 8 : ip + 40]


def partial(packet: Layers, ip: int, l4: int, gso_type: int = 0, gso_size: int = 0, tx: int = FRAMES) -> Packet:
    """A packet as Linux hands it over: the pseudo header's sum where TCP's or UDP's checksum is to be."""
    data = bytes(packet)
    udp = data[l4 - 11 if data[ip] >> 4 == 4 else ip + 6] == 17 or gso_type == UDP_L4
    field = l4 + (6 if udp else 16)
    pseudo = addresses_at(data, ip) + struct.pack("!HH", 17 if udp else 6, len(data) - l4)
    data = data[:field] + struct.pack("!H", 0xFFFF - internet_checksum(pseudo)) + data[field + 2 :]
    return Packet(
        data, tx=tx, feature=START, flags=CSUM_PARTIAL, csum_start=l4, csum_offset=field - l4, gso_type=gso_type,
        gso_size=gso_size,
    )  # fmt: skip


def whole(packet: Layers) -> bytes:
    """The packet with the checksums scapy computes."""
    return bytes(packet)


LINK = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
SAMPLES = {
    # name: packet, IP header, transport header, type of its GSO, interface
    "tcp4": (LINK / IP(id=5) / TCP(flags="PA"), 14, 34, TCP4, FRAMES),
    "udp4": (LINK / IP(id=5) / UDP(), 14, 34, UDP_L4, FRAMES),
    "tcp6": (LINK / IPv6() / TCP(flags="PA"), 14, 54, TCP6, FRAMES),
    "udp6": (LINK / IPv6() / UDP(), 14, 54, UDP_L4, FRAMES),
    "bare tcp4": (IP(id=5) / TCP(flags="FPA"), 0, 20, TCP4, BARE),
    "bare udp6": (IPv6() / UDP(), 0, 40, UDP_L4, BARE),
    "tagged tcp4": (LINK / Dot1Q(vlan=4) / IP(id=5) / TCP(flags="PA"), 18, 38, TCP4, FRAMES),
    "twice tagged udp6": (LINK / Dot1Q(vlan=4) / Dot1Q(vlan=5) / IPv6() / UDP(), 22, 62, UDP_L4, FRAMES),
    "tcp4 with options": (LINK / IP(id=5) / TCP(flags="A", options=[("Timestamp", (1, 2))]), 14, 34, TCP4, FRAMES),
}
PAYLOAD = bytes(range(251)) * 12
BIT = {TCP4: OFFLOAD_TSO4, TCP6: OFFLOAD_TSO6, UDP_L4: OFFLOAD_USO}


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("size", [100, 1000, 3011])
def test_segments(name, size):
    packet, ip, l4, kind, tx = SAMPLES[name]
    packet = packet / Raw(PAYLOAD)
    result = run([partial(packet, ip, l4, kind, size, tx)])
    expected = sent_by_linux(whole(packet), ip, size, udp=kind == UDP_L4)
    assert left(result) == expected
    assert result.nexts == [FREE]
    assert (result.counters[gso.Counter.SEGMENTED], result.counters[gso.Counter.SEGMENTS]) == (1, len(expected))
    for data, m in zip(left(result), result.emitted_meta, strict=True):
        layers = (Ether if tx == FRAMES else IPv6 if data[0] >> 4 == 6 else IP)(data)
        transport = UDP if kind == UDP_L4 else TCP
        checksum = layers[transport].chksum
        del layers[transport].chksum
        assert type(layers)(bytes(layers))[transport].chksum == checksum
        assert (int(m["feature"]), int(m["flags"]), int(m["gso_type"])) == (DONE, 0, 0)


@pytest.mark.parametrize("name", SAMPLES)
def test_checksums_are_completed(name):
    packet, ip, l4, _, tx = SAMPLES[name]
    packet = packet / Raw(PAYLOAD[:777])
    result = run([partial(packet, ip, l4, tx=tx)])
    assert left(result) == [whole(packet)]
    assert (result.counters[gso.Counter.COMPLETED], int(result.meta[0]["flags"])) == (1, 0)


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("offload", range(OFFLOAD_ALL + 1))
def test_what_the_device_does_is_left_to_it(name, offload):
    packet, ip, l4, kind, tx = SAMPLES[name]
    large, small = packet / Raw(PAYLOAD), packet / Raw(PAYLOAD[:60])
    packets = [partial(large, ip, l4, kind, 1000, tx), partial(small, ip, l4, tx=tx)]
    result = run(packets, offload)
    segments = sent_by_linux(whole(large), ip, 1000, udp=kind == UDP_L4)
    finishes = bool(offload & (OFFLOAD_CSUM | OFFLOAD_CSUM_ANYWHERE))
    first = [packets[0].data] if offload & BIT[kind] and finishes else segments
    assert left(result) == [*first, packets[1].data if finishes else whole(small)]


@pytest.mark.parametrize("inner", [IP(id=5) / TCP(), IPv6() / UDP(), IP() / UDP()])
@pytest.mark.parametrize("outer", [LINK / IP() / UDP(dport=4789, chksum=0) / VXLAN() / Ether(), LINK / IP()])
def test_a_checksum_inside_a_tunnel_is_not_for_every_device(inner, outer):
    packet = outer / inner / Raw(b"odd")
    ip = len(outer) if isinstance(outer, Ether) else 0
    l4 = ip + (20 if isinstance(inner, IP) else 40)
    received = partial(packet, ip, l4)
    for offload, is_left in ((OFFLOAD_CSUM_ANYWHERE, True), (OFFLOAD_CSUM, False), (0, False)):
        assert left(run([received], offload)) == [received.data if is_left else whole(packet)]


def test_a_udp_checksum_is_never_zero():
    for last in range(0x10000 - 40, 0x10000):
        packet = IP(id=5) / UDP() / Raw(struct.pack("!H", last))
        ((data,),) = (left(run([partial(packet, 0, 20, tx=BARE)])),)
        assert data[26:28] == whole(packet)[26:28] != b"\0\0"


@given(st.lists(st.sampled_from(["large", "small", "partial", "other"]), min_size=1, max_size=12))
def test_nothing_is_overtaken(kinds):
    packet, ip, l4, kind, _ = SAMPLES["tcp4"]
    packets, expected = [], []
    for k, what in enumerate(kinds):
        layers = packet.copy() / Raw(bytes([k]) * (500 if what == "large" else 50))
        data = whole(layers)
        if what == "large":
            packets.append(partial(layers, ip, l4, kind, 100))
            expected += sent_by_linux(data, ip, 100)
        elif what == "partial":
            packets.append(partial(layers, ip, l4))
            expected.append(data)
        else:
            data = data if what == "small" else bytes(20) + bytes([k])
            packets.append(Packet(data, tx=FRAMES, feature=START))
            expected.append(data)
    result = run(packets, buffers=100)
    assert left(result) == expected
    assert set(result.nexts) <= {TO, FREE, HELD}
    assert result.nexts.count(FREE) == kinds.count("large") == result.counters[gso.Counter.SEGMENTED]


BAD = {
    "no size": (LINK / IP() / TCP() / Raw(b"x"), {"gso_size": 0}),
    "inside a tunnel": (LINK / IP() / UDP() / VXLAN() / Ether() / IP() / TCP() / Raw(PAYLOAD), {"csum_start": 84}),
    "another protocol": (LINK / IP() / UDP() / Raw(PAYLOAD), {}),
    "another version": (LINK / IPv6() / TCP() / Raw(PAYLOAD), {"csum_start": 54}),
    "no ip": (LINK, {}),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_segmented_is_dropped(name):
    packet, fields = BAD[name]
    meta = {"flags": CSUM_PARTIAL, "csum_start": 34, "csum_offset": 16, "gso_type": TCP4, "gso_size": 100} | fields
    result = run([Packet(bytes(packet), tx=FRAMES, feature=START, **meta)], error_base=40)
    assert (result.nexts, result.emitted) == ([gso.Next.DROP], [])
    assert result.counters[gso.Counter.MALFORMED] == 1
    assert int(result.meta[0]["error"]) == 40 + gso.Counter.MALFORMED


@pytest.mark.parametrize("offload", [0, OFFLOAD_CSUM | OFFLOAD_TSO6])
def test_ip6_extension_headers_are_copied(offload):
    """Also for a device that would segment, but does not find the checksum behind them."""
    packet = LINK / IPv6() / IPv6ExtHdrDestOpt() / TCP(flags="A") / Raw(PAYLOAD)
    result = run([partial(packet, 14, 62, TCP6, 1000)], offload)
    assert len(result.emitted) == -(-len(PAYLOAD) // 1000)
    segments = [Ether(data) for data in left(result)]
    assert b"".join(bytes(each[TCP].payload) for each in segments) == PAYLOAD
    for each in segments:
        checksum = each[TCP].chksum
        del each[TCP].chksum
        assert Ether(bytes(each))[TCP].chksum == checksum
        assert each[IPv6].plen == len(each) - 54


def test_without_buffers():
    packets = [partial(LINK / IP(id=5) / TCP() / Raw(PAYLOAD), 14, 34, TCP4, 100) for _ in range(3)]
    result = run(packets, buffers=3)
    assert result.counters[gso.Counter.MEMORY] == len([n for n in result.nexts if n == gso.Next.DROP]) == 3
    assert len(result.emitted) == result.counters[gso.Counter.SEGMENTS] == 6


@pytest.mark.slow
def test_when_no_more_can_be_emitted_packets_stay_in_the_frame():
    large = partial(LINK / IP() / TCP() / Raw(PAYLOAD * 5), 14, 34, TCP4, 1)
    result = run([large, Packet(bytes(60), tx=FRAMES, feature=START)], buffers=EMIT_PACKETS + 10)
    assert len(result.emitted) == EMIT_PACKETS
    assert result.nexts == [gso.Next.DROP, TO]
