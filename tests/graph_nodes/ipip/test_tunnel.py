# SPDX-License-Identifier: Apache-2.0
"""IPIP tunnels as control code and operators make them."""

import re
from ipaddress import IPv4Address

import pytest
from scapy.layers.inet import IP

from pyvpp.cli.registry import CommandError
from pyvpp.errors import OperatorError
from pyvpp.interface import ADMIN_UP, P2P
from pyvpp.node import TO_NODE
from pyvpp_nodes.fib.tables import Kind
from pyvpp_nodes.ipip.cli import create_ipip_tunnel, delete_ipip_tunnel, show_ipip_tunnel, tunnels_of
from pyvpp_nodes.ipip.tunnel import IpipTunnels, outer_header
from pyvpp_nodes.ipip.tunnel_table import NO_TUNNEL, find_tunnel
from tests.graph_nodes.ipip.control import Control

A, B, C = (IPv4Address(f"10.1.2.{k}") for k in (1, 2, 3))


@pytest.fixture
def control() -> Control:
    return Control()


def test_the_outer_header_is_what_scapy_builds():
    expected = bytes(IP(src=str(A), dst=str(B), id=0, ttl=64, proto=4, len=0))
    assert outer_header(A, B) == expected
    assert outer_header(A, B).hex() == "4500000000000000400462f60a0102010a010202"  # as VPP prints it


def test_what_a_tunnel_is_made_of(control):
    tunnel = IpipTunnels(control).create(A, B)
    interface = tunnel.interface
    assert (interface.name, interface.flags & (P2P | ADMIN_UP), interface.mtu) == ("ipip0", P2P, 1480)
    assert find_tunnel(control.tables["ipip_keys"].array, int(A), int(B), 0, 0) == tunnel.sw_if_index
    adjacency = control.tables["adjacencies"].array[tunnel.adjacency]
    assert (int(adjacency.kind), int(adjacency.rewrite_bytes), int(adjacency.mtu)) == (Kind.MIDCHAIN, 20, 1480)
    assert adjacency.rewrite[:20].tobytes() == outer_header(A, B)
    assert control.tables["ip4_local_protocols"].array[4] == TO_NODE | control.graph.index_of("ipip4-input")


def test_it_follows_the_underlay(control):
    tunnel = IpipTunnels(control).create(A, IPv4Address("192.0.2.9"))

    def stacked() -> str:
        record = control.tables["adjacencies"].array[tunnel.adjacency]
        return control.graph.names[int(record.stacked_next) & ~TO_NODE]

    assert stacked() == "ip4-drop"
    control.route("192.0.2.0/24", "10.1.2.7", control.eth0)
    assert stacked() == "ip4-arp"
    control.resolve(control.eth0, "10.1.2.7")
    assert stacked() == "ip4-rewrite"
    control.unroute("192.0.2.0/24")
    assert stacked() == "ip4-drop"


def test_the_mtu_follows_the_underlay_until_it_is_set(control):
    tunnel = IpipTunnels(control).create(A, IPv4Address("192.0.2.9"))
    interface = tunnel.interface
    adjacency = lambda: int(control.tables["adjacencies"].array["mtu"][tunnel.adjacency])  # noqa: E731
    assert (interface.mtu, adjacency()) == (1480, 1480)
    jumbo = control.ethernet("eth1", "10.1.3.1", mtu=9000)
    control.route("192.0.2.0/24", "10.1.3.2", jumbo)
    assert (interface.mtu, adjacency()) == (8980, 8980)
    control.interfaces.set_mtu(jumbo, 4000)
    assert (interface.mtu, adjacency()) == (3980, 3980)
    control.unroute("192.0.2.0/24")
    assert (interface.mtu, adjacency()) == (1480, 1480)
    control.interfaces.set_mtu(interface, 1300)
    control.route("192.0.2.0/24", "10.1.3.2", jumbo)
    assert (interface.mtu, adjacency()) == (1300, 1300)


def test_a_route_to_the_other_end_through_the_tunnel_drops(control):
    tunnel = IpipTunnels(control).create(A, IPv4Address("192.0.2.9"))
    control.interfaces.set_admin(tunnel.interface, True)
    control.route("192.0.2.0/24", "0.0.0.0", tunnel.interface)
    record = control.tables["adjacencies"].array[tunnel.adjacency]
    assert control.graph.names[int(record.stacked_next) & ~TO_NODE] == "ip4-drop"
    assert tunnel.interface.mtu == 1480


@pytest.mark.parametrize(
    ("source", "destination", "instance", "table", "message"),
    [
        (A, A, None, 0, "src and dst addresses are identical"),
        (A, B, None, 0, "IPIP tunnel already exists... (ipip0)"),
        (A, C, 0, 0, "Instance is in use: 0"),
        (A, C, None, 7, "outer fib ID 7 doesn't exist"),
        (A, IPv4Address("224.0.0.1"), None, 0, "dst address 224.0.0.1 must be unicast"),
        (IPv4Address(0), A, None, 0, "src address 0.0.0.0 must be unicast"),
    ],
)
def test_bad_input_changes_nothing(control, source, destination, instance, table, message):
    tunnels = IpipTunnels(control)
    tunnels.create(A, B)
    before = control.state()
    with pytest.raises(OperatorError, match=re.escape(message)):
        tunnels.create(source, destination, instance, table)
    assert control.state() == before
    assert len(tunnels) == 1


def test_deleting_one_of_two(control):
    tunnels = IpipTunnels(control)
    first, second = tunnels.create(A, B), tunnels.create(A, C)
    tunnels.delete(first.sw_if_index)
    keys = control.tables["ipip_keys"].array
    assert find_tunnel(keys, int(A), int(B), 0, 0) == NO_TUNNEL
    assert find_tunnel(keys, int(A), int(C), 0, 0) == second.sw_if_index
    assert control.tables["ip4_local_protocols"].array[4] != 0
    assert tunnels.create(A, B).interface.name == "ipip0"
    with pytest.raises(OperatorError, match="sw_if_index 99 is no IPIP tunnel"):
        tunnels.delete(99)


def test_many_cycles_leave_nothing(control):
    tunnels = IpipTunnels(control)
    tunnels.delete(tunnels.create(A, B).sw_if_index)
    before = control.state()
    for k in range(10_000):
        tunnel = tunnels.create(A, IPv4Address(int(A) + 1 + k % 7))
        if k % 50 == 0:
            control.route("10.9.0.0/16", "0.0.0.0", tunnel.interface)
            control.interfaces.set_admin(tunnel.interface, True)
        tunnels.delete(tunnel.sw_if_index)
    assert control.state() == before


def test_many_at_once(control):
    tunnels = IpipTunnels(control)
    made = [tunnels.create(A, IPv4Address(0x0A020000 + k)) for k in range(1, 301)]
    keys = control.tables["ipip_keys"].array
    assert all(find_tunnel(keys, int(A), int(each.destination), 0, 0) == each.sw_if_index for each in made)
    for each in made:
        tunnels.delete(each.sw_if_index)
    assert not control.tables["ipip_keys"].array.any()


# -- commands


def test_commands_in_vpps_words(control):
    assert show_ipip_tunnel(control).text == "No IPIP tunnels configured..."
    assert create_ipip_tunnel(control, "src 10.1.2.1 dst 10.1.2.2") == "ipip0"
    assert create_ipip_tunnel(control, "src 10.1.2.1 dst 10.1.2.3 instance 7") == "ipip7"
    shown = show_ipip_tunnel(control, "0")
    assert shown.text == "[0] instance 0 src 10.1.2.1 dst 10.1.2.2 table-ID 0 sw-if-idx 2 flags [none] dscp CS0"
    assert shown.data[0]["interface"] == "ipip0"
    assert len(show_ipip_tunnel(control).text.splitlines()) == 2
    delete_ipip_tunnel(control, "sw_if_index 2")
    delete_ipip_tunnel(control, "ipip7")
    assert len(tunnels_of(control)) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "mandatory argument(s) missing: src"),
        ("src 10.1.2.1", "mandatory argument(s) missing: dst"),
        ("src 10.1.2.300 dst 10.1.2.2", "10.1.2.300"),
        ("src 10.1.2.1 dst 10.1.2.2 sideways", "sideways"),
    ],
)
def test_bad_words(control, words, message):
    with pytest.raises(CommandError) as error:
        create_ipip_tunnel(control, words)
    assert message in str(error.value)


def test_deleting_what_is_none(control):
    with pytest.raises(OperatorError, match="sw_if_index 99 is no IPIP tunnel"):
        delete_ipip_tunnel(control, "sw_if_index 99")
    with pytest.raises(CommandError, match="eth0 is no IPIP tunnel"):
        delete_ipip_tunnel(control, "eth0")
    with pytest.raises(CommandError, match="No tunnel with index 5"):
        show_ipip_tunnel(control, "5")
