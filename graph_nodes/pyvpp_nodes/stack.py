# SPDX-License-Identifier: Apache-2.0
"""Puts the stack on an engine: FIB, neighbors, local protocols; follows uplinks and pods that come and go."""

import logging
import socket
import struct
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Any

from pyvpp.errors import OperatorError
from pyvpp.interface import UPLINK, Interface
from pyvpp.node import TO_NODE
from pyvpp_nodes.ethernet.sub_interface import SubInterfaces
from pyvpp_nodes.ethernet.tables import follow_interfaces
from pyvpp_nodes.fib.entry import Source, attached, attached_nexthop, received
from pyvpp_nodes.fib.stack import create
from pyvpp_nodes.gso.defaults import offload_by_default
from pyvpp_nodes.ip4.tables import PROTOCOLS

log = logging.getLogger(__name__)

ARP_REQUEST = struct.Struct("!6s6sHHHBBH6s4s6s4s")
MAIN_TABLE = 254


def start_stack(engine: Any) -> None:
    """Fills `engine.stack` and subscribes to the events that the stack acts on."""
    fib = create(engine)
    engine.stack.fib = fib
    engine.stack.fib4, engine.stack.neighbors, engine.stack.adjacencies = fib.fib4, fib.neighbors, fib.adjacencies
    engine.stack.fib6, engine.stack.neighbors6 = fib.fib6, fib.neighbors6
    fib.neighbors.probe = lambda sw_if_index, address: send_arp_request(engine, sw_if_index, address)
    engine.every_second(fib.tick)
    follow_interfaces(engine)
    engine.stack.sub_interfaces = SubInterfaces(engine)
    offload_by_default(engine)
    protocols = engine.tables["ip4_local_protocols"].array
    for protocol in (socket.IPPROTO_ICMP, socket.IPPROTO_UDP):
        protocols[protocol] = TO_NODE | engine.graph.index_of(PROTOCOLS[protocol])
    engine.events.on("uplink-added", lambda uplink, host, state: add_uplink(engine, uplink, host, state))
    engine.events.on("uplink-changed", lambda uplink, before, now: follow_uplink(engine, uplink, before, now))
    engine.events.on("pod-added", lambda interface, address: add_pod(engine, interface, address))


def send_arp_request(engine: Any, sw_if_index: int, address: int) -> bool:
    """Asks for a neighbor's MAC address from control code: a probe. False: it could not be asked now."""
    interface = engine.interfaces.get(sw_if_index)
    source = int(engine.tables["ip4_interface_address"].array[sw_if_index])
    if interface is None or not source:
        return False
    frame = ARP_REQUEST.pack(
        b"\xff" * 6, interface.mac, 0x0806, 1, 0x0800, 6, 4, 1, interface.mac, IPv4Address(source).packed, bytes(6),
        IPv4Address(address).packed,
    )  # fmt: skip
    return bool(engine.inject(frame, f"{interface.name}-output", tx=sw_if_index))


def add_uplink(engine: Any, uplink: Interface, host: Interface, state: Any) -> None:
    """An uplink's addresses and Linux's main routes over it become the FIB's; what is punted goes to its TAP."""
    engine.tables["punt_tx"].array[0] = host.sw_if_index
    learn(engine.stack.fib4, uplink, state)
    for vlan in state.vlans:
        share_vlan(engine, uplink, host, vlan)


def share_vlan(engine: Any, uplink: Interface, host: Interface, vlan: Any) -> None:
    """A VLAN of the host on an uplink: what pyvpp owns in there is taken, what leads there leaves with its tag."""
    shared = engine.stack.sub_interfaces.create(
        uplink, vlan.id, vlan.id, vlan.tpid, flags=UPLINK, mac=bytes.fromhex(vlan.state.mac.replace(":", ""))
    )
    engine.interfaces.set_peer(shared, host)
    engine.interfaces.set_mtu(shared, min(vlan.state.mtu, uplink.mtu))
    engine.interfaces.set_admin(shared, vlan.state.is_up)
    learn(engine.stack.fib4, shared, vlan.state)


def learn(fib: Any, interface: Interface, state: Any) -> None:
    """The host's addresses on an interface, and its main routes over it."""
    for address in ip4_addresses(state):
        add_host_address(fib, interface.sw_if_index, address)
    for route in state.routes:
        add_route(fib, interface, route)


def follow_uplink(engine: Any, uplink: Interface | None, before: Any, now: Any) -> None:
    """The host has changed addresses or routes of an uplink."""
    if uplink is None:
        return
    fib = engine.stack.fib4
    had, has = ip4_addresses(before), ip4_addresses(now)
    ways = {(route.destination, route.gateway) for route in now.routes if concerns_tunnels(route)}
    for route in before.routes:
        if (route.destination, route.gateway) not in ways:
            remove_route(fib, uplink, route)
    for address in [address for address in had if address not in has]:
        remove_host_address(fib, uplink.sw_if_index, address)
    for address in [address for address in has if address not in had]:
        add_host_address(fib, uplink.sw_if_index, address)
    for route in [route for route in now.routes if route not in before.routes]:
        add_route(fib, uplink, route)


def ip4_addresses(state: Any) -> list[IPv4Interface]:
    return [each.interface for each in state.addresses if each.family == socket.AF_INET]


def add_host_address(fib: Any, sw_if_index: int, address: IPv4Interface) -> None:
    """An address of the host's. One in the prefix of another, which VPP does not have, is at least known as its own."""
    try:
        fib.add_address(sw_if_index, int(address.ip), address.network.prefixlen)
    except OperatorError as error:
        log.info("%s", error)
        fib.update(IPv4Network(address.ip), [received(sw_if_index, int(address.ip))], source=Source.API)


def remove_host_address(fib: Any, sw_if_index: int, address: IPv4Interface) -> None:
    try:
        fib.remove_address(sw_if_index, int(address.ip), address.network.prefixlen)
    except OperatorError:
        fib.remove(IPv4Network(address.ip), source=Source.API)


def concerns_tunnels(route: Any) -> bool:
    """A route of Linux with a gateway, so that tunnels find their way; others are the host's own affair."""
    return bool(
        route.table == MAIN_TABLE and ":" not in route.destination and route.gateway and ":" not in route.gateway
    )


def add_route(fib: Any, uplink: Interface, route: Any) -> None:
    """One that FIB cannot have is told."""
    if concerns_tunnels(route):
        try:
            fib.add_path(IPv4Network(route.destination), _path(uplink, route), source=Source.API)
        except (ValueError, RuntimeError) as error:
            log.warning("route %s over %s is not known to pyvpp: %s", route.destination, uplink.name, error)


def remove_route(fib: Any, uplink: Interface, route: Any) -> None:
    if concerns_tunnels(route):
        fib.remove_path(IPv4Network(route.destination), _path(uplink, route), source=Source.API)


def _path(uplink: Interface, route: Any) -> Any:
    return attached_nexthop(int(IPv4Address(route.gateway)), uplink.sw_if_index)


def add_pod(engine: Any, interface: Interface, address: IPv4Address) -> None:
    """The route to a pod. It goes with its interface, as every path does, unless it is another pod's by then."""
    engine.stack.fib4.update(IPv4Network(f"{address}/32"), [attached(interface.sw_if_index)], source=Source.API)
