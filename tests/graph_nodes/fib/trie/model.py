# SPDX-License-Identifier: Apache-2.0
"""A routing table by the definition, and the strategies that put a trie beside it."""

import random
from collections.abc import Iterable
from typing import Any

import numpy as np
from hypothesis import strategies as st

from pyvpp.tables import TableInstance
from pyvpp_nodes.fib.tables import IP4_FIB_NODES, IP4_FIB_ROOTS
from pyvpp_nodes.fib.trie.arrays import NONE
from pyvpp_nodes.fib.trie.owner import Prefixes, Trie

Key = tuple[int, int]
Routes = dict[Key, int]


def make_trie(**options: Any) -> Trie:
    """An empty trie with one table, over arrays of their own."""
    trie = Trie(TableInstance(IP4_FIB_ROOTS, 1), TableInstance(IP4_FIB_NODES, 1), **options)
    trie.add_table(0)
    return trie


def masked(address: int, length: int, bits: int) -> int:
    return address >> (bits - length) << (bits - length)


def reference(routes: Routes, address: int, bits: int) -> int:
    """The longest prefix that holds the address wins; load balance 0 where there is none."""
    for length in range(bits, -1, -1):
        found = routes.get((masked(address, length, bits), length))
        if found is not None:
            return found
    return 0


def look(trie: Trie, addresses: Iterable[int], bits: int, fib_index: int = 0) -> list[int]:
    """What workers would find."""
    where = Prefixes.of(bits, *((address, bits) for address in addresses))
    return [int(value) for value in trie.lookup(fib_index, where.high, where.low, bits)]


def apply(trie: Trie, batch: dict[Key, int | None], bits: int, fib_index: int = 0) -> None:
    """Set (or with None remove) routes."""
    values = np.array([NONE if value is None else value for value in batch.values()], np.uint32)
    trie.set(fib_index, Prefixes.of(bits, *batch), values)


def corners(key: Key, bits: int) -> list[int]:
    """The first and last address of a prefix, those beside it, one in the middle, and some that differ in one bit."""
    prefix, length = key
    size, step = 1 << (bits - length), bits // 8
    every = (prefix - 1, prefix, prefix + size // 2, prefix + size - 1, prefix + size)
    akin = (prefix ^ 1 << k for k in range(length % step, bits, step))
    return [address & ((1 << bits) - 1) for address in (*every, *akin)]


def lengths(bits: int) -> st.SearchStrategy[int]:
    """Any length, and often one at the edge of a level."""
    edges = [n for k in range(0, bits + 6, 6) for n in (k - 1, k, k + 1) if 0 <= n <= bits]
    return st.one_of(st.integers(0, bits), st.sampled_from([*edges, bits - 1, bits]))


def addresses(bits: int) -> st.SearchStrategy[int]:
    """Few distinct bits, so that prefixes nest and share blocks."""
    byte = st.sampled_from([0, 1, 3, 127, 128, 255])
    return st.lists(byte, min_size=bits // 8, max_size=bits // 8).map(lambda octets: int.from_bytes(bytes(octets)))


def keys(bits: int) -> st.SearchStrategy[Key]:
    return st.builds(lambda address, length: (masked(address, length, bits), length), addresses(bits), lengths(bits))


def batches(bits: int, most: int = 8) -> st.SearchStrategy[dict[Key, int | None]]:
    """Some routes set, some removed (most of those were not there: what is there, the caller removes)."""
    return st.dictionaries(keys(bits), st.none() | st.integers(1, 9), min_size=1, max_size=most)


def random_key(rng: random.Random, blocks: list[int], bits: int) -> Key:
    length = rng.choice(
        [8, 12, 16, 18, 20, 22, 24, 24, 24, 26, 30, 32] if bits == 32 else [20, 29, 32, 40, 48, 48, 64, 128]
    )
    return masked(rng.choice(blocks) ^ rng.getrandbits(rng.choice([8, 12, bits - 18])), length, bits), length
