# SPDX-License-Identifier: Apache-2.0
"""Every scenario of the stack delivers what its model says, and the models agree with scapy."""

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Raw

import pyvpp_nodes
from pyvpp.bench.errors import AbsentError
from pyvpp.bench.path import path_of
from pyvpp.bench.scenario import Scenario, declared_in, scenarios_among
from pyvpp.bench.stand import stand_for
from pyvpp_nodes.bench import model
from pyvpp_nodes.bench.ip4 import NEXT_HOPS, Internet, internet
from tests.pyvpp.bench.stands import DECLARED, SCENARIOS, tried

HEAVY = {"ip4-1m"}
DECLARED_BY_STACK = declared_in([pyvpp_nodes])
PASSES = {
    "ip4": {"ip4-lookup", "ip4-rewrite"},
    "ip4-10k": {"ip4-lookup", "ip4-rewrite"},
    "ip4-vlan": {"ip4-lookup", "ip4-rewrite", "pg1.200-output"},
    "ip6": {"ip6-lookup", "ip6-rewrite"},
    "ipip-encap": {"ip4-midchain"},
    "ipip-decap": {"ip4-local", "ipip4-input"},
    "l2-xconnect": {"l2-xconnect"},
    "vxlan-encap": {"l2-xconnect", "vxlan4-encap"},
    "vxlan-encap-l3": {"ip4-lookup", "vxlan4-encap"},
    "vxlan-decap": {"vxlan4-input", "l2-xconnect"},
    "vxlan-decap-l3": {"vxlan4-input", "ip4-lookup"},
}


def test_every_scenario_is_tried_here():
    assert set(PASSES) | HEAVY == set(scenarios_among(DECLARED_BY_STACK))


@pytest.mark.slow
@pytest.mark.parametrize("name", PASSES)
def test_a_scenario_is_verified_and_takes_its_path(name: str):
    scenario = SCENARIOS[name]
    try:
        with stand_for(scenario) as stand:
            tried(stand, scenario)
            stand.enable(True)
            stand.engine.fusion = False
            names = {node.removesuffix("-input") for node in path_of(stand)} | set(path_of(stand))
            assert names >= PASSES[name]
    except AbsentError as absent:
        pytest.skip(str(absent))


@pytest.mark.slow
@pytest.mark.parametrize("size", [64, 100, 1500])
@pytest.mark.parametrize("name", ["ip4", "ipip-encap", "vxlan-encap", "vxlan-encap-l3"])
def test_packets_of_other_sizes(name: str, size: int):
    scenario = SCENARIOS[name]
    with stand_for(scenario) as stand:
        assert {len(packet) for packet in scenario.packets(stand.engine, size, count=20)} == {size}
        tried(stand, scenario)


@pytest.mark.slow
def test_routes_like_the_internets_lead_to_different_next_hops():
    scenario = internet(2000)
    with stand_for(scenario) as stand:
        tried(stand, scenario, count=4000)
        expected = {scenario.expect(stand.engine, packet)[:6] for packet in scenario.packets(stand.engine, count=1000)}
    assert len(expected) > NEXT_HOPS // 2


def test_destinations_lie_inside_routes_and_the_longest_wins():
    table = Internet(3000)
    routes = [((prefix, length), hop) for prefix, length, hop in table.routes]
    assert len(table.routes) == 3000
    for address in map(int, table.destinations[:300]):
        matching = [
            (length, hop) for (prefix, length), hop in routes if address >> (32 - length) == prefix >> (32 - length)
        ]
        assert table.next_hop(address) == max(matching)[1]
        assert address >> 24 != 10
    with pytest.raises(LookupError, match=r"no route to 240\.0\.0\.1"):
        table.next_hop(0xF0000001)


# What brings each of these nodes its packets.
EXCEPTIONS = {
    "ttl-expired": "ip4-icmp-error", "no-route": "ip4-drop", "null-route": "ip4-null", "unresolved-on-link": "ip4-glean",
    "unresolved-next-hop": "ip4-arp", "to-us": "ip4-udp-lookup", "options": "ip4-options",
    "echo-requests": "ip4-icmp-echo-request", "arp-requests": "arp-reply", "fragments": "ip4-frag",
    "tunnel-ecmp": "ip4-load-balance", "loopback": "loopback-tx",
    "hop-limit-expired": "ip6-icmp-error", "no-route-6": "ip6-drop", "null-route-6": "ip6-null",
    "unresolved-on-link-6": "ip6-glean", "unresolved-next-hop-6": "ip6-discover-neighbor",
}  # fmt: skip


def test_all_other_traffic_is_tried_here():
    others = {name for name, each in DECLARED_BY_STACK.items() if not isinstance(each, Scenario)}
    assert set(EXCEPTIONS) == others


@pytest.mark.slow
@pytest.mark.parametrize("name", EXCEPTIONS)
def test_traffic_off_the_straight_path_reaches_its_node(name: str):
    traffic = DECLARED[name]
    with stand_for(traffic) as stand:
        stand.generate(traffic.packets(stand.engine, count=32), 32)
        stand.engine.run(2)
        rows = stand.engine.workers[0].rows
        found = {node.node.name: int(rows["vectors"][node.index]) for node in stand.engine.graph}
        assert found[EXCEPTIONS[name]] >= 32


# ---- the models -----------------------------------------------------------------------------------------------------
ADDRESSES4 = st.integers(0, 2**32 - 1).map(IPv4Address)
ADDRESSES6 = st.integers(0, 2**128 - 1).map(IPv6Address)
PORTS = st.integers(0, 0xFFFF)
PAYLOADS = st.binary(min_size=1, max_size=64)


@given(ADDRESSES4, ADDRESSES4, PORTS, PORTS, PAYLOADS, st.integers(2, 255))
def test_ip4_and_udp_agree_with_scapy(source, destination, sport, dport, payload, ttl):
    made = model.ip4(source, destination, model.UDP, model.udp(sport, dport, payload), ttl)
    theirs = (
        IP(src=str(source), dst=str(destination), id=0, ttl=ttl)
        / UDP(sport=sport, dport=dport, chksum=0)
        / Raw(payload)
    )
    assert made == bytes(theirs)
    theirs.ttl -= 1
    assert model.ip4_forwarded(made) == bytes(theirs)


@given(ADDRESSES6, ADDRESSES6, PAYLOADS, st.integers(2, 255))
def test_ip6_agrees_with_scapy(source, destination, payload, hops):
    made = model.ip6(source, destination, model.UDP, model.udp6(source, destination, (1, 2), payload), hops)
    theirs = IPv6(src=str(source), dst=str(destination), hlim=hops) / UDP(sport=1, dport=2) / Raw(payload)
    assert made == bytes(theirs)
    theirs.hlim -= 1
    assert model.ip6_forwarded(made) == bytes(theirs)


@given(st.integers(0, 2**24 - 1), PAYLOADS)
def test_vxlan_and_ethernet_agree_with_scapy(vni, payload):
    inner = model.ethernet(b"\2" * 6, b"\4" * 6, payload, 0x1234)
    theirs = Ether(dst="02:02:02:02:02:02", src="04:04:04:04:04:04", type=0x1234) / Raw(payload)
    assert inner == bytes(theirs)
    assert model.vxlan(vni, inner) == bytes(VXLAN(flags=8, vni=vni) / theirs)
