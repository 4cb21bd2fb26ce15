# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyvpp.buffers import FLOW_HASH
from pyvpp.testing import Packet, run_kernel
from pyvpp_nodes.fib.forwarding import CACHED_ROUTES, CACHED_WORDS, WORTH_EXPECTING
from pyvpp_nodes.fib.tables import LOAD_BALANCE, Kind
from pyvpp_nodes.fib.trie.lookup import ROOT_BITS
from pyvpp_nodes.ip6.lookup import ip6_lookup
from tests.graph_nodes.forwarding import Fib, frames, ip6, node_of, udp
from tests.graph_nodes.ip6.test_flow_hash import flow

FIB = Fib(bits=128)
FIB.to("2001:db8::/32", Kind.REWRITE, 1)
FIB.to("2001:db8:1::/48", Kind.REWRITE, 2)
FIB.to("2001:db8:1:2::/64", Kind.GLEAN, 2)
FIB.to("2001:db8:1:2::1/128", Kind.LOCAL, 2)
FIB.to("2001:db8:1:2::2/128", Kind.REWRITE, 2)
PATHS = [FIB.adjacency(Kind.REWRITE, n) for n in (1, 2, 3, 1)]
MANY = FIB.balance(*PATHS)
FIB.route("2001:db8:ffff::/48", MANY)
FIB.to("3000::/5", Kind.MIDCHAIN, 3)
DESTINATIONS = [
    "2001:db8:1:2::1",
    "2001:db8:1:2::2",
    "2001:db8:1:2:8000::2",
    "2001:db8:1:2::3",
    "2001:db8:1:3::1",
    "2001:db8:9::9",
    "2001:db8:ffff::77",
    "37ff::1",
    "3800::1",
    "2001:db9::1",
]
PACKETS = st.builds(
    lambda destination, port, protocol: ip6(udp(source_port=port), destination=destination, protocol=protocol),
    st.sampled_from(DESTINATIONS), st.integers(0, 0xFFFF), st.sampled_from([58, 6, 17]),
)  # fmt: skip


def reference(data: bytes) -> tuple[int, int, int]:
    """Load balance, next and adjacency of a packet."""
    route = FIB.lookup(data[24:40])
    if route == MANY:
        return route, node_of(Kind.REWRITE), PATHS[flow(data) % len(PATHS)]
    record = FIB.load_balances[route]
    return route, int(record["next"]), int(record["adj"])


def a_large_table(name: str, dtype, size: int):
    """So much that it is looked up ahead."""
    grown = np.zeros(size, dtype)
    grown[: len(FIB.tables[name])] = FIB.tables[name]
    return {**FIB.tables, name: grown}


@pytest.mark.parametrize(
    "tables",
    [
        FIB.tables,
        a_large_table("load_balances", LOAD_BALANCE, CACHED_ROUTES + 1),
        a_large_table("ip6_fib_nodes", np.uint32, CACHED_WORDS + 1),
    ],
    ids=["small", "many load balances", "large trie"],
)
@given(packets=frames(PACKETS))
def test_mixed_frames(tables, packets):
    result = run_kernel(ip6_lookup, [Packet(data, rx=1 + i % 3) for i, data in enumerate(packets)], tables)
    expected = [reference(data) for data in packets]
    assert result.nexts == [next_ for _, next_, _ in expected]
    assert [int(m["adj"]) for m in result.meta] == [adjacency for _, _, adjacency in expected]
    assert result.packets == packets
    counted = result.tables["route_counters"]
    for route in range(16):
        mine = [data for data, (found, _, _) in zip(packets, expected, strict=True) if found == route]
        assert (int(counted["packets"][route]), int(counted["bytes"][route])) == (len(mine), sum(map(len, mine)))


def test_the_hash_is_kept_for_those_behind():
    data = ip6(udp(), destination="2001:db8:ffff::1")
    m = run_kernel(ip6_lookup, [Packet(data)], FIB.tables).meta[0]
    assert m["flags"] & FLOW_HASH
    assert int(m["flow_hash"]) == flow(data)


def test_each_interface_has_its_table():
    """Packets to the same place, one behind the other, by different tables; the second one is empty."""
    roots = np.concatenate([FIB.tables["ip6_fib_roots"], np.zeros(1 << ROOT_BITS, np.uint32)])
    tables = {**FIB.tables, "ip6_fib_roots": roots, "ip6_fib_index": np.array([0, 0, 1, 0], np.uint32)}
    packets = [Packet(ip6(destination="2001:db8:9::9"), rx=rx) for rx in (1, 2, 2, 1)]
    rewrite, drop = node_of(Kind.REWRITE), node_of(Kind.DROP)
    assert run_kernel(ip6_lookup, packets, tables).nexts == [rewrite, drop, drop, rewrite]


@pytest.mark.parametrize("common", DESTINATIONS)
def test_what_a_frame_has_in_common_holds_for_those_that_have_it(common):
    """First, middle and last go to one place; some between, whose flows differ, and some of all others."""
    packets = [ip6(udp(source_port=k), destination=common) for k in range(4 * WORTH_EXPECTING)]
    for k, other in enumerate(DESTINATIONS):
        packets[2 * k + 3 if 2 * k + 3 != len(packets) // 2 else 1] = ip6(udp(), destination=other)
    result = run_kernel(ip6_lookup, [Packet(data) for data in packets], FIB.tables)
    expected = [reference(data) for data in packets]
    assert [(int(m["adj"]), next_) for m, next_ in zip(result.meta, result.nexts, strict=True)] == [
        (adjacency, next_) for _, next_, adjacency in expected
    ]
    counted = result.tables["route_counters"]["packets"]
    assert [int(counted[route]) for route, _, _ in expected] == [
        sum(route == other for other, _, _ in expected) for route, _, _ in expected
    ]


def test_the_last_destination_counts_with_all_its_bits():
    """Neighbors of a /128 that differ from it in one bit each, between packets to it."""
    base = int.from_bytes(ip6(destination="2001:db8:1:2::1")[24:40], "big")
    sent = []
    for bit in range(128):
        sent += [ip6()[:24] + address.to_bytes(16, "big") for address in (base, base ^ (1 << bit))]
    result = run_kernel(ip6_lookup, [Packet(data) for data in sent], FIB.tables)
    assert result.nexts == [reference(data)[1] for data in sent]


def test_the_first_packet_is_not_mistaken_for_a_repetition():
    """To ::, all zeros, as what is remembered begins with; no route leads there but one."""
    fib = Fib(bits=128)
    fib.to("::/0", Kind.REWRITE, 1)
    assert run_kernel(ip6_lookup, [Packet(ip6(destination="::"))], fib.tables).nexts == [node_of(Kind.REWRITE)]
