# SPDX-License-Identifier: Apache-2.0
"""gso-udp4-input: a large UDP packet becomes the datagrams it stands for, and what is behind it stays behind it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP
from scapy.packet import Raw

from pyvpp.buffers import BUFFER, CSUM_PARTIAL
from pyvpp.device.af_xdp_offload import find_unfinished
from pyvpp.node import FREE, HELD
from pyvpp.testing import Packet, run_kernel
from pyvpp_nodes.gso.gso_udp4_input import Counter, Next, gso_udp4_input
from tests.graph_nodes.forwarding import internet_checksum
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


def from_af_xdp(packet: bytes) -> Packet:
    """A packet of a veth peer, with what af-xdp-input finds in it."""
    frame = bytes(12) + b"\x08\0" + packet
    heap, meta = np.zeros(len(frame) + 4096, np.uint8), np.zeros(1, BUFFER)
    heap[: len(frame)] = np.frombuffer(frame, np.uint8)
    meta[0]["len"] = len(frame)
    find_unfinished(heap, meta[0], 1500)
    found = {name: int(meta[0][name]) for name in ("flags", "gso_type", "gso_size", "csum_offset")}
    return Packet(packet, l4=20, csum_start=max(0, int(meta[0]["csum_start"]) - 14), **found)


def with_bare_checksum(packet: bytes) -> bytes:
    pseudo = packet[12:20] + b"\0\x11" + packet[24:26]
    return packet[:26] + (internet_checksum(pseudo) ^ 0xFFFF).to_bytes(2, "big") + packet[28:]


@given(
    st.integers(1, 200), st.integers(1, 200), st.integers(1, 8), st.lists(st.tuples(st.integers(28, 400), st.binary(min_size=1, max_size=4)), max_size=2)
)  # fmt: skip
def test_trains_that_af_xdp_found_are_cut_or_pass_whole(size, last, others, spoilt):
    """Whatever a sender writes behind the outer UDP header: nothing is lost, nothing is added, and what nobody spoilt
    is cut into the packets that were meant."""
    inner = [bytes(IP(src="10.1.0.2", dst="10.2.0.2") / UDP() / Raw(bytes(n))) for n in [size] * others]
    inner.append(inner[0][: 20 + min(len(inner[0]) - 20, last)])
    vxlan = bytes([8, 0, 0, 0, 0, 0, 7, 0])
    data = bytearray(
        bytes(IP(src="10.0.0.2", dst="10.0.0.1") / UDP(dport=4789) / b"".join(vxlan + each for each in inner))
    )
    for at, noise in spoilt:
        if at + len(noise) <= len(data):
            data[at : at + len(noise)] = noise
    packet = from_af_xdp(with_bare_checksum(bytes(data)))
    result = run_kernel(gso_udp4_input, [packet], buffers=300)
    payloads = [data[28:] for data, _ in result.emitted]
    if not spoilt:
        assert payloads == [vxlan + each for each in inner]
    assert b"".join(payloads) == packet.data[28:] and result.nexts == [HELD if len(payloads) == 1 else FREE]
