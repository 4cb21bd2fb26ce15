# SPDX-License-Identifier: Apache-2.0
"""A FIB without an engine: plain arrays for tables, a clock to turn by hand, four interfaces."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from types import SimpleNamespace
from typing import Any

import pytest

from pyvpp.configuration import Configuration
from pyvpp.events import Events
from pyvpp.tables import TableInstance
from pyvpp_nodes.fib.adjacency import ADMIN_UP, LINK_UP, P2P, UPLINK, Link
from pyvpp_nodes.fib.fib import Fib, Fib4, Fib6
from pyvpp_nodes.fib.neighbor import NeighborTable
from pyvpp_nodes.fib.tables import TABLES
from pyvpp_nodes.fib.trie.owner import Prefixes
from pyvpp_nodes.ip4.tables import IP4_INTERFACE_ADDRESS, ROUTE_COUNTERS

SUFFIXES = ("drop", "punt", "local", "glean", "rewrite", "midchain", "null", "load-balance")
NODES = {name: 10 + i for i, name in enumerate([f"ip{v}-{suffix}" for v in (4, 6) for suffix in SUFFIXES])}
NODES |= {"ip4-arp": 50, "ip6-discover-neighbor": 51}


def plain_tables(capacity: int | None = None) -> dict[str, TableInstance]:
    """The FIB's tables, small so that they must grow, for two workers."""
    declared = (*TABLES, replace(ROUTE_COUNTERS, capacity=16), replace(IP4_INTERFACE_ADDRESS, capacity=16))
    small = (
        table if capacity is None or "fib" in table.name else replace(table, capacity=capacity) for table in declared
    )
    return {table.name: TableInstance(table, 2) for table in small}


class Bench:
    """eth0 and eth1 (Ethernet), tun0 and tun1 (point to point), up0 (an uplink)."""

    ETH0, ETH1, TUN0, TUN1, UP0 = 1, 2, 3, 4, 5

    def __init__(self) -> None:
        self.now = 0.0
        self.tables = plain_tables(capacity=16)
        self.fib = Fib4(self.tables, NODES.__getitem__, lambda: self.now)
        self.fib6 = Fib6(self.fib)
        self.neighbors = NeighborTable(self.fib, lambda: self.now)
        self.neighbors6 = NeighborTable(self.fib6, lambda: self.now)
        up = ADMIN_UP | LINK_UP
        for index, name, flags in (
            (self.ETH0, "eth0", up),
            (self.ETH1, "eth1", up),
            (self.TUN0, "tun0", up | P2P),
            (self.TUN1, "tun1", up | P2P),
            (self.UP0, "up0", up | UPLINK),
        ):
            mac = b"" if flags & P2P else bytes([2, 0, 0, 0, 0, index])
            self.fib.link_added(Link(index, name, mac, 9000, flags, 0x8000 | 100 + index))

    def of(self, address: str) -> Fib:
        return self.fib6 if ":" in address else self.fib

    def lb(self, address: str) -> int:
        """What a lookup by the dataplane finds."""
        fib = self.of(address)
        where = Prefixes.of(fib.family.bits, (fib.family.number(address), fib.family.bits))
        return int(fib.trie.lookup(0, where.high, where.low, fib.family.bits)[0])

    def buckets(self, address: str) -> list[tuple[str, str]]:
        """What the dataplane would do: (node, next hop or interface) of each bucket, read from the tables."""
        record = self.tables["load_balances"].array[self.lb(address)]
        if record.n_buckets == 1:
            rows = [(int(record.next), int(record.adj))]
        else:
            block = self.tables["lb_buckets"].array[record.buckets : record.buckets + record.n_buckets]
            rows = [(int(row.next), int(row.adj)) for row in block]
        return [self.hop(next_, adj) for next_, adj in rows]

    def hop(self, next_: int, adj: int) -> tuple[str, str]:
        node = next(name for name, index in NODES.items() if 0x8000 | index == next_)
        record = self.tables["adjacencies"].array[adj]
        if node.endswith("-drop"):
            return node, ""
        link = self.fib.links.get(int(record.sw_if_index))
        if int(record.version) == 6:
            hop = str(IPv6Address(int(record.address_high) << 64 | int(record.address_low)))
        else:
            hop = str(IPv4Address(int(record.address)))
        return node, f"{hop} {link.name if link else ''}".strip()

    def in_use(self) -> tuple[int, ...]:
        fib, fib6 = self.fib, self.fib6
        shared = (
            fib.load_balances,
            fib.load_balances.bucket_pool.in_use,
            fib.adjacencies,
            self.neighbors,
            self.neighbors6,
        )
        return (
            *(each if isinstance(each, int) else len(each) for each in shared),
            fib.load_balances.pool.in_use,
            *(count for each in (fib, fib6) for count in self._in_use_of(each)),
        )

    @staticmethod
    def _in_use_of(fib: Fib) -> tuple[int, ...]:
        return (
            sum(map(fib.trie.count, range(len(fib.vrfs)))),
            len(fib.vrf().tracks),
            len(fib._by_link),
            len(fib._routes),
            len(fib._shared),
            fib._own,
        )


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture(scope="session")
def make_bench() -> type[Bench]:
    return Bench


class Interfaces(dict[str, Any]):
    def by_name(self, name: str) -> Any:
        return self[name]

    def __iter__(self) -> Any:
        return iter(self.values())


@pytest.fixture
def engine(bench: Bench) -> Any:
    stack = SimpleNamespace(
        fib4=bench.fib, fib6=bench.fib6, adjacencies=bench.fib.adjacencies,
        neighbors=bench.neighbors, neighbors6=bench.neighbors6,
    )  # fmt: skip
    links = Interfaces({link.name: link for link in bench.fib.links.values()})
    configuration = Configuration(Events())
    return SimpleNamespace(
        stack=stack, interfaces=links, tables=bench.tables, bench=bench, configuration=configuration
    )  # fmt: skip
