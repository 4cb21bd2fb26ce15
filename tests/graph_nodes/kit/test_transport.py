# SPDX-License-Identifier: Apache-2.0
"""Where scapy finds the header behind IP, there it is found; and where it cannot be, it is not."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, UDP, IPOption_NOP
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    PadN,
)

from pyvpp.jit import jit
from pyvpp_nodes.kit import transport
from pyvpp_nodes.kit.transport import MOST_HEADERS, NO_HEADER

FRONT = 5
EXTENSIONS = {
    "hop": lambda n: IPv6ExtHdrHopByHop(options=[PadN(optdata=bytes(8 * n + 4))]),
    "destination": lambda n: IPv6ExtHdrDestOpt(options=[PadN(optdata=bytes(8 * n + 4))]),
    "routing": lambda n: IPv6ExtHdrRouting(addresses=["::1"] * n),
    "fragment": lambda n: IPv6ExtHdrFragment(offset=0, m=1),
}
LAST = {6: TCP(sport=1, dport=2), 17: UDP(sport=3, dport=4), 58: ICMPv6EchoRequest(), 99: b"something"}


@jit
def of4(heap, ip, end):
    return transport.transport4(heap, ip, end)


@jit
def of6(heap, ip, end):
    return transport.transport6(heap, ip, end)


def found(function, packet: bytes) -> tuple[int, int]:
    """Protocol, and the offset from the IP header on; behind the packet is what must not be believed."""
    heap = np.frombuffer(b"\x06" * FRONT + packet + b"\x06" * 64, np.uint8).copy()
    protocol, l4 = function(heap, FRONT, FRONT + len(packet))
    return int(protocol), int(l4) - FRONT if l4 != NO_HEADER else NO_HEADER


@given(st.sampled_from([6, 17, 99]), st.integers(0, 10), st.sampled_from([0, 0, 1, 8191]), st.integers(0, 30))
def test_ip4(protocol, options, fragment, n):
    packet = bytes(IP(proto=protocol, frag=fragment, options=[IPOption_NOP()] * 4 * options) / bytes(n))
    header = 20 + 4 * options
    expected = header if fragment == 0 and n >= 4 else NO_HEADER
    assert found(of4, packet) == (protocol, expected)


@given(
    st.sampled_from(sorted(LAST)),
    st.lists(st.tuples(st.sampled_from(sorted(EXTENSIONS)), st.integers(0, 3)), max_size=MOST_HEADERS - 1),
)
def test_ip6_behind_extension_headers(protocol, extensions):
    front = IPv6(src="::2", dst="::3")
    for name, n in extensions:
        front = front / EXTENSIONS[name](n)
    packet = bytearray(bytes(front / LAST[protocol]))
    header = len(bytes(front))
    if protocol == 99:  # scapy leaves the next header of what it does not know at 59
        packet[6 if not extensions else header - len(bytes(front.lastlayer()))] = protocol
    assert found(of6, bytes(packet)) == (protocol, header)
    assert found(of6, bytes(packet[: header + 4])) == (protocol, header)
    for cut in range(40, header + 4):
        assert found(of6, bytes(packet[:cut]))[1] == NO_HEADER


@given(st.integers(1, 8191), st.sampled_from([6, 17, 58]))
def test_a_later_fragment_has_none(offset, protocol):
    packet = bytes(IPv6() / IPv6ExtHdrFragment(offset=offset, nh=protocol) / bytes(20))
    assert found(of6, packet) == (protocol, NO_HEADER)


def test_a_chain_without_an_end_is_given_up():
    packet = bytes(IPv6(nh=60)) + (b"\x3c\0" + bytes(6)) * 20
    assert found(of6, packet) == (60, NO_HEADER)
