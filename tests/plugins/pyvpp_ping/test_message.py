# SPDX-License-Identifier: Apache-2.0
"""Echo requests as scapy reads them, and answers as it makes them."""

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest, IPv6

from pyvpp_ping.message import Answer, checksum, echo_request, read_answer

WORDS = st.integers(0, 0xFFFF)
PAIRS = {4: (ip_address("10.0.0.1"), ip_address("10.0.0.9")), 6: (ip_address("2001:db8::1"), ip_address("2001:db8::9"))}


@given(st.sampled_from((4, 6)), WORDS, WORDS, st.integers(0, 1900))
def test_a_request_is_what_scapy_makes_of_the_same_words(version, identifier, sequence, size):
    source, destination = PAIRS[version]
    packet = echo_request(source, destination, identifier, sequence, size)
    data = bytes(k & 0xFF for k in range(size))
    if version == 4:
        read = IP(packet)
        model = IP(src=str(source), dst=str(destination), ttl=64, id=read.id) / ICMP(id=identifier, seq=sequence) / data
    else:
        model = IPv6(src=str(source), dst=str(destination), hlim=64)
        model = model / ICMPv6EchoRequest(id=identifier, seq=sequence, data=data)
    assert packet == bytes(model)


@given(st.sampled_from((4, 6)), WORDS, WORDS, st.binary(max_size=300), st.integers(1, 255))
def test_an_answer_is_read_as_it_was_made(version, identifier, sequence, data, hops):
    ours, theirs = PAIRS[version]
    if version == 4:
        made = IP(src=str(theirs), dst=str(ours), ttl=hops) / ICMP(type=0, id=identifier, seq=sequence) / data
    else:
        made = IPv6(src=str(theirs), dst=str(ours), hlim=hops)
        made = made / ICMPv6EchoReply(id=identifier, seq=sequence, data=data)
    assert read_answer(bytes(made)) == Answer(theirs, identifier, sequence, 8 + len(data), hops)


def test_options_in_front_of_an_answer():
    packet = bytes([0x46]) + bytes(7) + bytes([9]) + bytes(3) + bytes([10, 0, 0, 9, 10, 0, 0, 1]) + b"\1" * 4
    assert read_answer(packet + b"\0\0\0\0\0\7\0\3") == Answer(PAIRS[4][1], 7, 3, 8, 9)


def test_addresses_of_two_families():
    with pytest.raises(ValueError, match=r"from 10.0.0.1 to 2001:db8::9"):
        echo_request(PAIRS[4][0], PAIRS[6][1], 1, 1, 0)


def test_the_checksum_of_an_odd_number_of_bytes():
    assert checksum(b"\x12") == checksum(b"\x12\x00") == b"\xed\xff"
