# SPDX-License-Identifier: Apache-2.0
"""IPIP tunnels as control code makes them: an interface, a midchain adjacency that follows the underlay, a key to
find it by.

The outer header is VPP's: TTL 64, DSCP and DF zero. The interface's MTU is that of the underlay less 20 bytes (see
underlay.py).
"""

from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any

from pyvpp.errors import OperatorError
from pyvpp.interface import P2P, Interface
from pyvpp.node import TO_NODE
from pyvpp_nodes.ip4.header import IP_IN_IP
from pyvpp_nodes.ipip.tunnel_table import TunnelKeys
from pyvpp_nodes.ipip.underlay import WITHOUT_ROUTE, UnderlayMtu

OUTER_BYTES = 20
TTL = 64


def outer_header(source: IPv4Address, destination: IPv4Address) -> bytes:
    """Length zero, checksum of that: ip4-midchain patches both for each packet."""
    header = bytes([0x45, 0, 0, 0, 0, 0, 0, 0, TTL, IP_IN_IP, 0, 0]) + source.packed + destination.packed
    total = sum(int.from_bytes(header[at : at + 2], "big") for at in range(0, OUTER_BYTES, 2)) % 0xFFFF
    return header[:10] + (0xFFFF - total).to_bytes(2, "big") + header[12:]


def check_ends(source: IPv4Address, destination: IPv4Address) -> None:
    """Raises OperatorError unless a tunnel can go between the two."""
    if source == destination:
        raise OperatorError("src and dst addresses are identical")
    for name, address in (("src", source), ("dst", destination)):
        if address.is_multicast or address.is_unspecified or int(address) == 0xFFFFFFFF:
            raise OperatorError(f"{name} address {address} must be unicast")


@dataclass(frozen=True, slots=True)
class IpipTunnel:
    index: int
    instance: int
    source: IPv4Address
    destination: IPv4Address
    table_id: int
    fib_index: int
    interface: Interface
    adjacency: int

    @property
    def sw_if_index(self) -> int:
        return self.interface.sw_if_index


class IpipTunnels:
    """All IPIP tunnels of an engine, by sw_if_index."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self._keys = TunnelKeys(engine.tables["ipip_keys"], engine.barrier)
        self._mtu = UnderlayMtu(engine, OUTER_BYTES)
        self._by_index: dict[int, IpipTunnel] = {}
        self._before = 0

    def __iter__(self) -> Any:
        return iter(sorted(self._by_index.values(), key=lambda tunnel: tunnel.index))

    def __len__(self) -> int:
        return len(self._by_index)

    def get(self, sw_if_index: int) -> IpipTunnel | None:
        return self._by_index.get(sw_if_index)

    def create(
        self, source: IPv4Address, destination: IPv4Address, instance: int | None = None, table_id: int = 0
    ) -> IpipTunnel:
        """Makes a tunnel, down until its interface is set up. Raises OperatorError and changes nothing when it cannot
        be."""
        engine = self._engine
        check_ends(source, destination)
        vrf = engine.stack.fib4.table(table_id)
        if vrf is None:
            raise OperatorError(f"outer fib ID {table_id} doesn't exist")
        for each in self:
            if (each.source, each.destination) == (source, destination):
                raise OperatorError(f"IPIP tunnel already exists... ({each.interface.name})")
            if each.instance == instance:
                raise OperatorError(f"Instance is in use: {instance}")
        taken = {each.index for each in self}
        index = next(i for i in range(len(taken) + 1) if i not in taken)
        name = engine.interfaces.free_name("ipip", instance)
        interface = engine.interfaces.create(name, "ipip", mtu=WITHOUT_ROUTE - OUTER_BYTES, flags=P2P, admin_up=False)
        adjacency = engine.stack.fib4.add_midchain(
            interface.sw_if_index, outer_header(source, destination), None, destination, vrf.fib_index
        )
        number = int(name.removeprefix("ipip"))
        tunnel = IpipTunnel(index, number, source, destination, table_id, vrf.fib_index, interface, adjacency)
        if not self._by_index:
            self._listen()
        self._by_index[tunnel.sw_if_index] = tunnel
        self._mtu.follow(interface, int(destination), vrf.fib_index)
        self._keys.insert(int(source), int(destination), 0, 0, tunnel.sw_if_index)
        return tunnel

    def delete(self, sw_if_index: int) -> None:
        """Takes the tunnel and its interface away; routes through it go with it."""
        tunnel = self._by_index.get(sw_if_index)
        if tunnel is None:
            raise OperatorError(f"sw_if_index {sw_if_index} is no IPIP tunnel")
        self._keys.remove(int(tunnel.source), int(tunnel.destination), 0, 0)
        self._mtu.forget(tunnel.interface)
        del self._by_index[sw_if_index]
        if not self._by_index:
            self._engine.tables["ip4_local_protocols"].array[IP_IN_IP] = self._before
        self._engine.interfaces.delete(tunnel.interface)

    def _listen(self) -> None:
        protocols = self._engine.tables["ip4_local_protocols"].array
        self._before = int(protocols[IP_IN_IP])
        protocols[IP_IN_IP] = TO_NODE | self._engine.graph.index_of("ipip4-input")
