# SPDX-License-Identifier: Apache-2.0
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP

from pyvpp.buffers import CSUM_PARTIAL, HEADROOM, LOCALLY_ORIGINATED, TRACED
from pyvpp.interface import OFFLOAD_ALL, OFFLOAD_IPIP
from pyvpp.testing import Packet, run_kernel
from pyvpp_nodes.fib.forwarding import WORTH_EXPECTING
from pyvpp_nodes.fib.tables import STACKED_STRAIGHT, Kind
from pyvpp_nodes.ip4.midchain import Counter, Next, ip4_midchain
from tests.graph_nodes.forwarding import (
    Fib,
    frames,
    interface_table,
    internet_checksum,
    ip4,
    ip4_packets,
    udp,
    with_checksum,
)


def outer_header(source: str, destination: str) -> bytes:
    """TTL 64, protocol 4, length still zero."""
    header = ip4(source=source, destination=destination, protocol=4, identification=0)
    return with_checksum(header[:2] + b"\0\0" + header[4:])


FIB = Fib()
HEADERS = [outer_header("10.1.2.1", "10.1.2.2"), outer_header("192.0.2.1", "198.51.100.9")]
UNDER = [(17, 0x8123), (1, 0x8099)]  # adjacency and next of the outer packet
TUNNELS = [
    FIB.adjacency(Kind.MIDCHAIN, 3, HEADERS[0], mtu=80, adj=17, stacked_next=0x8123),
    FIB.adjacency(Kind.MIDCHAIN, 2, HEADERS[1], adj=1, stacked_next=0x8099),
]
MTUS, INTERFACES = [80, 9000], [3, 2]


def reference(data: bytes, tunnel: int, flags: int) -> tuple[int, bytes]:
    own = flags & LOCALLY_ORIGINATED
    if not own and data[8] <= 1:
        return Next.ICMP_ERROR, data
    if len(data) > MTUS[tunnel]:
        return (Next.ICMP_ERROR if data[6] & 0x40 else Next.FRAG), data
    inner = data if own else with_checksum(data[:8] + bytes([data[8] - 1]) + data[9:])
    outer = HEADERS[tunnel][:2] + struct.pack("!H", 20 + len(inner)) + HEADERS[tunnel][4:]
    return Next.TUNNEL_OUTPUT if flags & TRACED else UNDER[tunnel][1], with_checksum(outer) + inner


CASES = st.tuples(ip4_packets(), st.sampled_from([0, 1]), st.sampled_from([0, 0, TRACED, LOCALLY_ORIGINATED]))


@given(frames(CASES))
def test_mixed_frames(cases):
    packets = [Packet(data, adj=TUNNELS[tunnel], flags=flags) for data, tunnel, flags in cases]
    result = run_kernel(ip4_midchain, packets, FIB.tables)
    expected = [reference(*case) for case in cases]
    assert list(zip(result.nexts, result.packets, strict=True)) == expected
    for (_, tunnel, _), next_, m in zip(cases, result.nexts, result.meta, strict=True):
        if next_ not in (Next.ICMP_ERROR, Next.FRAG):
            assert (int(m["tx"]), int(m["l3"])) == (INTERFACES[tunnel], int(m["cur"]))
            assert int(m["adj"]) == (TUNNELS[tunnel] if next_ == Next.TUNNEL_OUTPUT else UNDER[tunnel][0])
    for tunnel, sw_if_index in enumerate(INTERFACES):
        left = [len(data) for (_, data), next_ in zip(expected, result.nexts, strict=True) if next_ == UNDER[tunnel][1]]
        tx = result.tables["interface_tx"][sw_if_index]
        assert (int(tx["packets"]), int(tx["bytes"])) == (len(left), sum(left))
    expired = [data[8] <= 1 and not flags & LOCALLY_ORIGINATED for data, _, flags in cases]
    assert result.counters[Counter.TIME_EXPIRED] == sum(expired)


def test_scapy_agrees():
    inner = IP(src="10.9.0.1", dst="10.9.0.2", ttl=7) / b"payload"
    out = run_kernel(ip4_midchain, [Packet(bytes(inner), adj=TUNNELS[1])], FIB.tables).packets[0]
    inner.ttl = 6
    assert out == bytes(IP(src="192.0.2.1", dst="198.51.100.9", ttl=64, id=0, proto=4) / inner)


def test_vpps_own_packet():
    """From VPP's trace: 10.1.2.1 to 10.1.2.2, 104 bytes, checksum 0x628e."""
    out = run_kernel(
        ip4_midchain,
        [Packet(ip4(bytes(64))[:84], adj=TUNNELS[1])],
        {**FIB.tables, "adjacencies": with_header(HEADERS[0])},
    )
    assert out.packets[0][:20].hex() == "45000068000000004004628e0a0102010a010202"


def with_header(header: bytes):
    adjacencies = FIB.adjacencies.copy()
    adjacencies["rewrite"][TUNNELS[1], : len(header)] = np.frombuffer(header, np.uint8)
    return adjacencies


@pytest.mark.slow
def test_every_length():
    """The patched checksum is the computed one for each length, and for each checksum of the outer header that ids can make."""
    sent = [ip4(bytes(n)) for n in range(0, 1400)]
    result = run_kernel(ip4_midchain, [Packet(data, adj=TUNNELS[1]) for data in sent], FIB.tables)
    assert result.packets == [reference(data, 1, 0)[1] for data in sent]
    for first in range(0, 1 << 16, 1009):
        header = with_checksum(HEADERS[1][:4] + struct.pack("!H", first) + HEADERS[1][6:])
        out = run_kernel(
            ip4_midchain, [Packet(sent[9], adj=TUNNELS[1])], {**FIB.tables, "adjacencies": with_header(header)}
        ).packets[0]
        assert internet_checksum(out[:20]) in (0, 0xFFFF)


def test_what_the_error_node_is_told():
    result = run_kernel(ip4_midchain, [Packet(ip4(bytes(99), fragment=0x4000), adj=TUNNELS[0])], FIB.tables)
    assert int(result.meta[0]["flow_hash"]) == 3 << 24 | 4 << 16 | 80
    assert result.counters[Counter.MTU_EXCEEDED] == 1


def test_a_header_goes_where_there_is_room_and_nowhere_else():
    """Every distance of the packet from its slot's start around the least, 84 bytes: outer header and link layer."""
    data = ip4(bytes(30))
    for room in range(80, 90):
        packet = Packet(data, cur=room - HEADROOM, adj=TUNNELS[1])
        result = run_kernel(ip4_midchain, [packet], FIB.tables, error_base=9)
        left = room >= 84
        assert (result.nexts == [UNDER[1][1]], result.counters[Counter.NO_ROOM]) == (left, not left)
        assert left or int(result.meta[0]["error"]) == 9 + Counter.NO_ROOM
        among = [Packet(data, adj=TUNNELS[1]) for _ in range(2 * WORTH_EXPECTING)]
        among[1] = packet
        assert run_kernel(ip4_midchain, among, FIB.tables).counters[Counter.NO_ROOM] == (not left)


def test_the_output_arc_of_the_tunnel():
    arc = np.zeros(16, np.uint32)
    arc[3] = 3
    tables = {**FIB.tables, "ip4_output_arc": arc, "feature_chains": np.full(16, 0x8077, np.uint16)}
    for n in (2, 4 * WORTH_EXPECTING):
        packets = [Packet(ip4(), adj=TUNNELS[k == 1]) for k in range(n)]
        result = run_kernel(ip4_midchain, packets, tables)
        assert result.nexts == [UNDER[1][1] if k == 1 else 0x8077 for k in range(n)]
        assert int(result.tables["interface_tx"]["packets"][INTERFACES[0]]) == 0  # tunnel-output will count them


SEGMENTS, NO_SEGMENTS = 1, 2  # interfaces: whose device segments what is in IPIP, and whose does not
WITH_DEVICES = {
    "interfaces": interface_table({SEGMENTS: {"offload": OFFLOAD_IPIP}, NO_SEGMENTS: {"offload": OFFLOAD_ALL}})
}
LINKS = {
    "neighbor": FIB.adjacency(Kind.REWRITE, SEGMENTS, mtu=1500),
    "another device": FIB.adjacency(Kind.REWRITE, NO_SEGMENTS, mtu=1500),
    "unknown neighbor": FIB.adjacency(Kind.ARP, SEGMENTS, mtu=1500),
    "another tunnel": FIB.adjacency(Kind.MIDCHAIN, SEGMENTS, mtu=1500),
    "smaller": FIB.adjacency(Kind.REWRITE, SEGMENTS, mtu=1200),
}
LARGE = {  # what a large packet finds below its tunnel, and whether it is left whole
    **{
        name: FIB.adjacency(Kind.MIDCHAIN, 3, HEADERS[1], mtu=1480, adj=link, stacked_next=0x8123, flags=STACKED_STRAIGHT)
        for name, link in LINKS.items()
    },
    "several paths": FIB.adjacency(Kind.MIDCHAIN, 3, HEADERS[1], mtu=1480, adj=LINKS["neighbor"], stacked_next=0x8123),
    "not IPIP": FIB.adjacency(
        Kind.MIDCHAIN, 3, outer_header("10.1.2.1", "10.1.2.2")[:9] + b"\x2f" + HEADERS[1][10:], mtu=1480,
        adj=LINKS["neighbor"], stacked_next=0x8123, flags=STACKED_STRAIGHT,
    ),
    "more than IP": FIB.adjacency(
        Kind.MIDCHAIN, 3, HEADERS[1] + bytes(4), mtu=1480, adj=LINKS["neighbor"], stacked_next=0x8123,
        flags=STACKED_STRAIGHT,
    ),
}  # fmt: skip


def large_packet(kind: int, n: int, size: int, options: bytes = b"", df: bool = True, **fields: int) -> Packet:
    """TCP (1) or UDP (5) with n bytes of payload, to be cut by `size`."""
    transport = udp() if kind == 5 else struct.pack("!HHIIBBHHH", 1, 2, 3, 4, 8 << 4, 0x10, 5, 0, 0) + bytes(12)
    data = ip4(transport + bytes(n), protocol=17 if kind == 5 else 6, options=options, fragment=0x4000 * df)
    checksum = {"csum_start": 20 + len(options), "csum_offset": 6 if kind == 5 else 16, "flags": CSUM_PARTIAL}
    return Packet(data, gso_type=kind, gso_size=size, **{**checksum, **fields})


@given(
    frames(
        st.tuples(
            st.sampled_from(sorted(LARGE)), st.sampled_from([1, 0x81, 5]), st.integers(1, 4000),
            st.one_of(st.integers(100, 1500), st.sampled_from([1408, 1409, 1128, 1129, 1432, 1433, 1152, 1153])),
            st.sampled_from([b"", b"\1" * 4]), st.booleans(),
        )
    )
)  # fmt: skip
def test_large_packets_stay_whole_where_the_device_segments(cases):
    """1408 bytes of TCP with its options, and 1432 of UDP, are what an MTU of 1480 leaves; less 300 the other one."""
    packets = []
    for name, kind, n, size, options, df in cases:
        packets.append(large_packet(kind, n, size, options, df, adj=LARGE[name]))
    result = run_kernel(ip4_midchain, packets, {**FIB.tables, **WITH_DEVICES})
    for (name, kind, _, size, options, df), packet, next_, data, m in zip(
        cases, packets, result.nexts, result.packets, result.meta, strict=True
    ):
        segment = 20 + len(options) + (8 if kind == 5 else 32) + size
        if segment > 1480:
            assert (next_, data) == (Next.ICMP_ERROR if df else Next.FRAG, packet.data)
        elif name != "neighbor" and (name != "smaller" or segment + 20 > 1200):
            assert (next_, data) == (Next.GSO, packet.data)
        else:
            inner = with_checksum(packet.data[:8] + bytes([packet.data[8] - 1]) + packet.data[9:])
            outer = with_checksum(HEADERS[1][:2] + struct.pack("!H", 20 + len(inner)) + HEADERS[1][4:])
            assert (next_, data) == (0x8123, outer + inner)
            assert (int(m["gso_type"]), int(m["gso_size"])) == (kind, size)
            assert int(m["csum_start"]) - int(m["cur"]) == 40 + len(options)
            assert (int(m["l3"]), int(m["adj"]), int(m["tx"])) == (int(m["cur"]), LINKS[name], 3)


def test_the_longest_that_stays_whole():
    for n in range(0xFFFF - 20 - 52 - 2, 0xFFFF - 20 - 52 + 3):
        result = run_kernel(
            ip4_midchain, [large_packet(1, n, 1400, adj=LARGE["neighbor"])], {**FIB.tables, **WITH_DEVICES}
        )
        assert result.nexts == [0x8123 if 20 + 52 + n <= 0xFFFF else Next.GSO]


@pytest.mark.parametrize("fields", [{"flags": 0}, {"csum_start": 24}, {"csum_start": 60}])
def test_a_checksum_elsewhere_is_not_left_to_the_device(fields):
    """One inside another tunnel, or none at all: a train that nobody has put into a tunnel."""
    result = run_kernel(
        ip4_midchain, [large_packet(1, 3000, 1000, adj=LARGE["neighbor"], **fields)], {**FIB.tables, **WITH_DEVICES}
    )
    assert result.nexts == [Next.GSO]


@pytest.mark.parametrize(("size", "next_"), [(1127, 0x8123), (1128, 0x8123), (1129, Next.GSO)])
def test_segments_as_long_as_the_device_takes(size, next_):
    packet = large_packet(1, 3000, size, adj=LARGE["smaller"])
    assert run_kernel(ip4_midchain, [packet], {**FIB.tables, **WITH_DEVICES}).nexts == [next_]
