# SPDX-License-Identifier: Apache-2.0
"""What lists mean, by the definition: rows are looked through from the first on. And rows and packets to try it with."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any

import numpy as np
from hypothesis import strategies as st

from pyvpp.jit import jit
from pyvpp_acl.classify import NO_ROW, ask_for_leaves, both4, both6, first_row, put_packet
from pyvpp_acl.compile import compile_lists
from pyvpp_acl.rules import ACTION_BITS, ALL_PORTS, ICMP, ICMP6, TCP, UDP, Action, Row
from pyvpp_acl.tables import MOST_TREES, SEEN_WORDS
from tests.graph_nodes.forwarding import ip4, ip6

IDENTIFIER = b"\x12\x34\0\1"
Address = IPv4Address | IPv6Address


@dataclass(frozen=True)
class Seen:
    """What a rule looks at; of ICMP the ports are type and code."""

    source: Address
    destination: Address
    protocol: int
    source_port: int = 0
    destination_port: int = 0
    flags: int = 0


def matches(row: Row, seen: Seen) -> bool:
    return (
        seen.source in row.source
        and seen.destination in row.destination
        and row.protocol in (0, seen.protocol)
        and row.source_ports[0] <= seen.source_port <= row.source_ports[1]
        and row.destination_ports[0] <= seen.destination_port <= row.destination_ports[1]
        and seen.flags & row.tcp_mask == row.tcp_flags
    )


def linear(rows: Sequence[Row], seen: Seen) -> Row | None:
    """The first row that matches."""
    return next((row for row in rows if matches(row, seen)), None)


@jit
def look4(contexts, trees, nodes, leaves, seen, found, number, source, destination, rest):
    s, d = (source[0],), (destination[0],)
    put_packet(seen, 0, number, s, d, rest[0], (rest[1], rest[2]), rest[3])
    ask_for_leaves(both4, contexts, trees, nodes, leaves, seen, found, 0)
    return first_row(both4, contexts, trees, leaves, seen, found, 0)


@jit
def look6(contexts, trees, nodes, leaves, seen, found, number, source, destination, rest):
    s, d = (source[0], source[1]), (destination[0], destination[1])
    put_packet(seen, 0, number, s, d, rest[0], (rest[1], rest[2]), rest[3])
    ask_for_leaves(both6, contexts, trees, nodes, leaves, seen, found, 0)
    return first_row(both6, contexts, trees, leaves, seen, found, 0)


class Compiled:
    """Contexts as the dataplane has them."""

    def __init__(self, *lists: tuple[Sequence[Row], int]) -> None:
        self.numbers, self.arrays = compile_lists(lists)
        self._seen, self._found = np.zeros(SEEN_WORDS, np.uint32), np.zeros(MOST_TREES, np.uint64)

    def find(self, number: int, seen: Seen) -> tuple[int, int] | None:
        """The rule's number and action."""
        a, version = self.arrays, seen.source.version
        rest = np.array([seen.protocol, seen.source_port, seen.destination_port, seen.flags], np.int64)
        r = (look4 if version == 4 else look6)(
            a["acl_contexts"], a["acl_trees"], a["acl_nodes"], a[f"acl_leaves{version}"], self._seen, self._found,
            number, words(seen.source), words(seen.destination), rest,
        )  # fmt: skip
        if r == NO_ROW:
            return None
        verdict = int(a["acl_verdicts"][r])
        return verdict >> ACTION_BITS, verdict & 3


def words(address: Address) -> Any:
    n = int(address)
    return np.array([n, 0] if address.version == 4 else [n >> 64, n & (1 << 64) - 1], np.uint64)


# Few bits of an address vary, so that prefixes meet: the first ones, some in the middle, the last ones.
VARYING = {
    4: (1 << 31 | 1 << 30 | 1 << 16 | 1 << 8 | 1 << 1 | 1),
    6: (1 << 127 | 1 << 100 | 1 << 64 | 1 << 63 | 1 << 1 | 1),
}
LENGTHS = {4: (0, 0, 1, 2, 8, 16, 24, 31, 32), 6: (0, 0, 1, 28, 64, 65, 127, 128)}
PORTS = st.sampled_from([0, 1, 7, 8, 80, 443, 1023, 1024, 32767, 32768, 65534, 65535])
PROTOCOLS = st.sampled_from([0, 1, 6, 6, 17, 58])


@st.composite
def addresses(draw: st.DrawFn, version: int) -> Address:
    varying, n = VARYING[version], 0
    for bit in range(128):
        if varying >> bit & 1 and draw(st.booleans()):
            n |= 1 << bit
    return ip_address(n) if version == 4 else IPv6Address(n)


@st.composite
def networks(draw: st.DrawFn, version: int) -> Any:
    kind = IPv4Network if version == 4 else IPv6Network
    return kind((draw(addresses(version)), draw(st.sampled_from(LENGTHS[version]))), strict=False)


RANGES = st.one_of(st.just(ALL_PORTS), st.tuples(PORTS, PORTS).map(lambda two: (min(two), max(two))))
FLAGS = st.tuples(st.sampled_from([0, 0, 2, 16, 18, 255]), st.integers(0, 255)).map(
    lambda two: (two[0] & two[1], two[0])
)


@st.composite
def rows(draw: st.DrawFn, version: int, most: int = 12) -> list[Row]:
    n = draw(st.integers(0, most))
    made = []
    for number in range(n):
        flags, mask = draw(FLAGS)
        made.append(
            Row(
                number,
                draw(st.sampled_from(list(Action))),
                draw(networks(version)),
                draw(networks(version)),
                draw(PROTOCOLS),
                draw(RANGES),
                draw(RANGES),
                flags,
                mask,
            )
        )
    return made


@st.composite
def packets(draw: st.DrawFn, version: int) -> Seen:
    ports = st.one_of(PORTS, st.integers(0, 0xFFFF))
    return Seen(
        draw(addresses(version)), draw(addresses(version)), draw(st.sampled_from([1, 6, 17, 58, 99])), draw(ports),
        draw(ports), draw(st.sampled_from([0, 2, 16, 18, 4])),
    )  # fmt: skip


def packet_of(seen: Seen, later_fragment: bool = False, payload: bytes = b"") -> bytes:
    """An IP packet as rules see it so; a later fragment has 16 bytes that are no header."""
    ends = {"source": str(seen.source), "destination": str(seen.destination)}
    ports = struct.pack("!HH", seen.source_port, seen.destination_port)
    if later_fragment:
        l4 = ports * 4
    elif seen.protocol == TCP:
        l4 = ports + bytes(9) + bytes([seen.flags]) + bytes(6)
    elif seen.protocol in (ICMP, ICMP6):
        l4 = bytes([seen.source_port & 0xFF, seen.destination_port & 0xFF, 0, 0]) + IDENTIFIER
    else:
        l4 = ports + bytes(4)
    if seen.source.version == 4:
        return ip4(l4 + payload, protocol=seen.protocol, fragment=0x2001 if later_fragment else 0x4000, **ends)
    if later_fragment:
        return ip6(bytes([seen.protocol, 0, 0, 9]) + bytes(4) + l4 + payload, protocol=44, **ends)
    return ip6(l4 + payload, protocol=seen.protocol, **ends)


def as_judged(seen: Seen, later_fragment: bool) -> Seen:
    """What of a packet there is to look at."""
    if later_fragment:
        return Seen(seen.source, seen.destination, seen.protocol)
    if seen.protocol in (ICMP, ICMP6):
        return replace(
            seen, source_port=seen.source_port & 0xFF, destination_port=seen.destination_port & 0xFF, flags=0
        )
    if seen.protocol == TCP:
        return seen
    ports = (seen.source_port, seen.destination_port) if seen.protocol == UDP else (0, 0)
    return Seen(seen.source, seen.destination, seen.protocol, *ports)


def frames(version: int) -> Any:
    """Packets, whether each is a later fragment, its interface, and its adjacency where it leaves."""
    each = st.tuples(
        packets(version), st.sampled_from([False, False, False, True]), st.integers(0, 3), st.integers(0, 2)
    )
    return st.lists(each, min_size=1, max_size=20)
