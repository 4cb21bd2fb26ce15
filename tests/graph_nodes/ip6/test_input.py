# SPDX-License-Identifier: Apache-2.0
import struct
from ipaddress import IPv6Address

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import UDP
from scapy.layers.inet6 import ICMPv6ND_NS, IPv6

from pyvpp.testing import Packet, run_kernel
from pyvpp_nodes.ip6.input import Counter, Next, ip6_input
from tests.graph_nodes.forwarding import frames, ip6, ip6_packets

ADDRESS_FAULTS = (Counter.MULTICAST, Counter.MARTIAN, Counter.LINK_LOCAL)


def fault_of_addresses(source: IPv6Address, destination: IPv6Address) -> Counter | None:
    """RFC 4291 2.5.2, 2.5.3, 2.5.6, 2.7"""
    if destination.is_multicast:
        return Counter.MULTICAST
    if source.is_multicast or any(each.is_unspecified or each.is_loopback for each in (source, destination)):
        return Counter.MARTIAN
    return Counter.LINK_LOCAL if source.is_link_local or destination.is_link_local else None


def fault_of(data: bytes) -> Counter | None:
    """RFC 8200, 3"""
    if len(data) < 40:
        return Counter.TOO_SHORT
    if data[0] >> 4 != 6:
        return Counter.VERSION
    if 40 + int.from_bytes(data[4:6], "big") > len(data):
        return Counter.BAD_LENGTH
    if data[7] == 0:
        return Counter.TIME_EXPIRED
    return fault_of_addresses(IPv6Address(data[8:24]), IPv6Address(data[24:40]))


def reference(data: bytes) -> tuple[Next, Counter | None, bytes]:
    """Where the packet goes, why, and what is left of it."""
    fault = fault_of(data)
    if fault in (Counter.TOO_SHORT, Counter.VERSION, Counter.BAD_LENGTH):
        return Next.DROP, fault, data
    whole = data[: 40 + int.from_bytes(data[4:6], "big")]
    if fault is None:
        return Next.LOOKUP, None, whole
    return (Next.IP6_DROP if fault in ADDRESS_FAULTS else Next.ICMP_ERROR), fault, whole


STRANGE = st.one_of(
    st.sampled_from(["::", "::1", "::2", "::ffff:1.2.3.4", "fe80::1", "febf::", "fec0::1", "ff02::1", "fe7f::1", "1::"]),
    st.integers(0, 2**128 - 1).map(lambda n: str(IPv6Address(n))),
).map(lambda text: IPv6Address(text).packed)  # fmt: skip


@st.composite
def received(draw: st.DrawFn) -> bytes:
    """Good packets, packets with one thing wrong, packets cut short or padded."""
    data = bytearray(draw(ip6_packets(hops=st.integers(0, 255))) + draw(st.sampled_from([b"", b"", bytes(6)])))
    fault = draw(st.sampled_from(["none", "none", "none", "version", "length", "cut", "bits", "source", "destination"]))
    if fault == "version":
        data[0] = draw(st.integers(0, 255))
    elif fault == "length":
        data[4:6] = struct.pack("!H", draw(st.integers(0, 140)))
    elif fault == "cut":
        return bytes(data[: draw(st.integers(1, len(data)))])
    elif fault == "bits":
        data[draw(st.integers(0, 39))] ^= 1 << draw(st.integers(0, 7))
    elif fault == "source":
        data[8:24] = draw(STRANGE)
    elif fault == "destination":
        data[24:40] = draw(STRANGE)
    return bytes(data)


@given(frames(received()))
def test_mixed_frames(packets):
    result = run_kernel(ip6_input, [Packet(data, rx=i % 3) for i, data in enumerate(packets)], error_base=100)
    expected = [reference(data) for data in packets]
    assert list(zip(result.nexts, result.packets, strict=True)) == [(next_, left) for next_, _, left in expected]
    for counter in Counter:
        assert result.counters[counter] == sum(fault == counter for _, fault, _ in expected)
    for m, (_, fault, _) in zip(result.meta, expected, strict=True):
        assert int(m["error"]) == (0 if fault is None else 100 + fault)
    counted = result.tables["interface_ip6"]
    assert [int(counted[rx]) for rx in range(3)] == [len(packets[rx::3]) for rx in range(3)]


def nexts_of(packets: list[bytes]) -> list[int]:
    return run_kernel(ip6_input, [Packet(data) for data in packets]).nexts


def test_every_hop_limit_and_first_byte():
    base = ip6(bytes(60))
    packets = [base[:7] + bytes([hops]) + base[8:] for hops in range(256)]
    packets += [bytes([first]) + base[1:] for first in range(256)]
    assert nexts_of(packets) == [reference(data)[0] for data in packets]
    assert nexts_of(packets[:3]) == [Next.ICMP_ERROR, Next.LOOKUP, Next.LOOKUP]


@pytest.mark.slow
def test_every_payload_length():
    base = ip6(bytes(60))
    packets = [base[:4] + struct.pack("!H", n) + base[6:] for n in range(1 << 16)]
    for start in range(0, 1 << 16, 1 << 13):
        part = packets[start : start + (1 << 13)]
        assert nexts_of(part) == [reference(data)[0] for data in part]


@pytest.mark.slow
@pytest.mark.parametrize("at", [8, 24])
def test_every_first_word_of_an_address(at):
    base = ip6(bytes(8))
    for start in range(0, 1 << 16, 1 << 13):
        packets = [base[:at] + struct.pack("!H", n) + base[at + 2 :] for n in range(start, start + (1 << 13))]
        assert nexts_of(packets) == [reference(data)[0] for data in packets]


@pytest.mark.parametrize("at", [8, 24])
def test_every_bit_of_the_loopback_address_counts(at):
    base = ip6(bytes(8))
    packets = [base[:at] + (1 ^ (1 << bit)).to_bytes(16, "big") + base[at + 16 :] for bit in range(128)]
    assert nexts_of(packets) == [Next.IP6_DROP] + [Next.LOOKUP] * 118 + [reference(p)[0] for p in packets[119:]]


def test_scapy_packets():
    plain = bytes(IPv6(src="2001:db8::1", dst="2001:db8::2") / UDP() / b"hello")
    solicitation = bytes(IPv6(src="::", dst="ff02::1:ff00:1", hlim=255) / ICMPv6ND_NS(tgt="fe80::1"))
    own_link = bytes(IPv6(src="fe80::1", dst="2001:db8::2") / b"hello")
    expired = bytes(IPv6(src="2001:db8::1", dst="2001:db8::2", hlim=0) / b"hello")
    result = run_kernel(ip6_input, [Packet(data) for data in (plain, solicitation, own_link, expired)])
    assert result.nexts == [Next.LOOKUP, Next.IP6_DROP, Next.IP6_DROP, Next.ICMP_ERROR]
    assert {c: int(result.counters[c]) for c in Counter if result.counters[c]} == {
        Counter.MULTICAST: 1, Counter.LINK_LOCAL: 1, Counter.TIME_EXPIRED: 1
    }  # fmt: skip


def test_what_those_behind_are_told():
    """Where the header is, how long the packet is without padding, and which error is asked for."""
    sent = [Packet(bytes(14) + ip6(hops=hops) + bytes(6), cur=14, l3=0) for hops in (0, 9)]
    result = run_kernel(ip6_input, sent)
    assert [int(m["l3"]) - int(m["cur"]) for m in result.meta] == [0, 0]
    assert [len(packet) for packet in result.packets] == [40, 40]
    assert int(result.meta[0]["flow_hash"]) == 3 << 24


def test_the_arc_of_the_interface_begins_here():
    arc = np.zeros(16, np.uint32)
    arc[2] = 5
    tables = {"ip6_unicast_arc": arc, "feature_chains": np.full(16, 0x8042, np.uint16)}
    fec0 = ip6(source="fec0::1")  # deprecated, but routed
    packets = [Packet(ip6(), rx=1), Packet(ip6(), rx=2), Packet(ip6(hops=0), rx=2), Packet(fec0, rx=2)]
    assert run_kernel(ip6_input, packets, tables).nexts == [Next.LOOKUP, 0x8042, Next.ICMP_ERROR, 0x8042]
