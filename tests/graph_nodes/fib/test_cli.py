# SPDX-License-Identifier: Apache-2.0
"""The commands, by what they print and what they change. Layouts are VPP 26.10's."""

from typing import Any

import pytest

from pyvpp.cli.registry import CommandError
from pyvpp.errors import OperatorError
from pyvpp_nodes.fib import address_cli, cli, neighbor_cli

MAC = "02:00:00:00:00:aa"


def shown(command: Any, engine: Any, words: str = "") -> list[str]:
    return str(command(engine, words).text).split("\n")


def test_show_ip_fib_has_vpps_layout(engine: Any) -> None:
    address_cli.set_interface_ip_address(engine, "eth0 10.1.1.1/24")
    neighbor_cli.set_ip_neighbor(engine, f"eth0 10.1.1.2 {MAC}")
    cli.ip_route(engine, "add 10.80.0.0/16 via 10.1.1.2 eth0 weight 3 via 10.1.2.2 eth1")
    engine.bench.tables["route_counters"].arrays[1][1] = (99, 4950)
    assert shown(cli.show_ip_fib, engine)[:9] == [
        "ipv4-VRF:0, fib_index:0, flow hash:[src dst sport dport proto flowlabel ] epoch:0 flags:none"
        " locks:[adjacency:1, recursive-resolution:1, default-route:1, ]",
        "0.0.0.0/0",
        "  unicast-ip4-chain",
        "  [@0]: dpo-load-balance: [proto:ip4 index:1 buckets:1 uRPF:-1 to:[99:4950]]",
        "    [0] [@0]: dpo-drop ip4",
        "0.0.0.0/32",
        "  unicast-ip4-chain",
        "  [@0]: dpo-load-balance: [proto:ip4 index:2 buckets:1 uRPF:-1 to:[0:0]]",
        "    [0] [@0]: dpo-drop ip4",
    ]
    assert shown(cli.show_ip_fib, engine, "10.80.1.1") == [
        shown(cli.show_ip_fib, engine)[0],
        "10.80.0.0/16 fib:0 index:13 locks:1",
        "  CLI refs:1 src-flags:added,contributing,active,",
        "    path-list:[13] locks:1 flags:shared, uPRF-list:-1 len:2 itfs:[1, 2, ]",
        "      path:[0] pl-index:13 ip4 weight=3 pref=0 attached-nexthop:  oper-flags:resolved,",
        "        10.1.1.2 eth0",
        "      [@5]: ipv4 via 10.1.1.2 eth0: mtu:9000 next:101 flags:[] 0200000000aa0200000000010800",
        "      path:[1] pl-index:13 ip4 weight=1 pref=0 attached-nexthop:  oper-flags:resolved,",
        "        10.1.2.2 eth1",
        "      [@3]: arp-ipv4: via 10.1.2.2 eth1",
        "",
        " forwarding:   unicast-ip4-chain",
        "  [@0]: dpo-load-balance: [proto:ip4 index:13 buckets:4 uRPF:-1 to:[0:0]]",
        "    [0-2] [@5]: ipv4 via 10.1.1.2 eth0: mtu:9000 next:101 flags:[] 0200000000aa0200000000010800",
        "    [3] [@3]: arp-ipv4: via 10.1.2.2 eth1",
    ]
    every = shown(cli.show_ip_fib, engine)
    assert (
        "    [0] [@4]: ipv4-glean: [src:10.1.1.0/24] eth0: mtu:9000 next:101 flags:[] ffffffffffff0200000000010806"
        in every
    )
    assert "    [0] [@11]: dpo-receive: 10.1.1.1 on eth0" in every
    assert cli.show_ip_fib(engine, "10.80.0.0/16").data[0]["entries"][0]["prefix"] == "10.80.0.0/16"
    with pytest.raises(CommandError, match="Nonexistent table id 99"):
        cli.show_ip_fib(engine, "table 99")


def test_show_ip_fib_summary(engine: Any) -> None:
    assert shown(cli.show_ip_fib, engine, "summary")[1:] == [
        "    Prefix length         Count     ",
        "                   0               1",
        "                   4               2",
        "                  32               2",
    ]


def test_a_tunnel_shows_what_it_is_stacked_on(engine: Any) -> None:
    cli.ip_route(engine, "add 20.0.0.0/8 via 10.1.2.2 eth1")
    cli.ip_route(engine, "add 10.60.0.0/16 via tun0")
    engine.stack.fib4.add_midchain(engine.bench.TUN0, b"\x45" * 20, None, "20.0.0.9")
    assert shown(cli.show_ip_fib, engine, "10.60.0.0/16")[-3:] == [
        f"    [0] [@6]: ipv4 via 0.0.0.0 tun0: mtu:9000 next:103 flags:[fixup-ip4o4 ] {'45' * 20}",
        "        stacked-on entry:8:",
        "          [@3]: arp-ipv4: via 10.1.2.2 eth1",
    ]
    lines = shown(cli.show_adj, engine, "nbr")
    assert lines[0] == "[@4]  arp-ipv4: via 10.1.2.2 eth1"
    assert lines[2:] == ["  stacked-on entry:8:", "    [@3]: arp-ipv4: via 10.1.2.2 eth1"]
    assert shown(cli.show_adj, engine, "summary")[0] == "Number of adjacencies: 6"
    assert shown(cli.show_adj, engine, "4")[3] == "   locks:2"


def test_ip_route_adds_and_removes_paths(engine: Any) -> None:
    used = engine.bench.in_use()
    cli.ip_route(engine, "add 10.0.0.0/8 via 1.1.1.1 eth0")
    cli.ip_route(engine, "add 10.0.0.0/8 via 2.2.2.2 eth1")
    assert engine.bench.buckets("10.0.0.1") == [("ip4-arp", "1.1.1.1 eth0"), ("ip4-arp", "2.2.2.2 eth1")]
    cli.ip_route(engine, "del 10.0.0.0/8 via 1.1.1.1 eth0")
    assert engine.bench.buckets("10.0.0.1") == [("ip4-arp", "2.2.2.2 eth1")]
    cli.ip_route(engine, "add 10.0.0.0/8 via drop")
    assert engine.bench.buckets("10.0.0.1") == [("ip4-drop", "")]
    cli.ip_route(engine, "add 11.0.0.0/8 via 10.0.0.1")
    cli.ip_route(engine, "add 10.0.0.0/8 via 1.1.1.1 eth0")
    assert engine.bench.buckets("11.0.0.1") == [("ip4-arp", "1.1.1.1 eth0")]
    cli.ip_route(engine, "del 10.0.0.0/8")
    cli.ip_route(engine, "del 11.0.0.0/8")
    assert engine.bench.in_use() == used
    assert cli.ip_route(engine, "add 10.0.0.0/24 count 300 via 1.1.1.1 eth0").endswith(" routes/sec")
    assert engine.bench.buckets("10.1.43.9") == [("ip4-arp", "1.1.1.1 eth0")]
    cli.ip_route(engine, "del 10.0.0.0/24 count 300")
    assert engine.bench.in_use() == used


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "expected ip4 destination address/length."),
        ("add", "expected ip4 destination address/length."),
        ("add 10.9.9.0/24", "expected paths."),
        ("add 10.9.9.0/24 table 77 via 10.1.2.2", "Nonexistent table id 77"),
        ("add 10.9.9.0/24 via 10.1.2.2 nosuch", "unknown interface `nosuch'"),
        ("add 10.9.9.0/24 via nosuch", "unknown next hop `nosuch' (expected an IP address, drop, eth0, "),
        ("add 10.9.9.0/24 via 10.1.2.300", "unknown next hop `10.1.2.300'"),
        ("add 10.9.9.0/24 via etho", "unknown next hop `etho' (did you mean eth"),
        ("del 10.9.9.0/24", "no such route 10.9.9.0/24"),
        ("del 10.9.9.0/24 count 5 via eth0", "no such route 10.9.9.0/24"),
        ("del 0.0.0.0/0", "route 0.0.0.0/0 is not of the command line"),
        ("add 10.9.9.0/24 via 10.1.2.2 eth0 bogus", "unknown input `bogus'"),
        ("add 10.9.9.0/99 via 10.1.2.2", "invalid prefix length `99'"),
        ("add 10.9.9.300/24 via 10.1.2.2", "invalid address `10.9.9.300'"),
        ("add 10.9.9.0/24 via", "unexpected end"),
        ("add 255.0.0.0/8 count 2 via drop", "run past"),
    ],
)
def test_ip_route_names_what_is_wrong_and_changes_nothing(engine: Any, words: str, message: str) -> None:
    used = engine.bench.in_use()
    with pytest.raises(CommandError) as caught:
        cli.ip_route(engine, words)
    assert message in str(caught.value)
    assert engine.bench.in_use() == used


def test_a_path_that_is_not_there_is_not_deleted(engine: Any) -> None:
    cli.ip_route(engine, "add 10.0.0.0/8 via 1.1.1.1 eth0")
    with pytest.raises(CommandError, match=r"route 10\.0\.0\.0/8 has no such path"):
        cli.ip_route(engine, "del 10.0.0.0/8 via 2.2.2.2 eth0")
    assert engine.bench.buckets("10.0.0.1") == [("ip4-arp", "1.1.1.1 eth0")]
    cli.ip_route(engine, "del 10.0.0.0/8 count 3")  # one of them is enough


@pytest.mark.parametrize("address", ["0.0.0.0/8", "224.0.0.1/24", "239.1.1.1/32", "255.255.255.255/32", "240.0.0.1/24"])
def test_an_address_that_is_nobody_s_is_refused(engine: Any, address: str) -> None:
    used = engine.bench.in_use()
    with pytest.raises(OperatorError, match=f"{address} on eth0: an interface's address must be unicast"):
        address_cli.set_interface_ip_address(engine, f"eth0 {address}")
    assert engine.bench.in_use() == used


@pytest.mark.parametrize(("number", "message"), [(6, "no such table 6"), (0, "table 0 is always there")])
def test_tables_that_cannot_be_deleted(engine: Any, number: int, message: str) -> None:
    with pytest.raises(OperatorError, match=message):
        cli.ip_table(engine, f"del {number}")


def test_neighbors_that_cannot_be(engine: Any) -> None:
    with pytest.raises(CommandError, match=r"no such neighbor 10\.1\.1\.9 on eth0"):
        neighbor_cli.set_ip_neighbor(engine, "del eth0 10.1.1.9")
    with pytest.raises(CommandError, match=r"2 neighbors from 255\.255\.255\.255 run past the last address"):
        neighbor_cli.set_ip_neighbor(engine, f"eth0 255.255.255.255 {MAC} count 2")
    assert len(engine.stack.neighbors) == 0


def test_neighbors(engine: Any) -> None:
    address_cli.set_interface_ip_address(engine, "eth0 10.1.1.1/24")
    neighbor_cli.set_ip_neighbor(engine, f"eth0 10.1.1.50 {MAC} static")
    engine.bench.now = 17.79361
    neighbor_cli.set_ip_neighbor(engine, f"eth0 10.1.1.2 {MAC}")
    engine.bench.now = 17.79591
    assert shown(neighbor_cli.show_ip_neighbors, engine) == [
        "     Age                       IP                    Flags      Ethernet              Interface       ",
        "       .0023                10.1.1.2                   D    02:00:00:00:00:aa eth0",
        "     17.7959                10.1.1.50                  S    02:00:00:00:00:aa eth0",
    ]
    assert len(shown(neighbor_cli.show_ip_neighbors, engine, "eth1")) == 1
    neighbor_cli.set_ip_neighbor(engine, f"del eth0 10.1.1.50 {MAC}")
    neighbor_cli.set_ip_neighbor(engine, "del eth0 10.1.1.2")
    assert len(engine.stack.neighbors) == 0
    with pytest.raises(CommandError, match="MAC"):
        neighbor_cli.set_ip_neighbor(engine, "eth0 10.1.1.50")


def test_neighbor_config(engine: Any) -> None:
    assert shown(neighbor_cli.show_ip_neighbor_config, engine) == [
        "ip4:", "  limit:50000, age:0, recycle:0", "ip6:", "  limit:50000, age:0, recycle:0",
    ]  # fmt: skip
    neighbor_cli.set_ip_neighbor_config(engine, "ip4 limit 10 age 60 recycle")
    assert shown(neighbor_cli.show_ip_neighbor_config, engine)[1] == "  limit:10, age:60, recycle:1"


def test_interface_addresses(engine: Any) -> None:
    address_cli.set_interface_ip_address(engine, "eth0 10.1.1.1/24")
    address_cli.set_interface_ip_address(engine, "eth0 10.1.1.9/24")
    engine.interfaces["eth1"].flags = 0
    assert shown(address_cli.show_interface_address, engine)[:4] == [
        "eth0 (up):",
        "  L3 10.1.1.1/24",
        "  L3 10.1.1.9/24",
        "eth1 (dn):",
    ]
    with pytest.raises(OperatorError, match=r"failed to add 10.1.1.1/24 on eth1 which conflicts with 10.1.1.1/24 for"):
        address_cli.set_interface_ip_address(engine, "eth1 10.1.1.1/24")
    address_cli.set_interface_ip_address(engine, "del eth0 10.1.1.9/24")
    address_cli.set_interface_ip_address(engine, "del eth0 all")
    assert shown(address_cli.show_interface_address, engine, "eth0") == ["eth0 (up):"]


def test_what_was_said_of_a_table_is_forgotten_with_it(engine: Any) -> None:
    """Its routes, of one family, and that it was an interface's; those of other tables stay."""
    lines = {
        "ip table add 10": False,
        "ip6 table add 10": True,
        "ip route add 10.0.0.0/8 table 10 via drop": False,
        "ip route add 10.0.0.0/8 via drop table 10": False,
        "ip route add 10.0.0.0/8 via drop": True,
        "ip route add count 10 10.0.0.0/8 via drop": True,
        "ip route add 2001:db8::/32 table 10 via drop": True,
        "set interface ip table eth0 10": False,
        "set interface ip table eth0 0": True,
        "set interface ip6 table eth0 10": True,
        "set interface ip address eth0 10.1.1.1/24": True,
    }
    cli.ip_table(engine, "add 10")
    for line in lines:
        with engine.configuration.noting(line):
            pass
    with engine.configuration.noting("ip table del 10"):
        cli.ip_table(engine, "del 10")
    assert [entry.line for entry in engine.configuration.entries] == [line for line, kept in lines.items() if kept]


def test_tables_and_load_balances(engine: Any) -> None:
    cli.ip_table(engine, "add 10")
    assert shown(cli.show_ip_table, engine) == ["[0] table_id:0 ipv4-VRF:0", "[1] table_id:10 ipv4-VRF:10"]
    assert shown(cli.show_load_balance, engine, "1")[0].startswith("dpo-load-balance: [proto:ip4 index:1 buckets:1")
    cli.ip_table(engine, "del 10")
    with pytest.raises(OperatorError):
        cli.ip_table(engine, "del 0")
