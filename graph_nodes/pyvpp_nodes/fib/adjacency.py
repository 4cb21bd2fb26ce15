# SPDX-License-Identifier: Apache-2.0
"""Adjacencies: the last thing a route says, be it a neighbor, a tunnel, a subnet to resolve in, or an end.

An adjacency lives as long as a load balance or a tunnel uses it. The first are fixed: drop, punt, unreachable,
prohibit.

What a worker may be reading changes by single aligned stores: a neighbor's MAC lies in one word of the record, so does
(sw_if_index, next, kind, rewrite_bytes). The rest changes inside `barrier()`, which stops the workers between two
vectors.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pyvpp_nodes.fib.family import IP4, IP6, Family
from pyvpp_nodes.fib.pool import Pool
from pyvpp_nodes.fib.tables import ADJACENCY, NODE_OF_KIND, NODE_OF_KIND6, REWRITE_MAX, STACKED_STRAIGHT, Kind

DROP, PUNT, UNREACHABLE, PROHIBIT = range(4)
FIXED = (Kind.DROP, Kind.PUNT, Kind.UNREACHABLE, Kind.PROHIBIT)

ADMIN_UP, LINK_UP, P2P, UPLINK, HOST = 1, 2, 4, 8, 16

WORDS = ADJACENCY.itemsize // 8
REWRITE_WORD = 3
BROADCAST = b"\xff" * 6
LOW64 = (1 << 64) - 1


@dataclass(slots=True)
class Link:
    """What the FIB must know of an interface."""

    sw_if_index: int
    name: str
    mac: bytes = b""
    mtu: int = 9000
    flags: int = 0
    output_next: int = 0

    @property
    def admin_up(self) -> bool:
        return bool(self.flags & ADMIN_UP)

    @property
    def p2p(self) -> bool:
        return bool(self.flags & P2P)

    @property
    def of_host(self) -> bool:
        """Is what leads out here the host's own traffic?"""
        return bool(self.flags & (UPLINK | HOST))


@dataclass(slots=True, eq=False)
class Adjacency:
    index: int
    kind: Kind
    sw_if_index: int = 0
    address: int = 0
    key: tuple[int, ...] = ()
    family: Family | None = None  # none: the fixed ones, which both have
    length: int = 0
    source: int = 0
    rewrite: bytes = b""
    mtu: int = 0
    locks: int = 0
    users: set[int] = field(default_factory=set)  # load balances
    stacked: set[int] = field(default_factory=set)  # midchains that lead straight here
    under: int = DROP  # midchain: the adjacency below, when stacked straight on one


class Adjacencies:
    """Makes, shares, completes and frees adjacencies. LoadBalances sets `patch(load_balances, adjacency, next)`.

    Those of IPv4 and IPv6 lie side by side; a neighbor is known by family, interface and address.
    """

    def __init__(
        self,
        tables: Mapping[str, Any],
        node_index: Callable[[str], int],
        to_node: int,
        barrier: Callable[[], AbstractContextManager[Any]] | None = None,
        synchronize: Callable[[], None] | None = None,
    ) -> None:
        self._table = tables["adjacencies"]
        self._node_index = node_index
        self._to_node = to_node
        self._nexts: dict[str, int] = {}
        self._array: Any = None
        self._words: Any = None
        self.barrier = barrier or nullcontext
        self.patch: Callable[[set[int], int, int], None] = lambda load_balances, adjacency, next_: None
        self.links: dict[int, Link] = {}
        self._by_index: dict[int, Adjacency] = {}
        self._by_key: dict[tuple[int, ...], Adjacency] = {}
        self._by_link: dict[int, set[int]] = {}
        self._macs: dict[tuple[int, int, int], bytes] = {}
        self._pool = Pool(len(self._table.array), self._grow, synchronize, reserved=len(FIXED))
        for index, kind in enumerate(FIXED):
            self._by_index[index] = Adjacency(index, kind, locks=1)
            self._write(self._by_index[index])

    def __len__(self) -> int:
        return len(self._by_index)

    def __iter__(self) -> Iterator[Adjacency]:
        return iter(sorted(self._by_index.values(), key=lambda each: each.index))

    def __getitem__(self, index: int) -> Adjacency:
        return self._by_index[index]

    def get(self, index: int) -> Adjacency | None:
        return self._by_index.get(index)

    def node(self, name: str) -> int:
        """The absolute next of a node; what is not in this graph is dropped."""
        found = self._nexts.get(name)
        if found is None:
            found = self._nexts[name] = self._to_node | self._index_of(name)
        return found

    def _index_of(self, name: str) -> int:
        for each in (name, f"{name[:3]}-drop", "error-drop"):
            try:
                return self._node_index(each)
            except KeyError:
                continue
        raise KeyError(name)

    def next_of(self, index: int, family: Family = IP4) -> int:
        """Where a load balance of a family sends packets for this adjacency."""
        adjacency = self._by_index[index]
        family = adjacency.family or family
        suffix = NODE_OF_KIND6[adjacency.kind] if family is IP6 else NODE_OF_KIND[adjacency.kind]
        return self.node(f"{family.name}-{suffix}")

    # -- making and sharing

    def neighbor(self, sw_if_index: int, address: int, family: Family = IP4) -> int:
        """The adjacency towards a next hop; on a point-to-point link there is one, with the unspecified address."""
        link = self.links[sw_if_index]
        if link.p2p:
            address = 0
        key = (family.bits, sw_if_index, address)
        found = self._by_key.get(key)
        if found is not None:
            return found.index
        made = self._make(Kind.ARP, link, address, key, family)
        mac = self._macs.get(key)
        if link.p2p:
            made.kind = Kind.REWRITE
        elif mac is not None:
            made.kind, made.rewrite = Kind.REWRITE, mac + link.mac + family.ethertype
        self._write(made)
        return made.index

    def glean(self, sw_if_index: int, prefix: int, length: int, source: int, family: Family = IP4) -> int:
        """The adjacency that resolves addresses of a connected prefix."""
        key = (family.bits, sw_if_index, prefix, length, source)
        found = self._by_key.get(key)
        if found is not None:
            return found.index
        link = self.links[sw_if_index]
        made = self._make(Kind.GLEAN, link, prefix, key, family)
        made.length, made.source = length, source
        made.rewrite = BROADCAST + link.mac + family.resolve_ethertype
        self._write(made)
        return made.index

    def local(self, sw_if_index: int, address: int, family: Family = IP4) -> int:
        """The adjacency of an address of our own."""
        key = (family.bits, sw_if_index, address, -1)
        found = self._by_key.get(key)
        if found is None:
            link = self.links.get(sw_if_index) or Link(0, "local0")
            found = self._make(Kind.LOCAL, link, address, key, family)
            self._write(found)
        return found.index

    def add_midchain(self, sw_if_index: int, rewrite: bytes, mtu: int | None = None, family: Family = IP4) -> int:
        """Let everything that leaves by this tunnel get `rewrite` in front. It drops until it is stacked."""
        if len(rewrite) > REWRITE_MAX:
            raise ValueError(f"a rewrite has at most {REWRITE_MAX} bytes, not {len(rewrite)}")
        link = self.links[sw_if_index]
        index = self.neighbor(sw_if_index, 0, family)
        adjacency = self._by_index[index]
        with self.barrier():
            adjacency.kind, adjacency.rewrite = Kind.MIDCHAIN, rewrite
            adjacency.mtu = link.mtu if mtu is None else mtu
            adjacency.locks += 1
            self._write(adjacency)
        self.stack(index, None, 0)
        self.patch(adjacency.users, index, self.next_of(index))
        return index

    def remove_midchain(self, index: int) -> None:
        adjacency = self._by_index[index]
        self.stack(index, None, 0)
        adjacency.kind, adjacency.rewrite = Kind.REWRITE, b""
        self.patch(adjacency.users, index, self._drop_after(adjacency))
        self.unlock(index)

    def stack(self, index: int, straight: int | None, load_balance: int) -> None:
        """Let a midchain lead to one adjacency (`straight`) or through a load balance; neither (None, 0) drops."""
        adjacency = self._by_index[index]
        before = self._by_index[adjacency.under]
        adjacency.under = straight or DROP
        if straight:
            self._by_index[straight].stacked.add(index)
            self._stack_on(index, self.next_of(straight), straight, STACKED_STRAIGHT)
        elif straight is None and load_balance:
            self._stack_on(index, self.node(f"{(adjacency.family or IP4).name}-load-balance"), load_balance)
        else:
            self._stack_on(index, self._drop_after(adjacency), DROP)
        if before.index != adjacency.under:
            before.stacked.discard(index)
            self.free_if_unused(before.index)

    def _drop_after(self, adjacency: Adjacency) -> int:
        return self.next_of(DROP, adjacency.family or IP4)

    def lock(self, index: int, load_balance: int) -> None:
        self._by_index[index].users.add(load_balance)

    def unlock(self, index: int, load_balance: int | None = None) -> None:
        adjacency = self._by_index[index]
        if load_balance is None:
            adjacency.locks -= 1
        else:
            adjacency.users.discard(load_balance)
        self.free_if_unused(index)

    # -- what happens to neighbors and interfaces

    def set_neighbor(self, sw_if_index: int, address: int, mac: bytes | None, family: Family = IP4) -> None:
        """A neighbor's MAC is known (its adjacency becomes complete) or no longer."""
        key = (family.bits, sw_if_index, address)
        if mac is None:
            self._macs.pop(key, None)
        else:
            self._macs[key] = mac
        found = self._by_key.get(key)
        if found is None or found.kind not in (Kind.ARP, Kind.REWRITE) or self.links[sw_if_index].p2p:
            return
        if mac is None:
            found.kind = Kind.ARP
            self._switch(found)
            return
        found.rewrite = mac + self.links[sw_if_index].mac + family.ethertype
        if found.kind == Kind.REWRITE:
            self._write(found)
        else:
            found.kind = Kind.REWRITE
            self._write(found)
            self._switch(found)

    def mac_of(self, sw_if_index: int, address: int, family: Family = IP4) -> bytes | None:
        return self._macs.get((family.bits, sw_if_index, address))

    def link_changed(self, sw_if_index: int) -> None:
        """The interface's MAC, MTU or output node is another."""
        link = self.links[sw_if_index]
        with self.barrier():
            for index in self._by_link.get(sw_if_index, ()):
                adjacency = self._by_index[index]
                adjacency.mtu = link.mtu
                if adjacency.kind in (Kind.REWRITE, Kind.GLEAN) and len(adjacency.rewrite) == 14:
                    adjacency.rewrite = adjacency.rewrite[:6] + link.mac + adjacency.rewrite[12:]
                self._write(adjacency)

    def on_link(self, sw_if_index: int) -> list[Adjacency]:
        return [self._by_index[index] for index in sorted(self._by_link.get(sw_if_index, ()))]

    # -- slots

    def _make(self, kind: Kind, link: Link, address: int, key: tuple[int, ...], family: Family) -> Adjacency:
        made = Adjacency(
            self._pool.allocate(), kind, link.sw_if_index, address, key, family, length=family.bits, mtu=link.mtu
        )
        self._by_index[made.index] = self._by_key[key] = made
        self._by_link.setdefault(link.sw_if_index, set()).add(made.index)
        return made

    def free_if_unused(self, index: int) -> None:
        adjacency = self._by_index[index]
        if adjacency.users or adjacency.locks or adjacency.stacked:
            return
        del self._by_index[adjacency.index]
        del self._by_key[adjacency.key]
        on_link = self._by_link[adjacency.sw_if_index]
        on_link.discard(adjacency.index)
        if not on_link:
            del self._by_link[adjacency.sw_if_index]
        self._pool.free(adjacency.index)

    def _switch(self, adjacency: Adjacency) -> None:
        """Follow ip4-arp <-> ip4-rewrite (or IPv6's) wherever the adjacency is used."""
        next_ = self.next_of(adjacency.index)
        if adjacency.kind == Kind.ARP:
            self.patch(adjacency.users, adjacency.index, next_)
            self._write_head(adjacency)
        else:
            self._write_head(adjacency)
            self.patch(adjacency.users, adjacency.index, next_)
        for index in adjacency.stacked:
            self._array["next"][index] = next_
            self._array["stacked_next"][index] = next_

    def _stack_on(self, index: int, next_: int, adj: int, flags: int = 0) -> None:
        """No node is behind load balances and behind adjacencies: with the same next the flags are the same."""
        array = self._records()
        record = array[index]
        if int(record.stacked_next) == next_ and int(record.adj) == adj:
            return
        if int(record.stacked_next) == next_:
            array["adj"][index] = adj
            return
        with self.barrier():
            array["adj"][index] = adj
            array["stacked_next"][index] = next_
            array["next"][index] = next_
            array["flags"][index] = flags

    def _write(self, adjacency: Adjacency) -> None:
        """Everything but the head, then the head in one store."""
        array = self._records()
        i = adjacency.index
        array["mtu"][i] = adjacency.mtu
        array["prefix_length"][i] = adjacency.length
        self._write_addresses(array[i], adjacency)
        if adjacency.kind != Kind.MIDCHAIN:
            array["adj"][i] = array["stacked_next"][i] = array["flags"][i] = 0
        words = np.frombuffer(adjacency.rewrite.ljust(REWRITE_MAX, b"\0"), np.uint64)
        start = i * WORDS + REWRITE_WORD
        for k in range(-(-len(adjacency.rewrite) // 8)):
            self._words[start + k] = words[k]
        self._write_head(adjacency)

    @staticmethod
    def _write_addresses(record: Any, adjacency: Adjacency) -> None:
        if adjacency.family is IP6:
            record.version = 6
            record.address_high, record.address_low = adjacency.address >> 64, adjacency.address & LOW64
            record.source_high, record.source_low = adjacency.source >> 64, adjacency.source & LOW64
        else:
            record.version, record.address, record.source = 4, adjacency.address, adjacency.source

    def _write_head(self, adjacency: Adjacency) -> None:
        array = self._records()
        link = self.links.get(adjacency.sw_if_index)
        if adjacency.kind == Kind.MIDCHAIN:
            next_ = int(array["stacked_next"][adjacency.index])
        elif adjacency.kind in (Kind.ARP, Kind.GLEAN, Kind.REWRITE) and link is not None:
            next_ = link.output_next
        else:
            next_ = self.next_of(adjacency.index)
        self._words[adjacency.index * WORDS] = (
            adjacency.sw_if_index | next_ << 32 | adjacency.kind << 48 | len(adjacency.rewrite) << 56
        )

    def _records(self) -> Any:
        if self._table.array is not self._array:
            self._array = self._table.array
            self._words = self._array.view(np.uint64)
        return self._array

    def _grow(self, needed: int) -> int:
        self._table.grow(max(needed, 2 * len(self._table.array)))
        return len(self._table.array)
