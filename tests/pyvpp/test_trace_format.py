# SPDX-License-Identifier: Apache-2.0
"""Lines that VPP printed, from the bytes it printed them of."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6DestUnreach, ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import ARP, Dot1Q, Ether

from pyvpp.trace_format import (
    format_arp,
    format_ethernet,
    format_ethernet_header,
    format_hex,
    format_icmp,
    format_icmp6,
    format_ip4,
    format_ip6,
    format_packet,
    format_tcp,
    format_udp,
    format_vxlan,
)

PING = (
    IP(src="10.1.1.2", dst="10.1.2.2", ttl=1, id=0x788B, flags="DF", chksum=0xEA18)
    / ICMP(id=10006, chksum=0xA946)
    / bytes(56)
)
PING_LINES = [
    "ICMP: 10.1.1.2 -> 10.1.2.2",
    "  tos 0x00, ttl 1, length 84, checksum 0xea18 dscp CS0 ecn NON_ECN",
    "  fragment id 0x788b, flags DONT_FRAGMENT",
    "ICMP echo_request checksum 0xa946 id 10006",
]


def test_an_icmp_packet():
    assert format_ip4(bytes(PING)) == PING_LINES


def test_an_icmp_error():
    error = bytes.fromhex("45000070000000" + "00ff01a5880a0101010a010102" + "0b00f4ff00000000") + bytes(84)
    assert format_ip4(error) == [
        "ICMP: 10.1.1.1 -> 10.1.1.2",
        "  tos 0x00, ttl 255, length 112, checksum 0xa588 dscp CS0 ecn NON_ECN",
        "  fragment id 0x0000",
        "ICMP time_exceeded ttl_exceeded_in_transit checksum 0xf4ff",
    ]


def test_tos_and_code():
    packet = IP(src="10.1.2.2", dst="10.1.2.1", tos=0xC0, id=0x74F0) / ICMP(type=3, code=2, chksum=0xFCFD) / bytes(104)
    lines = format_ip4(bytes(packet))
    assert lines[1].endswith("dscp CS6 ecn NON_ECN")
    assert lines[3] == "ICMP destination_unreachable protocol_unreachable checksum 0xfcfd"


def test_a_udp_frame():
    frame = Ether(dst="36:df:74:c4:25:f4", src="02:fe:dd:be:72:35")
    frame /= IP(src="10.1.2.1", dst="10.1.2.2", ttl=253, id=0) / UDP(sport=60365, dport=4789, chksum=0) / bytes(106)
    assert format_packet(bytes(frame), ethernet=True) == [
        "IP4: 02:fe:dd:be:72:35 -> 36:df:74:c4:25:f4",
        "UDP: 10.1.2.1 -> 10.1.2.2",
        "  tos 0x00, ttl 253, length 134, checksum 0xa562 dscp CS0 ecn NON_ECN",
        "  fragment id 0x0000",
        "UDP: 60365 -> 4789",
        "  length 114, checksum 0x0000",
    ]


def test_an_arp_frame():
    arp = ARP(op=2, hwsrc="02:fe:dd:be:72:35", psrc="10.1.2.1", hwdst="36:df:74:c4:25:f4", pdst="10.1.2.2")
    assert format_ethernet(bytes(Ether(dst="36:df:74:c4:25:f4", src="02:fe:dd:be:72:35") / arp)) == [
        "ARP: 02:fe:dd:be:72:35 -> 36:df:74:c4:25:f4",
        "reply, type ethernet/IP4, address size 6/4",
        "02:fe:dd:be:72:35/10.1.2.1 -> 36:df:74:c4:25:f4/10.1.2.2",
    ]


def test_tcp():
    segment = IP(src="10.0.0.1", dst="10.0.0.2") / TCP(
        sport=80, dport=4000, seq=7, ack=0xABCDEF, flags="SA", window=512, chksum=5
    )
    assert format_ip4(bytes(segment))[3:] == [
        "TCP: 80 -> 4000",
        "  seq. tx 0x00000007 rx 0x00abcdef",
        "  flags SYN ACK, tcp header: 20 bytes",
        "  window 512, checksum 0x0005",
    ]


def test_ip_in_ip_shows_both():
    lines = format_ip4(bytes(IP(src="10.1.2.1", dst="10.1.2.2") / PING))
    assert lines[0] == "IP_IN_IP: 10.1.2.1 -> 10.1.2.2"
    assert lines[3:] == PING_LINES


def test_what_is_wrong_is_said():
    packet = bytes(PING)
    assert "checksum 0xea19 (should be 0xea18)" in format_ip4(packet[:11] + b"\x19" + packet[12:])[1]


@pytest.mark.parametrize(
    ("flags", "fragment", "line"),
    [
        ("MF", 0, "fragment id 0x0001, flags MORE_FRAGMENTS"),
        ("MF", 185, "fragment id 0x0001, offset 1480, flags MORE_FRAGMENTS"),
        (0, 370, "fragment id 0x0001, offset 2960"),
    ],
)
def test_fragments(flags, fragment, line):
    lines = format_ip4(bytes(IP(flags=flags, frag=fragment, proto=17) / bytes(16)))
    assert lines[2].strip() == line
    assert len(lines) == (5 if fragment == 0 else 3)


def test_vlan_tags():
    frame = bytes(
        Ether(dst="02:00:00:00:00:02", src="02:00:00:00:00:01") / Dot1Q(vlan=0, prio=5) / Dot1Q(vlan=9) / PING
    )
    assert format_ethernet(frame) == [
        "IP4: 02:00:00:00:00:01 -> 02:00:00:00:00:02 802.1q vlan 0 priority 5 802.1q vlan 9",
        *PING_LINES,
    ]


def test_vxlan():
    assert format_vxlan(bytes.fromhex("0800000000006400")) == ["VXLAN: flags 0x08 vni 100"]


def test_ip6():
    datagram = IPv6(src="2001:db8::1", dst="2001:db8::2", tc=0x12, fl=0xABCDE, hlim=9) / UDP(sport=7, dport=9) / b"abcd"
    expected = [
        "UDP: 2001:db8::1 -> 2001:db8::2",
        "  tos 0x12, flow label 0xabcde, hop limit 9, payload length 12",
        "UDP: 7 -> 9",
    ]
    assert format_ip6(bytes(datagram))[:3] == expected
    assert format_packet(bytes(datagram), ethernet=False)[:3] == expected
    assert format_ethernet(bytes(Ether() / datagram))[1:4] == expected
    assert format_ip6(bytes(IPv6(nh=59))) == [
        "unknown 59: ::1 -> ::1",
        "  tos 0x00, flow label 0x0, hop limit 64, payload length 0",
    ]
    assert format_ip6(bytes(39)) == ["ip6 header truncated, 39 bytes"]
    assert format_ip6(bytes(40)) == ["not IP6: version 0"]


def test_icmp6_shows_what_an_error_is_about():
    ping = IPv6(src="2001:db8::1", dst="2001:db8::2") / ICMPv6EchoRequest(cksum=0x1234)
    assert format_ip6(bytes(ping))[2:] == ["ICMP echo_request checksum 0x1234"]
    error = format_icmp6(bytes(ICMPv6DestUnreach(code=1, cksum=5)) + bytes(ping))
    assert error == [
        "ICMP destination_unreachable code 1 checksum 0x0005",
        *("  " + line for line in format_ip6(bytes(ping))),
    ]


def test_hex():
    data = bytes.fromhex(
        "46bd756252cd02fe3584d0a808004500007000000000ff01a5880a0101010a01"
        "01020b00f4ff0000000045000054788b40000001eb180a0101020a01"
    )
    assert format_hex(data) == [
        "00000000: 46bd756252cd02fe3584d0a808004500007000000000ff01a5880a0101010a01",
        "00000020: 01020b00f4ff0000000045000054788b40000001eb180a0101020a01",
    ]


FORMATTERS = [
    format_ethernet_header,
    format_ethernet,
    format_ip4,
    format_ip6,
    format_icmp,
    format_icmp6,
    format_udp,
    format_tcp,
    format_vxlan,
    format_arp,
    format_hex,
]


@given(
    st.sampled_from(FORMATTERS),
    st.binary(max_size=80),
    st.sampled_from([b"", b"\x45\0", bytes(12) + b"\x81\0", bytes(12) + b"\x08\0\x45\0", b"\x60" + bytes(39)]),
)
def test_any_bytes_give_lines(formatter, data, start):
    assert all(isinstance(line, str) for line in formatter(start + data))
