# SPDX-License-Identifier: Apache-2.0
"""gso-ip4 and gso-l2-ip4: what Linux would have sent, had it segmented itself."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Raw

from pyvpp.buffers import CSUM_PARTIAL, EMIT_PACKETS, LOCALLY_ORIGINATED
from pyvpp.node import FREE, HELD
from pyvpp.testing import Packet, run_kernel
from pyvpp_nodes.fib.tables import Kind
from pyvpp_nodes.gso import gso_ip4, gso_l2_ip4
from tests.graph_nodes.forwarding import internet_checksum, with_checksum

ADJACENCY = 3


def adjacencies(kind: Kind = Kind.MIDCHAIN):
    from pyvpp_nodes.fib.tables import ADJACENCY as dtype

    table = np.zeros(8, dtype)
    table["kind"][ADJACENCY] = kind
    return {"adjacencies": table}


def sent_by_linux(data: bytes, l2: int, size: int, udp: bool = False) -> list[bytes]:
    """One packet of `l2` link-layer bytes, IP, TCP or UDP as segments: slowly, on bytes."""
    ip4 = data[l2] >> 4 == 4
    l4 = l2 + (4 * (data[l2] & 15) if ip4 else 40)
    start = l4 + (8 if udp else 4 * (data[l4 + 12] >> 4))
    payload = data[start:]
    segments = []
    for done in range(0, max(len(payload), 1), size):
        part = payload[done : done + size]
        head = bytearray(data[l2:l4])
        transport = bytearray(data[l4:start])
        length = len(transport) + len(part)
        if udp:
            transport[4:6] = struct.pack("!H", length)
        else:
            transport[4:8] = struct.pack("!I", (int.from_bytes(transport[4:8], "big") + done) & 0xFFFFFFFF)
            if done + size < len(payload):
                transport[13] &= ~0x09 & 0xFF
            if done:
                transport[13] &= 0x7F
        at = 6 if udp else 16
        transport[at : at + 2] = bytes(2)
        addresses = head[12:20] if ip4 else head[8:40]
        pseudo = bytes(addresses) + struct.pack("!HH", 17 if udp else 6, length)
        transport[at : at + 2] = struct.pack("!H", internet_checksum(pseudo + bytes(transport) + part) or 0xFFFF)
        if ip4:
            head[2:4] = struct.pack("!H", len(head) + length)
            head[4:6] = struct.pack("!H", (int.from_bytes(head[4:6], "big") + done // size) & 0xFFFF)
            head = bytearray(with_checksum(bytes(head)))
        else:
            head[4:6] = struct.pack("!H", length)
        segments.append(data[:l2] + bytes(head) + bytes(transport) + part)
    return segments


def on_the_wire(result) -> list[tuple[bytes, int]]:
    """What was emitted, segment by segment: those of a train lie so many bytes apart, eight of them a tunnel's."""
    found = []
    for (data, next_), m in zip(result.emitted, result.emitted_meta, strict=True):
        pitch = int(m["gso_size"]) if m["gso_type"] else len(data) + 8
        assert (int(m["gso_type"]), int(m["flags"]) & CSUM_PARTIAL) in ((0, 0), (5, 0))
        found += [(data[start : start + pitch - 8], next_) for start in range(0, len(data), pitch)]
    return found


def gso_packet(data: bytes, l2: int, size: int, kind: int, **meta) -> Packet:
    l4 = l2 + (4 * (data[l2] & 15) if data[l2] >> 4 == 4 else 40)
    fields = {
        "csum_start": l4,
        "csum_offset": 6 if kind == 5 else 16,
        "gso_size": size,
        "gso_type": kind,
        "adj": ADJACENCY,
    }
    return Packet(data, **(fields | {"flags": CSUM_PARTIAL} | meta))


def tcp(n: int, **fields) -> bytes:
    return bytes(
        IP(src="10.1.1.2", dst="10.2.1.2", id=0xFFFE, flags="DF")
        / TCP(**{"flags": "PAF", "seq": 0xFFFFFF00} | fields)
        / Raw(bytes(range(256)) * (n // 256) + bytes(n % 256))
    )


TCP_PACKETS = st.builds(
    lambda n, flags, options, seq: tcp(n, flags=flags, options=options, seq=seq),
    st.integers(1, 4000), st.sampled_from(["A", "PA", "FPA", "FPACE", "ACE"]),
    st.sampled_from([[], [("NOP", None), ("NOP", None), ("Timestamp", (1, 2))]]), st.integers(0, 0xFFFFFFFF),
)  # fmt: skip


@given(st.lists(st.tuples(TCP_PACKETS, st.integers(100, 2500), st.sampled_from([1, 0x81])), min_size=1, max_size=4))
def test_tcp_is_segmented_as_by_linux(received):
    packets = [gso_packet(data, 0, size, kind) for data, size, kind in received]
    result = run_kernel(gso_ip4.gso_ip4, packets, adjacencies(), buffers=200)
    assert result.nexts == [FREE] * len(received)
    expected = [segment for data, size, _ in received for segment in sent_by_linux(data, 0, size)]
    assert result.emitted == [(segment, gso_ip4.Next.MIDCHAIN) for segment in expected]
    assert result.counters[gso_ip4.Counter.SEGMENTED] == len(received)
    assert result.counters[gso_ip4.Counter.SEGMENTS] == len(expected)


@pytest.mark.parametrize("size", [1, 2, 3, 536, 1447, 1448])
def test_every_payload_around_the_segment_size(size):
    for n in range(max(1, size - 3), size + 4):
        for payload in (n, n + size):
            data = tcp(payload)
            result = run_kernel(gso_ip4.gso_ip4, [gso_packet(data, 0, size, 1)], adjacencies(), buffers=130)
            assert [segment for segment, _ in result.emitted] == sent_by_linux(data, 0, size)


def test_all_small_sizes():
    data = tcp(120)
    for size in range(1, 125):
        result = run_kernel(gso_ip4.gso_ip4, [gso_packet(data, 0, size, 1)], adjacencies(), buffers=130)
        assert [segment for segment, _ in result.emitted] == sent_by_linux(data, 0, size)


def test_64_kib():
    data = tcp(65535 - 40)
    result = run_kernel(gso_ip4.gso_ip4, [gso_packet(data, 0, 1460, 1)], adjacencies())
    assert len(result.emitted) == 45
    assert b"".join(segment[40:] for segment, _ in result.emitted) == data[40:]


def test_scapy_finds_every_checksum_right():
    result = run_kernel(gso_ip4.gso_ip4, [gso_packet(tcp(5001), 0, 1000, 1)], adjacencies())
    for segment, _ in result.emitted:
        ours, theirs = IP(segment), IP(segment)
        del theirs.chksum, theirs[TCP].chksum, theirs.len
        theirs = IP(bytes(theirs))
        assert (ours.chksum, ours[TCP].chksum, ours.len) == (theirs.chksum, theirs[TCP].chksum, theirs.len)


def test_udp():
    data = bytes(IP(src="10.1.1.2", dst="10.2.1.2", id=7) / UDP(sport=1, dport=2) / Raw(bytes(3001)))
    result = run_kernel(gso_ip4.gso_ip4, [gso_packet(data, 0, 1200, 5)], adjacencies())
    assert [segment for segment, _ in result.emitted] == sent_by_linux(data, 0, 1200, udp=True)


def test_other_adjacencies_lead_back_to_vxlan():
    result = run_kernel(gso_ip4.gso_ip4, [gso_packet(tcp(100), 0, 60, 1)], adjacencies(Kind.REWRITE))
    assert {next_ for _, next_ in result.emitted} == {gso_ip4.Next.VXLAN_ENCAP}


@pytest.mark.parametrize("tags", [0, 1, 2])
@pytest.mark.parametrize("version", [4, 6])
def test_ethernet_frames(tags, version):
    frame = Ether(dst="02:00:00:00:00:02", src="02:00:00:00:00:01")
    for _ in range(tags):
        frame = frame / Dot1Q(vlan=5)
    inner = IP(dst="10.0.0.1", id=3) if version == 4 else IPv6(dst="fd00::1")
    data = bytes(frame / inner / TCP(flags="PA") / Raw(bytes(range(200)) * 10))
    l2 = 14 + 4 * tags
    result = run_kernel(gso_l2_ip4.gso_l2_ip4, [gso_packet(data, l2, 500, 1 if version == 4 else 4)])
    assert result.nexts == [FREE]
    assert len(result.emitted) == 1
    assert on_the_wire(result) == [(each, gso_l2_ip4.Next.VXLAN_ENCAP) for each in sent_by_linux(data, l2, 500)]


@pytest.mark.parametrize(
    ("n", "size", "trains"), [(65495, 1400, 2), (60000, 1400, 1), (1401, 1400, 1), (1400, 1400, 1)]
)
def test_as_many_segments_to_a_train_as_one_udp_packet_holds(n, size, trains):
    packet = gso_packet(tcp(n), 0, size, 1)
    result = run_kernel(gso_ip4.gso_ip4, [packet], adjacencies(Kind.REWRITE))
    assert len(result.emitted) == trains == result.counters[gso_ip4.Counter.SEGMENTS]
    assert all(len(data) + 8 <= 0xFFFF - 28 for data, _ in result.emitted)
    assert [each for each, _ in on_the_wire(result)] == sent_by_linux(tcp(n), 0, size)


def test_udp_in_a_train():
    data = bytes(IP(src="10.1.1.2", dst="10.2.1.2", id=7) / UDP(sport=1, dport=2) / Raw(bytes(3001)))
    result = run_kernel(gso_ip4.gso_ip4, [gso_packet(data, 0, 1200, 5)], adjacencies(Kind.REWRITE))
    assert [each for each, _ in on_the_wire(result)] == sent_by_linux(data, 0, 1200, udp=True)


def test_what_is_behind_a_large_packet_stays_behind_it():
    """Vectors end somewhere: what comes behind is small, or a train that was made before."""
    small, large = Packet(tcp(50), adj=ADJACENCY), gso_packet(tcp(300), 0, 100, 1)
    train = gso_packet(tcp(200), 0, 90, 5, flags=0)
    result = run_kernel(gso_ip4.gso_ip4, [large, small, train, small], adjacencies(Kind.REWRITE))
    assert [data for data, _ in result.emitted][1:] == [small.data, train.data, small.data]
    assert {next_ for _, next_ in result.emitted} == {gso_ip4.Next.VXLAN_ENCAP}
    assert result.nexts == [FREE, HELD, HELD, HELD]


def test_without_a_large_buffer_segments_go_one_by_one():
    packets = [gso_packet(tcp(300), 0, 100, 1) for _ in range(5)]
    result = run_kernel(gso_ip4.gso_ip4, packets, adjacencies(Kind.REWRITE), buffers=2)
    assert int(result.counters[gso_ip4.Counter.MEMORY]) > 0
    assert len(result.emitted) == int(result.counters[gso_ip4.Counter.SEGMENTS]) == 2 + 2
    assert all(m["gso_type"] == 0 for m in result.emitted_meta[2:])


def test_metadata_goes_with_every_segment():
    inherited = {"tx": 5, "flow_hash": 77, "trace": 9, "feature": 3}
    packet = gso_packet(tcp(300), 0, 100, 1, rx=2, l4=20, flags=CSUM_PARTIAL | LOCALLY_ORIGINATED, **inherited)
    result = run_kernel(gso_ip4.gso_ip4, [packet], adjacencies())
    assert len(result.emitted_meta) == 3
    for m in result.emitted_meta:
        assert {name: int(m[name]) for name in inherited} == inherited
        assert (m["flags"], m["rx"], m["adj"], m["ref"]) == (LOCALLY_ORIGINATED, 2, ADJACENCY, 1)
        assert (m["gso_type"], m["gso_size"], m["csum_start"]) == (0, 0, 0)
        assert (m["l3"], m["l4"]) == (m["cur"], m["cur"] + 20)


BAD = {
    "no size": (tcp(100), {"gso_size": 0}),
    "truncated ip": (tcp(100)[:19], {}),
    "truncated tcp": (tcp(100)[:39], {}),
    "data offset beyond the end": (tcp(100)[:32] + b"\xf0" + tcp(100)[33:45], {}),
    "data offset too small": (tcp(100)[:32] + b"\x40" + tcp(100)[33:], {}),
    "header length too small": (b"\x42" + tcp(100)[1:], {}),
    "ip6 with tcp4": (b"\x65" + tcp(100)[1:], {}),
    "tcp6 with ip4": (tcp(100), {"gso_type": 4}),
    "unknown type": (tcp(100), {"gso_type": 3}),
    "l4 inside ip": (tcp(100), {"csum_start": 8}),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_gso_packet_is_dropped(name):
    data, meta = BAD[name]
    packet = gso_packet(data, 0, 50, 1, **({"csum_start": 20} | meta))
    result = run_kernel(gso_ip4.gso_ip4, [packet], adjacencies())
    assert (result.nexts, result.emitted) == ([gso_ip4.Next.DROP], [])
    assert result.counters[gso_ip4.Counter.MALFORMED] == 1


@given(st.binary(max_size=200), st.integers(0, 0xFFFF), st.integers(1, 255), st.integers(0, 0xFFFF))
def test_random_bytes(data, size, kind, start):
    for node in (gso_ip4.gso_ip4, gso_l2_ip4.gso_l2_ip4):
        packet = Packet(data, flags=CSUM_PARTIAL, gso_size=size, gso_type=kind, csum_start=start % 300, adj=ADJACENCY)
        result = run_kernel(node, [packet], adjacencies())
        assert result.nexts[0] in (FREE, 0)
        assert sum(result.counters[:3]) == 1


def test_without_buffers_what_was_sent_is_sent_and_the_rest_counted():
    many = [gso_packet(tcp(60000), 0, 100, 1) for _ in range(4)]
    result = run_kernel(gso_ip4.gso_ip4, many, adjacencies())
    assert result.free_buffers == 128 - len(result.emitted)
    lost = result.counters[gso_ip4.Counter.MEMORY]
    assert lost > 0
    assert result.nexts.count(gso_ip4.Next.DROP) == lost
    assert len(result.emitted) == result.counters[gso_ip4.Counter.SEGMENTS] > 0


@pytest.mark.slow
def test_when_no_more_can_be_sent_at_once_the_buffer_is_given_back():
    n = EMIT_PACKETS + 1000
    result = run_kernel(gso_ip4.gso_ip4, [gso_packet(tcp(n), 0, 1, 1)], adjacencies(), buffers=n)
    assert result.counters[gso_ip4.Counter.MEMORY] == 1
    assert len(result.emitted) == EMIT_PACKETS
    assert result.free_buffers == n + 510 - len(result.emitted)  # one large buffer holds the packet
