# SPDX-License-Identifier: Apache-2.0
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, UDP

from pyvpp.buffers import CSUM_PARTIAL, CSUM_VALID, TRACED
from pyvpp.interface import HOST
from pyvpp.testing import Packet, run_kernel
from pyvpp_nodes.fib.tables import Kind
from pyvpp_nodes.ip4.local import Counter, Next, ip4_local
from tests.graph_nodes.forwarding import UP, Fib, frames, interface_table, internet_checksum, ip4

FIB = Fib()
FIB.to("10.1.0.0/16", Kind.GLEAN, 1)
FIB.to("10.1.2.1/32", Kind.LOCAL, 2)
FIB.route("10.7.0.0/16", FIB.balance(FIB.adjacency(Kind.REWRITE, 1), FIB.adjacency(Kind.REWRITE, 2)))
PROTOCOLS = np.zeros(256, np.uint16)
PROTOCOLS[[1, 17, 6]] = 0x8001, 0x8011, 0x8006
HOST_TAP = 3
TABLES = {
    **FIB.tables,
    "interfaces": interface_table({HOST_TAP: {"flags": UP | HOST}}),
    "ip4_local_protocols": PROTOCOLS,
}


def l4_checksum(packet: bytes, length: int | None = None) -> int:
    header = 4 * (packet[0] & 15)
    segment = packet[header:] if length is None else packet[header : header + length]
    return internet_checksum(packet[12:20] + struct.pack("!HH", packet[9], len(segment)) + segment)


def l4_is_good(packet: bytes, length: int | None = None) -> bool:
    return l4_checksum(packet, length) in (0, 0xFFFF)


def fault_of(data: bytes, flags: int, rx: int) -> Counter | None:
    header, trusted = 4 * (data[0] & 15), flags & (CSUM_PARTIAL | CSUM_VALID)
    fragment = int.from_bytes(data[6:8], "big") & 0x3FFF
    if data[9] == 17 and not fragment:
        length = int.from_bytes(data[header + 4 : header + 6], "big")
        if len(data) < header + 8 or not 8 <= length <= len(data) - header:
            return Counter.UDP_LENGTH
        if not trusted and data[header + 6 : header + 8] != b"\0\0" and not l4_is_good(data, length):
            return Counter.UDP_CHECKSUM
    if data[9] == 6 and not fragment and (len(data) < header + 20 or not (trusted or l4_is_good(data))):
        return Counter.TCP_CHECKSUM
    if rx == HOST_TAP:
        return Counter.FRAGMENT if fragment else None
    route = FIB.lookup(data[12:16])
    if FIB.load_balances["flags"][route]:
        return Counter.SPOOFED_LOCAL_PACKETS
    if route == 0 and data[16:20] != b"\xff" * 4:
        return Counter.SRC_LOOKUP_MISS
    return Counter.FRAGMENT if fragment else None


def reference(data: bytes, flags: int, rx: int) -> tuple[int, Counter | None]:
    fault = fault_of(data, flags, rx)
    if fault is not None:
        return Next.DROP, fault
    taker = int(PROTOCOLS[data[9]])
    return (taker, None) if taker else (Next.PUNT, Counter.UNKNOWN_PROTOCOL)


@st.composite
def packets(draw: st.DrawFn) -> bytes:
    protocol = draw(st.sampled_from([1, 6, 17, 17, 47]))
    payload = bytearray(draw(st.binary(min_size=0, max_size=60)))
    if protocol == 17 and len(payload) >= 8:
        payload[4:6] = struct.pack(
            "!H", draw(st.sampled_from([len(payload), len(payload), len(payload) + 1, len(payload) - 3, 7, 8]))
        )
    source = draw(st.sampled_from(["10.1.1.9", "10.1.2.1", "10.7.1.1", "203.0.113.5"]))
    destination = draw(st.sampled_from(["10.1.2.1", "10.1.2.1", "255.255.255.255"]))
    fragment = draw(st.sampled_from([0, 0, 0, 0, 0x4000, 0x2000, 0x0007]))
    options = draw(st.sampled_from([b"", b"", b"\1\1\1\0"]))
    at = {6: 16, 17: 6}.get(protocol)
    right = draw(st.sampled_from(["right", "right", "zero", "random"]))
    if at is not None and len(payload) >= at + 2 and right != "random":
        payload[at : at + 2] = b"\0\0"
        if right == "right":
            length = int.from_bytes(payload[4:6], "big") if protocol == 17 else None
            whole = ip4(bytes(payload), source, destination, protocol=protocol)
            payload[at : at + 2] = struct.pack("!H", l4_checksum(whole, length))
    return ip4(bytes(payload), source, destination, protocol=protocol, fragment=fragment, options=options)


CASES = st.tuples(packets(), st.sampled_from([0, 0, 0, CSUM_PARTIAL, CSUM_VALID]), st.sampled_from([1, 2, HOST_TAP]))


@given(frames(CASES))
def test_mixed_frames(cases):
    result = run_kernel(ip4_local, [Packet(data, flags=flags, rx=rx) for data, flags, rx in cases], TABLES)
    expected = [reference(*case) for case in cases]
    assert result.nexts == [next_ for next_, _ in expected]
    for counter in Counter:
        assert result.counters[counter] == sum(fault == counter for _, fault in expected)
    assert result.packets == [data for data, _, _ in cases]


SOURCES = ["10.1.1.9", "10.1.2.1", "10.7.1.1", "203.0.113.5"]
KINDS = [
    {"payload": bytes(8), "protocol": 1},
    {"payload": bytes(8), "protocol": 47},
    {"payload": bytes(8), "protocol": 1, "fragment": 0x2000},
    {"payload": bytes(8), "protocol": 1, "options": b"\1\1\1\0"},
    {"payload": bytes(20), "protocol": 6},
    *(
        {"payload": struct.pack("!HHHH", 1, 2, n, checksum) + bytes(4), "protocol": 17}
        for n in (7, 8, 12, 13)
        for checksum in (0, 1)
    ),
]


@pytest.mark.parametrize("rx", [1, HOST_TAP])
@pytest.mark.parametrize("source", SOURCES)
def test_nothing_is_taken_for_what_the_first_packet_was(source, rx):
    """Each kind of packet from everywhere behind a good one."""
    cases = [
        (ip4(source=each, destination="10.1.2.1", **kind), 0, each_rx)
        for each_rx in (1, 2, HOST_TAP)
        for each in SOURCES
        for kind in KINDS
    ]
    cases.insert(0, (ip4(source=source, destination="10.1.2.1", **KINDS[0]), 0, rx))
    result = run_kernel(ip4_local, [Packet(data, flags=flags, rx=rx) for data, flags, rx in cases], TABLES)
    expected = [reference(*case) for case in cases]
    assert result.nexts == [next_ for next_, _ in expected]
    assert [int(result.counters[counter]) for counter in Counter] == [
        sum(fault == counter for _, fault in expected) for counter in Counter
    ]


def test_a_listener_gets_its_datagrams_at_once_but_for_the_traced():
    ports = np.zeros(1 << 16, np.uint16)
    ports[[2, 0xFFFF]] = 0x8022, 0x80FF
    cases = [
        (struct.pack("!HHHH", 1, port, 8 + n, checksum) + bytes(n), flags)
        for port in (2, 3, 0x0200, 0xFFFF)
        for n, checksum in ((0, 0), (0, 0xCBCB), (4, 0))
        for flags in (0, TRACED, CSUM_VALID)
    ]
    packets = [Packet(ip4(data, source="10.1.1.9", protocol=17), flags=flags) for data, flags in cases]
    result = run_kernel(ip4_local, packets, {**TABLES, "udp_ports": ports})
    for packet, (data, flags), next_ in zip(packets, cases, result.nexts, strict=True):
        port = int.from_bytes(data[2:4], "big")
        wrong = data[6:8] != b"\0\0" and flags != CSUM_VALID and not l4_is_good(packet.data)
        listener = int(ports[port]) if flags != TRACED else 0
        assert next_ == (Next.DROP if wrong else listener or int(PROTOCOLS[17]))


@pytest.mark.parametrize("upper", [UDP(sport=5, dport=6), TCP(sport=5, dport=6)])
@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 5, 1400])
def test_scapy_checksums(upper, size):
    good = bytes(IP(src="10.1.1.9", dst="10.1.2.1") / upper / bytes(range(256))[:size].ljust(size, b"x"))
    bad = good[:-1] + bytes([good[-1] ^ 1])
    result = run_kernel(ip4_local, [Packet(good), Packet(bad), Packet(bad, flags=CSUM_VALID)], TABLES)
    taker = int(PROTOCOLS[good[9]])
    assert result.nexts == [taker, Next.DROP, taker]


def test_a_checksum_covers_what_udp_says():
    """Bytes behind the UDP length are nobody's."""
    datagram = struct.pack("!HHHH", 1, 2, 11, 0) + b"abc" + b"trailer"
    whole = ip4(datagram, source="10.1.1.9", destination="10.1.2.1")
    good = whole[:26] + struct.pack("!H", l4_checksum(whole, 11)) + whole[28:]
    bad = whole[:26] + struct.pack("!H", l4_checksum(whole)) + whole[28:]
    assert run_kernel(ip4_local, [Packet(good), Packet(bad)], TABLES).nexts == [int(PROTOCOLS[17]), Next.DROP]


@pytest.mark.parametrize(("protocol", "shortest"), [(6, 20), (17, 8)])
def test_the_shortest_headers(protocol, shortest):
    for n in range(shortest + 2):
        header = struct.pack("!HHHH", 1, 2, max(n, 8), 0) + bytes(20)
        packet = Packet(ip4(header[:n], source="10.1.1.9", protocol=protocol), flags=CSUM_VALID)
        assert (run_kernel(ip4_local, [packet], TABLES).nexts == [Next.DROP]) == (n < shortest)


@pytest.mark.slow
def test_every_udp_checksum():
    """All 65,536 values in the field: exactly the right one, and zero, pass."""
    base = ip4(struct.pack("!HHHH", 1, 2, 12, 0) + b"abcd", source="10.1.1.9", destination="10.1.2.1")
    right = l4_checksum(base)
    passed = []
    for start in range(0, 1 << 16, 1 << 13):
        sent = [base[:26] + struct.pack("!H", value) + base[28:] for value in range(start, start + (1 << 13))]
        result = run_kernel(ip4_local, [Packet(data) for data in sent], TABLES)
        passed += [start + i for i, next_ in enumerate(result.nexts) if next_ != Next.DROP]
    assert passed == [0, right]


def test_the_host_puts_fragments_together():
    tables = {**TABLES, "punt_tx": np.array([HOST_TAP], np.uint32)}
    sent = [
        ip4(bytes(30), source=source, fragment=fragment)
        for source in ("10.1.1.9", "10.1.2.1")
        for fragment in (0x2000, 7, 0)
    ]
    result = run_kernel(ip4_local, [Packet(data) for data in sent], tables)
    assert result.nexts == [Next.PUNT, Next.PUNT, Next.DROP] + [Next.DROP] * 3
    assert result.counters[Counter.SPOOFED_LOCAL_PACKETS] == 2
    assert result.counters[Counter.FRAGMENT] == 0


def test_where_the_headers_are():
    m = run_kernel(ip4_local, [Packet(ip4(source="10.1.1.9", protocol=1, options=b"\1\1\1\0"))], TABLES).meta[0]
    assert (int(m["l3"]), int(m["l4"])) == (int(m["cur"]), int(m["cur"]) + 24)


def test_features_come_before_the_protocol():
    arc = np.zeros(16, np.uint32)
    arc[1] = 2
    tables = {**TABLES, "ip4_local_arc": arc, "feature_chains": np.full(16, 0x8055, np.uint16)}
    good, unknown = ip4(source="10.1.1.9", protocol=1), ip4(source="10.1.1.9", protocol=200)
    result = run_kernel(ip4_local, [Packet(good, rx=1), Packet(good, rx=2), Packet(unknown, rx=1)], tables)
    assert result.nexts == [0x8055, 0x8001, 0x8055]
