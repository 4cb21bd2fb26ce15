# SPDX-License-Identifier: Apache-2.0
"""What is IPv6's own in the FIB. What both families share is tested for both in test_bulk and below trie/."""

from ipaddress import IPv6Address
from typing import Any

import numpy as np
import pytest

from pyvpp.cli.registry import CommandError
from pyvpp.jit import jit
from pyvpp.typing import U32, U64
from pyvpp_nodes.fib import address_cli, cli, neighbor_cli
from pyvpp_nodes.fib.entry import Source, attached, attached_nexthop, recursive
from pyvpp_nodes.fib.trie.lookup import fib6_lookup
from tests.graph_nodes.fib.test_cli import shown

DROPS = [("ip6-drop", "")]
MAC = bytes.fromhex("0200000000aa")


def ip(text: str) -> int:
    return int(IPv6Address(text))


def prefixes(bench: Any) -> list[str]:
    return [f"{IPv6Address(entry.prefix)}/{entry.length}" for entry in bench.fib6.vrf()]


def test_a_table_begins_as_in_vpp(bench: Any) -> None:
    assert prefixes(bench) == ["::/0", "fe80::/10"]
    assert [bench.lb(address) for address in ("2001:db8::1", "fe80::1")] == [6, 7]
    assert bench.buckets("2001:db8::1") == bench.buckets("fe80::1") == DROPS


def test_both_families_stand_side_by_side(bench: Any) -> None:
    """The same bits, the same next hop's number and the same interface are nothing in common."""
    bench.fib.update("32.1.0.0/16", [attached_nexthop(1, bench.ETH0)])
    assert bench.buckets("2001::1") == DROPS
    bench.fib6.update("2001::/16", [attached_nexthop(1, bench.ETH0)])
    assert bench.buckets("2001::1") == [("ip6-discover-neighbor", "::1 eth0")]
    assert bench.buckets("32.1.0.1") == [("ip4-arp", "0.0.0.1 eth0")]
    bench.neighbors6.learn(bench.ETH0, 1, MAC)
    assert bench.buckets("2001::1") == [("ip6-rewrite", "::1 eth0")]
    assert bench.buckets("32.1.0.1") == [("ip4-arp", "0.0.0.1 eth0")]


@pytest.mark.parametrize(
    ("address", "length", "expected"),
    [
        ("fd00:1:1::1", 64, ["fd00:1:1::/64", "fd00:1:1::1/128"]),
        ("fd00:1:1::2", 127, ["fd00:1:1::2/128", "fd00:1:1::2/127"]),
        ("fd00:1:1::1", 128, ["fd00:1:1::1/128"]),
    ],
)
def test_an_address_brings_its_entries_and_takes_them_away(
    bench: Any, address: str, length: int, expected: list[str]
) -> None:
    before, used = prefixes(bench), bench.in_use()
    bench.fib6.add_address(bench.ETH0, ip(address), length)
    assert [each for each in prefixes(bench) if each not in before] == expected
    assert bench.buckets(address) == [("ip6-local", f"{address} eth0")]
    if length < 128:
        on_link = str(IPv6Address(ip(address) + 1))
        assert bench.buckets(on_link) == [
            ("ip6-glean", f"{IPv6Address(ip(address) & ~((1 << 128 - length) - 1))} eth0")
        ]
        glean = next(each for each in bench.fib.adjacencies if each.length == length)
        record = bench.tables["adjacencies"].array[glean.index]
        assert (int(record.version), int(record.prefix_length)) == (6, length)
        assert int(record.source_high) << 64 | int(record.source_low) == ip(address)
        assert bytes(record.rewrite[:14]) == b"\xff" * 6 + bytes([2, 0, 0, 0, 0, 1]) + b"\x86\xdd"
    bench.fib6.remove_address(bench.ETH0, ip(address), length)
    assert (prefixes(bench), bench.in_use()) == (before, used)


def test_the_best_source_wins_and_a_recursive_path_follows(bench: Any) -> None:
    fib, used = bench.fib6, bench.in_use()
    fib.update("2001:db8::/32", [recursive(ip("2001:db8:ffff::1"))], Source.CLI)  # into itself
    assert bench.buckets("2001:db8::1") == DROPS
    fib.update("2001:db8:ffff::/48", [attached_nexthop(ip("fe80::1"), bench.ETH1)])
    assert bench.buckets("2001:db8::1") == [("ip6-discover-neighbor", "fe80::1 eth1")]
    fib.update("2001:db8::/32", [attached(bench.TUN0)], Source.API)
    assert bench.buckets("2001:db8::1") == [("ip6-rewrite", ":: tun0")]
    fib.remove("2001:db8::/32", Source.API)
    assert bench.buckets("2001:db8::1") == [("ip6-discover-neighbor", "fe80::1 eth1")]
    fib.remove("2001:db8::/32", Source.CLI)
    fib.remove("2001:db8:ffff::/48")
    assert bench.in_use() == used


def test_an_interface_that_goes_down_takes_both_families_routes(bench: Any) -> None:
    bench.fib.add_address(bench.ETH0, 0x0A000001, 24)
    bench.fib6.add_address(bench.ETH0, ip("fd00::1"), 64)
    bench.fib6.update("2001:db8::/32", [attached_nexthop(ip("fd00::2"), bench.ETH0)])
    bench.neighbors6.learn(bench.ETH0, ip("fd00::2"), MAC)
    assert bench.fib6.find("fd00::2/128").best == Source.ADJ
    assert bench.buckets("2001:db8::1") == [("ip6-rewrite", "fd00::2 eth0")]
    flags = bench.fib.links[bench.ETH0].flags
    bench.fib.link_state(bench.ETH0, 0)
    for address in ("10.0.0.1", "fd00::1", "2001:db8::1"):
        assert bench.buckets(address)[0][0].endswith("-drop")
    bench.fib.link_state(bench.ETH0, flags)
    assert bench.buckets("fd00::1") == [("ip6-local", "fd00::1 eth0")]
    bench.neighbors6.flush(bench.ETH0)
    bench.fib.link_removed(bench.ETH0)
    assert prefixes(bench) == ["::/0", "fe80::/10"]
    assert bench.fib.links.keys() == {bench.ETH1, bench.TUN0, bench.TUN1, bench.UP0}


@jit
def one_lookup(roots: U32, nodes: U32, high: U64, low: U64) -> int:
    return int(fib6_lookup(roots, nodes, 0, high[0], low[0]))


def test_a_kernels_lookup_is_the_tables(bench: Any) -> None:
    lb = bench.fib6.update("2001:db8::7/128", [attached(bench.TUN0)]).lb
    tables = bench.tables["ip6_fib_roots"].array, bench.tables["ip6_fib_nodes"].array
    words = np.array([0x20010DB800000000], np.uint64), np.array([7], np.uint64)
    assert one_lookup(*tables, *words) == lb == bench.lb("2001:db8::7")
    assert one_lookup(*tables, words[0], words[1] + np.uint64(1)) == bench.lb("2001:db8::8") == 6


def test_commands(engine: Any) -> None:
    address_cli.set_interface_ip_address(engine, "eth0 fd00:1:1::1/64")
    neighbor_cli.set_ip_neighbor(engine, f"eth0 fd00:1:1::2 {MAC.hex(':')}")
    cli.ip_route(engine, "add 2001:2::/48 via fd00:1:1::2 eth0")
    assert shown(cli.show_ip6_fib, engine)[:9] == [
        "ipv6-VRF:0, fib_index:0, flow hash:[src dst sport dport proto flowlabel ] epoch:0 flags:none"
        " locks:[default-route:1, ]",
        "::/0",
        "  unicast-ip6-chain",
        "  [@0]: dpo-load-balance: [proto:ip6 index:6 buckets:1 uRPF:-1 to:[0:0]]",
        "    [0] [@0]: dpo-drop ip6",
        "2001:2::/48",
        "  unicast-ip6-chain",
        "  [@0]: dpo-load-balance: [proto:ip6 index:11 buckets:1 uRPF:-1 to:[0:0]]",
        "    [0] [@5]: ipv6 via fd00:1:1::2 eth0: mtu:9000 next:101 flags:[] 0200000000aa02000000000186dd",
    ]
    text = "\n".join(shown(cli.show_ip6_fib, engine))
    assert (
        "[0] [@4]: ipv6-glean: [src:fd00:1:1::/64] eth0: mtu:9000 next:101 flags:[] ffffffffffff02000000000186dd"
        in text
    )
    assert "[0] [@15]: dpo-receive: fd00:1:1::1 on eth0" in text
    assert shown(cli.show_ip6_fib, engine, "2001:2::9")[1] == "2001:2::/48 fib:0 index:11 locks:1"
    assert "2001:2::/48" not in "\n".join(shown(cli.show_ip_fib, engine))
    assert shown(address_cli.show_interface_address, engine, "eth0") == ["eth0 (up):", "  L3 fd00:1:1::1/64"]
    assert "fd00:1:1::2" in shown(neighbor_cli.show_ip6_neighbors, engine)[1]
    assert len(shown(neighbor_cli.show_ip4_neighbors, engine)) == 1
    assert len(shown(neighbor_cli.show_ip_neighbors, engine)) == 2
    cli.ip6_table(engine, "add 10")
    assert shown(cli.show_ip6_table, engine) == ["[0] table_id:0 ipv6-VRF:0", "[1] table_id:10 ipv6-VRF:10"]
    assert shown(cli.show_ip_table, engine) == ["[0] table_id:0 ipv4-VRF:0"]
    used = engine.bench.in_use()
    assert cli.ip_route(engine, "add count 1000 2001:db8::/64 table 10 via fd00:1:1::2 eth0").endswith("routes/sec")
    assert "64            1000" in "\n".join(shown(cli.show_ip6_fib, engine, "table 10 summary"))
    some = cli.show_ip6_fib(engine, "table 10 max 5")
    assert str(some.text).split("\n")[-1].startswith("... 997 more entries")
    assert (len(some.data[0]["entries"]), some.data[0]["left_out"]) == (5, 997)
    cli.ip_route(engine, "del count 1000 2001:db8::/64 table 10")
    assert engine.bench.in_use() == used


def test_next_hops_of_the_other_family_are_refused(engine: Any) -> None:
    used = engine.bench.in_use()
    for words in ("add 2001:db8::/32 via 10.0.0.1 eth0", "add 10.0.0.0/8 via 2001:db8::1"):
        with pytest.raises(CommandError, match=r"next hops of .* must be IP[46] addresses"):
            cli.ip_route(engine, words)
    with pytest.raises(CommandError, match="run past ffff:"):
        cli.ip_route(engine, "add count 3 ff00::/8 via drop")
    assert engine.bench.in_use() == used
