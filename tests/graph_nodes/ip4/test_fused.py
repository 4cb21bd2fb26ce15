# SPDX-License-Identifier: Apache-2.0
"""Fused or from node to node: the same packets, metadata and counters, whatever the frame is made of."""

import asyncio
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyvpp.buffers import CSUM_PARTIAL, L2_VALID, LOCALLY_ORIGINATED, TRACED
from pyvpp.cli.assembly import command_tree
from pyvpp.device.interfaces import add_tap_interface
from pyvpp.engine import Engine
from pyvpp.jit import COMPILED
from pyvpp.testing import Packet, run_kernel
from pyvpp_nodes.ethernet.input import Next as EthernetNext
from pyvpp_nodes.ethernet.input import ethernet_input
from pyvpp_nodes.fib.forwarding import CACHED_ROUTES, CACHED_WORDS
from pyvpp_nodes.fib.tables import Kind
from pyvpp_nodes.fib.trie.owner import Prefixes
from pyvpp_nodes.ip4.input import Next as InputNext
from pyvpp_nodes.ip4.input import ip4_input
from pyvpp_nodes.ip4.lookup import ip4_lookup
from pyvpp_nodes.ip4.rewrite import ip4_rewrite
from tests.graph_nodes.forwarding import (
    MACS,
    NODE_BY_NODE,
    Fib,
    ethernet,
    frames,
    interface_table,
    ip4,
    ip4_packets,
    mac_bytes,
    node_of,
)
from tests.graph_nodes.lab import Plug

FIB = Fib()
STRING = bytes(range(14))
NEAR = FIB.adjacency(Kind.REWRITE, 2, STRING, mtu=90)
FAR = FIB.adjacency(Kind.REWRITE, 3, STRING[::-1])
LONG = FIB.adjacency(Kind.REWRITE, 3, bytes(18))  # a tagged neighbor's
OURS = FIB.adjacency(Kind.LOCAL)
TUNNEL = FIB.adjacency(Kind.MIDCHAIN, 3, bytes(20))
UNRESOLVED = FIB.adjacency(Kind.ARP, 3, bytes(14))
for prefix, adjacencies in {
    "10.1.0.0/16": (NEAR,), "10.1.2.77/32": (OURS,), "192.0.2.0/24": (TUNNEL,), "172.16.5.0/24": (NEAR, FAR),
    "198.51.100.0/24": (FAR,), "203.0.113.0/24": (LONG,), "203.0.114.0/24": (UNRESOLVED,),
}.items():  # fmt: skip
    FIB.route(prefix, FIB.balance(*adjacencies))
FIB.trie.add_table(1)
FIB.trie.set(1, Prefixes.of(32, (0x0A010000, 16)), np.array([FIB.balance(FAR)], np.uint32))
INTERFACES = interface_table({2: {"fib_index": 1}})

REWRITE, FEATURE, ARC = node_of(Kind.REWRITE), 0x8077, np.array([0, 3, 0], np.uint32)
PORTS = 4
"""Bytes behind a packet that the flow hash takes for its ports where it is too short to have any."""
META = ("rx", "tx", "adj", "flags", "flow_hash", "error", "gso_type", "gso_size", "feature")
SHARED = ("interface_ip4", "route_counters")
KERNELS = {"ethernet": ethernet_input, "input": ip4_input, "lookup": ip4_lookup, "rewrite": ip4_rewrite}


class Walk:
    """A frame on its way from kernel to kernel; what leaves them, by the packet's number, and all that was counted."""

    def __init__(self, tables: dict[str, Any]) -> None:
        self.tables = {**FIB.tables, "interfaces": INTERFACES, **tables}
        self.left: dict[int, tuple[Any, ...]] = {}
        self.errors: dict[str, Any] = {}
        self.counted: dict[str, Any] = {}
        self.order: dict[tuple[int, int], list[int]] = {}
        self.seen: dict[str, list[int]] = {}

    def run(self, kernel: str, packets: list[tuple[int, Packet]]) -> None:
        if not packets:
            return
        result = run_kernel(KERNELS[kernel], [packet for _, packet in packets], self.tables)
        counters = result.counters.astype(np.int64)
        self.seen.setdefault(kernel, []).extend(number for number, _ in packets)
        self.errors[kernel] = self.errors.get(kernel, 0) + counters
        for name in SHARED:
            if name in result.tables:
                table = result.tables[name]
                sums = [table[field].astype(np.int64) for field in table.dtype.names or ()] or [table.astype(np.int64)]
                self.counted[name] = self.counted.get(name, 0) + np.array(sums)
        onward: dict[str, list[tuple[int, Packet]]] = {}
        for (number, _), next_, data, m in zip(packets, result.nexts, result.packets, result.meta, strict=True):
            where = self.kernel_of(kernel, next_)
            start = int(m["cur"])
            l2 = start - int(m["l2"]) if m["flags"] & L2_VALID else 0
            if where is None:
                known = ("l2",) * bool(l2) + ("l3",) * (next_ >= 0x8000)
                meta = {name: int(m[name]) for name in META} | {name: start - int(m[name]) for name in known}
                self.left[number] = (kernel if next_ < 0x8000 else "", next_, data, meta)
                if next_ >= 0x8000:
                    self.order.setdefault((next_, meta["adj"]), []).append(number)
                continue
            fields = {name: int(m[name]) for name in (*META, "csum_offset", "len")}
            if kernel != "ethernet":
                fields["l3"] = l2
            behind = bytes(result.heap[start + len(data) :][:PORTS])
            onward.setdefault(where, []).append((number, Packet(bytes(l2) + data + behind, cur=l2, l2=0, **fields)))
        for where, some in onward.items():
            self.run(where, some)

    @staticmethod
    def kernel_of(kernel: str, next_: int) -> str | None:
        if kernel == "ethernet" and next_ == EthernetNext.IP4:
            return "input"
        if kernel == "input" and next_ == InputNext.LOOKUP:
            return "lookup"
        return "rewrite" if next_ == REWRITE else None


def longer(name: str, n: int) -> dict[str, Any]:
    """A table of the FIB with room for more than `n`."""
    table = np.zeros(n + 1, FIB.tables[name].dtype)
    table[: len(FIB.tables[name])] = FIB.tables[name]
    return {name: table}


FEW: dict[str, Any] = {}
MANY_BLOCKS, MANY_ROUTES = longer("ip4_fib_nodes", CACHED_WORDS), longer("load_balances", CACHED_ROUTES)
"""Where routes are looked up in advance."""
SIZES = st.sampled_from([FEW, FEW, MANY_BLOCKS, MANY_ROUTES])


def both(kernel: str, packets: list[Packet], tables: dict[str, Any]) -> tuple[Walk, Walk]:
    walks = Walk(tables), Walk(tables | NODE_BY_NODE)
    for walk in walks:
        walk.run(kernel, list(enumerate(packets)))
    return walks


def assert_the_same(fused: Walk, apart: Walk) -> None:
    assert fused.left == apart.left
    for name in SHARED:
        assert np.array_equal(fused.counted[name], apart.counted.get(name, 0 * fused.counted[name])), name
    for kernel, counters in apart.errors.items():
        assert np.array_equal(fused.errors.get(kernel, 0 * counters), counters), kernel
    for numbers in fused.order.values():  # nothing overtakes what came before
        assert numbers == sorted(numbers)


PLACES = (
    "10.1.2.2",
    "10.1.2.2",
    "10.1.9.9",
    "10.1.2.77",
    "192.0.2.1",
    "172.16.5.4",
    "198.51.100.1",
    "203.0.113.1",
    "8.8.8.8",
)
ORDINARY = st.builds(
    lambda n, destination, ttl: ip4(bytes(n), destination=destination, ttl=ttl, protocol=17),
    st.integers(0, 80), st.sampled_from(PLACES), st.sampled_from([64, 64, 64, 2, 1]),
)  # fmt: skip
DATA = st.one_of(ORDINARY, ORDINARY, ip4_packets(), st.binary(max_size=40))
FLAGS = st.sampled_from([0, 0, 0, 0, TRACED, LOCALLY_ORIGINATED])
STATE = st.fixed_dictionaries({"flags": FLAGS, "gso_type": st.sampled_from([0, 0, 0, 0, 1])})
ARCS = st.sampled_from(
    [
        {},
        {},
        {"ip4_unicast_arc": np.array([0, 3, 0, 0], np.uint32)},
        {"ip4_output_arc": np.array([0, 0, 3, 0], np.uint32)},
    ]
)
PADDED = st.tuples(DATA, st.sampled_from([b"", b"", bytes(6)])).map(b"".join)
MACS_SEEN = st.sampled_from([MACS[1], MACS[1], MACS[1], MACS[2], "ff:ff:ff:ff:ff:ff"])
TYPES = st.sampled_from([0x0800, 0x0800, 0x0800, 0x0806, 0x8100])
RX = st.sampled_from([1, 1, 1, 2])


def with_features(arcs: dict[str, Any]) -> dict[str, Any]:
    table = {name: np.zeros(16, np.uint32) for name in arcs}
    for name, values in arcs.items():
        table[name][: len(values)] = values
    return {**table, "feature_chains": np.full(16, FEATURE, np.uint16)}


def packet(data: bytes, rx: int, state: dict[str, int]) -> Packet:
    partial = CSUM_PARTIAL if state["gso_type"] else 0
    return Packet(data, rx=rx, flags=state["flags"] | partial, gso_type=state["gso_type"], gso_size=20, csum_start=20)


@given(frames(st.tuples(PADDED, RX, STATE)), ARCS, SIZES)
def test_packets(cases: list[Any], arcs: dict[str, Any], size: dict[str, Any]) -> None:
    assert_the_same(*both("input", [packet(*case) for case in cases], with_features(arcs) | size))


@given(frames(st.tuples(st.builds(ethernet, PADDED, MACS_SEEN, ethertype=TYPES), RX, STATE)), ARCS, SIZES)
def test_ethernet_frames(cases: list[Any], arcs: dict[str, Any], size: dict[str, Any]) -> None:
    assert_the_same(*both("ethernet", [packet(*case) for case in cases], with_features(arcs) | size))


@pytest.mark.parametrize("n", [1, 20])
@pytest.mark.parametrize("kernel", ["ethernet", "input"])
def test_what_is_alike_does_not_see_the_other_nodes(kernel: str, n: int) -> None:
    """Without this the properties above could compare the long way with itself."""
    to_neighbor = [ip4(bytes(k), destination=PLACES[k % 3]) for k in range(n)]
    to_us = [ip4(bytes(k), destination="10.1.2.77") for k in range(n)]
    for sent, last in ((to_neighbor, "rewrite"), (to_us, "lookup")):
        data = [ethernet(each, MACS[1]) for each in sent] if kernel == "ethernet" else sent
        fused, apart = both(kernel, [Packet(each, flags=0) for each in data], {})
        assert_the_same(fused, apart)
        assert set(fused.errors) == {kernel}
        assert last in apart.errors


def test_from_the_first_that_is_otherwise_on_all_go_the_long_way() -> None:
    sent = [ip4(bytes(n), destination="10.1.2.2") for n in range(20)]
    states = [{"flags": TRACED if n == 5 else 0} for n in range(20)]
    fused, apart = both("input", [Packet(each, **state) for each, state in zip(sent, states, strict=True)], {})
    assert_the_same(fused, apart)
    assert fused.seen["rewrite"] == list(range(5, 20))


def test_ip4_rewrite_alone_sees_what_it_refuses() -> None:
    sent = [ip4(bytes(n), destination="10.1.2.2") for n in range(20)]
    sent[5] = ip4(bytes(5), destination="10.1.2.2", ttl=1)
    fused, apart = both("input", [Packet(each, flags=0) for each in sent], {})
    assert_the_same(fused, apart)
    assert fused.seen == {"input": list(range(20)), "rewrite": [5]}


@pytest.mark.parametrize("size", [FEW, MANY_BLOCKS], ids=["few routes", "many routes"])
@pytest.mark.parametrize("which", ["traced", "our own", "switched off"])
def test_what_goes_from_node_to_node(which: str, size: dict[str, Any]) -> None:
    flags = {"traced": TRACED, "our own": LOCALLY_ORIGINATED}.get(which, 0)
    walk = Walk({"node_by_node": np.full(1, which == "switched off", np.uint32)} | size)
    walk.run("input", [(n, Packet(ip4(destination="10.1.2.2"), flags=flags)) for n in range(20)])
    assert set(walk.errors) == {"input", "lookup", "rewrite"}


SENT_BY_FEATURES: list[dict[str, Any]] = [
    {},
    {"ip4_output_arc": np.array([0, 0, 3, 3], np.uint32)},
    {"ip4_unicast_arc": np.array([0, 3, 0, 0], np.uint32)},
]


@pytest.mark.parametrize("kernel", ["ethernet", "input"])
@pytest.mark.parametrize("size", [FEW, MANY_BLOCKS], ids=["few routes", "many routes"])
@pytest.mark.parametrize("destination", ["10.1.2.2", "10.1.2.77", "192.0.2.1", "203.0.113.1", "203.0.114.1", "8.8.8.8"])
def test_one_packet_is_otherwise(kernel: str, destination: str, size: dict[str, Any]) -> None:
    """Where nobody looks in advance; everywhere the rest goes, neighbors with longer strings and unresolved ones too."""
    usual = ip4(bytes(30), destination=destination)
    segmented: dict[str, Any] = {"flags": CSUM_PARTIAL, "gso_type": 1, "gso_size": 5, "csum_start": 20}
    elsewhere: list[tuple[bytes, int, dict[str, Any]]] = [(ip4(bytes(30), destination=each), 1, {}) for each in PLACES]
    for odd in (
        *elsewhere,
        (usual, 2, {}),
        (usual + bytes(6), 1, {}),
        (usual[:-3], 1, {}),
        (ip4(ttl=1), 1, {}),
        (usual, 1, segmented),
    ):
        sent: list[tuple[bytes, int, dict[str, Any]]] = [(usual, 1, {})] * 20
        sent[7] = odd
        for arcs in SENT_BY_FEATURES:
            packets = [
                Packet(ethernet(each, MACS[rx]), rx=rx, **{"flags": 0, "l2": 9} | fields)
                if kernel == "ethernet"
                else Packet(each, rx=rx, **{"flags": 0} | fields)
                for each, rx, fields in sent
            ]
            assert_the_same(*both(kernel, packets, with_features(arcs) | size))


@pytest.mark.parametrize("kernel", ["ethernet", "input"])
@pytest.mark.parametrize("size", [FEW, MANY_BLOCKS, MANY_ROUTES], ids=["few", "many blocks", "many routes"])
def test_each_has_its_own_way(kernel: str, size: dict[str, Any]) -> None:
    """Only what ip4-rewrite has to refuse, to split or to write itself sees another node."""
    sent = [ip4(bytes(n), destination=place) for n, place in enumerate(PLACES * 2)]
    sent += [ip4(bytes(90), destination="10.1.2.2"), ip4(destination="198.51.100.1", ttl=1)]
    data = [ethernet(each, MACS[1]) for each in sent] if kernel == "ethernet" else sent
    fused, apart = both(kernel, [Packet(each, flags=0) for each in data], size)
    assert_the_same(fused, apart)
    assert set(fused.errors) == {kernel, "rewrite"}
    assert len(fused.seen["rewrite"]) == 4
    assert len(apart.seen["rewrite"]) > 10


@pytest.mark.parametrize("size", [FEW, MANY_BLOCKS], ids=["few routes", "many routes"])
def test_one_frame_is_otherwise(size: dict[str, Any]) -> None:
    usual = ip4(bytes(30), destination="10.1.2.2")
    for mac, ethertype in ((MACS[2], 0x0800), ("ff:ff:ff:ff:ff:ff", 0x0800), (MACS[1], 0x0806), (MACS[1], 0x86DD)):
        sent = [ethernet(usual, MACS[1])] * 20
        sent[7] = ethernet(usual, mac, ethertype=ethertype)
        assert_the_same(*both("ethernet", [Packet(each, flags=0) for each in sent], size))


@pytest.mark.parametrize(("kernel", "header"), [("ethernet", 14), ("input", 0)])
def test_a_frame_does_not_overtake_one_of_the_same_round_that_goes_the_long_way(kernel: str, header: int) -> None:
    """Of two frames at once, as from two interfaces, the first has packets of both."""
    tables = {**FIB.tables, "interfaces": interface_table()}

    def fused(*rx: int, now: int) -> bool:
        """Whether the first packet skips a node."""
        data = ip4(destination="10.1.2.2")
        packets = [Packet(ethernet(data, MACS[k]) if header else data, rx=k) for k in rx]
        result = run_kernel(KERNELS[kernel], packets, tables, now=now)
        tables["ip4_long_way"] = result.tables["ip4_long_way"]
        return result.nexts[0] >= 0x8000

    alike, mixed = [1] * 20, [1] * 10 + [2] * 10
    assert fused(*alike, now=0)
    assert fused(*alike, now=0)
    assert fused(*mixed, now=0)
    assert not fused(*alike, now=0)
    assert fused(*alike, now=7)
    assert fused(*mixed, now=7)
    assert not fused(*alike, now=7)
    assert list(tables["ip4_long_way"]) == ([8, 0] if header else [0, 8])


@pytest.mark.slow
@pytest.mark.skipif(not COMPILED, reason="the dispatcher is native code")
def test_packets_of_two_interfaces_leave_in_order() -> None:
    """100 of one and 256 of another are at once before ethernet-input: a frame of both, and 100 more of the second."""
    engine = Engine(buffers=2048, hugepages="off")
    plugs = [Plug(layer3=False) for _ in range(3)]
    for k, plug in enumerate(plugs):
        add_tap_interface(engine, plug, name=f"tap{k}", mac=mac_bytes(MACS[k + 1]))  # type: ignore[arg-type]
    tree = command_tree(engine.declarations.packages)
    for line in (
        *(f"set interface ip address tap{k} 10.{k}.0.1/24" for k in range(3)),
        "set ip neighbor tap2 10.2.0.2 02:00:00:00:00:99",
    ):
        asyncio.run(tree.run(engine, line))
    for k, n in ((0, 100), (1, 256)):
        for i in range(n):
            packet = ip4(bytes([k]) + i.to_bytes(2, "big"), source=f"10.{k}.0.2", destination="10.2.0.2", protocol=99)
            plugs[k].linux.send(bytes(10) + ethernet(packet, MACS[k + 1]))
    engine.run(3)
    sent = [data[10 + 14 + 20 :] for data in plugs[2].received()]
    assert len(sent) > 256  # what the socket holds
    for k in range(2):
        numbers = [int.from_bytes(data[1:3], "big") for data in sent if data[0] == k]
        assert numbers == list(range(len(numbers)))
    engine.close()
