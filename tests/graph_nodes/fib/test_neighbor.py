# SPDX-License-Identifier: Apache-2.0
"""Neighbors: who is believed, what they bring into the FIB, and how they are forgotten."""

from ipaddress import IPv4Address
from typing import Any

import pytest

from pyvpp.errors import OperatorError
from pyvpp_nodes.fib.adjacency import ADMIN_UP, LINK_UP
from pyvpp_nodes.fib.entry import Source, attached_nexthop
from pyvpp_nodes.fib.neighbor import AGE, PROBES, PROBES_AT_ONCE

MAC, OTHER = bytes.fromhex("0200000000aa"), bytes.fromhex("0200000000bb")


def ip(text: str) -> int:
    return int(IPv4Address(text))


HOST = ip("10.0.0.2")


@pytest.fixture
def connected(bench: Any) -> Any:
    bench.fib.add_address(bench.ETH0, ip("10.0.0.1"), 24)
    return bench


def test_an_on_link_neighbor_gets_a_host_route(connected: Any) -> None:
    used = connected.in_use()
    assert connected.buckets("10.0.0.2")[0][0] == "ip4-glean"
    assert connected.neighbors.learn(connected.ETH0, HOST, MAC)
    assert connected.buckets("10.0.0.2") == [("ip4-rewrite", "10.0.0.2 eth0")]
    assert connected.fib.find("10.0.0.2/32").best == Source.ADJ
    connected.neighbors.remove(connected.ETH0, HOST)
    assert connected.in_use() == used
    assert not connected.neighbors.remove(connected.ETH0, HOST)


def test_no_host_route_off_link_nor_when_asked_not_to(connected: Any) -> None:
    connected.neighbors.learn(connected.ETH0, ip("11.0.0.2"), MAC)
    connected.neighbors.add(connected.ETH0, HOST, MAC, no_fib=True)
    assert connected.fib.find("11.0.0.2/32") is connected.fib.find("10.0.0.2/32") is None
    connected.fib.add_address(connected.ETH0, ip("11.0.0.1"), 24)
    assert connected.fib.find("11.0.0.2/32") is not None
    connected.fib.remove_address(connected.ETH0, ip("11.0.0.1"), 24)
    assert connected.fib.find("11.0.0.2/32") is None


def test_dynamic_never_overwrites_static(connected: Any) -> None:
    connected.neighbors.add(connected.ETH0, HOST, MAC, static=True)
    assert not connected.neighbors.learn(connected.ETH0, HOST, OTHER)
    assert connected.neighbors.get(connected.ETH0, HOST).mac == MAC
    connected.neighbors.add(connected.ETH0, HOST, OTHER)
    assert connected.neighbors.learn(connected.ETH0, HOST, MAC)


def test_a_learned_mac_completes_what_waits_and_its_loss_undoes_it(bench: Any) -> None:
    one, two = attached_nexthop(HOST, bench.ETH0), attached_nexthop(HOST + 1, bench.ETH0)
    bench.fib.update("20.0.0.0/8", (one,))
    bench.fib.update("30.0.0.0/8", (one, two))
    bench.neighbors.learn(bench.ETH0, HOST, MAC)
    assert bench.buckets("20.0.0.1") == [("ip4-rewrite", "10.0.0.2 eth0")]
    assert bench.buckets("30.0.0.1") == [("ip4-rewrite", "10.0.0.2 eth0"), ("ip4-arp", "10.0.0.3 eth0")]
    bench.neighbors.remove(bench.ETH0, HOST)
    assert bench.buckets("20.0.0.1") == [("ip4-arp", "10.0.0.2 eth0")]
    assert bench.buckets("30.0.0.1") == [("ip4-arp", "10.0.0.2 eth0"), ("ip4-arp", "10.0.0.3 eth0")]


def test_ageing_probes_three_times_then_forgets(connected: Any) -> None:
    table, probes = connected.neighbors, []

    def probe(sw_if_index: int, address: int) -> bool:
        probes.append(connected.now)
        return True

    table.age, table.probe = 60, probe
    table.learn(connected.ETH0, HOST, MAC)
    table.add(connected.ETH0, HOST + 1, MAC, static=True)
    for second in range(1, 70):
        connected.now = float(second)
        table.tick()
    assert probes == [60.0, 61.0, 62.0]
    assert table.get(connected.ETH0, HOST) is None
    assert table.get(connected.ETH0, HOST + 1) is not None


def test_an_answered_probe_keeps_the_neighbor(connected: Any) -> None:
    table = connected.neighbors
    table.age = 60
    table.probe = lambda sw_if_index, address: table.learn(sw_if_index, address, MAC)
    table.learn(connected.ETH0, HOST, MAC)
    for second in range(1, 400):
        connected.now = float(second)
        table.tick()
    assert table.get(connected.ETH0, HOST).updated >= 340


def test_a_neighbor_that_came_back_with_another_mac_is_found_when_its_age_is_reached(connected: Any) -> None:
    """It says nothing of its own accord, but it answers. Packets leave for where it was until then."""
    table, asked = connected.neighbors, []

    def answered(sw_if_index: int, address: int) -> bool:
        asked.append(connected.now)
        return table.learn(sw_if_index, address, OTHER)

    table.age, table.probe = AGE, answered
    table.learn(connected.ETH0, HOST, MAC)
    for second in range(1, AGE + 1):
        assert (table.get(connected.ETH0, HOST).mac, connected.buckets("10.0.0.2")[0][0]) == (MAC, "ip4-rewrite")
        connected.now = float(second)
        table.tick()
    assert (table.get(connected.ETH0, HOST).mac, asked) == (OTHER, [float(AGE)])
    adjacency = int(connected.tables["load_balances"].array[connected.lb("10.0.0.2")]["adj"])
    assert OTHER in connected.tables["adjacencies"].array[adjacency].tobytes()


def test_nobody_is_forgotten_who_could_not_be_asked(connected: Any) -> None:
    table = connected.neighbors
    table.age = 60
    table.learn(connected.ETH0, HOST, MAC)
    for second in range(1, 200):
        connected.now = float(second)
        table.tick()
    assert table.get(connected.ETH0, HOST) is not None


def test_a_crowd_is_asked_a_few_at_a_time(bench: Any) -> None:
    bench.fib.add_address(bench.ETH0, ip("10.1.0.1"), 16)
    table, asked = bench.neighbors, []

    def probe(sw_if_index: int, address: int) -> bool:
        asked.append((bench.now, address))
        return True

    table.age, table.probe = 60, probe
    crowd = 5 * PROBES_AT_ONCE
    for i in range(crowd):
        table.learn(bench.ETH0, ip("10.1.1.0") + i, MAC)
    for second in range(1, 60 + 5 * PROBES + 5):
        bench.now = float(second)
        table.tick()
    at = [when for when, _ in asked]
    assert max(at.count(when) for when in at) == PROBES_AT_ONCE
    assert len(asked) == crowd * PROBES and len(table) == 0


def test_the_limit_holds_or_the_oldest_makes_room(connected: Any) -> None:
    table = connected.neighbors
    table.limit = 2
    assert [table.learn(connected.ETH0, HOST + i, MAC) for i in range(3)] == [True, True, False]
    with pytest.raises(OperatorError, match="full"):
        table.add(connected.ETH0, HOST + 9, MAC)
    table.recycle = True
    table.learn(connected.ETH0, HOST, MAC)
    assert table.learn(connected.ETH0, HOST + 3, MAC)
    assert [each.address for each in table] == [HOST, HOST + 3]


def test_flush_spares_static(connected: Any) -> None:
    connected.neighbors.learn(connected.ETH0, HOST, MAC)
    connected.neighbors.add(connected.ETH0, HOST + 1, MAC, static=True)
    connected.neighbors.flush(connected.ETH0)
    assert [each.address for each in connected.neighbors] == [HOST + 1]
    connected.fib.link_state(connected.ETH0, 0)
    assert connected.fib.find("10.0.0.3/32") is None
    connected.fib.link_state(connected.ETH0, ADMIN_UP | LINK_UP)
    assert connected.buckets("10.0.0.3") == [("ip4-rewrite", "10.0.0.3 eth0")]


@pytest.mark.slow
def test_ten_thousand_neighbors_come_and_go(bench: Any) -> None:
    bench.fib.add_address(bench.ETH0, ip("10.1.0.1"), 16)
    used = bench.in_use()
    for i in range(10_000):
        bench.neighbors.learn(bench.ETH0, ip("10.1.1.0") + i, MAC)
    for i in range(10_000):
        bench.neighbors.remove(bench.ETH0, ip("10.1.1.0") + i)
    assert bench.in_use() == used
