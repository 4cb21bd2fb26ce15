# SPDX-License-Identifier: Apache-2.0
"""gso-udp4-input: a large UDP packet becomes the datagrams it stands for, and what is behind it stays behind it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP
from scapy.packet import Raw

from pyvpp.buffers import CSUM_PARTIAL
from pyvpp.node import FREE, HELD
from pyvpp.testing import Packet, run_kernel
from pyvpp_nodes.gso.gso_udp4_input import Counter, Next, gso_udp4_input
from tests.graph_nodes.gso.test_segment import gso_packet, sent_by_linux


def datagrams(n: int, fill: int = 0) -> bytes:
    return bytes(IP(src="10.0.0.2", dst="10.0.0.1", id=7) / UDP(sport=50000, dport=4789) / Raw(bytes([fill]) * n))


def large(n: int, size: int, fill: int = 0) -> Packet:
    return gso_packet(datagrams(n, fill), 0, size, 5, l4=20)


@given(st.lists(st.tuples(st.integers(1, 400), st.sampled_from([0, 90, 100])), min_size=1, max_size=6))
def test_datagrams_in_order(cases):
    packets, expected = [], []
    for fill, (n, size) in enumerate(cases):
        data = datagrams(n, fill)
        packets.append(large(n, size, fill) if size else Packet(data, l4=20))
        expected += sent_by_linux(data, 0, size, udp=True) if size else [data]
    result = run_kernel(gso_udp4_input, packets, buffers=100)
    assert result.emitted == [(data, Next.VXLAN_INPUT) for data in expected]
    assert result.nexts == [FREE if size else HELD for _, size in cases]
    assert result.counters[Counter.SEGMENTED] == sum(size > 0 for _, size in cases)
    assert result.counters[Counter.SEGMENTS] == len(expected) - sum(size == 0 for _, size in cases)


def test_what_is_large_inside_the_tunnel_is_left_alone():
    packet = Packet(datagrams(300), l4=20, flags=CSUM_PARTIAL, csum_start=20 + 16, gso_type=1, gso_size=100)
    result = run_kernel(gso_udp4_input, [packet])
    assert (result.nexts, result.emitted) == ([HELD], [(packet.data, Next.VXLAN_INPUT)])
    assert int(result.emitted_meta[0]["gso_type"]) == 1


@pytest.mark.parametrize("start", [0, 19, 21, 35])
def test_no_datagrams_and_no_tunnel(start):
    packet = large(300, 100)
    packet.fields["csum_start"] = start
    result = run_kernel(gso_udp4_input, [packet], error_base=30)
    assert (result.nexts, result.emitted) == ([Next.DROP], [])
    assert result.counters[Counter.MALFORMED] == 1
    assert int(result.meta[0]["error"]) == 30 + Counter.MALFORMED


def test_without_buffers():
    result = run_kernel(gso_udp4_input, [large(1000, 100)], buffers=2)
    assert result.nexts == [Next.DROP]
    assert (result.counters[Counter.MEMORY], result.counters[Counter.SEGMENTS]) == (1, 4)
