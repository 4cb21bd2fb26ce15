# SPDX-License-Identifier: Apache-2.0
"""The IPv4 trie of 16, 8 and 8 bits (VPP's ip4_mtrie): at most three dependent loads per lookup.

A leaf is odd when terminal (load balance << 1 | 1), else twice the number of the ply below. Beside each leaf, the
length of the prefix that put it there; only the control plane reads that. A ply counts the leaves that are its own
(longer than the prefix it hangs on, or leading further down): at none it has become its covering prefix, and goes.

Workers read while this writes. Every change is one aligned store per leaf, and a new ply is filled before the store
that makes it reachable (stores that may alias are kept in order by the compiler, and by x86 for other processors), so
a lookup finds the old or the new answer.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from pyvpp.jit import inline, jit
from pyvpp_nodes.fib.pool import Pool
from pyvpp_nodes.fib.tables import PLY, ROOT
from pyvpp_nodes.integers import int64

DROP = 1


@inline
def fib_lookup(ip4_fib_roots: Any, ip4_fib_plies: Any, fib_index: int, dst: int) -> int:
    """The load balance that `dst` leads to."""
    address = int64(dst)
    leaf = int64(ip4_fib_roots[(int64(fib_index) << 16) + (address >> 16)])
    if leaf & 1 == 0:
        leaf = int64(ip4_fib_plies[(leaf << 7) + ((address >> 8) & 255)])
        if leaf & 1 == 0:
            leaf = int64(ip4_fib_plies[(leaf << 7) + (address & 255)])
    return int(leaf >> 1)


@jit
def lookup_many(roots: Any, plies: Any, fib_index: int, addresses: Any, out: Any) -> None:
    """`fib_lookup` for a vector, for the control plane and tests."""
    for i in range(len(addresses)):
        out[i] = fib_lookup(roots, plies, fib_index, addresses[i])


@jit
def _fill(plies: Any, ply_lengths: Any, ply: int, leaf: int, length: int) -> None:
    for i in range(ply * PLY, ply * PLY + PLY):
        plies[i] = leaf
        ply_lengths[i] = length


@jit
def _replace(plies: Any, ply_lengths: Any, owned: Any, first: int, count: int, old: int, leaf: int, new: int) -> None:
    """In a ply and those below, let leaves of length `old` (up to `new`, when `old` is -1) be `leaf`, of `new`."""
    for i in range(first, first + count):
        below = int64(plies[i])
        if below & 1:
            had = int64(ply_lengths[i])
            if had == old or (old < 0 and had <= new):
                plies[i] = leaf
                ply_lengths[i] = new
                owned[i >> 8] += int64(new > 16) - int64(had > 16)
        else:
            for j in range(below << 7, (below << 7) + PLY):
                had = int64(ply_lengths[j])
                if had == old or (old < 0 and had <= new):
                    plies[j] = leaf
                    ply_lengths[j] = new


@jit
def _replace_bottom(
    plies: Any, ply_lengths: Any, owned: Any, first: int, count: int, old: int, leaf: int, new: int
) -> None:
    """The same in a ply of the last eight bits, for a prefix longer than 24."""
    for j in range(first, first + count):
        had = int64(ply_lengths[j])
        if had == old or (old < 0 and had <= new):
            plies[j] = leaf
            ply_lengths[j] = new
            owned[j >> 8] += int64(new > 24) - int64(had > 24)


@jit
def mtrie_insert(
    roots: Any, plies: Any, root_lengths: Any, ply_lengths: Any, owned: Any,
    slot: int, low: int, length: int, leaf: int, ply1: int, ply2: int,
) -> None:  # fmt: skip
    """Put a prefix in: `slot` of the root, its `low` 16 bits, new plies for the middle and the bottom, or 0."""
    if length <= 16:
        for i in range(slot, slot + (1 << (16 - length))):
            below = int64(roots[i])
            if below & 1:
                if root_lengths[i] <= length:
                    roots[i] = leaf
                    root_lengths[i] = length
            else:
                _replace(plies, ply_lengths, owned, below << 7, PLY, -1, leaf, length)
        return
    middle = int64(ply1)
    if ply1:
        _fill(plies, ply_lengths, ply1, int64(roots[slot]), int64(root_lengths[slot]))
        owned[ply1] = 0
    else:
        middle = int64(roots[slot]) >> 1
    at = middle * PLY + (low >> 8)
    if length <= 24:
        _replace(plies, ply_lengths, owned, at, 1 << (24 - length), -1, leaf, length)
    else:
        bottom = int64(ply2)
        if ply2:
            _fill(plies, ply_lengths, ply2, int64(plies[at]), int64(ply_lengths[at]))
            owned[ply2] = 0
        else:
            bottom = int64(plies[at]) >> 1
        _replace_bottom(plies, ply_lengths, owned, bottom * PLY + (low & 255), 1 << (32 - length), -1, leaf, length)
        if ply2:
            owned[middle] += 1 - int64(ply_lengths[at] > 16)
            plies[at] = ply2 << 1
    if ply1:
        roots[slot] = ply1 << 1


@jit
def mtrie_remove(
    roots: Any, plies: Any, root_lengths: Any, ply_lengths: Any, owned: Any,
    slot: int, low: int, length: int, cover: int, cover_length: int,
) -> int:  # fmt: skip
    """Let the covering leaf show again. The plies that nothing needs any more: middle << 32 | bottom."""
    if length <= 16:
        for i in range(slot, slot + (1 << (16 - length))):
            below = int64(roots[i])
            if below & 1:
                if root_lengths[i] == length:
                    roots[i] = cover
                    root_lengths[i] = cover_length
            else:
                _replace(plies, ply_lengths, owned, below << 7, PLY, length, cover, cover_length)
        return 0
    freed = int64(0)
    middle = int64(roots[slot]) >> 1
    at = middle * PLY + (low >> 8)
    if length <= 24:
        _replace(plies, ply_lengths, owned, at, 1 << (24 - length), length, cover, cover_length)
    else:
        bottom = int64(plies[at]) >> 1
        _replace_bottom(
            plies, ply_lengths, owned, bottom * PLY + (low & 255), 1 << (32 - length), length, cover, cover_length
        )
        if owned[bottom] == 0:
            ply_lengths[at] = ply_lengths[bottom * PLY]
            owned[middle] += int64(ply_lengths[at] > 16) - 1
            plies[at] = plies[bottom * PLY]
            freed = bottom
    if owned[middle] == 0:
        root_lengths[slot] = ply_lengths[middle * PLY]
        roots[slot] = plies[middle * PLY]
        freed |= middle << 32
    return int(freed)


class Mtrie:
    """The trie's owner: knows which plies are free and keeps the lengths."""

    def __init__(self, tables: Mapping[str, Any], synchronize: Callable[[], None] | None = None) -> None:
        self._roots_table = tables["ip4_fib_roots"]
        self._plies_table = tables["ip4_fib_plies"]
        self.root_lengths = np.zeros(0, np.uint8)
        capacity = len(self._plies_table.array) // PLY
        self.ply_lengths = np.zeros(capacity * PLY, np.uint8)
        self.owned = np.zeros(capacity, np.int64)
        self.pool = Pool(capacity, self._grow, synchronize)

    def add_root(self, fib_index: int) -> None:
        """An empty trie: everything leads to load balance 0, which drops."""
        end = (fib_index + 1) * ROOT
        if len(self._roots_table.array) < end:
            self._roots_table.grow(end)
        if len(self.root_lengths) < end:
            self.root_lengths = _extended(self.root_lengths, end)
        self.root_lengths[end - ROOT : end] = 0
        self._roots_table.array[end - ROOT : end] = DROP

    def insert(self, fib_index: int, prefix: int, length: int, load_balance: int) -> None:
        roots = self._roots_table.array
        slot, low = (fib_index << 16) + (prefix >> 16), prefix & 0xFFFF
        ply1 = ply2 = 0
        if length > 16:
            middle = int(roots[slot])
            if middle & 1:
                ply1 = self.pool.allocate()
                ply2 = self.pool.allocate() if length > 24 else 0
            elif length > 24 and int(self._plies_table.array[(middle << 7) + (low >> 8)]) & 1:
                ply2 = self.pool.allocate()
        mtrie_insert(
            self._roots_table.array, self._plies_table.array, self.root_lengths, self.ply_lengths, self.owned,
            slot, low, length, load_balance << 1 | 1, ply1, ply2,
        )  # fmt: skip

    def remove(self, fib_index: int, prefix: int, length: int, cover: int, cover_length: int) -> None:
        """Take a prefix out that is in; `cover` is the load balance of the next shorter one that holds it."""
        freed = mtrie_remove(
            self._roots_table.array, self._plies_table.array, self.root_lengths, self.ply_lengths, self.owned,
            (fib_index << 16) + (prefix >> 16), prefix & 0xFFFF, length, cover << 1 | 1, cover_length,
        )  # fmt: skip
        if freed:
            for ply in (int(freed) & 0xFFFFFFFF, int(freed) >> 32):
                if ply:
                    self.pool.free(ply)

    def lookup(self, fib_index: int, address: int) -> int:
        leaf = int(self._roots_table.array[(fib_index << 16) + (address >> 16)])
        if leaf & 1 == 0:
            leaf = int(self._plies_table.array[(leaf << 7) + ((address >> 8) & 255)])
            if leaf & 1 == 0:
                leaf = int(self._plies_table.array[(leaf << 7) + (address & 255)])
        return leaf >> 1

    @property
    def plies_in_use(self) -> int:
        return self.pool.in_use

    def _grow(self, needed: int) -> int:
        self._plies_table.grow(max(needed, 2 * self.pool.capacity) * PLY)
        capacity = len(self._plies_table.array) // PLY
        self.ply_lengths = _extended(self.ply_lengths, capacity * PLY)
        self.owned = _extended(self.owned, capacity)
        return capacity


def _extended(array: Any, size: int) -> Any:
    grown = np.zeros(size, array.dtype)
    grown[: len(array)] = array
    return grown
