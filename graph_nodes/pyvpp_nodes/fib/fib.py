# SPDX-License-Identifier: Apache-2.0
"""The IPv4 FIB: prefixes with sources and paths, resolved to load balances and projected into the trie.

Recursive paths are flattened: an entry's load balance holds the adjacencies at the end of the chain, never another
load balance. Entries and tunnels that go through an address hang on a `Track`, and the track on the covering entry;
so a change visits exactly those it concerns. A path that leads back to its own entry counts for nothing, like one
that ends in a drop.
"""

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import numpy as np

from pyvpp.errors import OperatorError
from pyvpp_nodes.fib.adjacency import DROP, PROHIBIT, PUNT, UNREACHABLE, Adjacencies, Adjacency, Link
from pyvpp_nodes.fib.entry import DROP_PATH, NO_INTERFACE, Entry, Follower, Path, Paths, Source, Track, Via
from pyvpp_nodes.fib.load_balance import DROPPED, LoadBalances, Shares
from pyvpp_nodes.fib.trie.arrays import NONE
from pyvpp_nodes.fib.trie.owner import Prefixes, Trie

ALL_ONES = 0xFFFFFFFF
DEFAULTS = (
    (0x00000000, 0, Source.DEFAULT_ROUTE),
    (0x00000000, 32, Source.DEFAULT_ROUTE),
    (0xF0000000, 4, Source.SPECIAL),
    (0xE0000000, 4, Source.SPECIAL),
    (0xFFFFFFFF, 32, Source.SPECIAL),
)
FIXED = {Via.DROP: DROP, Via.PUNT: PUNT, Via.UNREACHABLE: UNREACHABLE, Via.PROHIBIT: PROHIBIT}

Prefix = IPv4Network | str | tuple[int, int]


def mask(length: int) -> int:
    return ALL_ONES << (32 - length) & ALL_ONES


def prefix_of(prefix: Prefix) -> tuple[int, int]:
    """(network, length) of whatever names a prefix; bits beyond the length are cleared, as VPP does."""
    if not isinstance(prefix, tuple):
        network = IPv4Network(prefix, strict=False)
        return int(network.network_address), network.prefixlen
    address, length = prefix
    return address & mask(length), length


def show(address: int, length: int | None = None) -> str:
    text = str(IPv4Address(address))
    return text if length is None else f"{text}/{length}"


class Vrf:
    """One routing table's entries: a dict per prefix length, and the tracked addresses in order."""

    def __init__(self, table_id: int, fib_index: int) -> None:
        self.table_id = table_id
        self.fib_index = fib_index
        self.by_length: list[dict[int, Entry]] = [{} for _ in range(33)]
        self.tracks: dict[int, Track] = {}
        self.tracked: list[int] = []

    def find(self, prefix: int, length: int) -> Entry | None:
        return self.by_length[length].get(prefix)

    def cover(self, address: int, below: int = 33) -> Entry:
        """The longest entry that holds `address` and is shorter than `below`; 0/0 is always there."""
        by_length = self.by_length
        for length in range(below - 1, -1, -1):
            entries = by_length[length]
            if entries:
                found = entries.get(address & mask(length))
                if found is not None:
                    return found
        raise LookupError(show(address))

    def __len__(self) -> int:
        return sum(map(len, self.by_length))

    def __iter__(self) -> Iterator[Entry]:
        """By prefix, the longer first, as VPP shows them but for the default route."""
        every = [entry for entries in self.by_length for entry in entries.values()]
        return iter(sorted(every, key=lambda each: (each.prefix, -each.length if each.prefix else each.length)))


class Fib4:
    """Routes in, load balances out. `tables` is a mapping of name to something with `.array` and `.grow(n)`."""

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
        self.clock = clock
        self._first_address = tables.get("ip4_interface_address")
        self.adjacencies = Adjacencies(tables, node_index, to_node, barrier, synchronize)
        self.load_balances = LoadBalances(tables, self.adjacencies, synchronize)
        self.trie = Trie(tables["ip4_fib_roots"], tables["ip4_fib_nodes"], synchronize, barrier)
        self.links: dict[int, Link] = self.adjacencies.links
        self.addresses: dict[int, list[tuple[int, int]]] = {}  # by interface: (address, length)
        self.vrfs: list[Vrf | None] = []
        self.on_connected: list[Callable[[int], None]] = []  # an interface's attached prefixes are others
        self._by_link: dict[int, set[Entry]] = {}
        self._owner: dict[int, Entry] = {}  # by load balance
        self._tunnels: dict[int, Follower] = {}
        self._midchains: dict[int, tuple[int, Follower]] = {}
        self._connected: dict[tuple[int, int, int], int] = {}
        self.link_fib: dict[int, int] = {}
        self.add_table(0)

    # -- tables

    def add_table(self, table_id: int) -> int:
        """Make a routing table with the entries every table begins with; its fib_index."""
        found = self.table(table_id)
        if found is not None:
            return found.fib_index
        fib_index = next((i for i, vrf in enumerate(self.vrfs) if vrf is None), len(self.vrfs))
        vrf = Vrf(table_id, fib_index)
        self.trie.add_table(fib_index)
        if fib_index == len(self.vrfs):
            self.vrfs.append(vrf)
        else:
            self.vrfs[fib_index] = vrf
        for prefix, length, source in DEFAULTS:
            self.update((prefix, length), (DROP_PATH,), source, fib_index)
        return fib_index

    def delete_table(self, table_id: int) -> None:
        vrf = self.table(table_id)
        if vrf is None or vrf.fib_index == 0:
            raise OperatorError(f"cannot delete table {table_id}")
        if any(fib_index == vrf.fib_index for fib_index in self.link_fib.values()) or vrf.tracks:
            raise OperatorError(f"table {table_id} is in use")
        for entry in sorted(vrf, key=lambda each: -each.length):
            for source in list(entry.sources):
                self.remove((entry.prefix, entry.length), source, vrf.fib_index, default_too=True)
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
        address, length = prefix_of(prefix)
        vrf = self.vrf(fib_index)
        entry = vrf.find(address, length)
        if entry is None:
            return self._create(vrf, address, length, tuple(paths), source)
        before = entry.sources.get(source, ())
        entry.sources[source] = tuple(paths)
        self._index_links(entry, before)
        if source <= entry.best:
            entry.best = source
            self._activate(entry)
        return entry

    def add_path(self, prefix: Prefix, path: Path, source: Source = Source.API, fib_index: int = 0) -> Entry:
        """One more path (or a new weight for one that is there)."""
        found = self.find(prefix, fib_index)
        before = found.sources.get(source, ()) if found is not None else ()
        kept = tuple(each for each in before if each.target != path.target and each.via != Via.DROP)
        return self.update(prefix, (*kept, path), source, fib_index)

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

    def remove(
        self, prefix: Prefix, source: Source = Source.API, fib_index: int = 0, *, default_too: bool = False
    ) -> bool:
        """Take back all a source said about a prefix; the entry goes with its last source. False: it said nothing."""
        address, length = prefix_of(prefix)
        vrf = self.vrf(fib_index)
        entry = vrf.find(address, length)
        if entry is None or source not in entry.sources:
            return False
        if source == Source.DEFAULT_ROUTE and not default_too:
            return False
        if len(entry.sources) == 1:
            self._destroy(vrf, entry)
            return True
        gone = entry.sources.pop(source)
        self._index_links(entry, gone)
        if source == entry.best:
            entry.best = min(entry.sources)
            self._activate(entry)
        return True

    def find(self, prefix: Prefix, fib_index: int = 0) -> Entry | None:
        """Exactly this prefix."""
        return self.vrf(fib_index).find(*prefix_of(prefix))

    def lookup(self, address: IPv4Address | str | int, fib_index: int = 0) -> Entry:
        """The entry that a packet to `address` takes."""
        return self.vrf(fib_index).cover(int(IPv4Address(address)))

    def attached_on(self, address: int, sw_if_index: int) -> bool:
        """Is the address on-link there: within a connected or attached prefix of that interface?"""
        entry = self.vrf(self.link_fib.get(sw_if_index, 0)).cover(address, 32)
        return any(
            path.via in (Via.CONNECTED, Via.ATTACHED) and path.sw_if_index == sw_if_index for path in entry.paths
        )

    def is_local(self, address: int, fib_index: int = 0) -> bool:
        entry = self.vrf(fib_index).find(address, 32)
        return entry is not None and entry.paths[0].via == Via.RECEIVE

    def source_for(self, address: int, sw_if_index: int) -> int | None:
        """Which of an interface's addresses speaks to `address`: one of the same prefix, else the first."""
        have = self.addresses.get(sw_if_index, ())
        for own, length in have:
            if (own ^ address) & mask(length) == 0:
                return own
        return have[0][0] if have else None

    # -- following an address

    def track(
        self, address: IPv4Address | str | int, callback: Callable[[Follower], None],
        fib_index: int = 0, through: int = NO_INTERFACE,
    ) -> Follower:  # fmt: skip
        """Follow an address: `callback(follower)` now and whenever where it leads may have changed."""
        track = self._track(fib_index, int(IPv4Address(address)))
        follower = Follower(track, callback, through)
        track.users[follower] = None
        if through != NO_INTERFACE:
            self._tunnels[through] = follower
            users = self._users(follower)
        else:
            users = []
        self._propagate([follower, *users], edges=True)
        return follower

    def untrack(self, follower: Follower) -> None:
        users = self._users(follower)
        if self._tunnels.get(follower.through) is follower:
            del self._tunnels[follower.through]
        del follower.track.users[follower]
        self._drop_track(follower.track)
        self._propagate(users, edges=True)

    def add_midchain(
        self,
        sw_if_index: int,
        rewrite: bytes,
        mtu: int | None,
        destination: IPv4Address | str | int,
        fib_index: int = 0,
    ) -> int:
        """A tunnel's adjacency: `rewrite` in front, then wherever `destination` leads. Its index."""
        index = self.adjacencies.add_midchain(sw_if_index, rewrite, mtu)
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

    # -- interfaces

    def link_added(self, link: Link) -> None:
        self.links[link.sw_if_index] = link

    def link_removed(self, sw_if_index: int) -> None:
        """The interface is gone: with it its addresses and every path through it."""
        for address, length in list(self.addresses.get(sw_if_index, ())):
            self.remove_address(sw_if_index, address, length)
        for index, (through, _) in list(self._midchains.items()):
            if through == sw_if_index:
                self.remove_midchain(index)
        for entry in list(self._by_link.get(sw_if_index, ())):
            for source, paths in list(entry.sources.items()):
                kept = tuple(path for path in paths if path.sw_if_index != sw_if_index)
                if len(kept) == len(paths):
                    continue
                where = (entry.prefix, entry.length)
                if kept:
                    self.update(where, kept, source, entry.fib_index)
                else:
                    self.remove(where, source, entry.fib_index)
        self.links.pop(sw_if_index, None)
        self.link_fib.pop(sw_if_index, None)

    def link_state(self, sw_if_index: int, flags: int) -> None:
        """Admin state or role changed: connected routes come and go, and no path leads out of what is down."""
        link = self.links[sw_if_index]
        was_up, role = link.admin_up, link.of_host
        link.flags = flags
        if link.admin_up != was_up:
            addresses = self.addresses.get(sw_if_index, [])
            for address, length in addresses:
                if link.admin_up:
                    self._add_interface_routes(link, address, length)
                else:
                    self._remove_interface_routes(link, address, length)
            self._propagate(list(self._by_link.get(sw_if_index, ())), edges=False)
            self._connected_changed(sw_if_index)
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

    def add_address(self, sw_if_index: int, address: int, length: int) -> None:
        """Give an interface an address, and with it what VPP adds: connected prefix, receive, network and broadcast."""
        link = self.links[sw_if_index]
        clash = self._conflict(sw_if_index, address, length)
        if clash is not None:
            other, taken, taken_length = clash
            raise OperatorError(
                f"failed to add {show(address, length)} on {link.name} which conflicts with"
                f" {show(taken, taken_length)} for interface {self.links[other].name}"
            )
        self.addresses.setdefault(sw_if_index, []).append((address, length))
        self._first_address_changed(sw_if_index)
        if link.admin_up:
            self._add_interface_routes(link, address, length)
            self._connected_changed(sw_if_index)

    def remove_address(self, sw_if_index: int, address: int, length: int) -> None:
        link = self.links[sw_if_index]
        have = self.addresses.get(sw_if_index, [])
        if (address, length) not in have:
            raise OperatorError(f"{show(address, length)} not found for interface {link.name}")
        have.remove((address, length))
        if not have:
            del self.addresses[sw_if_index]
        self._first_address_changed(sw_if_index)
        if link.admin_up:
            self._remove_interface_routes(link, address, length)
            self._connected_changed(sw_if_index)

    def _first_address_changed(self, sw_if_index: int) -> None:
        """What nodes use as source where nothing says more."""
        if self._first_address is None:
            return
        have = self.addresses.get(sw_if_index)
        self._first_address.array[sw_if_index] = have[0][0] if have else 0

    def _conflict(self, sw_if_index: int, address: int, length: int) -> tuple[int, int, int] | None:
        fib_index = self.link_fib.get(sw_if_index, 0)
        for other, have in self.addresses.items():
            if self.link_fib.get(other, 0) != fib_index:
                continue
            for taken, taken_length in have:
                if (taken ^ address) & mask(min(length, taken_length)):
                    continue
                if other == sw_if_index and taken_length == length and taken != address:
                    continue  # several addresses of one prefix
                return other, taken, taken_length
        return None

    def _interface_routes(self, link: Link, address: int, length: int) -> list[tuple[int, int, Path]]:
        """The entries that the first address of a prefix brings, but for its own /32."""
        routes = []
        network, broadcast = address & mask(length), address | ~mask(length) & ALL_ONES
        if length < 32:
            connected = Path(Via.CONNECTED, address, link.sw_if_index, length=length)
            routes.append((network, length, connected))
        if length == 31:
            routes.append((address ^ 1, 32, Path(Via.ATTACHED_NEXTHOP, address ^ 1, link.sw_if_index)))
        return routes + ([(network, 32, DROP_PATH), (broadcast, 32, DROP_PATH)] if length <= 30 else [])

    def _add_interface_routes(self, link: Link, address: int, length: int) -> None:
        fib_index = self.link_fib.get(link.sw_if_index, 0)
        key = (link.sw_if_index, address & mask(length), length)
        self._connected[key] = self._connected.get(key, 0) + 1
        if self._connected[key] == 1:
            for prefix, bits, path in self._interface_routes(link, address, length):
                if prefix != address or bits != 32:
                    self.update((prefix, bits), (path,), Source.INTERFACE, fib_index)
        self.update((address, 32), (Path(Via.RECEIVE, address, link.sw_if_index),), Source.INTERFACE, fib_index)

    def _remove_interface_routes(self, link: Link, address: int, length: int) -> None:
        fib_index = self.link_fib.get(link.sw_if_index, 0)
        key = (link.sw_if_index, address & mask(length), length)
        self._connected[key] -= 1
        self.remove((address, 32), Source.INTERFACE, fib_index)
        left = [each for each in self.addresses.get(link.sw_if_index, ()) if each[1] == length and each[0] != address]
        heir = next((own for own, _ in left if (own ^ address) & mask(length) == 0), None)
        if self._connected[key] and heir is not None:
            routes = self._interface_routes(link, heir, length)
            own = {each for each, _ in left}
            for prefix, bits, path in routes:
                if bits != 32 or prefix not in own:
                    self.update((prefix, bits), (path,), Source.INTERFACE, fib_index)
            return
        del self._connected[key]
        for prefix, bits, _ in self._interface_routes(link, address, length):
            if prefix != address or bits != 32:
                self.remove((prefix, bits), Source.INTERFACE, fib_index)

    def _connected_changed(self, sw_if_index: int) -> None:
        for callback in self.on_connected:
            callback(sw_if_index)

    def _refresh_flags(self, sw_if_index: int) -> None:
        for adjacency in self.adjacencies.on_link(sw_if_index):
            for index in adjacency.users:
                self.load_balances.refresh_flags(index)

    # -- entries

    def _create(self, vrf: Vrf, prefix: int, length: int, paths: Paths, source: Source) -> Entry:
        entry = Entry(vrf.fib_index, prefix, length)
        entry.sources[source] = paths
        entry.best = source
        vrf.by_length[length][prefix] = entry
        self._index_links(entry)
        entry.vias = self._acquire_vias(entry)
        entry.shares = self._resolve(entry)
        entry.lb = self.load_balances.create(entry.shares)
        self._owner[entry.lb] = entry
        self._point(vrf, prefix, length, entry.lb)
        moved = self._tracks_within(vrf, prefix, length)
        if moved:
            self._move(moved, entry)
        return entry

    def _destroy(self, vrf: Vrf, entry: Entry) -> None:
        if entry.length:
            cover = vrf.cover(entry.prefix, entry.length)
            del vrf.by_length[entry.length][entry.prefix]
            self._point(vrf, entry.prefix, entry.length, NONE)
            if entry.tracks:
                self._move(list(entry.tracks), cover)
        else:
            del vrf.by_length[0][0]
            self._point(vrf, 0, 0, NONE)
        self._release_vias(entry.vias, entry)
        entry.vias = ()
        gone = tuple(path for paths in entry.sources.values() for path in paths)
        entry.sources = {}
        self._index_links(entry, gone)
        del self._owner[entry.lb]
        self.trie.forget(entry.lb)
        self.load_balances.destroy(entry.lb)

    def _point(self, vrf: Vrf, prefix: int, length: int, lb: int) -> None:
        self.trie.set(vrf.fib_index, Prefixes.of(32, (prefix, length)), np.array([lb], np.uint32))

    def _activate(self, entry: Entry) -> None:
        """Another source, or other paths, decide about this entry now."""
        old = entry.vias
        entry.vias = self._acquire_vias(entry)
        gone = tuple(track for track in old if track not in entry.vias)
        self._release_vias(gone, entry)
        self._propagate([entry], edges=True)

    def _acquire_vias(self, entry: Entry) -> tuple[Track, ...]:
        found: dict[Track, None] = {}
        for path in entry.paths:
            if path.via == Via.RECURSIVE:
                found[self._track(entry.fib_index, path.address)] = None
        for track in found:
            track.users[entry] = None
        return tuple(found)

    def _release_vias(self, tracks: tuple[Track, ...], entry: Entry) -> None:
        for track in tracks:
            track.users.pop(entry, None)
            self._drop_track(track)

    def _index_links(self, entry: Entry, before: Paths = ()) -> None:
        """Keep `_by_link`: which entries name an interface, in any source. `before` are paths no longer there."""
        now = {path.sw_if_index for paths in entry.sources.values() for path in paths}
        now.discard(NO_INTERFACE)
        for sw_if_index in now:
            self._by_link.setdefault(sw_if_index, set()).add(entry)
        for path in before:
            users = self._by_link.get(path.sw_if_index)
            if users is not None and path.sw_if_index not in now:
                users.discard(entry)
                if not users:
                    del self._by_link[path.sw_if_index]

    # -- resolving

    def _resolve(self, entry: Entry) -> Shares:
        paths = entry.paths
        if len(paths) == 1:
            found = self._path(entry, paths[0])
            return found or DROPPED
        for preference in sorted({path.preference for path in paths}):
            shares: list[tuple[float, int]] = []
            for path in paths:
                if path.preference == preference:
                    found = self._path(entry, path)
                    total = sum(weight for weight, _ in found)
                    shares += [(path.weight * weight / total, adjacency) for weight, adjacency in found]
            if shares:
                return self._merged(shares)
        return DROPPED

    @staticmethod
    def _merged(shares: Iterable[tuple[float, int]]) -> Shares:
        """One share per adjacency."""
        by_adjacency: dict[int, float] = {}
        for weight, adjacency in shares:
            by_adjacency[adjacency] = by_adjacency.get(adjacency, 0.0) + weight
        if len(by_adjacency) == 1:
            return ((1.0, next(iter(by_adjacency))),)
        return tuple((weight, adjacency) for adjacency, weight in by_adjacency.items())

    def _path(self, entry: Entry, path: Path) -> Shares:
        """What one path contributes; nothing when it leads nowhere at the moment."""
        via = path.via
        if via in FIXED:
            return ((1.0, FIXED[via]),)
        if via == Via.RECEIVE:
            return ((1.0, self.adjacencies.local(path.sw_if_index, path.address)),)
        if via == Via.RECURSIVE:
            track = self.vrf(entry.fib_index).tracks[path.address]
            if track.entry.shares == DROPPED or self._leads_to(track.entry, entry):
                return ()
            return track.entry.shares
        link = self.links.get(path.sw_if_index)
        if link is None or not link.admin_up:
            return ()
        if via == Via.ATTACHED_NEXTHOP or link.p2p:
            return ((1.0, self.adjacencies.neighbor(link.sw_if_index, path.address)),)
        if via == Via.CONNECTED:
            prefix = path.address & mask(path.length)
            return ((1.0, self.adjacencies.glean(link.sw_if_index, prefix, path.length, path.address)),)
        return ((1.0, self.adjacencies.glean(link.sw_if_index, 0, 0, 0)),)

    def _leads_to(self, start: Entry, goal: Entry | Follower) -> bool:
        """Does the way through `start` come to `goal`? A tunnel is sought through other tunnels too."""
        if start is goal:
            return True
        over_tunnels = isinstance(goal, Follower) and bool(self._tunnels)
        if not start.vias and not over_tunnels:
            return False
        seen, todo = {start}, [start]
        while todo:
            entry = todo.pop()
            ahead = [track.entry for track in entry.vias]
            if over_tunnels:
                for path in entry.paths:
                    tunnel = self._tunnels.get(path.sw_if_index)
                    if tunnel is goal:
                        return True
                    if tunnel is not None:
                        ahead.append(tunnel.track.entry)
            for each in ahead:
                if each is goal:
                    return True
                if each not in seen:
                    seen.add(each)
                    todo.append(each)
        return False

    # -- tracks

    def _track(self, fib_index: int, address: int) -> Track:
        vrf = self.vrf(fib_index)
        track = vrf.tracks.get(address)
        if track is None:
            track = Track(fib_index, address, vrf.cover(address))
            self._hang(track, track.entry)
            vrf.tracks[address] = track
            insort(vrf.tracked, address)
        return track

    def _drop_track(self, track: Track) -> None:
        if track.users:
            return
        vrf = self.vrf(track.fib_index)
        del vrf.tracks[track.address]
        del vrf.tracked[bisect_left(vrf.tracked, track.address)]
        self._unhang(track)

    @staticmethod
    def _hang(track: Track, entry: Entry) -> None:
        track.entry = entry
        if entry.tracks is None:
            entry.tracks = {}
        entry.tracks[track] = None

    @staticmethod
    def _unhang(track: Track) -> None:
        tracks = track.entry.tracks
        if tracks is not None:
            tracks.pop(track, None)
            if not tracks:
                track.entry.tracks = None

    @staticmethod
    def _tracks_within(vrf: Vrf, prefix: int, length: int) -> list[Track]:
        """The tracks a new entry takes over."""
        tracked = vrf.tracked
        if not tracked:
            return []
        first, end = bisect_left(tracked, prefix), bisect_left(tracked, prefix + (1 << (32 - length)))
        tracks = (vrf.tracks[address] for address in tracked[first:end])
        return [track for track in tracks if track.entry.length < length]

    def _move(self, tracks: list[Track], entry: Entry) -> None:
        users: dict[Any, None] = {}
        for track in tracks:
            self._unhang(track)
            self._hang(track, entry)
            users.update(track.users)
        self._propagate(list(users), edges=True)

    # -- propagation

    def _users(self, node: Entry | Follower) -> list[Any]:
        """Who is resolved through this entry or tunnel."""
        if isinstance(node, Entry):
            return [user for track in node.tracks or () for user in track.users]
        adjacencies = self.adjacencies.on_link(node.through) if node.through != NO_INTERFACE else []
        return [self._owner[index] for each in adjacencies for index in each.users if index in self._owner]

    def _propagate(self, nodes: list[Any], *, edges: bool) -> None:
        """Recompute `nodes` and, for as long as something changes, who depends on them.

        When edges changed (who goes through whom), loops may have opened or closed, so everything downstream is
        looked at once even if what lies between did not change. A path that loops counts for nothing on every entry of
        the loop; what is left depends on each other without cycles, and this ends.
        """
        queue = deque(nodes)
        waiting = set(nodes)
        forced: set[Any] = set(nodes) if edges else set()
        while queue:
            node = queue.popleft()
            waiting.discard(node)
            changed = self._recompute(node)
            if not changed and node not in forced:
                continue
            for user in self._users(node):
                if node in forced and user not in forced:
                    forced.add(user)
                elif not changed:
                    continue
                if user not in waiting:
                    waiting.add(user)
                    queue.append(user)

    def _recompute(self, node: Entry | Follower) -> bool:
        if isinstance(node, Follower):
            return self._recompute_follower(node)
        shares = self._resolve(node)
        if shares == node.shares:
            return False
        node.shares = shares
        self.load_balances.update(node.lb, shares)
        return True

    def _recompute_follower(self, follower: Follower) -> bool:
        entry = follower.track.entry
        follower.looped = follower.through != NO_INTERFACE and self._leads_to(entry, follower)
        follower.lb, follower.shares = (0, DROPPED) if follower.looped else (entry.lb, entry.shares)
        follower.callback(follower)
        return False

    # -- reading

    def contribution(self, entry: Entry, path: Path) -> Shares:
        """What a path of the entry's best source adds to its shares now."""
        found, used = self._path(entry, path), {adjacency for _, adjacency in entry.shares}
        for _, adjacency in found:
            self.adjacencies.free_if_unused(adjacency)
        return tuple(share for share in found if share[1] in used)

    def midchain_of(self, adjacency: Adjacency) -> Follower | None:
        found = self._midchains.get(adjacency.index)
        return found[1] if found is not None else None
