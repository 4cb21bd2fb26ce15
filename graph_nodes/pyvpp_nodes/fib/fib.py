# SPDX-License-Identifier: Apache-2.0
"""The FIB: prefixes with sources and paths, resolved to load balances and projected into the trie.

What is known of a prefix is its `Route`. Routes that were made in bulk are shared by all prefixes of which the same is
said, and so are their load balance and its counter: a million prefixes are a million numbers in the trie and as many
Python objects as there are different next hops; when the way to a next hop changes, one store changes it for them all.
A prefix that is set by itself gets a route of its own, and so a counter of its own as in VPP, as long as there are
fewer than OWN_ROUTES of these.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from pyvpp.errors import OperatorError
from pyvpp.typing import U32
from pyvpp_nodes.fib.addresses import InterfaceAddresses
from pyvpp_nodes.fib.adjacency import Adjacencies, Adjacency, Link
from pyvpp_nodes.fib.entry import (
    DROP_PATH,
    NO_INTERFACE,
    Entry,
    Follower,
    Path,
    Paths,
    Route,
    Source,
    Sources,
    Via,
)  # fmt: skip
from pyvpp_nodes.fib.family import IP4, IP6, Address, Family, Prefix
from pyvpp_nodes.fib.load_balance import LoadBalances, Shares
from pyvpp_nodes.fib.resolve import Resolver
from pyvpp_nodes.fib.trie.arrays import NONE
from pyvpp_nodes.fib.trie.owner import Prefixes, Trie
from pyvpp_nodes.fib.vrf import Vrf

OWN_ROUTES = 4096

DEFAULTS = {
    IP4: (
        (0x00000000, 0, Source.DEFAULT_ROUTE),
        (0x00000000, 32, Source.DEFAULT_ROUTE),
        (0xF0000000, 4, Source.SPECIAL),
        (0xE0000000, 4, Source.SPECIAL),
        (0xFFFFFFFF, 32, Source.SPECIAL),
    ),
    IP6: ((0, 0, Source.DEFAULT_ROUTE), (0xFE80 << 112, 10, Source.SPECIAL)),
}
"""The entries that every table begins with: (address, length, source), all drop."""

Change = Callable[[Sources, int], Sources]
"""What becomes of what sources say of a prefix, given a number that goes with the prefix."""


class Fib:
    """Routes of one address family in, load balances out. Made as Fib4 or Fib6."""

    def __init__(
        self,
        family: Family,
        tables: Mapping[str, Any],
        clock: Callable[[], float],
        adjacencies: Adjacencies,
        load_balances: LoadBalances,
        barrier: Callable[[], AbstractContextManager[Any]] = nullcontext,
        synchronize: Callable[[], None] = lambda: None,
    ) -> None:
        self.family = family
        self.clock = clock
        self.adjacencies = adjacencies
        self.load_balances = load_balances
        self.links: dict[int, Link] = adjacencies.links
        self.siblings: list[Fib] = [self]  # with whom the links are shared
        self.vrfs: list[Vrf | None] = []
        self.link_fib: dict[int, int] = {}
        self.on_connected: list[Callable[[int], None]] = []  # an interface's attached prefixes are others
        self.trie = Trie(tables[f"{family.name}_fib_roots"], tables[f"{family.name}_fib_nodes"], synchronize, barrier)
        self._first_address = tables.get(f"{family.name}_interface_address")
        self._interface_addresses = InterfaceAddresses(self, self._first_address_changed)
        self._resolver = Resolver(family, self.vrf, adjacencies, load_balances)
        self._routes = self._resolver.routes
        self._shared: dict[tuple[Any, ...], Route] = {}
        self._own = 0
        self._by_link: dict[int, set[Route]] = {}
        self._midchains: dict[int, tuple[int, Follower]] = {}
        self.add_table(0)

    # -- tables

    def add_table(self, table_id: int) -> int:
        """Make a routing table with the entries every table begins with; its fib_index."""
        found = self.table(table_id)
        if found is not None:
            return found.fib_index
        fib_index = next((i for i, vrf in enumerate(self.vrfs) if vrf is None), len(self.vrfs))
        self.trie.add_table(fib_index)
        vrf = Vrf(table_id, fib_index, self.family, self.trie, self._routes)
        if fib_index == len(self.vrfs):
            self.vrfs.append(vrf)
        else:
            self.vrfs[fib_index] = vrf
        for prefix, length, source in DEFAULTS[self.family]:
            self.update((prefix, length), (DROP_PATH,), source, fib_index)
        return fib_index

    def delete_table(self, table_id: int) -> None:
        """Forget a table and all routes in it. Raises OperatorError when somebody uses it."""
        vrf = self.table(table_id)
        if vrf is None:
            raise OperatorError(f"no such table {table_id}")
        if vrf.fib_index == 0:
            raise OperatorError(f"table {table_id} is always there")
        if any(fib_index == vrf.fib_index for fib_index in self.link_fib.values()) or vrf.tracks:
            raise OperatorError(f"table {table_id} is in use")
        self._change(vrf, self.trie.routes(vrf.fib_index)[0], None, lambda sources, _: {})
        self.trie.remove_table(vrf.fib_index)
        self.vrfs[vrf.fib_index] = None

    def table(self, table_id: int) -> Vrf | None:
        return next((vrf for vrf in self.vrfs if vrf is not None and vrf.table_id == table_id), None)

    def vrf(self, fib_index: int = 0) -> Vrf:
        found = self.vrfs[fib_index]
        if found is None:
            raise LookupError(f"no fib {fib_index}")
        return found

    # -- routes

    def update(self, prefix: Prefix, paths: Iterable[Path], source: Source = Source.API, fib_index: int = 0) -> Entry:
        """A source's only word on a prefix: these paths, whatever it said before."""
        said = tuple(paths)
        entry = self.change(prefix, lambda sources: {**sources, source: said}, fib_index)
        assert entry is not None
        return entry

    def add_path(self, prefix: Prefix, path: Path, source: Source = Source.API, fib_index: int = 0) -> Entry:
        """One more path (or a new weight for one that is there)."""
        entry = self.change(prefix, lambda sources: with_paths(sources, source, (path,)), fib_index)
        assert entry is not None
        return entry

    def remove_path(self, prefix: Prefix, path: Path, source: Source = Source.API, fib_index: int = 0) -> bool:
        """Take a path away; the source goes with its last one. False: there was none."""
        found = self.find(prefix, fib_index)
        before = found.sources.get(source, ()) if found is not None else ()
        kept = tuple(each for each in before if each.target != path.target)
        if len(kept) == len(before):
            return False
        if kept:
            self.update(prefix, kept, source, fib_index)
            return True
        return self.remove(prefix, source, fib_index)

    def remove(self, prefix: Prefix, source: Source = Source.API, fib_index: int = 0) -> bool:
        """Take back all a source said about a prefix; the entry goes with its last source. False: it said nothing."""
        vrf, (address, length) = self.vrf(fib_index), self.family.prefix_of(prefix)
        found = vrf.find(address, length)
        if found is None or source not in found.sources or source == Source.DEFAULT_ROUTE:
            return False
        self._set(vrf, address, length, found, without(found.sources, source))
        return True

    def update_many(
        self,
        prefixes: Prefixes,
        path_lists: Sequence[Iterable[Path]],
        which: U32,
        source: Source = Source.API,
        fib_index: int = 0,
    ) -> None:
        """`update` for many prefixes at once: number i gets `path_lists[which[i]]`. The last word on a prefix counts.

        A lookup meanwhile finds what it would have found before the call or what it finds after it. A million routes
        of an empty table take a second.
        """
        lists = [tuple(paths) for paths in path_lists]
        self._change(self.vrf(fib_index), prefixes, which, lambda sources, k: {**sources, source: lists[k]})

    def remove_many(self, prefixes: Prefixes, source: Source = Source.API, fib_index: int = 0) -> None:
        """`remove` for many prefixes at once."""
        if source != Source.DEFAULT_ROUTE:
            self._change(self.vrf(fib_index), prefixes, None, lambda sources, _: without(sources, source))

    def change(self, prefix: Prefix, change: Callable[[Sources], Sources], fib_index: int = 0) -> Entry | None:
        """Let what sources say of a prefix become what `change(sources)` says; the entry then, if there is one."""
        vrf, (address, length) = self.vrf(fib_index), self.family.prefix_of(prefix)
        found = vrf.find(address, length)
        return self._set(vrf, address, length, found, change(found.sources if found else {}))

    def change_many(self, prefixes: Prefixes, change: Change, fib_index: int = 0) -> None:
        """Let what sources say of each of these prefixes become what `change(sources, 0)` says; nothing removes it."""
        self._change(self.vrf(fib_index), prefixes, None, change)

    def find(self, prefix: Prefix, fib_index: int = 0) -> Entry | None:
        """Exactly this prefix."""
        return self.vrf(fib_index).find(*self.family.prefix_of(prefix))

    def lookup(self, address: Address, fib_index: int = 0) -> Entry:
        """The entry that a packet to `address` takes."""
        return self.vrf(fib_index).cover(self.family.number(address))

    def attached_on(self, address: int, sw_if_index: int) -> bool:
        """Is the address on-link there: within a connected or attached prefix of that interface?"""
        entry = self.vrf(self.link_fib.get(sw_if_index, 0)).cover(address, self.family.bits)
        return any(
            path.via in (Via.CONNECTED, Via.ATTACHED) and path.sw_if_index == sw_if_index for path in entry.paths
        )

    def is_local(self, address: int, fib_index: int = 0) -> bool:
        entry = self.vrf(fib_index).find(address, self.family.bits)
        return entry is not None and entry.paths[0].via == Via.RECEIVE

    # -- following an address

    def track(
        self, address: Address, callback: Callable[[Follower], None], fib_index: int = 0, through: int = NO_INTERFACE
    ) -> Follower:
        """Follow an address: `callback(follower)` now and whenever where it leads may have changed."""
        follower = Follower(self.vrf(fib_index).track(self.family.number(address)), callback, through)
        self._resolver.follow(follower)
        return follower

    def untrack(self, follower: Follower) -> None:
        self._resolver.unfollow(follower)

    def add_midchain(
        self, sw_if_index: int, rewrite: bytes, mtu: int | None, destination: Address, fib_index: int = 0
    ) -> int:
        """A tunnel's adjacency: `rewrite` in front, then wherever `destination` leads. Its index."""
        index = self.adjacencies.add_midchain(sw_if_index, rewrite, mtu, self.family)
        follower = self.track(
            destination, lambda it: self.adjacencies.stack(index, it.straight, it.lb), fib_index, sw_if_index
        )
        self._midchains[index] = (sw_if_index, follower)
        self._refresh_flags(sw_if_index)
        return index

    def remove_midchain(self, index: int) -> None:
        _, follower = self._midchains.pop(index)
        follower.callback = lambda it: None
        self.untrack(follower)
        self.adjacencies.remove_midchain(index)

    def midchain_of(self, adjacency: Adjacency) -> Follower | None:
        found = self._midchains.get(adjacency.index)
        return found[1] if found is not None else None

    # -- interfaces, for this family and its siblings

    def link_added(self, link: Link) -> None:
        self.links[link.sw_if_index] = link

    def link_removed(self, sw_if_index: int) -> None:
        """The interface is gone: with it its addresses and every path through it."""
        for fib in self.siblings:
            fib._forget_link(sw_if_index)
        self.links.pop(sw_if_index, None)

    def link_state(self, sw_if_index: int, flags: int) -> None:
        """Admin state or role changed: connected routes come and go, and no path leads out of what is down."""
        link = self.links[sw_if_index]
        was_up, role = link.admin_up, link.of_host
        link.flags = flags
        for fib in self.siblings:
            if link.admin_up != was_up:
                fib._interface_addresses.link_state(link)
                fib._resolver.propagate(list(fib._by_link.get(sw_if_index, ())), edges=False)
                fib._connected_changed(sw_if_index)
        if link.of_host != role:
            self._refresh_flags(sw_if_index)

    def link_changed(self, sw_if_index: int, **what: Any) -> None:
        """New `mac`, `mtu` or `output_next`."""
        link = self.links[sw_if_index]
        for name, value in what.items():
            setattr(link, name, value)
        self.adjacencies.link_changed(sw_if_index)

    def set_link_table(self, sw_if_index: int, table_id: int) -> int:
        """Bind an interface without addresses to a table; the fib_index."""
        vrf = self.table(table_id)
        if vrf is None:
            raise OperatorError(f"no such table {table_id}")
        if self.addresses.get(sw_if_index):
            raise OperatorError(f"can't change VRF on {self.links[sw_if_index].name}: it has addresses")
        self.link_fib[sw_if_index] = vrf.fib_index
        return vrf.fib_index

    @property
    def addresses(self) -> Mapping[int, Sequence[tuple[int, int]]]:
        """By interface: (address, length)."""
        return self._interface_addresses.by_link

    def add_address(self, sw_if_index: int, address: int, length: int) -> None:
        """Give an interface an address, and with it what VPP adds: connected prefix, receive, network and broadcast."""
        self._interface_addresses.add(self.links[sw_if_index], address, length)
        self._connected_changed(sw_if_index)

    def remove_address(self, sw_if_index: int, address: int, length: int) -> None:
        self._interface_addresses.remove(self.links[sw_if_index], address, length)
        self._connected_changed(sw_if_index)

    def source_for(self, address: int, sw_if_index: int) -> int | None:
        """Which of an interface's addresses speaks to `address`: one of the same prefix, else the first."""
        return self._interface_addresses.source_for(address, sw_if_index)

    def contribution(self, entry: Entry, path: Path) -> Shares:
        """What a path of the entry's best source adds to its shares now."""
        return self._resolver.contribution(entry.route, path)

    def _first_address_changed(self, sw_if_index: int, address: int) -> None:
        """What nodes use as source where nothing says more."""
        if self._first_address is not None:
            self._first_address.array[sw_if_index] = address if self.family is IP4 else divmod(address, 1 << 64)

    def _connected_changed(self, sw_if_index: int) -> None:
        for callback in self.on_connected:
            callback(sw_if_index)

    def _refresh_flags(self, sw_if_index: int) -> None:
        for adjacency in self.adjacencies.on_link(sw_if_index):
            for index in adjacency.users:
                self.load_balances.refresh_flags(index)

    def _forget_link(self, sw_if_index: int) -> None:
        for address, length in list(self.addresses.get(sw_if_index, ())):
            self.remove_address(sw_if_index, address, length)
        for index, (through, _) in list(self._midchains.items()):
            if through == sw_if_index:
                self.remove_midchain(index)
        gone = []
        for route in list(self._by_link.get(sw_if_index, ())):
            kept = {
                source: tuple(path for path in paths if path.sw_if_index != sw_if_index)
                for source, paths in route.sources.items()
            }
            kept = {source: paths for source, paths in kept.items() if paths}
            if kept:
                self._rewrite(route, kept)
            else:
                gone.append(route.lb)
        for vrf in filter(None, self.vrfs if gone else ()):
            prefixes, lbs = self.trie.routes(vrf.fib_index)
            self._change(vrf, prefixes.pick(np.isin(lbs, gone)), None, lambda sources, _: {})
        self.link_fib.pop(sw_if_index, None)

    # -- changes

    def _set(self, vrf: Vrf, address: int, length: int, found: Entry | None, sources: Sources) -> Entry | None:
        """Other sources for one prefix, of which `found` is known; the entry then."""
        before = found.route if found is not None else None
        after = self._changed(before, vrf.fib_index, sources, own=True)
        if after is not before:
            lb = NONE if after is None else after.lb
            self.trie.set_one(vrf.fib_index, self.family.bits, address, length, lb)
            self._resolver.moved(vrf.moved(address, length))
            self._count({after: 1, before: -1})
        return None if after is None else Entry(vrf.fib_index, address, length, after)

    def _change(self, vrf: Vrf, prefixes: Prefixes, which: U32 | None, change: Change) -> None:
        """The same for many prefixes: once for each pair of what there was and what it is to become."""
        number = np.zeros(len(prefixes.length), np.uint32) if which is None else which
        order = last_of_each(prefixes)
        if order is not None:
            prefixes, number = prefixes.pick(order), number[order]
        old = self.trie.find(vrf.fib_index, prefixes)
        pairs, inverse, counts = np.unique(
            old.astype(np.uint64) << np.uint64(32) | number, return_inverse=True, return_counts=True
        )
        targets = np.full(len(pairs), NONE, np.uint32)
        moves: Counter[Route | None] = Counter()
        for k, (pair, count) in enumerate(zip(pairs.tolist(), counts.tolist(), strict=True)):
            before = self._routes.get(pair >> 32)
            after = self._changed(before, vrf.fib_index, change(before.sources if before else {}, pair & 0xFFFFFFFF))
            if after is not None:
                targets[k] = after.lb
            moves[after] += count
            moves[before] -= count
        new = targets[inverse]
        differs = new != old
        self.trie.set(vrf.fib_index, prefixes.pick(differs), new[differs])
        self._resolver.moved(vrf.moved())
        self._count(moves)

    def _changed(self, route: Route | None, fib_index: int, sources: Sources, own: bool = False) -> Route | None:
        """The route of a prefix that had `route` and of which now `sources` speak."""
        if not sources:
            return None
        if route is not None and (route.own or route.sources == sources):
            self._rewrite(route, sources)
            return route
        own = own and route is None and self._own < OWN_ROUTES
        key = key_of(fib_index, sources)
        found = None if own else self._shared.get(key)
        if found is None:
            found = Route(fib_index, sources, own)
            self._index_links(found)
            self._resolver.enter(found)
            if own:
                self._own += 1
            else:
                self._shared[key] = found
        return found

    def _rewrite(self, route: Route, sources: Sources) -> None:
        """Other sources, or others in them, speak of all prefixes of the route."""
        before, paths = route.sources, route.paths
        if before == sources:
            return
        if not route.own:
            self._unshare(route)
            self._shared.setdefault(key_of(route.fib_index, sources), route)
        route.sources = sources
        self._index_links(route, before)
        if route.paths != paths:
            self._resolver.changed(route)

    def _count(self, moves: Mapping[Route | None, int]) -> None:
        """So many prefixes more have these routes, or fewer; what none has is no more."""
        for route, more in moves.items():
            if route is None:
                continue
            route.prefixes += more
            if route.prefixes == 0:
                self._destroy(route)

    def _destroy(self, route: Route) -> None:
        if route.own:
            self._own -= 1
        else:
            self._unshare(route)
        before, route.sources = route.sources, {}
        self._index_links(route, before)
        self.trie.forget(route.lb)
        self._resolver.leave(route)

    def _unshare(self, route: Route) -> None:
        key = key_of(route.fib_index, route.sources)
        if self._shared.get(key) is route:
            del self._shared[key]

    def _index_links(self, route: Route, before: Sources | None = None) -> None:
        """Keep `_by_link`: which routes name an interface, in any source. `before` is what it named."""
        now = {path.sw_if_index for paths in route.sources.values() for path in paths} - {NO_INTERFACE}
        for sw_if_index in now:
            self._by_link.setdefault(sw_if_index, set()).add(route)
        for path in (path for paths in (before or {}).values() for path in paths):
            users = self._by_link.get(path.sw_if_index)
            if users is not None and path.sw_if_index not in now:
                users.discard(route)
                if not users:
                    del self._by_link[path.sw_if_index]


def with_paths(sources: Sources, source: Source, paths: Paths) -> Sources:
    """One or more paths added to a source's, or new weights for those that are there; a path that drops goes."""
    targets = {path.target for path in paths}
    kept = (each for each in sources.get(source, ()) if each.target not in targets and each.via != Via.DROP)
    return {**sources, source: (*kept, *paths)}


def without(sources: Sources, source: Source) -> Sources:
    return {each: paths for each, paths in sources.items() if each != source}


def key_of(fib_index: int, sources: Sources) -> tuple[Any, ...]:
    return (fib_index, *sorted(sources.items()))


def last_of_each(prefixes: Prefixes) -> Any:
    """The order of addresses, each prefix once, the last of those given; None when they stand like that already."""
    high, low, length = prefixes
    if len(length) < 2:
        return None
    grows = (high[1:] > high[:-1]) | ((high[1:] == high[:-1]) & ((low[1:] > low[:-1]) | (
        (low[1:] == low[:-1]) & (length[1:] > length[:-1]))))  # fmt: skip
    if grows.all():
        return None
    order = np.lexsort((length, low, high))  # stable: of equal ones the last given stands last
    again = prefixes.pick(order)
    same = (again.high[1:] == again.high[:-1]) & (again.low[1:] == again.low[:-1])
    same &= again.length[1:] == again.length[:-1]
    return order[np.append(~same, True)]


class Fib4(Fib):
    """The IPv4 FIB. `tables` is a mapping of name to TableInstance."""

    def __init__(
        self,
        tables: Mapping[str, Any],
        node_index: Callable[[str], int],
        clock: Callable[[], float],
        *,
        to_node: int = 0x8000,
        barrier: Callable[[], AbstractContextManager[Any]] = nullcontext,
        synchronize: Callable[[], None] = lambda: None,
    ) -> None:
        adjacencies = Adjacencies(tables, node_index, to_node, barrier, synchronize)
        load_balances = LoadBalances(tables, adjacencies, synchronize)
        self._made_with: tuple[Any, ...] = (tables, clock, adjacencies, load_balances, barrier, synchronize)
        super().__init__(IP4, *self._made_with)


class Fib6(Fib):
    """The IPv6 FIB beside an IPv4 one, with whom it shares links, adjacencies and load balances."""

    def __init__(self, beside: Fib4) -> None:
        super().__init__(IP6, *beside._made_with)
        self.siblings = beside.siblings
        self.siblings.append(self)
