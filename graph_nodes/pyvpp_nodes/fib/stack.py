# SPDX-License-Identifier: Apache-2.0
"""The FIB of an engine: made once, it follows the engine's interfaces by their events.

What an interface is (flags, MAC, MTU, output node) is read from the engine's table `interfaces`, as its nodes do.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pyvpp_nodes.fib.adjacency import Adjacencies, Link
from pyvpp_nodes.fib.fib import Fib4, Fib6
from pyvpp_nodes.fib.neighbor import AGE, NeighborTable

NEIGHBORS = "neighbors"
Learned = tuple[str, int, str, str]  # interface, 4 or 6, address as a decimal number, MAC address in hex digits


@dataclass(frozen=True, slots=True)
class FibStack:
    """What commands and other packages reach as `engine.stack.fib4` and so on."""

    fib4: Fib4
    fib6: Fib6
    neighbors: NeighborTable  # IPv4's
    neighbors6: NeighborTable
    adjacencies: Adjacencies

    def tick(self) -> None:
        """Once a second."""
        self.neighbors.tick()
        self.neighbors6.tick()

    def flush(self, sw_if_index: int, *, static_too: bool = False) -> None:
        """Forget the neighbors of an interface."""
        self.neighbors.flush(sw_if_index, static_too=static_too)
        self.neighbors6.flush(sw_if_index, static_too=static_too)


def create(
    engine: Any,
    node_index: Callable[[str], int] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> FibStack:
    """Make the FIB and subscribe it to the engine's interfaces, those that are there and those to come."""
    find = node_index or engine.graph.index_of
    fib = Fib4(engine.tables, find, clock, barrier=engine.barrier, synchronize=engine.synchronize)
    fib6 = Fib6(fib)
    stack = FibStack(fib, fib6, NeighborTable(fib, clock, age=AGE), NeighborTable(fib6, clock), fib.adjacencies)
    follower = _Interfaces(engine, stack)
    for event, handler in follower.handlers().items():
        engine.events.on(event, handler)
    for interface in engine.interfaces:
        follower.created(interface)
    engine.events.on("hand-over", lambda extras: extras.update({NEIGHBORS: learned_neighbors(engine, stack)}))
    engine.events.on("take-on", lambda extras: learn_neighbors(engine, stack, extras.get(NEIGHBORS, [])))
    return stack


def learned_neighbors(engine: Any, stack: FibStack) -> list[Learned]:
    """What was heard of neighbors, for a process that takes this one's place; the oldest first, as it was learned."""
    return [
        (engine.interfaces[each.sw_if_index].name, version, str(each.address), each.mac.hex())
        for version, table in ((4, stack.neighbors), (6, stack.neighbors6))
        for each in sorted(table, key=lambda each: each.updated)
        if not each.static and engine.interfaces.get(each.sw_if_index) is not None
    ]


def learn_neighbors(engine: Any, stack: FibStack, learned: list[Learned]) -> None:
    """The same, in that process. Nobody has to be asked, which would cost the packet that asks."""
    for name, version, address, mac in learned:
        interface = engine.interfaces.by_name(name)
        if interface is not None:
            table = stack.neighbors if version == 4 else stack.neighbors6
            table.learn(interface.sw_if_index, int(address), bytes.fromhex(mac))


class _Interfaces:
    def __init__(self, engine: Any, stack: FibStack) -> None:
        self.engine = engine
        self.stack = stack

    def handlers(self) -> dict[str, Callable[..., None]]:
        return {
            "interface-created": self.created,
            "interface-deleted": self.deleted,
            "interface-state": self.state,
            "interface-mac": self.changed,
            "interface-mtu": self.changed,
        }

    def row(self, interface: Any) -> Any:
        return self.engine.tables["interfaces"].array[interface.sw_if_index]

    def created(self, interface: Any, *_: Any) -> None:
        row = self.row(interface)
        link = Link(
            interface.sw_if_index,
            interface.name,
            _mac(row),
            int(row["mtu"]),
            int(row["flags"]),
            int(row["output_next"]),
        )
        self.stack.fib4.link_added(link)

    def deleted(self, interface: Any, *_: Any) -> None:
        if interface.sw_if_index in self.stack.fib4.links:
            self.stack.flush(interface.sw_if_index, static_too=True)
            self.stack.fib4.link_removed(interface.sw_if_index)

    def state(self, interface: Any, *_: Any) -> None:
        row = self.row(interface)
        flags = int(row["flags"])
        link = self.stack.fib4.links[interface.sw_if_index]
        if link.output_next != int(row["output_next"]):
            self.changed(interface)
        came_down = link.admin_up and not Link(0, "", flags=flags).admin_up
        if came_down:
            self.stack.flush(interface.sw_if_index)
        self.stack.fib4.link_state(interface.sw_if_index, flags)

    def changed(self, interface: Any, *_: Any) -> None:
        row = self.row(interface)
        what = {"mac": _mac(row), "mtu": int(row["mtu"]), "output_next": int(row["output_next"])}
        self.stack.fib4.link_changed(interface.sw_if_index, **what)


def _mac(row: Any) -> bytes:
    value = int(row["mac"])
    return value.to_bytes(6) if value else b""
