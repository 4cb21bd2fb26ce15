# SPDX-License-Identifier: Apache-2.0
"""Puts the stack on an engine: FIB, neighbors, local protocols; follows uplinks and pods that come and go."""

import logging
import socket
import struct
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Any

from pyvpp.interface import UPLINK, Interface
from pyvpp.node import TO_NODE
from pyvpp_nodes.ethernet.sub_interface import SubInterfaces
from pyvpp_nodes.ethernet.tables import follow_interfaces
from pyvpp_nodes.fib.entry import Source, attached, attached_nexthop
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
    for address in state.addresses:
        if isinstance(address.interface, IPv4Interface):
            add = address.interface
            fib.add_address(interface.sw_if_index, int(add.ip), add.network.prefixlen)
    for route in state.routes:
        try:
            add_route(fib, interface, route)
        except (ValueError, RuntimeError) as error:
            log.warning("route %s over %s is not known to pyvpp: %s", route.destination, interface.name, error)


def add_route(fib: Any, uplink: Interface, route: Any) -> None:
    """A route of Linux with a gateway, so that tunnels find their way; others are the host's own affair."""
    if route.table != MAIN_TABLE or ":" in route.destination or not route.gateway or ":" in route.gateway:
        return
    network = IPv4Network("0.0.0.0/0" if route.destination == "default" else route.destination)
    fib.add_path(network, attached_nexthop(int(IPv4Address(route.gateway)), uplink.sw_if_index), source=Source.API)


def add_pod(engine: Any, interface: Interface, address: IPv4Address) -> None:
    """The route to a pod. It goes with its interface, as every path does, unless it is another pod's by then."""
    engine.stack.fib4.update(IPv4Network(f"{address}/32"), [attached(interface.sw_if_index)], source=Source.API)
