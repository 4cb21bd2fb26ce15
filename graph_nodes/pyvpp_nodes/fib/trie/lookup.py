# SPDX-License-Identifier: Apache-2.0
"""The forwarding trie, read side: from a destination to its load balance.

The first 18 bits of an address index a table of roots. Each root, and each entry with CHILD set, is the position of a
*block*: 64 slots for the next six bits, compressed as in a Poptrie (Asai and Ohara, SIGCOMM 2015), with bitmap and
entries side by side, so that one cache line often serves both:

    word 0, 1   bitmap of 64 bits: slot s begins a new run of equal entries (slot 0 always does)
    word 2 ...  one entry per run: a load balance, or CHILD | position of the block for the next six bits

Where a run of at least three such blocks would have only one way on, as between an IPv6 /32 and a /128 below it, there
is a *skip* instead, and SKIP is set beside CHILD in what leads to it:

    word 0      bits to be skipped, 18 to 60
    word 1      the entry behind them
    word 2, 3   what the bits must be, else
    word 4      this load balance it is

A root whose 64 slots are all alike leads to a block of a single run, one for each load balance. So every lookup down
to 24 bits is the same three loads without a branch, and the processor overlaps those of many packets by itself.

Clocks per lookup, a million routes as on the Internet (9.3 MB), vectors of 256, one core of an EPYC Zen 4, the best of
15; destinations inside routes / uniform over all addresses / below one route:

    this                                                    7.8 /  7.3 / 2.3
    with leaves in the roots, told by a bit                 8.5 / 15.9 / 1.7   (mispredicted branches)
    bitmaps and leaves of 16 bits in tables apart, 6.5 MB  11.2 / 10.5 / 3.4   (one more cache miss)
    roots and blocks in two passes over the vector          7.7 /  6.5 / 2.6   (not worth a scratch array)
    DIR-24-8, 64 MB                                         7.7 / 12.3 / 0.8

IPv6, 200,000 routes as on the Internet (11.5 MB), the same way: 74 inside routes, 7 anywhere, 10 to 19 with one route.
Levels in step over the vector, with a list of the lookups that go on, take 50 inside routes, where the branch predictor
cannot know how many levels there are, but 20 to 25 with one route and memory for a vector's keys: not worth it yet.
"""

from typing import Any

from numba import uint64

from pyvpp.bits import load64, popcount
from pyvpp.jit import inline, jit
from pyvpp.typing import U32, U64
from pyvpp_nodes.integers import int64

ROOT_BITS = 18
STRIDE = 6
SLOTS = 1 << STRIDE
CHILD = 1 << 31
SKIP = 1 << 30
POSITION = SKIP - 1
HEAD = 2  # words of a block before its entries


@inline
def entry_of(nodes: U32, block: int, slot: int) -> int:
    """What a block says about one of its 64 slots: the entry of the run that the slot lies in."""
    runs = popcount(load64(nodes, block) << uint64(SLOTS - 1 - slot))
    return int64(nodes[uint64(block + HEAD - 1 + runs)])


@inline
def fib_lookup(ip4_fib_roots: U32, ip4_fib_nodes: U32, fib_index: int, dst: int) -> int:
    """The load balance that an IPv4 destination leads to."""
    return fib_lookup_below(ip4_fib_nodes, fib_root(ip4_fib_roots, fib_index, dst), dst)


@inline
def fib_root(ip4_fib_roots: U32, fib_index: int, dst: int) -> int:
    """The first half of `fib_lookup`: the block to begin in, which one may ask memory for before going on."""
    return int64(ip4_fib_roots[uint64((int64(fib_index) << ROOT_BITS) + (int64(dst) >> 14))])


@inline
def fib_lookup_below(ip4_fib_nodes: U32, block: int, dst: int) -> int:
    """The other half of `fib_lookup`."""
    address = int64(dst)
    entry = entry_of(ip4_fib_nodes, block, (address >> 8) & 63)
    if entry & CHILD:
        entry = entry_of(ip4_fib_nodes, entry ^ CHILD, (address >> 2) & 63)
        if entry & CHILD:
            entry = entry_of(ip4_fib_nodes, entry ^ CHILD, (address << 4) & 63)
    return entry


@inline
def fib6_lookup(ip6_fib_roots: U32, ip6_fib_nodes: U32, fib_index: int, dst_high: Any, dst_low: Any) -> int:
    """The load balance that an IPv6 destination leads to, given as two unsigned 64-bit words in host order."""
    high, low = uint64(dst_high), uint64(dst_low)
    entry = int64(ip6_fib_roots[(int64(fib_index) << ROOT_BITS) + int64(high >> uint64(64 - ROOT_BITS))]) | CHILD
    down = 64 - ROOT_BITS - STRIDE  # where the next slot lies in the upper word, which is enough for most routes
    while entry & (CHILD | SKIP) == CHILD and down >= 0:
        entry = entry_of(ip6_fib_nodes, entry ^ CHILD, int64(high >> uint64(down)) & (SLOTS - 1))
        down -= STRIDE
    if entry & CHILD:
        entry = _lookup_on(ip6_fib_nodes, entry, high, low, uint64(64 - STRIDE - down))
    return entry


@inline
def _lookup_on(ip6_fib_nodes: U32, entry: int, high: Any, low: Any, used: Any) -> int:
    """What is found from an entry on that `used` bits, 18 to 60, of an address have led to."""
    bits = used
    while True:
        high, low = (high << bits) | (low >> (uint64(64) - bits)), low << bits
        if not entry & CHILD:
            return entry
        position, bits = entry & POSITION, uint64(STRIDE)
        if entry & SKIP:
            bits = uint64(ip6_fib_nodes[position])
            if high >> (uint64(64) - bits) != load64(ip6_fib_nodes, position + 2):
                return int64(ip6_fib_nodes[position + 4])
            entry = int64(ip6_fib_nodes[position + 1])
        else:
            entry = entry_of(ip6_fib_nodes, position, int64(high >> uint64(64 - STRIDE)))


@jit
def lookup4_many(roots: U32, nodes: U32, fib_index: int, high: U64, out: U32) -> None:
    """`fib_lookup` of IPv4 addresses that lie in the upper half of `high`, for control code and tests."""
    for i in range(len(out)):
        out[i] = fib_lookup(roots, nodes, fib_index, int64(high[i] >> uint64(32)))


@jit
def lookup6_many(roots: U32, nodes: U32, fib_index: int, high: U64, low: U64, out: U32) -> None:
    """`fib6_lookup` for a vector, for control code and tests."""
    for i in range(len(out)):
        out[i] = fib6_lookup(roots, nodes, fib_index, high[i], low[i])
