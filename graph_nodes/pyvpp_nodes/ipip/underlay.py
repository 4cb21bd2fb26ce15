# SPDX-License-Identifier: Apache-2.0
"""A tunnel's MTU: that of the way to its other end, less its headers, for as long as nobody sets another.

VPP gives tunnels 9000 bytes whatever lies below, and packets that fit the tunnel but not the wire are fragmented or
lost. Here the MTU follows routes and interfaces of the underlay. Setting it by hand ends that.
"""

from typing import Any

from pyvpp.interface import Interface
from pyvpp_nodes.fib.adjacency import DROP
from pyvpp_nodes.fib.entry import Follower
from pyvpp_nodes.fib.tables import Kind

WITHOUT_ROUTE = 1500
SMALLEST, LARGEST = 64, 65535


class UnderlayMtu:
    """Keeps the MTUs of all tunnels of one kind; `overhead` bytes go in front of each packet."""

    def __init__(self, engine: Any, overhead: int) -> None:
        self._engine = engine
        self._overhead = overhead
        self._tunnels: dict[Interface, Follower] = {}
        self._setting = False
        engine.events.on("interface-mtu", self._mtu_changed)

    def __len__(self) -> int:
        return len(self._tunnels)

    def follow(self, interface: Interface, destination: int, fib_index: int) -> None:
        self._tunnels[interface] = self._engine.stack.fib4.track(
            destination, lambda follower: self._apply(interface, follower), fib_index
        )

    def forget(self, interface: Interface) -> None:
        follower = self._tunnels.pop(interface, None)
        if follower is not None:
            self._engine.stack.fib4.untrack(follower)

    def _below(self, interface: Interface, follower: Follower) -> int:
        """The least MTU on the way to the other end, not counting a way that leads back into the tunnel."""
        adjacencies = self._engine.stack.fib4.adjacencies
        ways = [adjacencies[index] for _, index in follower.shares if index != DROP]
        out = (Kind.ARP, Kind.GLEAN, Kind.REWRITE, Kind.MIDCHAIN)
        mtus = [way.mtu for way in ways if way.kind in out and way.sw_if_index != interface.sw_if_index]
        return min(mtus, default=WITHOUT_ROUTE)

    def _apply(self, interface: Interface, follower: Follower) -> None:
        mtu = min(max(self._below(interface, follower) - self._overhead, SMALLEST), LARGEST)
        if mtu == interface.mtu:
            return
        self._setting = True
        try:
            self._engine.interfaces.set_mtu(interface, mtu)
        finally:
            self._setting = False

    def _mtu_changed(self, changed: Interface) -> None:
        if changed in self._tunnels and not self._setting:
            self.forget(changed)
            return
        for interface, follower in list(self._tunnels.items()):
            if interface is not changed:
                self._apply(interface, follower)
