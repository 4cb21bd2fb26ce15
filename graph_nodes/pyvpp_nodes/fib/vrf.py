# SPDX-License-Identifier: Apache-2.0
"""One routing table. Which prefix has which route stands in the trie; here is what control code follows besides."""

from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping

import numpy as np

from pyvpp_nodes.fib.entry import Entry, Route, Track
from pyvpp_nodes.fib.family import Family
from pyvpp_nodes.fib.trie.arrays import NONE
from pyvpp_nodes.fib.trie.owner import Prefixes, Trie


class Vrf:
    """A table's entries, and the addresses tracked in it, in order. `routes` is by load balance."""

    def __init__(self, table_id: int, fib_index: int, family: Family, trie: Trie, routes: Mapping[int, Route]) -> None:
        self.table_id = table_id
        self.fib_index = fib_index
        self.family = family
        self.tracks: dict[int, Track] = {}
        self._tracked: list[int] = []
        self._trie = trie
        self._routes = routes

    def find(self, prefix: int, length: int) -> Entry | None:
        """Exactly this prefix."""
        lb = self._trie.find_one(self.fib_index, self.family.bits, prefix, length)
        return None if lb == NONE else Entry(self.fib_index, prefix, length, self._routes[lb])

    def cover(self, address: int, below: int | None = None) -> Entry:
        """The longest entry that holds `address` and is shorter than `below`; the default route is always there."""
        most = self.family.bits if below is None else below - 1
        lengths, lbs = self._trie.cover(self.fib_index, Prefixes.of(self.family.bits, (address, most)))
        if int(lbs[0]) == NONE:
            raise LookupError(self.family.show(address))
        length = int(lengths[0])
        return Entry(self.fib_index, address & self.family.mask(length), length, self._routes[int(lbs[0])])

    def by_length(self) -> dict[int, int]:
        """How many entries there are of each prefix length."""
        return {length: count for length, count in enumerate(self._trie.by_length(self.fib_index)) if count}

    def __len__(self) -> int:
        return self._trie.count(self.fib_index)

    def __iter__(self) -> Iterator[Entry]:
        """By prefix, the longer first, as VPP shows them but for the default route."""
        prefixes, lbs = self._trie.routes(self.fib_index)
        at_zero = (prefixes.high | prefixes.low) == 0
        length = prefixes.length.astype(np.int64)
        order = np.lexsort((np.where(at_zero, length, -length), prefixes.low, prefixes.high))
        prefixes, lbs = prefixes.pick(order), lbs[order]
        for address, bits, lb in zip(prefixes.addresses(self.family.bits), prefixes.length, lbs, strict=True):
            yield Entry(self.fib_index, address, int(bits), self._routes[int(lb)])

    # -- tracked addresses

    def track(self, address: int) -> Track:
        """The track of an address, made when nobody follows it yet."""
        track = self.tracks.get(address)
        if track is None:
            track = self.tracks[address] = Track(self.fib_index, address, self.cover(address).route)
            track.route.tracks[track] = None
            insort(self._tracked, address)
        return track

    def drop_if_unused(self, track: Track) -> None:
        if not track.users:
            del self.tracks[track.address]
            del self._tracked[bisect_left(self._tracked, track.address)]
            del track.route.tracks[track]

    def moved(self, prefix: int = 0, length: int = 0) -> list[Track]:
        """Tracks within a prefix that take another route than before, put there."""
        if not self._tracked:
            return []
        first = bisect_left(self._tracked, prefix)
        end = bisect_left(self._tracked, prefix + (1 << (self.family.bits - length)))
        tracks = [self.tracks[address] for address in self._tracked[first:end]]
        bits = self.family.bits
        _, lbs = self._trie.cover(self.fib_index, Prefixes.of(bits, *((track.address, bits) for track in tracks)))
        moved = []
        for track, lb in zip(tracks, lbs, strict=True):
            route = self._routes[int(lb)]
            if track.route is not route:
                del track.route.tracks[track]
                track.route = route
                route.tracks[track] = None
                moved.append(track)
        return moved
