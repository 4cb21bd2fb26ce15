# SPDX-License-Identifier: Apache-2.0
"""Routes as the dataplane sees them: every check reads the trie, load balances and adjacencies."""

import time
from ipaddress import IPv4Address
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyvpp.errors import OperatorError
from pyvpp_nodes.fib.adjacency import ADMIN_UP, HOST, LINK_UP, UPLINK
from pyvpp_nodes.fib.entry import DROP_PATH, Path, Source, Via, attached, attached_nexthop, recursive
from pyvpp_nodes.fib.family import IP6
from pyvpp_nodes.fib.fib import DEFAULTS, OWN_ROUTES
from pyvpp_nodes.fib.load_balance import normalize
from pyvpp_nodes.fib.tables import LB_PASS_THROUGH, LB_RECEIVE, STACKED_STRAIGHT

UP = ADMIN_UP | LINK_UP
MAC = bytes.fromhex("0200000000aa")
DROPS = [("ip4-drop", "")]


def ip(text: str) -> int:
    return int(IPv4Address(text))


def via(address: str, sw_if_index: int, weight: int = 1, preference: int = 0) -> Path:
    return attached_nexthop(ip(address), sw_if_index, weight, preference)


def arp(text: str) -> list[tuple[str, str]]:
    return [("ip4-arp", text)]


def rewrite(text: str) -> list[tuple[str, str]]:
    return [("ip4-rewrite", text)]


def prefixes(bench: Any) -> list[str]:
    return [f"{IPv4Address(entry.prefix)}/{entry.length}" for entry in bench.fib.vrf()]


def test_a_table_begins_as_in_vpp(bench: Any) -> None:
    assert prefixes(bench) == ["0.0.0.0/0", "0.0.0.0/32", "224.0.0.0/4", "240.0.0.0/4", "255.255.255.255/32"]
    for address in ("0.0.0.0", "1.2.3.4", "224.0.0.1", "255.255.255.255"):
        assert bench.buckets(address) == DROPS


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        (24, ["10.0.0.0/32", "10.0.0.0/24", "10.0.0.5/32", "10.0.0.255/32"]),
        (30, ["10.0.0.4/32", "10.0.0.4/30", "10.0.0.5/32", "10.0.0.7/32"]),
        (31, ["10.0.0.4/32", "10.0.0.4/31", "10.0.0.5/32"]),
        (32, ["10.0.0.5/32"]),
    ],
)
def test_an_address_brings_its_entries_and_takes_them_away(bench: Any, length: int, expected: list[str]) -> None:
    before, used = prefixes(bench), bench.in_use()
    bench.fib.add_address(bench.ETH0, ip("10.0.0.5"), length)
    assert [each for each in prefixes(bench) if each not in before] == expected
    assert bench.buckets("10.0.0.5") == [("ip4-local", "10.0.0.5 eth0")]
    if length <= 30:
        assert bench.buckets(expected[0].split("/")[0]) == DROPS
        assert bench.buckets("10.0.0.6")[0][0] == "ip4-glean"
    if length == 31:
        assert bench.buckets("10.0.0.4") == arp("10.0.0.4 eth0")
    bench.fib.remove_address(bench.ETH0, ip("10.0.0.5"), length)
    assert (prefixes(bench), bench.in_use()) == (before, used)


def test_two_addresses_of_a_prefix_share_the_connected_route(bench: Any) -> None:
    used = bench.in_use()
    bench.fib.add_address(bench.ETH0, ip("10.0.0.1"), 24)
    bench.fib.add_address(bench.ETH0, ip("10.0.0.2"), 24)
    bench.fib.remove_address(bench.ETH0, ip("10.0.0.1"), 24)
    assert bench.buckets("10.0.0.9")[0][0] == "ip4-glean"
    glean = next(each for each in bench.fib.adjacencies if each.length == 24)
    assert glean.source == ip("10.0.0.2")
    assert bench.buckets("10.0.0.2")[0][0] == "ip4-local"
    bench.fib.remove_address(bench.ETH0, ip("10.0.0.2"), 24)
    assert bench.in_use() == used


def test_overlapping_addresses_are_refused(bench: Any) -> None:
    bench.fib.add_address(bench.ETH0, ip("10.0.0.1"), 24)
    with pytest.raises(OperatorError, match=r"failed to add 10.0.0.9/16 on eth1 which conflicts with 10.0.0.1/24 for"):
        bench.fib.add_address(bench.ETH1, ip("10.0.0.9"), 16)
    with pytest.raises(OperatorError, match="conflicts"):
        bench.fib.add_address(bench.ETH0, ip("10.0.0.1"), 24)
    with pytest.raises(OperatorError, match="not found"):
        bench.fib.remove_address(bench.ETH0, ip("10.0.0.7"), 24)


def test_point_to_point_has_one_adjacency_and_no_glean(bench: Any) -> None:
    bench.fib.add_address(bench.TUN0, ip("10.5.0.1"), 24)
    bench.fib.update("10.6.0.0/16", [attached(bench.TUN0)])
    bench.fib.update("10.7.0.0/16", [via("10.5.0.9", bench.TUN0)])
    for address in ("10.5.0.7", "10.6.1.1", "10.7.1.1"):
        assert bench.buckets(address) == rewrite("0.0.0.0 tun0")
    assert len(bench.fib.adjacencies.on_link(bench.TUN0)) == 2  # and the receive


def test_the_best_source_wins_and_its_end_lets_the_next_show(bench: Any) -> None:
    used = bench.in_use()
    bench.fib.update("10.0.0.0/8", [via("1.1.1.1", bench.ETH0)], Source.CLI)
    bench.fib.update("10.0.0.0/8", [via("2.2.2.2", bench.ETH0)], Source.API)
    bench.fib.update("10.0.0.0/8", [via("3.3.3.3", bench.ETH0)], Source.ADJ)
    assert bench.buckets("10.1.1.1") == arp("2.2.2.2 eth0")
    bench.fib.remove("10.0.0.0/8", Source.API)
    assert bench.buckets("10.1.1.1") == arp("1.1.1.1 eth0")
    bench.fib.remove("10.0.0.0/8", Source.CLI)
    assert bench.buckets("10.1.1.1") == arp("3.3.3.3 eth0")
    assert not bench.fib.remove("10.0.0.0/8", Source.CLI)
    bench.fib.remove("10.0.0.0/8", Source.ADJ)
    assert bench.buckets("10.1.1.1") == DROPS
    assert bench.in_use() == used


def test_default_route_falls_back_to_drop(bench: Any) -> None:
    bench.fib.update("0.0.0.0/0", [via("1.1.1.1", bench.ETH0)])
    assert bench.buckets("9.9.9.9") == arp("1.1.1.1 eth0")
    assert not bench.fib.remove("0.0.0.0/0", Source.DEFAULT_ROUTE)
    bench.fib.remove("0.0.0.0/0")
    assert bench.buckets("9.9.9.9") == DROPS


def test_weights_become_buckets(bench: Any) -> None:
    bench.fib.update("10.0.0.0/8", [via("1.1.1.1", bench.ETH0, 1), via("2.2.2.2", bench.ETH1, 3)])
    assert bench.buckets("10.1.1.1") == arp("2.2.2.2 eth1") * 3 + arp("1.1.1.1 eth0")
    bench.fib.remove_path("10.0.0.0/8", via("2.2.2.2", bench.ETH1))
    assert bench.buckets("10.1.1.1") == arp("1.1.1.1 eth0")
    assert bench.fib.load_balances.bucket_pool.in_use == 0
    assert not bench.fib.remove_path("10.0.0.0/8", via("2.2.2.2", bench.ETH1))


@given(st.lists(st.integers(1, 255), min_size=1, max_size=40))
def test_normalized_buckets_are_a_power_of_two_close_to_the_weights(weights: list[int]) -> None:
    buckets = normalize([(float(weight), i) for i, weight in enumerate(weights)])
    n = len(buckets)
    assert n & (n - 1) == 0
    off = sum(abs(buckets.count(i) - weight * n / sum(weights)) for i, weight in enumerate(weights))
    assert n == 8192 or off <= 0.2 * n + 1e-6  # the leftovers, given to the heaviest, at most double the error


def test_lower_preference_takes_over_only_when_the_better_is_down(bench: Any) -> None:
    bench.fib.update("10.0.0.0/8", [via("1.1.1.1", bench.ETH0), via("2.2.2.2", bench.ETH1, preference=1)])
    assert bench.buckets("10.1.1.1") == arp("1.1.1.1 eth0")
    bench.fib.link_state(bench.ETH0, 0)
    assert bench.buckets("10.1.1.1") == arp("2.2.2.2 eth1")
    bench.fib.link_state(bench.ETH0, UP)
    assert bench.buckets("10.1.1.1") == arp("1.1.1.1 eth0")


def test_ends(bench: Any) -> None:
    for name, kind in (("punt", Via.PUNT), ("null", Via.UNREACHABLE), ("null", Via.PROHIBIT), ("drop", Via.DROP)):
        bench.fib.update("10.0.0.0/8", [Path(kind)])
        assert bench.buckets("10.1.1.1")[0][0] == f"ip4-{name}"


# -- recursion


def test_recursive_follows_its_covering_entry(bench: Any) -> None:
    fib, used = bench.fib, bench.in_use()
    fib.update("10.0.0.0/8", [recursive(ip("20.0.0.1"))])
    assert bench.buckets("10.1.1.1") == DROPS
    fib.update("0.0.0.0/0", [via("1.1.1.1", bench.ETH0)])
    assert bench.buckets("10.1.1.1") == arp("1.1.1.1 eth0")
    fib.update("20.0.0.0/16", [via("2.2.2.2", bench.ETH0)])
    assert bench.buckets("10.1.1.1") == arp("2.2.2.2 eth0")
    fib.update("20.0.0.1/32", [via("3.3.3.3", bench.ETH1)])
    assert bench.buckets("10.1.1.1") == arp("3.3.3.3 eth1")
    fib.update("20.0.0.1/32", [via("4.4.4.4", bench.ETH1)])
    assert bench.buckets("10.1.1.1") == arp("4.4.4.4 eth1")
    fib.remove("20.0.0.1/32")
    assert bench.buckets("10.1.1.1") == arp("2.2.2.2 eth0")
    for prefix in ("20.0.0.0/16", "0.0.0.0/0", "10.0.0.0/8"):
        fib.remove(prefix)
    assert bench.in_use() == used


def test_recursive_multipath_is_flattened(bench: Any) -> None:
    fib = bench.fib
    fib.update("20.0.0.1/32", [via("1.1.1.1", bench.ETH0), via("2.2.2.2", bench.ETH0)])
    fib.update("20.0.0.2/32", [via("3.3.3.3", bench.ETH0)])
    fib.update("10.0.0.0/8", [recursive(ip("20.0.0.1")), recursive(ip("20.0.0.2"))])
    assert bench.buckets("10.1.1.1") == arp("3.3.3.3 eth0") * 2 + arp("1.1.1.1 eth0") + arp("2.2.2.2 eth0")
    fib.remove("20.0.0.2/32")
    assert bench.buckets("10.1.1.1") == arp("1.1.1.1 eth0") + arp("2.2.2.2 eth0")


def test_loops_drop_and_heal(bench: Any) -> None:
    fib, used = bench.fib, bench.in_use()
    fib.update("10.0.0.0/8", [recursive(ip("10.0.0.1"))])
    assert bench.buckets("10.1.1.1") == DROPS
    fib.update("10.0.0.0/8", [recursive(ip("20.0.0.1"))])
    fib.update("20.0.0.0/8", [recursive(ip("30.0.0.1"))])
    fib.update("30.0.0.0/8", [recursive(ip("10.0.0.1")), via("9.9.9.9", bench.ETH0)])
    for address in ("10.1.1.1", "20.1.1.1"):
        assert bench.buckets(address) == DROPS
    assert bench.buckets("30.1.1.1") == arp("9.9.9.9 eth0")
    fib.update("30.0.0.0/8", [via("9.9.9.9", bench.ETH0)])  # the same next hop as before, but no loop
    for address in ("10.1.1.1", "20.1.1.1", "30.1.1.1"):
        assert bench.buckets(address) == arp("9.9.9.9 eth0")
    for prefix in ("10.0.0.0/8", "20.0.0.0/8", "30.0.0.0/8"):
        fib.remove(prefix)
    assert bench.in_use() == used


prefix_pool = ["0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "20.0.0.0/8", "20.0.0.1/32", "30.0.0.0/8", "10.1.0.1/32"]
hop_pool = ["10.1.0.1", "10.2.0.1", "20.0.0.1", "20.0.0.2", "30.0.0.1"]
path_strategy = st.one_of(
    st.sampled_from(hop_pool).map(lambda a: recursive(ip(a))),
    st.sampled_from([1, 2]).map(lambda i: via(f"9.9.9.{i}", i)),
    st.just(DROP_PATH),
)
steps = st.lists(
    st.tuples(st.sampled_from(prefix_pool), st.none() | st.lists(path_strategy, min_size=1, max_size=2)), max_size=14
)


@settings(max_examples=60)
@given(steps)
def test_any_history_ends_where_a_fresh_table_would(make_bench: Any, history: Any) -> None:
    bench = make_bench()
    final: dict[str, list[Path]] = {}
    used = bench.in_use()
    for prefix, paths in history:
        if paths is None:
            bench.fib.remove(prefix)
            final.pop(prefix, None)
        else:
            bench.fib.update(prefix, paths)
            final[prefix] = paths
    for order in (sorted(final), sorted(final, reverse=True)):
        fresh = make_bench()
        for prefix in order:
            fresh.fib.update(prefix, final[prefix])
        for address in (*hop_pool, "1.1.1.1"):
            assert sorted(bench.buckets(address)) == sorted(fresh.buckets(address))
    for prefix in final:
        bench.fib.remove(prefix)
    assert bench.in_use() == used


# -- tunnels


def stacked(bench: Any, index: int) -> tuple[str, str]:
    record = bench.tables["adjacencies"].array[index]
    assert record.next == record.stacked_next
    node = bench.hop(int(record.stacked_next), int(record.adj))[0]
    assert int(record.flags) == (0 if node in ("ip4-load-balance", "ip4-drop") else STACKED_STRAIGHT)
    return (node, "") if node == "ip4-load-balance" else bench.hop(int(record.stacked_next), int(record.adj))


def test_a_midchain_follows_the_way_to_its_destination(bench: Any) -> None:
    fib, used = bench.fib, bench.in_use()
    fib.update("10.0.0.0/8", [attached(bench.TUN0)])
    midchain = fib.add_midchain(bench.TUN0, b"\x45" * 20, 1480, "20.0.0.9")
    assert bench.buckets("10.1.1.1") == [("ip4-midchain", "0.0.0.0 tun0")]
    assert stacked(bench, midchain) == ("ip4-drop", "")
    fib.update("20.0.0.0/8", [via("1.1.1.1", bench.ETH0)])
    assert stacked(bench, midchain) == ("ip4-arp", "1.1.1.1 eth0")
    bench.neighbors.learn(bench.ETH0, ip("1.1.1.1"), MAC)
    assert stacked(bench, midchain) == ("ip4-rewrite", "1.1.1.1 eth0")
    fib.update("20.0.0.0/8", [via("1.1.1.1", bench.ETH0), via("2.2.2.2", bench.ETH1)])
    record = bench.tables["adjacencies"].array[midchain]
    assert stacked(bench, midchain)[0] == "ip4-load-balance"
    assert int(record.adj) == fib.find("20.0.0.0/8").lb
    fib.remove("20.0.0.0/8")
    assert stacked(bench, midchain) == ("ip4-drop", "")
    assert (int(record.kind), int(record.rewrite_bytes), int(record.mtu)) == (6, 20, 1480)
    assert bytes(record.rewrite[:20]) == b"\x45" * 20
    fib.remove_midchain(midchain)
    fib.remove("10.0.0.0/8")
    bench.neighbors.flush(bench.ETH0)
    assert bench.in_use() == used


def test_a_tunnel_into_itself_drops_until_the_way_is_another(bench: Any) -> None:
    fib = bench.fib
    midchain = fib.add_midchain(bench.TUN0, b"\x45" * 20, None, "20.0.0.9")
    fib.update("0.0.0.0/0", [attached(bench.TUN0)])
    assert stacked(bench, midchain) == ("ip4-drop", "")
    fib.update("20.0.0.0/24", [recursive(ip("30.0.0.1"))])
    assert stacked(bench, midchain) == ("ip4-drop", "")
    other = fib.add_midchain(bench.TUN1, b"\x45" * 20, None, "40.0.0.9")
    fib.update("30.0.0.0/24", [attached(bench.TUN1)])
    assert stacked(bench, midchain) == ("ip4-drop", "")  # through tun1, whose way is the default route
    fib.update("40.0.0.0/24", [via("1.1.1.1", bench.ETH0)])
    assert stacked(bench, midchain) == ("ip4-midchain", "0.0.0.0 tun1")
    assert stacked(bench, other) == ("ip4-arp", "1.1.1.1 eth0")
    fib.remove("40.0.0.0/24")
    assert stacked(bench, midchain) == stacked(bench, other) == ("ip4-drop", "")


# -- interfaces


def test_admin_down_takes_connected_routes_and_paths(bench: Any) -> None:
    fib = bench.fib
    fib.add_address(bench.ETH0, ip("10.0.0.1"), 24)
    fib.update("20.0.0.0/8", [via("10.0.0.2", bench.ETH0)])
    bench.neighbors.learn(bench.ETH0, ip("10.0.0.2"), MAC)
    bench.neighbors.add(bench.ETH0, ip("10.0.0.3"), MAC, static=True)
    assert bench.buckets("20.1.1.1") == rewrite("10.0.0.2 eth0")
    before = prefixes(bench)
    fib.link_state(bench.ETH0, 0)
    assert len(prefixes(bench)) == 6
    for address in ("20.1.1.1", "10.0.0.1", "10.0.0.3"):
        assert bench.buckets(address) == DROPS
    fib.link_state(bench.ETH0, UP)
    assert prefixes(bench) == before
    assert bench.buckets("10.0.0.3") == rewrite("10.0.0.3 eth0")


def test_a_deleted_interface_takes_everything_along(bench: Any) -> None:
    fib = bench.fib
    tun = bench.in_use()
    fib.add_address(bench.ETH0, ip("10.0.0.1"), 24)
    fib.update("20.0.0.0/8", [via("10.0.0.2", bench.ETH0)])
    fib.update("30.0.0.0/8", [via("10.0.0.2", bench.ETH0), via("9.9.9.9", bench.ETH1)])
    bench.neighbors.learn(bench.ETH0, ip("10.0.0.2"), MAC)
    bench.neighbors.flush(bench.ETH0, static_too=True)
    fib.link_removed(bench.ETH0)
    assert fib.find("20.0.0.0/8") is None
    assert bench.buckets("30.1.1.1") == arp("9.9.9.9 eth1")
    fib.remove("30.0.0.0/8")
    assert bench.in_use() == tun


def test_mac_and_mtu_changes_reach_the_adjacencies(bench: Any) -> None:
    fib = bench.fib
    bench.neighbors.learn(bench.ETH0, ip("1.1.1.1"), MAC)
    fib.update("10.0.0.0/8", [via("1.1.1.1", bench.ETH0)])
    adj = bench.tables["adjacencies"].array[fib.find("10.0.0.0/8").shares[0][1]]
    assert bytes(adj.rewrite[:14]) == MAC + bytes([2, 0, 0, 0, 0, 1]) + b"\x08\x00"
    assert (int(adj.next), int(adj.mtu), int(adj.rewrite_bytes)) == (0x8000 | 101, 9000, 14)
    fib.link_changed(bench.ETH0, mac=b"\x02new!!", mtu=1400)
    bench.neighbors.learn(bench.ETH0, ip("1.1.1.1"), MAC[::-1])
    assert bytes(adj.rewrite[:14]) == MAC[::-1] + b"\x02new!!" + b"\x08\x00"
    assert int(adj.mtu) == 1400


def test_pass_through_says_what_belongs_to_the_host(bench: Any) -> None:
    fib = bench.fib

    def flags(prefix: str) -> int:
        return int(fib.load_balances.flags(fib.find(prefix).lb))

    fib.add_address(bench.UP0, ip("10.0.0.1"), 24)
    fib.add_address(bench.ETH0, ip("10.1.0.1"), 24)
    fib.update("0.0.0.0/0", [via("10.0.0.254", bench.UP0)])
    fib.update("20.0.0.0/8", [via("10.0.0.2", bench.UP0), via("10.1.0.2", bench.ETH0)])
    fib.update("30.0.0.0/8", [recursive(ip("8.8.8.8"))])
    fib.update("40.0.0.0/8", [Path(Via.PUNT)])
    expected = {
        "10.0.0.1/32": LB_PASS_THROUGH | LB_RECEIVE,
        "10.1.0.1/32": LB_RECEIVE,
        "10.0.0.0/24": LB_PASS_THROUGH,
        "10.0.0.255/32": LB_PASS_THROUGH,
        "10.1.0.0/24": 0,
        "0.0.0.0/0": LB_PASS_THROUGH,
        "224.0.0.0/4": LB_PASS_THROUGH,
        "20.0.0.0/8": 0,
        "30.0.0.0/8": LB_PASS_THROUGH,
        "40.0.0.0/8": 0,
    }
    assert {prefix: flags(prefix) for prefix in expected} == expected
    fib.link_state(bench.ETH0, UP | HOST)
    assert flags("20.0.0.0/8") == LB_PASS_THROUGH
    fib.link_state(bench.UP0, UP)
    assert flags("0.0.0.0/0") == flags("20.0.0.0/8") == 0
    fib.link_state(bench.UP0, UP | UPLINK)
    assert flags("10.0.0.1/32") == LB_PASS_THROUGH | LB_RECEIVE


def test_tables_are_separate(bench: Any) -> None:
    fib, used = bench.fib, bench.in_use()
    index = fib.add_table(10)
    fib.set_link_table(bench.ETH1, 10)
    fib.add_address(bench.ETH1, ip("10.0.0.1"), 24)
    assert fib.lookup("10.0.0.1").length == 0
    assert fib.lookup("10.0.0.1", index).length == 32
    with pytest.raises(OperatorError):
        fib.set_link_table(bench.ETH1, 0)
    fib.remove_address(bench.ETH1, ip("10.0.0.1"), 24)
    fib.set_link_table(bench.ETH1, 0)
    fib.delete_table(10)
    assert bench.in_use() == used


# -- cost


@pytest.mark.slow
def test_ten_thousand_routes_come_and_go(bench: Any) -> None:
    fib, used = bench.fib, bench.in_use()
    began = time.perf_counter()
    for i in range(10_000):
        fib.update((0x0A000000 + (i << 8), 24), (attached_nexthop(1, bench.ETH0),))
    assert bench.buckets("10.39.15.1") == arp("0.0.0.1 eth0")
    assert len(fib.load_balances) == OWN_ROUTES + 1 + len(DEFAULTS[IP6])  # the others share one
    for i in range(10_000):
        fib.remove((0x0A000000 + (i << 8), 24))
    assert time.perf_counter() - began < 20
    assert bench.in_use() == used


@pytest.mark.slow
def test_ten_thousand_cycles_of_one_route(bench: Any) -> None:
    fib, used = bench.fib, bench.in_use()
    paths = (via("1.1.1.1", bench.ETH0), via("2.2.2.2", bench.ETH1))
    for i in range(10_000):
        fib.update((0x0A000000 + i * 7, 32), paths)
        fib.remove((0x0A000000 + i * 7, 32))
    assert bench.in_use() == used
    assert len(bench.tables["load_balances"].array) <= 1024
    assert len(bench.tables["ip4_fib_nodes"].array) <= 64 * 256 * 16
