# SPDX-License-Identifier: Apache-2.0
"""Load balances: one per route of either family, spreading packets over adjacencies in proportion to their weights."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from pyvpp_nodes.fib.adjacency import DROP, Adjacencies
from pyvpp_nodes.fib.family import IP4, Family
from pyvpp_nodes.fib.pool import Pool
from pyvpp_nodes.fib.tables import FLOW_HASH_DEFAULT, LB_PASS_THROUGH, LB_RECEIVE, Kind

MAX_BUCKETS = 8192
TOLERANCE = 0.1

Shares = tuple[tuple[float, int], ...]  # (weight, adjacency)
DROPPED: Shares = ((1.0, DROP),)


def normalize(shares: Sequence[tuple[float, int]]) -> list[int]:
    """The adjacency of each bucket: the fewest buckets, a power of two, that keep the error within VPP's tolerance.

    Rounding moves buckets between adjacencies; their sum, as a part of all buckets, is the error.
    """
    ordered = sorted(shares, key=lambda each: -each[0])
    total = sum(weight for weight, _ in ordered)
    n = 1
    while n < len(ordered):
        n *= 2
    while True:
        left, error, counts = n, 0.0, []
        for weight, _ in ordered:
            exact = weight * n / total
            count = min(int(exact + 0.5), left)
            left -= count
            error += abs(exact - count)
            counts.append(count)
        counts[0] += left
        if error <= TOLERANCE * n or n >= MAX_BUCKETS:
            break
        n *= 2
    return [adjacency for (_, adjacency), count in zip(ordered, counts, strict=True) for _ in range(count)]


class LoadBalances:
    """Slots of `load_balances` and `lb_buckets`. Index 0 drops.

    A load balance is changed in place: (n_buckets, next, adj) is one word, so one store turns a single next hop
    into another. With several buckets a new block is filled first; the order of the two stores below lets no reader
    run past it.
    """

    def __init__(
        self,
        tables: Mapping[str, Any],
        adjacencies: Adjacencies,
        synchronize: Callable[[], None] | None = None,
    ) -> None:
        self._tables = tables
        self._table = tables["load_balances"]
        self._bucket_table = tables["lb_buckets"]
        self._counters = tables.get("route_counters")
        self._adjacencies = adjacencies
        self._array: Any = None
        self._words: Any = None
        self._bucket_array: Any = None
        self._bucket_words: Any = None
        self.pool = Pool(len(self._table.array), self._grow, synchronize)
        self.bucket_pool = Pool(len(self._bucket_table.array), self._grow_buckets, synchronize, reserved=0)
        self._members: dict[int, tuple[int, ...]] = {0: (DROP,)}
        self._families: dict[int, Family] = {0: IP4}
        self._blocks: dict[int, tuple[int, int]] = {}
        adjacencies.patch = self.patch
        self._write(0, [DROP], FLOW_HASH_DEFAULT)

    def create(self, shares: Shares, flow_hash: int = FLOW_HASH_DEFAULT, family: Family = IP4) -> int:
        index = self.pool.allocate()
        self._families[index] = family
        for counters in getattr(self._counters, "arrays", ()):
            counters[index : index + 1] = np.zeros(1, counters.dtype)
        self._set(index, shares, flow_hash)
        return index

    def update(self, index: int, shares: Shares) -> None:
        flow_hash = int(self._records()["flow_hash"][index])
        self._set(index, shares, flow_hash)

    def destroy(self, index: int) -> None:
        """Forget one that no leaf and no tunnel names any more."""
        members = self._members.pop(index)
        del self._families[index]
        block = self._blocks.pop(index, None)
        self.pool.free(index)
        if block is not None:
            self.bucket_pool.free(*block)
        for adjacency in members:
            self._adjacencies.unlock(adjacency, index)

    def buckets(self, index: int) -> list[int]:
        block = self._blocks.get(index)
        if block is None:
            return [int(self._records()["adj"][index])]
        first, n = block
        return [int(adj) for adj in self._bucket_table.array["adj"][first : first + n]]

    def family(self, index: int) -> Family:
        return self._families[index]

    def flags(self, index: int) -> int:
        return int(self._records()["flags"][index])

    def refresh_flags(self, index: int) -> None:
        self._records()["flags"][index] = self._flags(self._members[index])

    def patch(self, load_balances: set[int], adjacency: int, next_: int) -> None:
        """An adjacency became complete or incomplete: another node takes its packets from here on."""
        array = self._records()
        nexts = array["next"]
        for index in load_balances:
            block = self._blocks.get(index)
            if block is None:
                nexts[index] = next_
            else:
                first, n = block
                rows = self._bucket_table.array[first : first + n]
                rows["next"][rows["adj"] == adjacency] = next_

    def __iter__(self) -> Iterator[int]:
        return iter(sorted(self._members))

    def __contains__(self, index: int) -> bool:
        return index in self._members

    def __len__(self) -> int:
        return len(self._members) - 1

    def _set(self, index: int, shares: Shares, flow_hash: int) -> None:
        buckets = [shares[0][1]] if len(shares) == 1 else normalize(shares)
        members = tuple(adjacency for _, adjacency in shares)
        before = self._members.get(index, ())
        for adjacency in members:
            if adjacency not in before:
                self._adjacencies.lock(adjacency, index)
        self._members[index] = members
        old_block = self._blocks.pop(index, None)
        self._write(index, buckets, flow_hash, old_block)
        if old_block is not None:
            self.bucket_pool.free(*old_block)
        for adjacency in before:
            if adjacency not in members:
                self._adjacencies.unlock(adjacency, index)

    def _write(self, index: int, buckets: list[int], flow_hash: int, old_block: tuple[int, int] | None = None) -> None:
        n, first = len(buckets), 0
        nexts = {each: self._adjacencies.next_of(each, self._families[index]) for each in buckets}
        if n > 1:
            first = self.bucket_pool.allocate(n)
            self._blocks[index] = (first, n)
            words = self._bucket_records()
            for k, adjacency in enumerate(buckets):
                words[first + k] = nexts[adjacency] | adjacency << 32
        self._records()
        head = n | nexts[buckets[0]] << 16 | buckets[0] << 32
        tail = first | flow_hash << 32 | self._flags(tuple(buckets)) << 48
        at = 2 * index
        if old_block is not None and old_block[1] > n:
            self._words[at] = head
            self._words[at + 1] = tail
        else:
            self._words[at + 1] = tail
            self._words[at] = head

    def _flags(self, members: tuple[int, ...]) -> int:
        """Whose traffic is it? Pass-through when every member leads to the host's side or drops."""
        flags, links = LB_PASS_THROUGH, self._adjacencies.links
        for index in members:
            adjacency = self._adjacencies[index]
            if adjacency.kind == Kind.LOCAL:
                flags |= LB_RECEIVE
            if adjacency.kind == Kind.DROP:
                continue
            link = links.get(adjacency.sw_if_index)
            out = adjacency.kind in (Kind.LOCAL, Kind.ARP, Kind.GLEAN, Kind.REWRITE)
            if not (out and link is not None and link.of_host):
                flags &= ~LB_PASS_THROUGH
        return flags

    def _records(self) -> Any:
        if self._table.array is not self._array:
            self._array = self._table.array
            self._words = self._array.view(np.uint64)
        return self._array

    def _bucket_records(self) -> Any:
        if self._bucket_table.array is not self._bucket_array:
            self._bucket_array = self._bucket_table.array
            self._bucket_words = self._bucket_array.view(np.uint64)
        return self._bucket_words

    def _grow(self, needed: int) -> int:
        needed = max(needed, 2 * len(self._table.array))
        if self._counters is not None:
            self._counters.grow(needed)
        self._table.grow(needed)
        return len(self._table.array)

    def _grow_buckets(self, needed: int) -> int:
        self._bucket_table.grow(max(needed, 2 * len(self._bucket_table.array)))
        return len(self._bucket_table.array)
