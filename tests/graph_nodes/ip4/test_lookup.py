# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyvpp.buffers import FLOW_HASH
from pyvpp.testing import Packet, run_kernel
from pyvpp_nodes.fib.forwarding import CACHED_WORDS, WORTH_EXPECTING
from pyvpp_nodes.fib.tables import LB_RECEIVE, Kind
from pyvpp_nodes.fib.trie.lookup import ROOT_BITS
from pyvpp_nodes.ip4.lookup import ip4_lookup
from tests.graph_nodes.forwarding import Fib, frames, interface_table, ip4, node_of, udp
from tests.graph_nodes.ip4.test_flow_hash import flow

FIB = Fib()
FIB.to("10.0.0.0/8", Kind.REWRITE, 1)
FIB.to("10.1.0.0/16", Kind.REWRITE, 2)
FIB.to("10.1.2.0/24", Kind.GLEAN, 2)
FIB.to("10.1.2.1/32", Kind.LOCAL, 2)
FIB.to("10.1.2.2/32", Kind.REWRITE, 2)
PATHS = [FIB.adjacency(Kind.REWRITE, n) for n in (1, 2, 3, 1)]
MANY = FIB.balance(*PATHS)
FIB.route("192.0.2.0/24", MANY)
FIB.to("198.51.100.0/25", Kind.MIDCHAIN, 3)
DESTINATIONS = [
    "10.1.2.1",
    "10.1.2.2",
    "10.1.2.3",
    "10.1.3.1",
    "10.9.9.9",
    "192.0.2.77",
    "198.51.100.127",
    "198.51.100.128",
    "8.8.8.8",
]
PACKETS = st.builds(
    lambda destination, port, protocol: ip4(udp(source_port=port), destination=destination, protocol=protocol),
    st.sampled_from(DESTINATIONS), st.integers(0, 0xFFFF), st.sampled_from([1, 6, 17]),
)  # fmt: skip


def tables():
    return {**FIB.tables, "interfaces": interface_table()}


def reference(data: bytes) -> tuple[int, int, int]:
    """Load balance, next and adjacency of a packet."""
    route = FIB.lookup(data[16:20])
    if route == MANY:
        adjacency = PATHS[flow(data) % len(PATHS)]
        return route, node_of(Kind.REWRITE), adjacency
    record = FIB.load_balances[route]
    return route, int(record["next"]), int(record["adj"])


def in_advance():
    """A trie so large that a vector is looked up at once before anything else."""
    nodes = np.zeros(CACHED_WORDS + 1, np.uint32)
    nodes[: len(tables()["ip4_fib_nodes"])] = tables()["ip4_fib_nodes"]
    return {**tables(), "ip4_fib_nodes": nodes}


@pytest.mark.parametrize("given_tables", [tables, in_advance])
@given(packets=frames(PACKETS))
def test_mixed_frames(given_tables, packets):
    result = run_kernel(ip4_lookup, [Packet(data, rx=1 + i % 3) for i, data in enumerate(packets)], given_tables())
    expected = [reference(data) for data in packets]
    assert result.nexts == [next_ for _, next_, _ in expected]
    assert [int(m["adj"]) for m in result.meta] == [adjacency for _, _, adjacency in expected]
    assert result.packets == packets
    counted = result.tables["route_counters"]
    for route in range(16):
        mine = [data for data, (found, _, _) in zip(packets, expected, strict=True) if found == route]
        assert (int(counted["packets"][route]), int(counted["bytes"][route])) == (len(mine), sum(map(len, mine)))


def test_the_hash_is_kept_for_those_behind():
    data = ip4(udp(), destination="192.0.2.1")
    m = run_kernel(ip4_lookup, [Packet(data)], tables()).meta[0]
    assert m["flags"] & FLOW_HASH
    assert int(m["flow_hash"]) == flow(data)


def test_each_interface_has_its_table():
    roots = np.concatenate([tables()["ip4_fib_roots"], np.zeros(1 << ROOT_BITS, np.uint32)])  # the second one is empty
    mine = {**tables(), "ip4_fib_roots": roots, "interfaces": interface_table({2: {"fib_index": 1}})}
    for n in (2, 4 * WORTH_EXPECTING):
        packets = [Packet(ip4(destination="10.9.9.9"), rx=2 if k == 1 else 1) for k in range(n)]
        expected = [node_of(Kind.DROP if k == 1 else Kind.REWRITE) for k in range(n)]
        assert run_kernel(ip4_lookup, packets, mine).nexts == expected


@pytest.mark.parametrize("common", DESTINATIONS)
def test_what_a_frame_has_in_common_holds_for_those_that_have_it(common):
    """First, middle and last go to one place; some between, whose flows differ, and some of all others."""
    packets = [ip4(udp(source_port=k), destination=common) for k in range(4 * WORTH_EXPECTING)]
    for k, other in enumerate(DESTINATIONS):
        packets[2 * k + 3 if 2 * k + 3 != len(packets) // 2 else 1] = ip4(udp(), destination=other)
    result = run_kernel(ip4_lookup, [Packet(data) for data in packets], tables())
    expected = [reference(data) for data in packets]
    assert [(int(m["adj"]), next_) for m, next_ in zip(result.meta, result.nexts, strict=True)] == [
        (adjacency, next_) for _, next_, adjacency in expected
    ]
    counted = result.tables["route_counters"]["packets"]
    assert [int(counted[route]) for route, _, _ in expected] == [
        sum(route == other for other, _, _ in expected) for route, _, _ in expected
    ]


@pytest.mark.slow
def test_every_host_of_a_sixteen():
    """All 65,536 addresses below 10.1: all levels of the trie."""
    for start in range(0, 1 << 16, 1 << 13):
        packets = [ip4(destination=f"10.1.{n >> 8}.{n & 255}") for n in range(start, start + (1 << 13), 3)]
        result = run_kernel(ip4_lookup, [Packet(data) for data in packets], tables())
        assert result.nexts == [reference(data)[1] for data in packets]


def test_our_own_addresses_are_marked():
    assert FIB.load_balances["flags"][FIB.lookup(bytes([10, 1, 2, 1]))] == LB_RECEIVE
