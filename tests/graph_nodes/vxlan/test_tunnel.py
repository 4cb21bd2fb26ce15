# SPDX-License-Identifier: Apache-2.0
"""VXLAN tunnels as control code and operators make them."""

from ipaddress import IPv4Address

import pytest

from pyvpp.cli.registry import CommandError
from pyvpp.errors import OperatorError
from pyvpp.interface import ADMIN_UP, P2P
from pyvpp.node import TO_NODE
from pyvpp_nodes.ipip.tunnel_table import NO_TUNNEL, find_tunnel
from pyvpp_nodes.vxlan.cli import create_vxlan_tunnel, show_vxlan_tunnel, tunnels_of
from pyvpp_nodes.vxlan.tables import IN_USE, L3
from pyvpp_nodes.vxlan.tunnel import VxlanTunnels
from tests.graph_nodes.ipip.control import Control

A, B, C = (IPv4Address(f"10.1.2.{k}") for k in (1, 2, 3))


@pytest.fixture
def control() -> Control:
    return Control()


def node(control: Control, value: int) -> str:
    assert value & TO_NODE
    return control.graph.names[value & ~TO_NODE]


def row(control: Control, tunnel):
    return control.tables["vxlan_tunnels"].array[tunnel.sw_if_index]


def test_an_ethernet_tunnel(control):
    tunnel = VxlanTunnels(control).create(A, B, 100)
    interface = tunnel.interface
    assert (interface.name, interface.flags & (P2P | ADMIN_UP), interface.mtu) == ("vxlan_tunnel0", ADMIN_UP, 1450)
    assert interface.mac[:2] == b"\x02\xfe"
    output = control.graph.names[interface.output]
    assert (output, control.graph.nexts[output]) == ("vxlan_tunnel0-output", {"{interface}-tx": "vxlan4-encap"})
    assert node(control, int(control.tables["interfaces"].array["output_next"][tunnel.sw_if_index])) == output
    assert node(control, control.stack.fib4.links[tunnel.sw_if_index].output_next) == output
    record = row(control, tunnel)
    assert (int(record.source), int(record.destination), int(record.vni), int(record.destination_port)) == (
        int(A),
        int(B),
        100,
        4789,
    )
    assert (int(record.flags), node(control, int(record.decap_next))) == (IN_USE, "ethernet-input")
    assert find_tunnel(control.tables["vxlan_keys"].array, int(A), int(B), 100 << 8, 4789) == tunnel.sw_if_index
    assert node(control, int(control.tables["udp_ports"].array[4789])) == "vxlan4-input"


def test_a_bare_ip_tunnel(control):
    tunnel = VxlanTunnels(control).create(A, B, 4096, l3=True, destination_port=8472, source_port=4790)
    assert (tunnel.interface.flags & P2P, tunnel.interface.mac) == (P2P, bytes(6))
    record = row(control, tunnel)
    assert (int(record.flags), node(control, int(record.decap_next)), int(record.destination_port)) == (
        IN_USE | L3,
        "ip4-input",
        8472,
    )
    assert node(control, int(control.tables["udp_ports"].array[4790])) == "vxlan4-input"
    assert control.tables["udp_ports"].array[4789] == 0


def test_it_follows_the_underlay(control):
    tunnel = VxlanTunnels(control).create(A, IPv4Address("192.0.2.9"), 5)

    def leads_to() -> str:
        balance = control.tables["load_balances"].array[int(row(control, tunnel).load_balance)]
        return node(control, int(balance.next))

    assert leads_to() == "ip4-drop"
    control.route("192.0.2.0/24", "10.1.2.7", control.eth0)
    assert leads_to() == "ip4-arp"
    control.resolve(control.eth0, "10.1.2.7")
    assert leads_to() == "ip4-rewrite"
    control.route("192.0.2.9/32", "10.1.2.8", control.eth0)
    assert leads_to() == "ip4-arp"
    control.unroute("192.0.2.9/32")
    assert leads_to() == "ip4-rewrite"
    control.unroute("192.0.2.0/24")
    assert leads_to() == "ip4-drop"


def test_the_mtu_follows_the_underlay(control):
    tunnel = VxlanTunnels(control).create(A, IPv4Address("192.0.2.9"), 5)
    jumbo = control.ethernet("eth1", "10.1.3.1", mtu=9000)
    control.route("192.0.2.0/24", "10.1.3.2", jumbo)
    assert tunnel.interface.mtu == 8950
    control.interfaces.set_mtu(jumbo, 1600)
    assert tunnel.interface.mtu == 1550


def test_a_route_to_the_other_end_through_the_tunnel_drops(control):
    tunnel = VxlanTunnels(control).create(A, IPv4Address("192.0.2.9"), 5, l3=True)
    control.route("192.0.2.0/24", "0.0.0.0", tunnel.interface)
    assert row(control, tunnel).load_balance == 0


def test_the_port_is_given_back_with_the_last_tunnel(control):
    ports = control.tables["udp_ports"].array
    ports[4789] = TO_NODE | 3
    tunnels = VxlanTunnels(control)
    first, second = tunnels.create(A, B, 1), tunnels.create(A, C, 1)
    tunnels.delete(first.sw_if_index)
    assert node(control, int(ports[4789])) == "vxlan4-input"
    tunnels.delete(second.sw_if_index)
    assert ports[4789] == TO_NODE | 3


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((A, A, 5), {}, "src and dst addresses are identical"),
        ((A, B, 100), {}, "tunnel already exists..."),
        ((A, B, 0), {}, "vni 0 out of range"),
        ((A, B, 1 << 24), {}, "vni 16777216 out of range"),
        ((A, C, 5), {"instance": 0}, "Instance is in use"),
        ((A, C, 5), {"decap_next": "no-such-node"}, "next node not found"),
        ((A, C, 5), {"table_id": 9}, "encap-vrf-id 9 doesn't exist"),
        ((A, IPv4Address("239.1.1.1"), 5), {}, "must be unicast"),
    ],
)
def test_bad_input_changes_nothing(control, arguments, options, message):
    tunnels = VxlanTunnels(control)
    tunnels.create(A, B, 100)
    before = control.state()
    with pytest.raises(OperatorError) as error:
        tunnels.create(*arguments, **options)
    assert message in str(error.value)
    assert control.state() == before


def test_tunnels_that_differ_in_one_thing(control):
    tunnels = VxlanTunnels(control)
    made = [
        tunnels.create(A, B, 1),
        tunnels.create(A, C, 1),
        tunnels.create(A, B, 2),
        tunnels.create(A, B, 1, source_port=4790),
    ]
    keys = control.tables["vxlan_keys"].array
    assert [find_tunnel(keys, *each.key) for each in made] == [each.sw_if_index for each in made]
    tunnels.delete(made[0].sw_if_index)
    assert find_tunnel(keys, *made[0].key) == NO_TUNNEL
    assert [find_tunnel(keys, *each.key) for each in made[1:]] == [each.sw_if_index for each in made[1:]]


def test_many_cycles_leave_nothing(control):
    tunnels = VxlanTunnels(control)
    tunnels.delete(tunnels.create(A, B, 1).sw_if_index)
    before = control.state()
    for k in range(10_000):
        tunnel = tunnels.create(A, IPv4Address(int(A) + 1 + k % 7), 1 + k % 100, l3=bool(k % 2))
        if k % 50 == 0:
            control.route("10.9.0.0/16", "10.9.0.1", tunnel.interface)
        tunnels.delete(tunnel.sw_if_index)
    assert control.state() == before


# -- commands


def test_commands_in_vpps_words(control):
    assert show_vxlan_tunnel(control).text == "No vxlan tunnels configured..."
    assert create_vxlan_tunnel(control, "src 10.1.2.1 dst 10.1.2.2 vni 100") == "vxlan_tunnel0"
    assert create_vxlan_tunnel(control, "src 10.1.2.1 dst 10.1.2.2 vni 101 instance 5 l3") == "vxlan_tunnel5"
    first, second = show_vxlan_tunnel(control).text.split("\n")
    assert first.startswith(
        "[0] instance 0 src 10.1.2.1 dst 10.1.2.2 src_port 4789 dst_port 4789 vni 100 fib-idx 0 sw-if-idx 2 encap-dpo-idx "
    )
    assert second.startswith(
        "[1] instance 5 src 10.1.2.1 dst 10.1.2.2 src_port 4789 dst_port 4789 vni 101 fib-idx 0 sw-if-idx 3 "
    )
    assert f"decap-next-index {control.graph.index_of('ip4-input')} " in second
    raw = show_vxlan_tunnel(control, "raw").text
    assert "    2 active elements" in raw
    assert f"{int(A) << 32 | int(B):016x}" in raw
    assert create_vxlan_tunnel(control, "src 10.1.2.1 dst 10.1.2.2 vni 100 del") is None
    assert len(tunnels_of(control)) == 1
    assert (
        create_vxlan_tunnel(control, "src 10.1.2.1 dst 10.1.2.9 vni 3 decap-next node l2-xconnect") == "vxlan_tunnel0"
    )
    assert tunnels_of(control).find(A, IPv4Address("10.1.2.9"), 3).decap_next == "l2-xconnect"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("src 10.1.2.1 dst 10.1.2.1 vni 5", "src and dst addresses are identical"),
        ("src 10.1.2.1 dst 10.1.2.2", "vni not specified"),
        ("src 10.1.2.1 dst 10.1.2.2 vni 99999999", "vni 99999999 out of range"),
        ("src 10.1.2.1 dst 10.1.2.2 vni 4 del", "tunnel does not exist..."),
        ("dst 10.1.2.2 vni 4", "tunnel src address not specified"),
        ("src 10.1.2.2 vni 4", "tunnel dst address not specified"),
        ("src 10.1.2.1 dst 10.1.2.2 vni 4 decap-next sideways", "sideways"),
        ("src 10.1.2.1 dst 10.1.2.2 vni 4 sideways", "sideways"),
    ],
)
def test_bad_words(control, words, message):
    with pytest.raises(CommandError) as error:
        create_vxlan_tunnel(control, words)
    assert message in str(error.value)
