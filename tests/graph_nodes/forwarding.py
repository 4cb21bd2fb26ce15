# SPDX-License-Identifier: Apache-2.0
"""What the tests of forwarding nodes share: packets built by hand and by hypothesis, and small tables to forward them by."""

import struct
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

import numpy as np
from hypothesis import strategies as st

from pyvpp.interface import ADMIN_UP, INTERFACE, LINK_UP
from pyvpp.tables import TableInstance
from pyvpp_nodes.fib.tables import (
    ADJACENCY,
    BUCKET,
    FLOW_HASH_DEFAULT,
    IP4_FIB_NODES,
    IP4_FIB_ROOTS,
    IP6_FIB_NODES,
    IP6_FIB_ROOTS,
    LB_RECEIVE,
    LOAD_BALANCE,
    Kind,
)  # fmt: skip
from pyvpp_nodes.fib.trie.owner import Prefixes, Trie

UP = ADMIN_UP | LINK_UP
MACS = {1: "02:fe:00:00:aa:01", 2: "02:fe:00:00:aa:02", 3: "02:fe:00:00:aa:03"}
NEIGHBOR_MAC = "36:df:74:c4:25:f4"
TO_NODE_MASK = 0x8000


def mac_bytes(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def address(text: str) -> int:
    return int(IPv4Address(text))


def internet_checksum(data: bytes) -> int:
    """RFC 1071 in one line: a ones' complement sum is a sum modulo 0xffff."""
    data += bytes(len(data) % 2)
    return 0xFFFF - ((sum(struct.unpack(f"!{len(data) // 2}H", data)) % 0xFFFF) or 0xFFFF)


def with_checksum(packet: bytes) -> bytes:
    header = packet[:10] + b"\0\0" + packet[12 : 4 * (packet[0] & 0xF)]
    return packet[:10] + struct.pack("!H", internet_checksum(header)) + packet[12:]


def checksum_is_good(packet: bytes) -> bool:
    header = packet[: 4 * (packet[0] & 0xF)]
    return sum(struct.unpack(f"!{len(header) // 2}H", header)) % 0xFFFF == 0 and any(header)


def ip4(
    payload: bytes = b"",
    source: str = "10.1.1.2",
    destination: str = "10.1.2.2",
    ttl: int = 64,
    protocol: int = 17,
    tos: int = 0,
    identification: int = 1,
    fragment: int = 0,
    options: bytes = b"",
) -> bytes:
    header = struct.pack(
        "!BBHHHBBH4s4s", 0x45 + len(options) // 4, tos, 20 + len(options) + len(payload), identification, fragment, ttl, protocol, 0,
        IPv4Address(source).packed, IPv4Address(destination).packed,
    )  # fmt: skip
    return with_checksum(header + options + payload)


def ip6(
    payload: bytes = b"",
    source: str = "2001:db8:1::2",
    destination: str = "2001:db8:2::2",
    hops: int = 64,
    protocol: int = 17,
    traffic_class: int = 0,
    flow_label: int = 0,
) -> bytes:
    first = 6 << 28 | traffic_class << 20 | flow_label
    addresses = IPv6Address(source).packed + IPv6Address(destination).packed
    return struct.pack("!IHBB", first, len(payload), protocol, hops) + addresses + payload


def udp(payload: bytes = b"", source_port: int = 1234, destination_port: int = 2345) -> bytes:
    return struct.pack("!HHHH", source_port, destination_port, 8 + len(payload), 0) + payload


def ethernet(payload: bytes, destination: str = MACS[1], source: str = NEIGHBOR_MAC, ethertype: int = 0x0800) -> bytes:
    return mac_bytes(destination) + mac_bytes(source) + struct.pack("!H", ethertype) + payload


def arp(opcode: int, sender_mac: str, sender: str, target_mac: str, target: str) -> bytes:
    sender_bytes = mac_bytes(sender_mac) + IPv4Address(sender).packed
    return (
        struct.pack("!HHBBH", 1, 0x0800, 6, 4, opcode)
        + sender_bytes
        + mac_bytes(target_mac)
        + IPv4Address(target).packed
    )


ADDRESSES = st.sampled_from(["10.1.1.2", "10.1.2.2", "10.1.2.77", "192.0.2.1", "172.16.5.4"])
FRAGMENTS = st.sampled_from([0, 0, 0, 0x4000, 0x2000, 0x2001, 0x0010])


@st.composite
def ip4_packets(draw: st.DrawFn, ttls: Any = None, protocols: Any = None, fragments: Any = FRAGMENTS) -> bytes:
    """Well-formed packets of every kind."""
    return ip4(
        draw(st.binary(min_size=8, max_size=64)),
        source=draw(ADDRESSES),
        destination=draw(ADDRESSES),
        ttl=draw(ttls if ttls is not None else st.one_of(st.sampled_from([1, 2, 255]), st.integers(1, 255))),
        protocol=draw(protocols if protocols is not None else st.sampled_from([1, 4, 6, 17, 99])),
        tos=draw(st.integers(0, 255)),
        identification=draw(st.integers(0, 0xFFFF)),
        fragment=draw(fragments),
        options=draw(st.sampled_from([b"", b"", b"", b"\x94\x04\0\0", b"\1" * 8])),
    )


ADDRESSES6 = st.sampled_from(
    ["2001:db8:1::2", "2001:db8:2::2", "2001:db8:2:0:ffff::77", "fd00::1", "64:ff9b::c000:201"]
)


@st.composite
def ip6_packets(draw: st.DrawFn, hops: Any = None) -> bytes:
    """Well-formed packets of every kind, hop-by-hop options and fragments among them."""
    protocol = draw(st.sampled_from([6, 17, 17, 58, 59, 0, 44]))
    payload = draw(st.binary(min_size=24, max_size=80))
    if protocol == 0:  # hop-by-hop options of 8 or 16 bytes, filled by a PadN
        n = draw(st.sampled_from([0, 1]))
        payload = bytes([draw(st.sampled_from([6, 17, 58])), n, 1, 4 + 8 * n]) + bytes(4 + 8 * n) + payload
    elif protocol == 44:
        payload = bytes([17, 0, 0, draw(st.sampled_from([1, 8]))]) + payload
    return ip6(
        payload,
        source=draw(ADDRESSES6),
        destination=draw(ADDRESSES6),
        hops=draw(hops if hops is not None else st.one_of(st.sampled_from([1, 2, 255]), st.integers(1, 255))),
        protocol=protocol,
        traffic_class=draw(st.integers(0, 255)),
        flow_label=draw(st.sampled_from([0, 0x12345, 0xFFFFF])),
    )


@st.composite
def frames_alike(draw: st.DrawFn, packets: Any) -> list[Any]:
    """First, middle and last packet are the same, from which kernels conclude how the others will be; some are not."""
    common = draw(packets)
    others = draw(st.lists(st.just(common) | packets, min_size=6, max_size=20).map(lambda some: some[len(some) % 2 :]))
    half = len(others) // 2
    return [common, *others[:half], common, *others[half:], common]


def frames(packets: Any) -> Any:
    return st.lists(packets, min_size=1, max_size=12) | frames_alike(packets)


NODE_BY_NODE = {"node_by_node": np.ones(1, np.uint32)}
"""So that a kernel does its own work alone: nothing is fused."""


def interface_table(changes: Mapping[int, Mapping[str, Any]] | None = None) -> Any:
    """Interfaces 1 to 3 are Ethernet and up; X-output of interface n is node 100 + n."""
    table = np.zeros(16, INTERFACE)
    for sw_if_index, mac in MACS.items():
        table["flags"][sw_if_index] = UP
        table["mtu"][sw_if_index] = 9000
        table["mac"][sw_if_index] = int.from_bytes(mac_bytes(mac), "big")
        table["output_next"][sw_if_index] = output_of(sw_if_index)
    for sw_if_index, fields in (changes or {}).items():
        for name, value in fields.items():
            table[name][sw_if_index] = value
    return table


def output_of(sw_if_index: int) -> int:
    return TO_NODE_MASK | 100 + sw_if_index


def node_of(kind: Kind) -> int:
    return TO_NODE_MASK | 200 + kind


class Fib:
    """One table, looked up by brute force, with an adjacency and a load balance per route; load balance 0 drops.

    Of IPv4 addresses, or of IPv6's with 128 `bits`.
    """

    def __init__(self, bits: int = 32) -> None:
        self.bits = bits
        declared = (IP4_FIB_ROOTS, IP4_FIB_NODES) if bits == 32 else (IP6_FIB_ROOTS, IP6_FIB_NODES)
        self._tables = [TableInstance(table, 1) for table in declared]
        self._names = [table.name for table in declared]
        self.trie = Trie(*self._tables)
        self.trie.add_table(0)
        self.load_balances = np.zeros(64, LOAD_BALANCE)
        self.buckets = np.zeros(64, BUCKET)
        self.adjacencies = np.zeros(64, ADJACENCY)
        self.routes: list[tuple[IPv4Network | IPv6Network, int]] = []
        self._buckets, self._adjacencies, self._balances = 0, 1, 1
        self.load_balances["n_buckets"] = 1
        self.load_balances["next"] = node_of(Kind.DROP)

    def adjacency(self, kind: Kind, sw_if_index: int = 0, rewrite: bytes = b"", **fields: Any) -> int:
        index, self._adjacencies = self._adjacencies, self._adjacencies + 1
        record = self.adjacencies[index : index + 1]
        record["kind"], record["sw_if_index"], record["rewrite_bytes"] = kind, sw_if_index, len(rewrite)
        record["rewrite"][0, : len(rewrite)] = np.frombuffer(rewrite, np.uint8)
        record["next"], record["mtu"] = output_of(sw_if_index), 9000
        for name, value in fields.items():
            record[name] = value
        return index

    def balance(self, *adjacencies: int, flags: int = 0, flow_hash: int = FLOW_HASH_DEFAULT) -> int:
        """A load balance; several adjacencies make as many buckets, a power of two."""
        index, self._balances = self._balances, self._balances + 1
        record = self.load_balances[index : index + 1]
        record["n_buckets"], record["flags"], record["flow_hash"] = len(adjacencies), flags, flow_hash
        nexts = [node_of(Kind(int(self.adjacencies["kind"][a]))) for a in adjacencies]
        record["next"], record["adj"] = nexts[0], adjacencies[0]
        if len(adjacencies) > 1:
            record["buckets"] = self._buckets
            record["adj"], record["next"] = 63, 0
            for a, next_ in zip(adjacencies, nexts, strict=True):
                self.buckets["adj"][self._buckets], self.buckets["next"][self._buckets] = a, next_
                self._buckets += 1
        return index

    def route(self, prefix: str, balance: int) -> None:
        network = ip_network(prefix)
        self.routes.append((network, balance))
        where = Prefixes.of(self.bits, (int(network.network_address), network.prefixlen))
        self.trie.set(0, where, np.array([balance], np.uint32))

    def lookup(self, packet_address: bytes) -> int:
        """Longest prefix match, the slow way."""
        wanted = ip_address(packet_address)
        matching = [(n.prefixlen, i, b) for i, (n, b) in enumerate(self.routes) if wanted in n]
        return max(matching)[2] if matching else 0

    def to(self, prefix: str, kind: Kind, sw_if_index: int = 0, rewrite: bytes = b"", **fields: Any) -> int:
        """A route over one adjacency of its own; answers the load balance."""
        flags = LB_RECEIVE if kind == Kind.LOCAL else 0
        balance = self.balance(self.adjacency(kind, sw_if_index, rewrite, **fields), flags=flags)
        self.route(prefix, balance)
        return balance

    @property
    def tables(self) -> dict[str, Any]:
        return {
            **{name: table.array for name, table in zip(self._names, self._tables, strict=True)},
            "load_balances": self.load_balances,
            "lb_buckets": self.buckets,
            "adjacencies": self.adjacencies,
        }
