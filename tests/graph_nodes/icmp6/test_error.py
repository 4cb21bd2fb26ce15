# SPDX-License-Identifier: Apache-2.0
import struct
from ipaddress import IPv6Address

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import UDP
from scapy.layers.inet6 import ICMPv6PacketTooBig, IPv6

from pyvpp.buffers import CSUM_PARTIAL, L2_VALID, LOCALLY_ORIGINATED, TRACED
from pyvpp.testing import Packet, run_kernel
from pyvpp_nodes.icmp6.error import ICMP_WINDOW, Counter, Next, ip6_icmp_error
from pyvpp_nodes.ip6.tables import ADDRESS6
from tests.graph_nodes.forwarding import MACS, ethernet, interface_table, internet_checksum, ip6, udp

OWN = {1: IPv6Address("2001:db8:1::1"), 2: IPv6Address("2001:db8:2::1")}
NO_ADDRESS = 3
NO_ROUTE, TOO_BIG, EXPIRED, PROBLEM = 1 << 24, 2 << 24 | 1400, 3 << 24, 4 << 24 | 1 << 16
COUNTERS = {NO_ROUTE: Counter.DEST_UNREACH_SENT, TOO_BIG: Counter.PACKET_TOO_BIG_SENT,
            EXPIRED: Counter.TTL_EXPIRE_SENT, PROBLEM: Counter.PARAM_PROBLEM_SENT}  # fmt: skip


def address_table(addresses: dict[int, IPv6Address]):
    table = np.zeros(16, ADDRESS6)
    for sw_if_index, address in addresses.items():
        table[sw_if_index] = divmod(int(address), 1 << 64)
    return table


def run(packets: list[Packet], now: int = ICMP_WINDOW, throttle=None):
    tables = {"ip6_interface_address": address_table(OWN)}
    if throttle is not None:
        tables["icmp6_throttle"] = throttle
    result = run_kernel(ip6_icmp_error, packets, tables, now=now)
    if throttle is not None:
        throttle[:] = result.tables["icmp6_throttle"]
    return result


def message(data: bytes, wanted: int, rx: int) -> bytes:
    """RFC 4443: type, code, checksum over the pseudo header too, MTU, as much as fits in 1280 bytes."""
    body = struct.pack("!BBHI", wanted >> 24, wanted >> 16 & 255, 0, wanted & 0xFFFF) + data[:1232]
    pseudo = OWN[rx].packed + data[8:24] + struct.pack("!II", len(body), 58)
    body = body[:2] + struct.pack("!H", internet_checksum(pseudo + body)) + body[4:]
    return ip6(body, str(OWN[rx]), str(IPv6Address(data[8:24])), hops=255, protocol=58)


def may_answer(data: bytes, wanted: int) -> bool:
    """RFC 4443, 2.4 e"""
    source = IPv6Address(data[8:24])
    if source.is_multicast or source.is_unspecified or source.is_loopback:
        return False
    if data[24] == 0xFF and wanted != TOO_BIG:
        return False
    return data[6] != 58 or (len(data) > 40 and data[40] >= 128 and data[40] != 137)


def reference(data: bytes, wanted: int, rx: int) -> tuple[Next, Counter, bytes]:
    if not may_answer(data, wanted):
        return Next.DROP, Counter.DROP, data
    if rx == NO_ADDRESS:
        return Next.DROP, Counter.NO_SOURCE_ADDRESS, data
    return Next.LOOKUP, COUNTERS[wanted], message(data, wanted, rx)


OFFENDERS = st.builds(
    ip6,
    st.one_of(st.binary(max_size=40), st.binary(min_size=1150, max_size=1300)),
    st.sampled_from(["2001:db8:9::1", "2001:db8:9::1", "2001:db8:9::2", "::", "::1", "::2", "ff02::1"]),
    st.sampled_from(["2001:db8:8::1", "2001:db8:8::2", "ff05::2", "fe00::1"]),
    protocol=st.sampled_from([17, 17, 6, 58]), hops=st.integers(0, 255), flow_label=st.sampled_from([0, 0xABCDE]),
)  # fmt: skip
CASES = st.tuples(OFFENDERS, st.sampled_from(list(COUNTERS)), st.sampled_from([1, 2, NO_ADDRESS]))


@given(st.lists(CASES, min_size=1, max_size=8, unique_by=lambda case: case[0][8:40]))
def test_mixed_frames(cases):
    result = run([Packet(data, rx=rx, flow_hash=wanted) for data, wanted, rx in cases])
    expected = [reference(*case) for case in cases]
    assert result.nexts == [next_ for next_, _, _ in expected]
    assert result.packets == [out for _, _, out in expected]
    for counter in Counter:
        assert result.counters[counter] == sum(counted == counter for _, counted, _ in expected)


def test_scapy_agrees():
    offender = IPv6(src="2001:db8:9::1", dst="2001:db8:8::1") / UDP(dport=9) / bytes(1400)
    out = IPv6(run([Packet(bytes(offender), flow_hash=TOO_BIG)]).packets[0])
    too_big = out[ICMPv6PacketTooBig]
    assert (out.src, out.dst, out.plen, out.hlim, too_big.mtu) == ("2001:db8:1::1", "2001:db8:9::1", 1240, 255, 1400)
    again = out.copy()
    del again.plen, again[ICMPv6PacketTooBig].cksum
    assert bytes(again) == bytes(out)


def test_whose_address_it_comes_from():
    """The interface's own, else its partner's."""
    tables = {
        "ip6_interface_address": address_table(OWN),
        "interfaces": interface_table({5: {"peer": 1}, 2: {"peer": 1}, 6: {"peer": 7}}),
    }
    packets = [Packet(ip6(source=f"2001:db8:9::{rx}"), rx=rx, flow_hash=EXPIRED) for rx in (1, 2, 5, 6)]
    result = run_kernel(ip6_icmp_error, packets, tables, now=ICMP_WINDOW)
    assert [IPv6Address(out[8:24]) for out in result.packets[:3]] == [OWN[1], OWN[2], OWN[1]]
    assert result.nexts == [Next.LOOKUP] * 3 + [Next.DROP]


@pytest.mark.parametrize("half", [IPv6Address("2001:db8::"), IPv6Address("::5")])
def test_an_address_half_of_which_is_zero_is_one(half):
    tables = {"ip6_interface_address": address_table({1: half})}
    out = run_kernel(ip6_icmp_error, [Packet(ip6(), flow_hash=EXPIRED)], tables, now=ICMP_WINDOW).packets[0]
    assert IPv6Address(out[8:24]) == half


def test_every_icmp_type():
    sent = [ip6(bytes([kind]) + bytes(9), f"2001:db8:9::{kind:x}", protocol=58) for kind in range(256)]
    nexts = [run([Packet(data, flow_hash=EXPIRED)]).nexts[0] for data in sent]
    assert nexts == [Next.LOOKUP if kind >= 128 and kind != 137 else Next.DROP for kind in range(256)]
    without_type = Packet(ip6(protocol=58), flow_hash=EXPIRED)  # behind it lie 0xa5, which would be no error's
    assert run([without_type]).nexts == [Next.DROP]


@pytest.mark.slow
def test_every_length():
    """Odd ones among them, and those that are cut."""
    for n in range(0, 1300, 3):
        data = ip6(bytes(k * 7 & 255 for k in range(n)))
        assert run([Packet(data, flow_hash=EXPIRED)]).packets == [message(data, EXPIRED, 1)]


@pytest.mark.slow
def test_every_mtu():
    data = ip6(udp(b"x"))
    for mtu in range(0, 1 << 16, 257):
        assert run([Packet(data, flow_hash=2 << 24 | mtu)]).packets == [message(data, 2 << 24 | mtu, 1)]


@pytest.mark.parametrize("wanted", [EXPIRED, TOO_BIG])
@pytest.mark.parametrize("destination", [MACS[1], "33:33:00:00:00:01"])
def test_to_a_group_only_too_big_is_answered(wanted, destination):
    packet = Packet(ethernet(ip6(), destination=destination), cur=14, l2=0, flags=L2_VALID, flow_hash=wanted)
    answered = destination == MACS[1] or wanted == TOO_BIG
    assert run([packet]).nexts == [Next.LOOKUP if answered else Next.DROP]


@pytest.mark.parametrize(("flags", "l2"), [(0, 0), (L2_VALID, 15)])
def test_a_link_layer_that_is_not_the_packets_says_nothing(flags, l2):
    """Without a header known, or with one that a tunnel left further on: the byte there is odd, as a group's is."""
    frame = ethernet(ip6(), destination="33:33:00:00:00:01")
    packet = Packet(frame[:l2] + b"\x01" + frame[l2 + 1 :], cur=14, l2=l2, flags=flags, flow_hash=EXPIRED)
    assert run([packet]).nexts == [Next.LOOKUP]


def test_one_message_per_sender_and_window():
    throttle = np.zeros(9, np.uint64)
    packet = Packet(ip6(), flow_hash=EXPIRED)
    nexts = [run([packet], now, throttle).nexts[0] for now in (1, 2, ICMP_WINDOW, ICMP_WINDOW + 1)]
    assert nexts == [Next.LOOKUP, Next.DROP, Next.DROP, Next.LOOKUP]
    other = Packet(ip6(source="2001:db8:77::1"), flow_hash=EXPIRED)
    assert run([packet, other, packet], 0, np.zeros(9, np.uint64)).nexts == [Next.LOOKUP, Next.LOOKUP, Next.DROP]


def test_what_is_left_of_the_metadata():
    """The message is our own, of one segment, without the old packet's checksum, hash and error."""
    packet = Packet(
        ip6(bytes(80)), flow_hash=EXPIRED, flags=TRACED | CSUM_PARTIAL | L2_VALID, l2=0,
        gso_type=4, gso_size=20, error=7,
    )  # fmt: skip
    m = run([packet]).meta[0]
    assert int(m["flags"]) == TRACED | LOCALLY_ORIGINATED
    assert [int(m[name]) for name in ("flow_hash", "gso_type", "gso_size", "error")] == [0] * 4
    assert int(m["l3"]) == int(m["cur"]) and int(m["l4"]) == int(m["cur"]) + 40
