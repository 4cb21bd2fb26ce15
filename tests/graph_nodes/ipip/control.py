# SPDX-License-Identifier: Apache-2.0
"""An engine's control side without its workers: real tables, interfaces and FIB over a graph that is only names."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from ipaddress import IPv4Address
from types import SimpleNamespace
from typing import Any

import pyvpp_nodes
from pyvpp.events import Events
from pyvpp.interface import TABLES, Interface, Interfaces
from pyvpp.loader import Declarations
from pyvpp.tables import Tables
from pyvpp_nodes.fib.entry import Source, attached_nexthop
from pyvpp_nodes.fib.stack import create

NODES = [
    "error-drop",
    "ip4-drop",
    "ip4-punt",
    "ip4-local",
    "ip4-arp",
    "ip4-glean",
    "ip4-rewrite",
    "ip4-midchain",
    "ip4-null",
    "ip4-load-balance",
    "ip4-input",
    "ethernet-input",
    "ipip4-input",
    "vxlan4-input",
    "vxlan4-encap",
    "l2-xconnect",
]


class NamesOnly:
    """A graph in which nothing runs."""

    def __init__(self) -> None:
        self.names = dict(enumerate(NODES))
        self.nexts: dict[str, Mapping[str, str]] = {}

    def index_of(self, name: str) -> int:
        for index, each in self.names.items():
            if each == name:
                return index
        raise KeyError(name)

    def instantiate(self, template: str, name: str, instance: int, nexts: Mapping[str, str] | None = None) -> int:
        assert name not in self.names.values()
        index = next(i for i in range(1000) if i not in self.names)
        self.names[index] = name
        self.nexts[name] = nexts or {}
        return index

    def remove(self, indices: Iterable[int]) -> None:
        for index in indices:
            self.nexts.pop(self.names.pop(index), None)


class Control:
    """Has `eth0`, 10.1.2.1/24, up."""

    def __init__(self) -> None:
        declarations = Declarations()
        declarations.add_package(pyvpp_nodes)
        declared = {table.name: table for table in (*TABLES, *declarations.tables.values())}
        self.barriers = 0
        self.tables = Tables(declared.values(), 1, self.barrier)
        self.events = Events()
        self.graph = NamesOnly()
        self.interfaces = Interfaces(self)  # type: ignore[arg-type]
        fib = create(self, self.graph.index_of, lambda: 0.0)
        self.stack = SimpleNamespace(fib4=fib.fib4, fib6=fib.fib6, neighbors=fib.neighbors, adjacencies=fib.adjacencies)
        self.eth0 = self.ethernet("eth0", "10.1.2.1")

    @contextmanager
    def barrier(self) -> Iterator[None]:
        self.barriers += 1
        yield

    def synchronize(self) -> None:
        """No worker, nothing to wait for."""

    def ethernet(self, name: str, address: str, mtu: int = 1500) -> Interface:
        mac = bytes([2, 0, 0, 0, 0, len(self.interfaces)])
        made = self.interfaces.create(name, "test", mac=mac, mtu=mtu, output="interface-output", tx="test-tx")
        self.stack.fib4.add_address(made.sw_if_index, int(IPv4Address(address)), 24)
        return made

    def route(self, prefix: str, via: str, interface: Interface) -> None:
        path = attached_nexthop(int(IPv4Address(via)), interface.sw_if_index)
        self.stack.fib4.update(prefix, (path,), Source.CLI)

    def unroute(self, prefix: str) -> None:
        self.stack.fib4.remove(prefix, Source.CLI)

    def resolve(self, interface: Interface, address: str) -> None:
        self.stack.adjacencies.set_neighbor(interface.sw_if_index, int(IPv4Address(address)), b"\x02\0\0\0\0\x99")

    def state(self) -> tuple[Any, ...]:
        """What must be the same once everything made has been deleted."""
        fib = self.stack.fib4
        return (
            sorted(self.graph.names.values()),
            [interface.name for interface in self.interfaces],
            len(fib.load_balances), fib.load_balances.pool.in_use, fib.load_balances.bucket_pool.in_use,
            len(fib.adjacencies), fib.trie.count(0), len(fib.vrf().tracks), len(fib._resolver.tunnels), len(fib._midchains),
            [len(self.tables[name].array) for name in ("ipip_keys", "vxlan_keys", "vxlan_tunnels", "interfaces")],
            [self.tables[name].array.tobytes() for name in ("ipip_keys", "vxlan_keys", "vxlan_tunnels")],
            int(self.tables["ip4_local_protocols"].array[4]), int(self.tables["udp_ports"].array[4789]),
        )  # fmt: skip
