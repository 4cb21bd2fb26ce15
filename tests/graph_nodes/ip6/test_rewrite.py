# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import TCP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

from pyvpp.buffers import CSUM_PARTIAL, LOCALLY_ORIGINATED
from pyvpp.testing import Packet, run_kernel
from pyvpp_nodes.fib.forwarding import WORTH_EXPECTING
from pyvpp_nodes.fib.tables import Kind
from pyvpp_nodes.ip6.rewrite import Counter, Next, ip6_rewrite
from tests.graph_nodes.forwarding import MACS, NEIGHBOR_MAC, Fib, ethernet, frames, ip6, ip6_packets, output_of

HEADER = ethernet(b"", destination=NEIGHBOR_MAC, source=MACS[2], ethertype=0x86DD)
FIB = Fib(bits=128)
ETHERNET = FIB.adjacency(Kind.REWRITE, 2, HEADER)
SMALL_MTU = FIB.adjacency(Kind.REWRITE, 3, HEADER, mtu=100)
TUN = FIB.adjacency(Kind.REWRITE, 1)
ODD = FIB.adjacency(Kind.REWRITE, 1, bytes(range(37)))
REWRITES = {
    ETHERNET: (2, HEADER, 9000),
    SMALL_MTU: (3, HEADER, 100),
    TUN: (1, b"", 9000),
    ODD: (1, bytes(range(37)), 9000),
}


def fault_of(data: bytes, adjacency: int, flags: int) -> Counter | None:
    if not flags & LOCALLY_ORIGINATED and data[7] <= 1:
        return Counter.TIME_EXPIRED
    return Counter.MTU_EXCEEDED if len(data) > REWRITES[adjacency][2] else None


def reference(data: bytes, adjacency: int, flags: int) -> tuple[int, bytes]:
    """RFC 8200, 3: discarded when the hop limit was zero or becomes zero; RFC 4443, 3.2: too big for the next link."""
    sw_if_index, header, _ = REWRITES[adjacency]
    if fault_of(data, adjacency, flags) is not None:
        return Next.ICMP_ERROR, data
    hops = data[7] if flags & LOCALLY_ORIGINATED else data[7] - 1
    return output_of(sw_if_index), header + data[:7] + bytes([hops]) + data[8:]


CASES = st.tuples(ip6_packets(), st.sampled_from(list(REWRITES)), st.sampled_from([0, 0, 0, LOCALLY_ORIGINATED]))


@given(frames(CASES))
def test_mixed_frames(cases):
    packets = [Packet(data, adj=adjacency, flags=flags) for data, adjacency, flags in cases]
    result = run_kernel(ip6_rewrite, packets, FIB.tables, error_base=50)
    assert list(zip(result.nexts, result.packets, strict=True)) == [reference(*case) for case in cases]
    faults = [fault_of(*case) for case in cases]
    for counter in Counter:
        assert result.counters[counter] == faults.count(counter)
    for (_, adjacency, _), fault, m in zip(cases, faults, result.meta, strict=True):
        assert int(m["error"]) == (0 if fault is None else 50 + fault)
        if fault is None:
            assert int(m["tx"]) == REWRITES[adjacency][0]
            assert int(m["l3"]) == int(m["cur"]) + len(REWRITES[adjacency][1])


@pytest.mark.parametrize("flags", [0, LOCALLY_ORIGINATED])
@pytest.mark.parametrize("adjacency", [ETHERNET, ODD])
def test_every_hop_limit(adjacency, flags):
    sent = [ip6(hops=hops) for hops in range(256)]
    result = run_kernel(ip6_rewrite, [Packet(data, adj=adjacency, flags=flags) for data in sent], FIB.tables)
    assert list(zip(result.nexts, result.packets, strict=True)) == [reference(d, adjacency, flags) for d in sent]


def test_every_length_around_the_mtu():
    sent = [ip6(bytes(n)) for n in range(120)]
    result = run_kernel(ip6_rewrite, [Packet(data, adj=SMALL_MTU) for data in sent], FIB.tables)
    assert list(zip(result.nexts, result.packets, strict=True)) == [reference(data, SMALL_MTU, 0) for data in sent]


def test_scapy_agrees():
    packet = IPv6(src="2001:db8::1", dst="2001:db8::2", hlim=9) / TCP() / b"payload"
    out = Ether(run_kernel(ip6_rewrite, [Packet(bytes(packet), adj=ETHERNET)], FIB.tables).packets[0])
    assert (out.dst, out.src, out.type, out[IPv6].hlim) == (NEIGHBOR_MAC, MACS[2], 0x86DD, 8)
    out[IPv6].hlim = 9
    assert bytes(out[IPv6]) == bytes(packet)


@pytest.mark.parametrize("partial", [True, False])
@pytest.mark.parametrize(("size", "too_big"), [(8928, False), (8929, True)])
def test_a_gso_packet_is_as_big_as_its_segments(size, too_big, partial):
    """40 bytes IP, 32 bytes TCP with options, and gso_size: 9000 is the MTU."""
    tcp = bytes(12) + b"\x80" + bytes(19)
    checksum = {"flags": CSUM_PARTIAL, "csum_start": 40, "csum_offset": 16} if partial else {}
    packet = Packet(ip6(tcp + bytes(1400), protocol=6), adj=ETHERNET, gso_type=4, gso_size=size, **checksum)
    assert run_kernel(ip6_rewrite, [packet], FIB.tables).nexts == [Next.ICMP_ERROR if too_big else output_of(2)]


def test_what_the_error_node_is_told():
    packets = [Packet(ip6(bytes(99)), adj=SMALL_MTU), Packet(ip6(hops=1), adj=ETHERNET)]
    result = run_kernel(ip6_rewrite, packets, FIB.tables)
    assert [int(m["flow_hash"]) for m in result.meta] == [2 << 24 | 100, 3 << 24]


def test_the_output_arc_begins_here():
    arc = np.zeros(16, np.uint32)
    arc[2] = 3
    tables = {**FIB.tables, "ip6_output_arc": arc, "feature_chains": np.full(16, 0x8077, np.uint16)}
    for n in (2, 4 * WORTH_EXPECTING):
        packets = [Packet(ip6(), adj=TUN if k == 1 else ETHERNET) for k in range(n)]
        expected = [output_of(1) if k == 1 else 0x8077 for k in range(n)]
        assert run_kernel(ip6_rewrite, packets, tables).nexts == expected
