# SPDX-License-Identifier: Apache-2.0
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether

from pyvpp.buffers import CSUM_PARTIAL, LOCALLY_ORIGINATED
from pyvpp.testing import Packet, run_kernel
from pyvpp_nodes.fib.forwarding import WORTH_EXPECTING
from pyvpp_nodes.fib.tables import Kind
from pyvpp_nodes.ip4.rewrite import Counter, Next, ip4_rewrite
from tests.graph_nodes.forwarding import (
    MACS,
    NEIGHBOR_MAC,
    Fib,
    ethernet,
    frames,
    ip4,
    ip4_packets,
    output_of,
    with_checksum,
)

HEADER = ethernet(b"", destination=NEIGHBOR_MAC, source=MACS[2])
FIB = Fib()
ETHERNET = FIB.adjacency(Kind.REWRITE, 2, HEADER)
SMALL_MTU = FIB.adjacency(Kind.REWRITE, 3, HEADER, mtu=68)
TUN = FIB.adjacency(Kind.REWRITE, 1)
ODD = FIB.adjacency(Kind.REWRITE, 1, bytes(range(37)))
REWRITES = {
    ETHERNET: (2, HEADER, 9000),
    SMALL_MTU: (3, HEADER, 68),
    TUN: (1, b"", 9000),
    ODD: (1, bytes(range(37)), 9000),
}


def reference(data: bytes, adjacency: int, flags: int) -> tuple[int, bytes]:
    """RFC 1812 5.3.1 without incremental tricks."""
    sw_if_index, header, mtu = REWRITES[adjacency]
    local = flags & LOCALLY_ORIGINATED
    if not local and data[8] <= 1:
        return Next.ICMP_ERROR, data
    if len(data) > mtu:
        return (Next.ICMP_ERROR if data[6] & 0x40 else Next.FRAG), data
    return output_of(sw_if_index), header + (
        data if local else with_checksum(data[:8] + bytes([data[8] - 1]) + data[9:])
    )


CASES = st.tuples(ip4_packets(), st.sampled_from(list(REWRITES)), st.sampled_from([0, 0, 0, LOCALLY_ORIGINATED]))


@given(frames(CASES))
def test_mixed_frames(cases):
    packets = [Packet(data, adj=adjacency, flags=flags) for data, adjacency, flags in cases]
    result = run_kernel(ip4_rewrite, packets, FIB.tables)
    expected = [reference(*case) for case in cases]
    assert list(zip(result.nexts, result.packets, strict=True)) == expected
    for (_, adjacency, _), next_, m in zip(cases, result.nexts, result.meta, strict=True):
        if next_ not in (Next.ICMP_ERROR, Next.FRAG):
            assert int(m["tx"]) == REWRITES[adjacency][0]
            assert int(m["l3"]) == int(m["cur"]) + len(REWRITES[adjacency][1])
    expired = [data[8] <= 1 and not flags for data, _, flags in cases]
    assert result.counters[Counter.TIME_EXPIRED] == sum(expired)
    errors = sum(next_ == Next.ICMP_ERROR for next_, _ in expected)
    assert result.counters[Counter.MTU_EXCEEDED] == errors - sum(expired)


@pytest.mark.slow
def test_every_checksum_value():
    """Sixteen bits are swept, not sampled: each IP id gives another checksum."""
    base = ip4(b"12345678", identification=0)
    for start in range(0, 1 << 16, 1 << 13):
        sent = [with_checksum(base[:4] + struct.pack("!H", i) + base[6:]) for i in range(start, start + (1 << 13))]
        result = run_kernel(ip4_rewrite, [Packet(data, adj=TUN) for data in sent], FIB.tables)
        assert result.packets == [reference(data, TUN, 0)[1] for data in sent]


def test_every_ttl():
    sent = [ip4(ttl=ttl) for ttl in range(256)]
    result = run_kernel(ip4_rewrite, [Packet(data, adj=ETHERNET) for data in sent], FIB.tables)
    assert list(zip(result.nexts, result.packets, strict=True)) == [reference(data, ETHERNET, 0) for data in sent]


@pytest.mark.parametrize("fragment", [0, 0x4000])
def test_every_length_around_the_mtu(fragment):
    sent = [ip4(bytes(n), fragment=fragment) for n in range(120)]
    result = run_kernel(ip4_rewrite, [Packet(data, adj=SMALL_MTU) for data in sent], FIB.tables)
    assert list(zip(result.nexts, result.packets, strict=True)) == [reference(data, SMALL_MTU, 0) for data in sent]


def test_scapy_agrees():
    packet = IP(src="10.0.0.1", dst="10.0.0.2", ttl=9) / TCP() / b"payload"
    out = Ether(run_kernel(ip4_rewrite, [Packet(bytes(packet), adj=ETHERNET)], FIB.tables).packets[0])
    assert (out.dst, out.src, out.type, out[IP].ttl) == (NEIGHBOR_MAC, MACS[2], 0x0800, 8)
    checksum = out[IP].chksum
    del out[IP].chksum
    assert Ether(bytes(out))[IP].chksum == checksum


@pytest.mark.parametrize(("size", "too_big"), [(8948, False), (8949, True)])
def test_a_gso_packet_is_as_big_as_its_segments(size, too_big):
    """20 bytes IP, 32 bytes TCP with options, and gso_size: 9000 is the MTU."""
    tcp = bytes(12) + b"\x80" + bytes(19)
    packet = Packet(ip4(tcp + bytes(20000), protocol=6, fragment=0x4000)[:1500], adj=ETHERNET, flags=CSUM_PARTIAL,
                    csum_start=20, csum_offset=16, gso_type=1, gso_size=size)  # fmt: skip
    result = run_kernel(ip4_rewrite, [packet], FIB.tables)
    assert result.nexts == [Next.ICMP_ERROR if too_big else output_of(2)]


def test_a_tunnelled_gso_packet_counts_all_headers():
    """Outer IP, inner IP, UDP: csum_start tells where the innermost is."""
    for size, too_big in ((9000 - 48, False), (9000 - 47, True)):
        packet = Packet(ip4(ip4(bytes(900)), protocol=4, fragment=0x4000), adj=ETHERNET, flags=CSUM_PARTIAL,
                        csum_start=40, csum_offset=6, gso_type=5, gso_size=size)  # fmt: skip
        assert run_kernel(ip4_rewrite, [packet], FIB.tables).nexts == [Next.ICMP_ERROR if too_big else output_of(2)]


def test_what_the_error_node_is_told():
    packets = [Packet(ip4(bytes(99), fragment=0x4000), adj=SMALL_MTU), Packet(ip4(ttl=1), adj=ETHERNET)]
    result = run_kernel(ip4_rewrite, packets, FIB.tables)
    assert [int(m["flow_hash"]) for m in result.meta] == [3 << 24 | 4 << 16 | 68, 11 << 24]


def test_the_output_arc_begins_here():
    arc = np.zeros(16, np.uint32)
    arc[2] = 3
    tables = {**FIB.tables, "ip4_output_arc": arc, "feature_chains": np.full(16, 0x8077, np.uint16)}
    for n in (2, 4 * WORTH_EXPECTING):
        packets = [Packet(ip4(), adj=TUN if k == 1 else ETHERNET) for k in range(n)]
        expected = [output_of(1) if k == 1 else 0x8077 for k in range(n)]
        assert run_kernel(ip4_rewrite, packets, tables).nexts == expected
