# SPDX-License-Identifier: Apache-2.0
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP, IPOption_Router_Alert

from pyvpp.testing import Packet, run_kernel
from pyvpp_nodes.ip4.input import Counter, Next, ip4_input
from tests.graph_nodes.forwarding import NODE_BY_NODE, checksum_is_good, frames, ip4, ip4_packets, with_checksum


def reference(data: bytes) -> tuple[Next, Counter | None]:
    """RFC 1812 5.2.2, one check after the other."""
    header, total = 4 * (data[0] & 15), int.from_bytes(data[2:4].ljust(2, b"\0"), "big")
    if len(data) < 20:
        return Next.DROP, Counter.TOO_SHORT
    if data[0] >> 4 != 4:
        return Next.DROP, Counter.VERSION
    if header < 20:
        return Next.DROP, Counter.HDR_TOO_SHORT
    if header > len(data):
        return Next.DROP, Counter.BAD_LENGTH
    if not checksum_is_good(data):
        return Next.DROP, Counter.BAD_CHECKSUM
    if total < 20:
        return Next.DROP, Counter.TOO_SHORT
    if not header <= total <= len(data):
        return Next.DROP, Counter.BAD_LENGTH
    if int.from_bytes(data[6:8], "big") % 0x2000 == 1:
        return Next.DROP, Counter.FRAGMENT_OFFSET_ONE
    if data[8] == 0:
        return Next.ICMP_ERROR, Counter.TIME_EXPIRED
    if header > 20:
        return Next.OPTIONS, Counter.OPTIONS
    if 224 <= data[16] < 240:
        return Next.IP4_DROP, Counter.MULTICAST
    return Next.LOOKUP, None


def survives(next_: Next) -> bool:
    return next_ not in (Next.DROP, Next.IP4_DROP)


@st.composite
def received(draw: st.DrawFn) -> bytes:
    """Packets with Ethernet padding behind them, some with one word of the header changed, its checksum right or wrong."""
    data = bytearray(draw(ip4_packets(ttls=st.integers(0, 255))) + draw(st.sampled_from([b"", b"", bytes(6)])))
    fault = draw(
        st.sampled_from(
            ["none", "none", "none", "version", "length", "cut", "bits", "checksum", "fragment", "multicast"]
        )
    )
    if fault == "version":
        data[0] = draw(st.integers(0, 255))
    elif fault == "length":
        data[2:4] = struct.pack("!H", draw(st.integers(0, 120)))
    elif fault == "cut":
        return bytes(data[: draw(st.integers(1, len(data)))])
    elif fault == "bits":
        at = draw(st.integers(0, 19))
        data[at] ^= 1 << draw(st.integers(0, 7))
        return bytes(data)
    elif fault == "checksum":
        data[10:12] = struct.pack("!H", draw(st.integers(0, 0xFFFF)))
        return bytes(data)
    elif fault == "fragment":
        data[6:8] = struct.pack("!H", draw(st.sampled_from([1, 0x2001, 2, 0x8001])))
    elif fault == "multicast":
        data[16] = draw(st.integers(220, 245))
    return with_checksum(bytes(data))


@given(frames(received()))
def test_mixed_frames(packets):
    result = run_kernel(ip4_input, [Packet(data, rx=i % 3) for i, data in enumerate(packets)], NODE_BY_NODE)
    expected = [reference(data) for data in packets]
    assert result.nexts == [next_ for next_, _ in expected]
    for counter in Counter:
        assert result.counters[counter] == sum(fault == counter for _, fault in expected)
    for data, left, (next_, _) in zip(packets, result.packets, expected, strict=True):
        if survives(next_):
            assert left == data[: int.from_bytes(data[2:4], "big")]
    counted = result.tables["interface_ip4"]
    assert [int(counted[rx]) for rx in range(3)] == [len(packets[rx::3]) for rx in range(3)]


def nexts_of(packets: list[bytes]) -> list[int]:
    return run_kernel(ip4_input, [Packet(data) for data in packets], NODE_BY_NODE).nexts


@pytest.mark.slow
def test_every_checksum_value():
    """Another id has another checksum; all are accepted, and each is rejected when it is one off."""
    base = ip4(b"12345678", identification=0)
    for start in range(0, 1 << 16, 1 << 13):
        good = [with_checksum(base[:4] + struct.pack("!H", i) + base[6:]) for i in range(start, start + (1 << 13))]
        assert set(nexts_of(good)) == {Next.LOOKUP}
        bad = [
            data[:10] + struct.pack("!H", (int.from_bytes(data[10:12], "big") + 1) % 0x10000) + data[12:]
            for data in good
        ]
        assert nexts_of(bad) == [reference(data)[0] for data in bad]


@pytest.mark.slow
def test_every_total_length():
    base = ip4(bytes(80))
    packets = [with_checksum(base[:2] + struct.pack("!H", n) + base[4:]) for n in range(0, 1 << 16, 5)]
    assert nexts_of(packets) == [reference(data)[0] for data in packets]
    edges = [with_checksum(base[:2] + struct.pack("!H", n) + base[4:]) for n in (0, 19, 20, 21, 99, 100, 101, 0xFFFF)]
    assert nexts_of(edges) == [Next.DROP] * 2 + [Next.LOOKUP] * 4 + [Next.DROP] * 2


def test_a_total_length_that_ends_in_the_options():
    base = ip4(bytes(9), options=b"\1\1\1\0")
    packets = [with_checksum(base[:2] + struct.pack("!H", n) + base[4:]) for n in (20, 23, 24, 33, 34)]
    assert nexts_of(packets) == [Next.DROP, Next.DROP, Next.OPTIONS, Next.OPTIONS, Next.DROP]


@pytest.mark.slow
def test_every_fragment_word():
    base = ip4(bytes(20))
    packets = [with_checksum(base[:6] + struct.pack("!H", word) + base[8:]) for word in range(0, 1 << 16, 3)]
    assert nexts_of(packets) == [reference(data)[0] for data in packets]


def test_every_ttl_and_first_byte():
    base = ip4(bytes(60))
    packets = [with_checksum(base[:8] + bytes([ttl]) + base[9:]) for ttl in range(256)]
    packets += [with_checksum(bytes([first]) + base[1:]) for first in range(0x14, 256) if first & 15 > 4]
    packets += [bytes([first]) + base[1:] for first in range(256)]
    assert nexts_of(packets) == [reference(data)[0] for data in packets]


def test_scapy_packets():
    plain = bytes(IP(src="10.0.0.1", dst="10.0.0.2") / UDP() / b"hello")
    alert = bytes(IP(dst="10.0.0.2", options=[IPOption_Router_Alert()]) / b"hello")
    multicast = bytes(IP(dst="224.0.0.5") / b"hello")
    expired = bytes(IP(dst="10.0.0.2", ttl=0) / b"hello")
    assert nexts_of([plain, alert, multicast, expired]) == [Next.LOOKUP, Next.OPTIONS, Next.IP4_DROP, Next.ICMP_ERROR]


def test_what_the_error_node_is_told():
    m = run_kernel(ip4_input, [Packet(ip4(ttl=0))], NODE_BY_NODE).meta[0]
    assert int(m["flow_hash"]) == 11 << 24


def test_the_arc_of_the_interface_begins_here():
    arc = np.zeros(16, np.uint32)
    arc[2] = 5
    tables = NODE_BY_NODE | {"ip4_unicast_arc": arc, "feature_chains": np.full(16, 0x8042, np.uint16)}
    packets = [Packet(ip4(), rx=1), Packet(ip4(), rx=2), Packet(ip4(ttl=0), rx=2)]
    assert run_kernel(ip4_input, packets, tables).nexts == [Next.LOOKUP, 0x8042, Next.ICMP_ERROR]
