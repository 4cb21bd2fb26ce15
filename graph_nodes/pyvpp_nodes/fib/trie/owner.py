# SPDX-License-Identifier: Apache-2.0
"""The forwarding trie's owner: its arrays, their growth, and when what was freed may be used again."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import numpy as np

from pyvpp.jit import Native
from pyvpp.typing import U8, U32, U64
from pyvpp_nodes.fib.trie import arrays, build, edit
from pyvpp_nodes.fib.trie.arrays import NONE
from pyvpp_nodes.fib.trie.change import RETIRED_IS_FULL, TREE_IS_FULL, change
from pyvpp_nodes.fib.trie.lookup import ROOT_BITS, lookup4_many, lookup6_many

ROOTS = 1 << ROOT_BITS
REST = 2048  # blocks: 100 KB, for which it is worth waiting for the workers


class Prefixes(NamedTuple):
    """Prefixes as arrays: 128-bit addresses, left-aligned, in two words; an IPv4 address is `high >> 32`."""

    high: U64
    low: U64
    length: U8

    @staticmethod
    def of(bits: int, *prefixes: tuple[int, int]) -> "Prefixes":
        """Of (address, length), the addresses as numbers of so many bits."""
        words = [address << (128 - bits) for address, _ in prefixes]
        return Prefixes(
            np.array([word >> 64 for word in words], np.uint64),
            np.array([word & arrays.ALL for word in words], np.uint64),
            np.array([length for _, length in prefixes], np.uint8),
        )

    @staticmethod
    def row(bits: int, first: int, length: int, count: int) -> "Prefixes":
        """So many prefixes of one length side by side."""
        shift = 128 - length
        number, start = np.arange(count, dtype=np.uint64), first << (128 - bits)
        if shift >= 64:
            high, low = number << np.uint64(shift - 64), np.zeros(count, np.uint64)
        else:
            high = number >> np.uint64(64 - shift) if shift else np.zeros(count, np.uint64)
            low = number << np.uint64(shift)
        low = low + np.uint64(start & arrays.ALL)
        carry = (low < np.uint64(start & arrays.ALL)).astype(np.uint64)
        return Prefixes(high + np.uint64(start >> 64) + carry, low, np.full(count, length, np.uint8))

    def pick(self, which: Any) -> "Prefixes":
        """Some of them: what indexes or masks an array."""
        return Prefixes(self.high[which], self.low[which], self.length[which])

    def addresses(self, bits: int) -> list[int]:
        """The addresses as numbers of so many bits."""
        if bits <= 64:
            return [int(each) for each in self.high >> np.uint64(64 - bits)]
        return [int(high) << 64 | int(low) for high, low in zip(self.high, self.low, strict=True)]


class Trie:
    """Routes of one address family's tables: prefix to load balance, kept as a tree, projected into two tables.

    `synchronize()` returns when no worker can still hold what it read before the call. The tables have `.array`,
    `.zeros(n)` (a new array), `.swap(array)` (into its place, while workers stand still) and `.grow(n)`.
    """

    def __init__(
        self,
        roots: Any,
        nodes: Any,
        synchronize: Callable[[], None] = lambda: None,
        barrier: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        self._roots_table, self._nodes_table = roots, nodes
        self._synchronize, self._barrier = synchronize, barrier
        self._tops: dict[int, int] = {}  # by fib_index: the topmost tree node
        self._arrays = arrays.Arrays(
            roots=roots.array,
            nodes=nodes.array,
            nodes_heap=np.zeros(arrays.HEAP_WORDS, np.int64),
            tree=np.zeros(256, arrays.TREE_NODE),
            cells=np.zeros(4096, np.uint32),
            cells_heap=np.zeros(arrays.HEAP_WORDS, np.int64),
            retired=np.zeros(2 * REST, np.uint32),
            uniform=np.zeros(256, np.uint32),
            counts=np.zeros(arrays.LENGTHS, np.int64),
            registers=np.zeros(arrays.REGISTERS, np.int64),
            scratch=np.zeros(64, np.uint32),
        )
        self._key, self._value = Prefixes.of(128, (0, 0)), np.zeros(1, np.uint32)
        self._arrays.registers[arrays.TREE_NEXT] = 1
        self._arrays.cells_heap[arrays.HEAP_NEXT] = 4
        _begin(self._arrays)

    # -- tables

    def add_table(self, fib_index: int) -> None:
        """An empty table: everything leads to load balance 0, which drops."""
        t, first = self._arrays, fib_index * ROOTS
        if len(t.roots) < first + ROOTS:
            self._roots_table.grow(first + ROOTS)
        if len(t.counts) < (fib_index + 1) * arrays.LENGTHS:
            t = t._replace(counts=_grown(t.counts, (fib_index + 1) * arrays.LENGTHS))
        self._arrays = t._replace(roots=self._roots_table.array)
        self._room_for_edit()
        self._tops[fib_index] = int(edit.new_top(self._arrays, first))

    def remove_table(self, fib_index: int) -> None:
        """Forget a table that has no routes any more."""
        edit.free_top(self._arrays, self._tops.pop(fib_index))

    # -- routes

    def set(self, fib_index: int, prefixes: Prefixes, values: U32) -> None:
        """Let prefixes lead to load balances, or take them out (NONE). No prefix may come twice.

        While this runs, a lookup finds what it would have found before the call or what it finds after it.
        """
        self._room_for_value(int(values[values != NONE].max(initial=0)))
        self._change(fib_index, prefixes, values)

    def set_one(self, fib_index: int, bits: int, address: int, length: int, value: int) -> None:
        """`set` for one prefix; the address is a number of so many bits."""
        if value != NONE:
            self._room_for_value(value)
        self._value[0] = value
        self._change(fib_index, self._key_of(bits, address, length), self._value)

    def _change(self, fib_index: int, prefixes: Prefixes, values: U32) -> None:
        top = self._tops[fib_index]
        while missing := change(self._arrays, top, fib_index, *prefixes, values):
            if missing == TREE_IS_FULL:
                self._room_for_edit()
            elif missing == RETIRED_IS_FULL:
                self._room_to_retire(int(self._arrays.registers[arrays.MARKED]))
            else:
                self._renew()
        if int(self._arrays.registers[arrays.RETIRED]) > REST:
            self.reclaim()

    def _key_of(self, bits: int, address: int, length: int) -> Prefixes:
        """One prefix, in arrays that are used for every single one: making some takes as long as what they are for."""
        word = address << (128 - bits)
        self._key.high[0], self._key.low[0], self._key.length[0] = word >> 64, word & arrays.ALL, length
        return self._key

    def find(self, fib_index: int, prefixes: Prefixes) -> U32:
        """The load balances of exactly these prefixes, NONE where there is no route."""
        out = np.empty(len(prefixes.length), np.uint32)
        edit.find(self._arrays, self._tops[fib_index], *prefixes, out)
        return out

    def find_one(self, fib_index: int, bits: int, address: int, length: int) -> int:
        """`find` for one prefix; the address is a number of so many bits."""
        edit.find(self._arrays, self._tops[fib_index], *self._key_of(bits, address, length), self._value)
        return int(self._value[0])

    def cover(self, fib_index: int, prefixes: Prefixes) -> tuple[U8, U32]:
        """The longest routes that hold these prefixes, themselves included: their lengths and load balances."""
        lengths, out = prefixes.length.copy(), np.empty(len(prefixes.length), np.uint32)
        edit.cover(self._arrays, self._tops[fib_index], prefixes.high, prefixes.low, lengths, out)
        return lengths, out

    def routes(self, fib_index: int) -> tuple[Prefixes, U32]:
        """All routes of a table and their load balances, by address, the shorter prefix first."""
        n = self.count(fib_index)
        found = Prefixes(np.empty(n, np.uint64), np.empty(n, np.uint64), np.empty(n, np.uint8))
        values = np.empty(n, np.uint32)
        edit.dump(self._arrays, self._tops[fib_index], *found, values)
        order = np.lexsort((found.length, found.low, found.high))
        return found.pick(order), values[order]

    def by_length(self, fib_index: int) -> list[int]:
        """How many routes a table has of each prefix length."""
        first = fib_index * arrays.LENGTHS
        return [int(n) for n in self._arrays.counts[first : first + arrays.LENGTHS]]

    def count(self, fib_index: int) -> int:
        return sum(self.by_length(fib_index))

    def forget(self, value: int) -> None:
        """No route leads to this load balance any more."""
        if value < len(self._arrays.uniform):
            self._room_to_retire(1)
            build.forget(self._arrays, value)

    # -- lookups as the dataplane makes them

    def lookup(self, fib_index: int, high: U64, low: U64, bits: int) -> U32:
        out = np.empty(len(high), np.uint32)
        if bits == 32:
            lookup4_many(self._arrays.roots, self._arrays.nodes, fib_index, high, out)
        else:
            lookup6_many(self._arrays.roots, self._arrays.nodes, fib_index, high, low, out)
        return out

    # -- room

    @property
    def resting(self) -> int:
        """Blocks that wait for the workers to pass."""
        return int(self._arrays.registers[arrays.RETIRED])

    @property
    def words_in_use(self) -> int:
        """Words of blocks, those included that rest."""
        return int(self._arrays.nodes_heap[arrays.HEAP_USED])

    def reclaim(self) -> None:
        self._synchronize()
        build.reclaim(self._arrays)

    def _room_for_value(self, value: int) -> None:
        t = self._arrays
        if value >= len(t.uniform):
            self._arrays = t._replace(uniform=_grown(t.uniform, 2 * value))

    def _room_for_edit(self) -> None:
        t = self._arrays
        if int(t.registers[arrays.TREE_NEXT]) + arrays.LEVELS > len(t.tree):
            t = t._replace(tree=_grown(t.tree, 2 * len(t.tree)))
        if int(t.cells_heap[arrays.HEAP_NEXT]) + arrays.CELLS_AT_ONCE > len(t.cells):
            t = t._replace(cells=_grown(t.cells, 2 * len(t.cells)))
        self._arrays = t

    def _room_to_retire(self, more: int) -> None:
        t = self._arrays
        needed = self.resting + more
        if needed > len(t.retired):
            self._arrays = t._replace(retired=_grown(t.retired, 2 * needed))

    def _renew(self) -> None:
        """No room for a block: make all blocks anew, close together in an array of the size they need, and swap."""
        t = self._arrays
        words = int(build.renew(t))
        nodes = self._nodes_table.zeros(words + words // 4 + (1 << 14))
        t = t._replace(roots=self._roots_table.zeros(len(t.roots)), nodes=nodes)
        _begin(t)
        if not build.build(t):
            raise MemoryError(f"{words} words were too few for the blocks")
        with self._barrier():
            self._roots_table.swap(t.roots)
            self._nodes_table.swap(t.nodes)
        self._arrays = t


def _use_all() -> None:
    """Every compiled function once."""
    trie = Trie(_Alone(ROOTS), _Alone(4))
    trie.add_table(0)
    some = Prefixes.of(32, (0, 0), (0x0A000000, 24), (0x0A000100, 25))
    trie.set(0, some, np.array([1, 2, 3], np.uint32))  # no room: all is made anew
    trie.find(0, some)
    trie.cover(0, some)
    trie.routes(0)
    for bits in (32, 128):
        trie.lookup(0, some.high, some.low, bits)
    trie.set(0, some, np.full(3, NONE, np.uint32))
    trie.forget(1)
    trie.reclaim()
    trie.remove_table(0)


NATIVE = Native("fib", _use_all)


class _Alone:
    """A table of nobody else's."""

    def __init__(self, size: int) -> None:
        self.array = self.zeros(size)

    def zeros(self, size: int) -> U32:
        return np.zeros(size, np.uint32)

    def swap(self, array: U32) -> None:
        self.array = array


def _begin(t: arrays.Arrays) -> None:
    """Empty the heap of blocks but for the one at 0, which drops."""
    t.nodes_heap[:] = 0
    t.nodes_heap[arrays.HEAP_NEXT] = 4
    t.nodes[0], t.nodes[1], t.nodes[2] = 1, 0, 0


def _grown(array: Any, size: int) -> Any:
    grown = np.zeros(size, array.dtype)
    grown[: len(array)] = array
    return grown
