# SPDX-License-Identifier: Apache-2.0
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP

from pyvpp.buffers import HEADROOM, LOCALLY_ORIGINATED, TRACED
from pyvpp.testing import Packet, run_kernel
from pyvpp_nodes.fib.forwarding import WORTH_EXPECTING
from pyvpp_nodes.fib.tables import Kind
from pyvpp_nodes.ip4.midchain import Counter, Next, ip4_midchain
from tests.graph_nodes.forwarding import Fib, frames, internet_checksum, ip4, ip4_packets, with_checksum


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
