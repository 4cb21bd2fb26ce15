# SPDX-License-Identifier: Apache-2.0
"""From a packet to the first row that matches it, in a time that hardly grows with the number of rows.

The rows of a list stand in a few trees (`forest` grows them). A node of a tree looks at some bits of one word of what
is known of the packet, wherever they tell rows best apart, and each value has a child; what bits were not looked at
does not matter, for the rows of a leaf, two or three, are compared in full. So a path is short, some nodes of a word
each, which the cache holds, and a row is compared by a dozen instructions without a branch. The first row that matches
in any tree decides; a tree whose rows all come later is left out.

A packet is known by words of 32 bits: its addresses, ports, protocol and flags of TCP, see `Word4` and `Word6`. Rows in
leaves are words of 64 bits: addresses and their masks, then twice two ports beside other things (`LOW`, `HIGH`).

Packets are looked up CHUNK at a time, in two turns: all are led to their leaves, which are asked for, then all are
compared. That saves a quarter of the time among 10,000 rows, whose leaves do not fit the first cache.

Clocks a packet for the lookup alone, the least of ten runs, each line measured by itself on one core of an EPYC Zen 4
that others kept busy: random flows, half of which match a rule of the list; lists of `bench` and of `synthetic`:

    rules                                     10, bench   acl   fw  ipc     10,000, bench   acl    fw   ipc
    this                                             22    24   46   50               188   304   380   330
    tuples, bitmaps of those that may match         121   169  250  263               591   868  1019   943
    this, one to four rows a leaf                    22    25   46   51               202   333   380   330
    this, rows compared field by field               23    19   53   49               233   278   380   347

The second is tuple space search (Srinivasan, Suri and Varghese, SIGCOMM 1999) with tries that say which tuples to look
into. What a tree costs is not the way to the leaf, 5 to 15 clocks, but rows and branches that could not be foreseen.
"""

from enum import IntEnum
from typing import Any

from numba import uint32, uint64

from pyvpp.bits import prefetch
from pyvpp.jit import inline
from pyvpp.typing import U32, U64, Records
from pyvpp_acl.tables import MOST_TREES, SEEN_WORDS
from pyvpp_nodes.integers import int64

NO_ROW = 0xFFFFFFFF
LEAF = 1 << 63
"""In a node that is one: below are the first row, and how many there are in the place of BITS."""
SHIFT_AT, WORD_AT, BITS_AT = 32, 37, 41
FIRST, SHIFT, WORD, BITS = 0xFFFFFFFF, 31, 15, 0x3FFFFF
PORTS = 0x0000FFFF0000FFFF
BORROWS = 0x0001000000010000
FLAGS = 0x00FF000000FF0000


class Word4(IntEnum):
    """What is known of an IPv4 packet; of ICMP the ports are type and code, flags are 0 but for TCP."""

    SOURCE = 0
    DESTINATION = 1
    SOURCE_PORT = 2
    DESTINATION_PORT = 3
    PROTOCOL = 4
    TCP_FLAGS = 5


class Word6(IntEnum):
    """The same of an IPv6 packet; an address is four words, the first bits first."""

    SOURCE = 0
    DESTINATION = 4
    SOURCE_PORT = 8
    DESTINATION_PORT = 9
    PROTOCOL = 10
    TCP_FLAGS = 11


CONTEXT, STATE = 12, 13
"""Words behind: which context a packet is looked up in, and what its node has to remember."""


@inline
def leaf_of(nodes: U64, root: int, seen: U32, at: int) -> Any:
    """The leaf of a tree for the packet whose words begin at `at`."""
    node = nodes[uint64(root)]
    while node < uint64(LEAF):
        word = uint64(seen[uint64(at + int64(node >> uint64(WORD_AT) & uint64(WORD)))])
        child = word >> (node >> uint64(SHIFT_AT) & uint64(SHIFT)) & (node >> uint64(BITS_AT) & uint64(BITS))
        node = nodes[(node & uint64(FIRST)) + child]
    return node


@inline
def ask_for_leaves(
    both: Any, acl_contexts: Records, acl_trees: Records, acl_nodes: U64, leaves: U64, seen: U32, found: U64, k: int
) -> None:
    """The first turn, for packet k of a chunk: which leaves to look into, asked for."""
    at = k * SEEN_WORDS
    context = acl_contexts[seen[uint64(at + CONTEXT)]]
    row_words = 2 * len(both(seen, at)[0]) + 2
    for t in range(int64(context.n_trees)):
        leaf = leaf_of(acl_nodes, int64(acl_trees[uint64(int64(context.trees) + t)].root), seen, at)
        found[uint64(k * MOST_TREES + t)] = leaf
        prefetch(leaves, int64(leaf & uint64(FIRST)) * row_words)


@inline
def differs(low: Any, high: Any, ports: Any, rest: Any) -> Any:
    """Zero if a row means a packet as far as ports, protocol and flags go.

    Ports lie in the lower half of each 32 bits, a bit is set above: where a larger one is subtracted, it goes.
    """
    above = (ports | uint64(BORROWS)) - (low & uint64(PORTS))
    below = (high & uint64(PORTS) | uint64(BORROWS)) - ports
    return ~(above & below) & uint64(BORROWS) | (rest ^ low) & (low >> uint64(8)) & uint64(FLAGS)


@inline
def row_number(high: Any) -> Any:
    return high >> uint64(16) & uint64(0xFFFF) | high >> uint64(48) << uint64(16)


@inline
def first_in_leaf(leaves: U64, leaf: Any, addresses: Any, ports: Any, rest: Any, best: Any) -> Any:
    """The first row of a leaf that matches, `best` when that is before it or there is none.

    What does not match is numbered NO_ROW, so that there is nothing to branch on. A leaf without rows has row 0, which
    means no packet.
    """
    width = 2 * len(addresses)
    at = int64(leaf & uint64(FIRST)) * (width + 2)
    end = at + int64(leaf >> uint64(BITS_AT) & uint64(BITS)) * (width + 2)
    while True:
        low, high = leaves[uint64(at + width)], leaves[uint64(at + width + 1)]
        differ = differs(low, high, ports, rest)
        for w in range(len(addresses)):
            differ |= (addresses[w] ^ leaves[uint64(at + 2 * w)]) & leaves[uint64(at + 2 * w + 1)]
        best = min(best, row_number(high) | uint64(NO_ROW) * uint64(differ != uint64(0)))
        at += width + 2
        if at >= end or row_number(leaves[uint64(at + width + 1)]) >= best:
            return best


@inline
def first_row(both: Any, acl_contexts: Records, acl_trees: Records, leaves: U64, seen: U32, found: U64, k: int) -> int:
    """The second turn: the first row that matches packet k of a chunk, NO_ROW when none does.

    `both` is the function of its IP version.
    """
    at = k * SEEN_WORDS
    context = acl_contexts[seen[uint64(at + CONTEXT)]]
    addresses, p = both(seen, at)
    ports = uint64(seen[uint64(p)]) | uint64(seen[uint64(p + 1)]) << uint64(32)
    rest = uint64(seen[uint64(p + 2)]) << uint64(16) | uint64(seen[uint64(p + 3)]) << uint64(48)
    best = uint64(context.otherwise)
    for t in range(int64(context.n_trees)):
        if uint64(acl_trees[uint64(int64(context.trees) + t)].first) >= best:
            break
        best = first_in_leaf(leaves, found[uint64(k * MOST_TREES + t)], addresses, ports, rest, best)
    return int64(best)


@inline
def put_packet(
    seen: U32, at: int, context: int, source: Any, destination: Any, protocol: int, ports: tuple[int, int], flags: int
) -> None:
    """Writes the words of a packet; addresses are one word each (IPv4), or two of 64 bits (IPv6)."""
    if len(source) == 1:
        seen[uint64(at)], seen[uint64(at + 1)] = uint32(source[0]), uint32(destination[0])
        rest = at + int64(Word4.SOURCE_PORT)
    else:
        for k in range(len(source)):
            put_two(seen, at + 2 * k, source[k])
            put_two(seen, at + 4 + 2 * k, destination[k])
        rest = at + int64(Word6.SOURCE_PORT)
    seen[uint64(rest)], seen[uint64(rest + 1)] = uint32(ports[0]), uint32(ports[1])
    seen[uint64(rest + 2)], seen[uint64(rest + 3)] = uint32(protocol), uint32(flags)
    seen[uint64(at + CONTEXT)] = uint32(context)


@inline
def put_two(seen: U32, at: int, word: Any) -> None:
    seen[uint64(at)] = uint32(uint64(word) >> uint64(32))
    seen[uint64(at + 1)] = uint32(uint64(word) & uint64(0xFFFFFFFF))


@inline
def both4(seen: U32, at: int) -> tuple[Any, int]:
    """Both addresses in a word, and where the other words are."""
    return (two(seen, at),), at + int64(Word4.SOURCE_PORT)


@inline
def both6(seen: U32, at: int) -> tuple[Any, int]:
    """Both addresses in four words, and where the other words are."""
    return (two(seen, at), two(seen, at + 2), two(seen, at + 4), two(seen, at + 6)), at + int64(Word6.SOURCE_PORT)


@inline
def two(seen: U32, at: int) -> Any:
    return uint64(seen[uint64(at)]) << uint64(32) | uint64(seen[uint64(at + 1)])
