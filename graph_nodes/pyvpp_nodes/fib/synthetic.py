# SPDX-License-Identifier: Apache-2.0
"""Routing tables like the public Internet's, made from a seed: what tests and benches fill a FIB with.

The shares of the prefix lengths are those of the public BGP tables of 2024/25 (about a million IPv4 and 200,000 IPv6
routes), rounded. Addresses cluster as allocations do: most prefixes lie in a few thousand blocks, beside and inside
each other. Next hops are drawn at random for each prefix, which no compression can exploit; real tables are kinder.
The same arguments give the same table, on every machine.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from pyvpp.typing import U8, U32, U64
from pyvpp_nodes.fib.trie.owner import Prefixes

SHARE4 = {
    8: 16, 9: 13, 10: 40, 11: 100, 12: 300, 13: 580, 14: 1100, 15: 2000, 16: 13500, 17: 8300, 18: 14000, 19: 25000,
    20: 44000, 21: 52000, 22: 112000, 23: 97000, 24: 600000, 32: 3000,
}  # fmt: skip
SHARE6 = {
    19: 2, 20: 20, 21: 10, 22: 20, 23: 15, 24: 60, 25: 20, 26: 50, 27: 60, 28: 300, 29: 7500, 30: 1000, 31: 500,
    32: 24000, 33: 3500, 34: 3500, 35: 1200, 36: 9500, 37: 1200, 38: 2200, 39: 1200, 40: 18000, 41: 1200, 42: 8000,
    43: 1200, 44: 21000, 45: 2800, 46: 8500, 47: 5500, 48: 94000, 56: 300, 64: 500, 128: 500,
}  # fmt: skip
BLOCKS4, BLOCK4_BITS = 1500, 12
CLUSTERED = 0.9
FIRST4, END4 = 1 << 24, 224 << 24
REGISTRIES6 = (0x2001, 0x2400, 0x2600, 0x2800, 0x2A00, 0x2C00)  # the first 16 bits of a registry's /12 (2001: /16)
ALLOCATIONS6 = 30_000
BITS64 = (1 << 64) - 1


@dataclass(frozen=True)
class Routes:
    """A table, no prefix twice, in the order of addresses. `low` is zero for IPv4.

    Addresses are left-aligned in 128 bits, as the FIB keeps them: an IPv4 address is `high >> 32`.
    """

    bits: int
    high: U64
    low: U64
    length: U8
    next_hop: U32  # 0 to next_hops - 1

    def __len__(self) -> int:
        return len(self.length)

    @property
    def prefixes(self) -> Prefixes:
        """As the FIB takes them."""
        return Prefixes(self.high, self.low, self.length)

    @property
    def address4(self) -> U32:
        """The IPv4 prefixes."""
        return (self.high >> np.uint64(32)).astype(np.uint32)


def routes4(count: int = 1_000_000, seed: int = 1, next_hops: int = 200) -> Routes:
    """So many IPv4 routes of the unicast space. Raises ValueError when the space is too small for them."""
    rng = np.random.default_rng(seed)
    host_bits = np.uint64(32 - BLOCK4_BITS)
    blocks = rng.integers(FIRST4, END4, BLOCKS4, np.uint64) >> host_bits << host_bits

    def draw(n: int) -> tuple[U64, U64, U8]:
        length = _lengths(rng, SHARE4, n)
        inside = blocks[rng.integers(0, BLOCKS4, n)] + rng.integers(0, 1 << host_bits, n, np.uint64)
        anywhere = rng.integers(FIRST4, END4, n, np.uint64)
        address = np.where(rng.random(n) < CLUSTERED, inside, anywhere) << np.uint64(32)
        return *masked(address, np.zeros(n, np.uint64), length), length

    return _unique(draw, 32, count, rng, next_hops)


def routes6(count: int = 200_000, seed: int = 1, next_hops: int = 200) -> Routes:
    """So many IPv6 routes of the registries' unicast space. Raises ValueError like `routes4`."""
    rng = np.random.default_rng(seed)
    registry = np.array(REGISTRIES6, np.uint64)[rng.integers(0, len(REGISTRIES6), ALLOCATIONS6)]
    within = np.where(registry == REGISTRIES6[0], rng.integers(0, 1 << 16, ALLOCATIONS6, np.uint64),
                      rng.integers(0, 1 << 20, ALLOCATIONS6, np.uint64))  # fmt: skip
    allocations = (registry << np.uint64(48)) + (within << np.uint64(32))

    def draw(n: int) -> tuple[U64, U64, U8]:
        length = _lengths(rng, SHARE6, n)
        high = allocations[rng.integers(0, ALLOCATIONS6, n)] + rng.integers(0, 1 << 32, n, np.uint64)
        return *masked(high, rng.integers(0, BITS64, n, np.uint64, endpoint=True), length), length

    return _unique(draw, 128, count, rng, next_hops)


def inside(routes: Routes, count: int, seed: int = 1) -> tuple[U64, U64]:
    """Destinations inside routes drawn at random, left-aligned (high, low)."""
    rng = np.random.default_rng(seed)
    pick = rng.integers(0, len(routes), count)
    length = routes.length[pick]
    high, low = rng.integers(0, BITS64, (2, count), np.uint64, endpoint=True)
    prefix_high, prefix_low = masked(high, low, length)
    return (high ^ prefix_high) | routes.high[pick], (low ^ prefix_low) | routes.low[pick]


def anywhere(bits: int, count: int, seed: int = 1) -> tuple[U64, U64]:
    """Destinations uniform over all addresses of 32 or 128 bits, left-aligned (high, low)."""
    rng = np.random.default_rng(seed)
    high, low = rng.integers(0, BITS64, (2, count), np.uint64, endpoint=True)
    return masked(high, low, np.full(count, bits, np.uint8))


def masked(high: U64, low: U64, length: U8) -> tuple[U64, U64]:
    """The first `length` bits of each address."""
    return _masked64(high, np.minimum(length, 64)), _masked64(low, np.maximum(length, 64) - 64)


def _masked64(word: U64, length: Any) -> Any:
    shift = np.uint64(64) - length.astype(np.uint64)
    return np.where(length == 0, np.uint64(0), word >> (shift & np.uint64(63)) << (shift & np.uint64(63)))


def _lengths(rng: np.random.Generator, share: dict[int, int], n: int) -> U8:
    weights = np.array(list(share.values()), np.float64)
    return rng.choice(np.array(list(share), np.uint8), n, p=weights / weights.sum())


def _unique(draw: Any, bits: int, count: int, rng: np.random.Generator, next_hops: int) -> Routes:
    """Draws until there are enough that differ, and keeps the first `count` of them, so that the shares stay."""
    drawn = draw(count)
    for _ in range(64):
        high, low, length = drawn
        order = np.lexsort((length, low, high))
        again = np.zeros(len(order), bool)
        again[order[1:]] = np.logical_and.reduce([each[order[1:]] == each[order[:-1]] for each in drawn])
        kept = np.flatnonzero(~again)[:count]
        if len(kept) == count:
            order = order[np.isin(order, kept, assume_unique=True)]
            return Routes(bits, high[order], low[order], length[order], rng.integers(0, next_hops, count, np.uint32))
        more = draw(count // 8 + 64)
        drawn = tuple(np.concatenate([had[kept], new]) for had, new in zip(drawn, more, strict=True))
    raise ValueError(f"no {count} different prefixes can be drawn")
