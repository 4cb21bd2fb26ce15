# SPDX-License-Identifier: Apache-2.0
"""VXLAN tunnels as control code makes them.

An Ethernet tunnel's interface has a MAC address and neighbors, as a Linux vxlan device has, or is cross-connected; an
`l3` tunnel's is point-to-point and carries bare IP. The interface is up from the start, its MTU that of the underlay
less 50 bytes (see underlay.py in ipip). Where outer packets go is a load balance of the FIB, the one of the route to
the tunnel's other end.
"""

import os
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any

import numpy as np

from pyvpp.errors import OperatorError
from pyvpp.interface import P2P, Interface
from pyvpp.node import TO_NODE
from pyvpp_nodes.fib.entry import Follower
from pyvpp_nodes.ipip.tunnel import check_ends
from pyvpp_nodes.ipip.tunnel_table import TunnelKeys
from pyvpp_nodes.ipip.underlay import WITHOUT_ROUTE, UnderlayMtu
from pyvpp_nodes.vxlan.header import MAX_VNI, PORT
from pyvpp_nodes.vxlan.tables import IN_USE, L3, VXLAN_TUNNEL

MTU_OVERHEAD = 50


@dataclass(frozen=True, slots=True)
class VxlanTunnel:
    index: int
    instance: int
    source: IPv4Address
    destination: IPv4Address
    vni: int
    source_port: int
    destination_port: int
    l3: bool
    decap_next: str
    fib_index: int
    interface: Interface
    follower: Follower

    @property
    def sw_if_index(self) -> int:
        return self.interface.sw_if_index

    @property
    def key(self) -> tuple[int, int, int, int]:
        """What tells its packets: the second word of the VXLAN header holds VNI and a reserved zero."""
        return int(self.source), int(self.destination), self.vni << 8, self.source_port


class VxlanTunnels:
    """All VXLAN tunnels of an engine, by sw_if_index."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self._table = engine.tables["vxlan_tunnels"]
        self._keys = TunnelKeys(engine.tables["vxlan_keys"], engine.barrier)
        self._mtu = UnderlayMtu(engine, MTU_OVERHEAD)
        self._by_index: dict[int, VxlanTunnel] = {}
        self._listeners: dict[int, tuple[int, int]] = {}  # by port: tunnels, and the entry before them

    def __iter__(self) -> Any:
        return iter(sorted(self._by_index.values(), key=lambda tunnel: tunnel.index))

    def __len__(self) -> int:
        return len(self._by_index)

    def get(self, sw_if_index: int) -> VxlanTunnel | None:
        return self._by_index.get(sw_if_index)

    def find(
        self, source: IPv4Address, destination: IPv4Address, vni: int, source_port: int = PORT
    ) -> VxlanTunnel | None:
        key = int(source), int(destination), vni << 8, source_port
        return next((tunnel for tunnel in self if tunnel.key == key), None)

    def create(
        self,
        source: IPv4Address,
        destination: IPv4Address,
        vni: int,
        instance: int | None = None,
        source_port: int = PORT,
        destination_port: int = PORT,
        l3: bool = False,
        decap_next: str | None = None,
        table_id: int = 0,
    ) -> VxlanTunnel:
        """Makes a tunnel; `source_port` is the port it listens on. Raises OperatorError and changes nothing when it
        cannot be."""
        engine = self._engine
        check_ends(source, destination)
        if not 0 < vni <= MAX_VNI:
            raise OperatorError(f"vni {vni} out of range (expected 1 to {MAX_VNI})")
        vrf = engine.stack.fib4.table(table_id)
        if vrf is None:
            raise OperatorError(f"encap-vrf-id {table_id} doesn't exist")
        if existing := self.find(source, destination, vni, source_port):
            raise OperatorError(f"tunnel already exists... ({existing.interface.name})")
        if instance is not None and any(each.instance == instance for each in self):
            raise OperatorError(f"Instance is in use: {instance}")
        node = decap_next or ("ip4-input" if l3 else "ethernet-input")
        try:
            decap_index = int(engine.graph.index_of(node))
        except KeyError:
            raise OperatorError(f"decap-next {node}: next node not found") from None
        interface = self._interface(instance, l3)
        sw_if_index = interface.sw_if_index
        row = self._table.array[sw_if_index : sw_if_index + 1]
        row["source"], row["destination"], row["vni"] = int(source), int(destination), vni
        row["destination_port"], row["decap_next"] = destination_port, TO_NODE | decap_index
        follower = engine.stack.fib4.track(
            int(destination), lambda it: self._stack(sw_if_index, it), vrf.fib_index, sw_if_index
        )
        row["flags"] = IN_USE | (L3 if l3 else 0)
        taken = {each.index for each in self}
        tunnel = VxlanTunnel(
            next(i for i in range(len(taken) + 1) if i not in taken), int(interface.name.removeprefix("vxlan_tunnel")),
            source, destination, vni, source_port, destination_port, l3, node, vrf.fib_index, interface, follower,
        )  # fmt: skip
        self._by_index[sw_if_index] = tunnel
        self._mtu.follow(interface, int(destination), vrf.fib_index)
        self._keys.insert(*tunnel.key, sw_if_index)
        self._listen(source_port)
        engine.interfaces.set_admin(interface, True)
        return tunnel

    def delete(self, sw_if_index: int) -> None:
        """Takes the tunnel and its interface away; routes through it go with it."""
        tunnel = self._by_index.get(sw_if_index)
        if tunnel is None:
            raise OperatorError(f"sw_if_index {sw_if_index} is no VXLAN tunnel")
        self._ignore(tunnel.source_port)
        self._keys.remove(*tunnel.key)
        self._mtu.forget(tunnel.interface)
        del self._by_index[sw_if_index]
        self._engine.interfaces.delete(tunnel.interface)
        self._engine.stack.fib4.untrack(tunnel.follower)
        with self._engine.barrier():
            self._table.array[sw_if_index : sw_if_index + 1] = np.zeros(1, VXLAN_TUNNEL)

    def _interface(self, instance: int | None, l3: bool) -> Interface:
        """Down until all is in place. Its output node leads to vxlan4-encap, which all tunnels share, not to a
        driver."""
        engine = self._engine
        name = engine.interfaces.free_name("vxlan_tunnel", instance)
        mac = bytes(6) if l3 else b"\x02\xfe" + os.urandom(4)
        interface: Interface = engine.interfaces.create(
            name, "vxlan", mac=mac, mtu=WITHOUT_ROUTE - MTU_OVERHEAD, flags=P2P if l3 else 0, admin_up=False,
            output="interface-output", tx_node="vxlan4-encap",
        )  # fmt: skip
        return interface

    def _stack(self, sw_if_index: int, follower: Follower) -> None:
        self._table.array["load_balance"][sw_if_index] = follower.lb

    def _listen(self, port: int) -> None:
        ports = self._engine.tables["udp_ports"].array
        count, before = self._listeners.get(port, (0, int(ports[port])))
        self._listeners[port] = (count + 1, before)
        ports[port] = TO_NODE | self._engine.graph.index_of("vxlan4-input")

    def _ignore(self, port: int) -> None:
        count, before = self._listeners[port]
        if count > 1:
            self._listeners[port] = (count - 1, before)
        else:
            del self._listeners[port]
            self._engine.tables["udp_ports"].array[port] = before
