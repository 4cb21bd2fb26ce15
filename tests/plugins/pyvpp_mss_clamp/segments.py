# SPDX-License-Identifier: Apache-2.0
"""TCP segments of every kind, and what must become of one: the reference of the four nodes, straight from RFC 9293."""

import struct
from typing import Any

import numpy as np
from hypothesis import strategies as st

from pyvpp.buffers import CSUM_PARTIAL
from pyvpp.features import FEATURE_CHAINS
from pyvpp.node import TO_NODE, Node
from pyvpp.testing import Packet, Result, run_kernel
from pyvpp_mss_clamp.clamp import MSS_CLAMP, Counter
from pyvpp_nodes.fib.tables import ADJACENCY
from tests.graph_nodes.forwarding import internet_checksum, ip4, ip6

SYN, ACK = 0x02, 0x10
INTERFACES = 4
REWRITES = (0, 14, 18, 20)
"""Bytes in front of the IP header when it leaves, by adjacency: none, Ethernet, with a VLAN tag, an IPIP tunnel's."""


def is_tcp(packet: bytes) -> bool:
    """Whether a TCP header begins right behind the IP header."""
    if packet[0] >> 4 == 6:
        return packet[6] == 6
    return packet[9] == 6 and struct.unpack_from("!H", packet, 6)[0] & 0x1FFF == 0


def tcp_at(packet: bytes) -> int:
    return 40 if packet[0] >> 4 == 6 else 4 * (packet[0] & 15)


def pseudo_header(packet: bytes, n: int) -> bytes:
    addresses = packet[8:40] if packet[0] >> 4 == 6 else packet[12:20]
    return addresses + struct.pack("!II", n, 6)


def with_tcp_checksum(packet: bytes) -> bytes:
    """RFC 9293, 3.1, computed anew."""
    at = tcp_at(packet)
    segment = packet[at : at + 16] + b"\0\0" + packet[at + 18 :]
    checksum = internet_checksum(pseudo_header(packet, len(segment)) + segment)
    return packet[:at] + segment[:16] + struct.pack("!H", checksum) + segment[18:]


def mss_option_at(segment: bytes) -> int | None:
    """Where the value of the MSS option stands in a segment; None without one that can be found."""
    options = segment[20 : 4 * (segment[12] >> 4)]
    at = 0
    while at < len(options) and options[at] != 0:
        if options[at] == 1:
            at += 1
            continue
        n = options[at + 1] if at + 1 < len(options) else 0
        if n < 2 or at + n > len(options):
            return None
        if options[at] == 2 and n == 4:
            return 20 + at + 2
        at += n
    return None


def reference(packet: bytes, most: int, partial: bool) -> tuple[bytes, Counter | None]:
    """What one packet must become, and the counter that says so."""
    at = tcp_at(packet)
    segment = packet[at:]
    if not is_tcp(packet) or len(segment) < 20 or not segment[13] & SYN:
        return packet, None
    value = mss_option_at(segment)
    if value is None:
        return packet, Counter.NO_MSS
    if struct.unpack_from("!H", segment, value)[0] <= most:
        return packet, None
    clamped = packet[: at + value] + struct.pack("!H", most) + packet[at + value + 2 :]
    return clamped if partial else with_tcp_checksum(clamped), Counter.CLAMPED


OPTION = st.one_of(
    st.integers(0, 0xFFFF).map(lambda mss: b"\2\4" + struct.pack("!H", mss)),
    st.sampled_from([b"\1", b"\1\1", b"\4\2", b"\3\3\7", b"\x08\x0a" + bytes(8), b"\xfe\5abc"]),
    st.sampled_from([b"\0", b"\2", b"\2\0", b"\2\3\5", b"\2\6\5\xb4\0\0", b"\3\xff"]),
)


@st.composite
def segments(draw: st.DrawFn) -> bytes:
    options = b"".join(draw(st.lists(OPTION, max_size=4)))[:40]
    options += b"\1" * (-len(options) % 4)
    words = draw(st.one_of(st.just(5 + len(options) // 4), st.integers(0, 15)))
    flags = draw(st.sampled_from([SYN, SYN, SYN | ACK, ACK, 0x18, SYN | 1]))
    head = struct.pack("!HHIIBBHHH", 1234, 80, draw(st.integers(0, 0xFFFFFFFF)), 7, words << 4, flags, 64240, 0, 0)
    return (head + options + draw(st.binary(max_size=9)))[: draw(st.sampled_from([999, 999, 999, 14, 20, 22]))]


def packets_of(version: int) -> Any:
    """IP packets, most of them TCP with a right checksum."""
    protocols = st.sampled_from([6, 6, 6, 6, 17, 44 if version == 6 else 1])
    if version == 6:
        made = st.builds(lambda segment, protocol: ip6(segment, protocol=protocol), segments(), protocols)
    else:
        made = st.builds(
            lambda segment, protocol, fragment, options: ip4(
                segment, protocol=protocol, fragment=fragment, options=options
            ),
            segments(),
            protocols,
            st.sampled_from([0, 0, 0x4000, 0x2000, 0x0010]),
            st.sampled_from([b"", b"", b"\1" * 8]),
        )
    return made.map(lambda packet: with_tcp_checksum(packet) if len(packet) >= tcp_at(packet) + 18 else packet)


def frames(version: int) -> Any:
    """Packets with the interface, the adjacency, and whether a device is to finish the checksum."""
    each = st.tuples(
        packets_of(version), st.integers(0, INTERFACES - 1), st.integers(0, len(REWRITES) - 1), st.booleans()
    )
    return st.lists(each, min_size=1, max_size=24)


LIMITS = st.lists(st.integers(64, 0xFFFF), min_size=INTERFACES, max_size=INTERFACES)


def run(node: Node, frame: Any, limits: list[int], *, leaving: bool) -> tuple[Result, list[bytes]]:
    """The kernel on a frame of arriving or leaving packets, and what it made of each from the IP header on."""
    family = "ip6" if "ip6" in node.name else "ip4"
    table = np.zeros(INTERFACES, MSS_CLAMP.dtype)
    table[family] = limits
    adjacencies = np.zeros(len(REWRITES), ADJACENCY)
    adjacencies["rewrite_bytes"] = REWRITES
    chains = np.zeros(FEATURE_CHAINS.capacity, np.uint16)
    chains[: len(frame) + 1] = TO_NODE | np.arange(len(frame) + 1)
    given = []
    for i, (packet, interface, adjacency, partial) in enumerate(frame):
        front = b"\xee" * REWRITES[adjacency] if leaving else b""
        where = {"tx": interface, "rx": INTERFACES - 1 - interface} if leaving else {"rx": interface}
        flags = CSUM_PARTIAL if partial else 0
        given.append(Packet(front + packet, adj=adjacency, flags=flags, feature=i + 1, **where))
    tables = {"mss_clamp": table, "feature_chains": chains}
    result = run_kernel(node, given, tables | ({"adjacencies": adjacencies} if leaving else {}))
    assert result.nexts == [TO_NODE | i + 1 for i in range(len(frame))]
    fronts = [len(p.data) - len(packet) for p, (packet, *_) in zip(given, frame, strict=True)]
    assert [data[:n] for data, n in zip(result.packets, fronts, strict=True)] == [b"\xee" * n for n in fronts]
    return result, [data[n:] for data, n in zip(result.packets, fronts, strict=True)]


def check(node: Node, frame: Any, limits: list[int], *, leaving: bool) -> list[bytes]:
    """Asserts that the kernel is the reference applied to each packet."""
    result, left = run(node, frame, limits, leaving=leaving)
    expected = [reference(packet, limits[interface], partial) for packet, interface, _, partial in frame]
    assert left == [packet for packet, _ in expected]
    for counter in Counter:
        assert result.counters[counter] == sum(counted is counter for _, counted in expected)
    return left
