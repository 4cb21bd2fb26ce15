# SPDX-License-Identifier: Apache-2.0
"""The routes of one address family as a tree in typed arrays: what control code keeps, and blocks are made from.

A tree node stands for six bits of an address, as a block does. A prefix that ends within them is a bit of the node, at
its place in a heap: 1 the empty prefix (in the topmost node only), 2 and 3 one more bit, 4 to 7 two, 64 to 127 six.
Beside `fewer` (places 2 to 63), `six` (64 to 127) and `children` (slots that go on), the node has cells: a tree node
for each bit of `children`, then a load balance for each bit of `fewer` and of `six`. `inherited` is what the longest
prefix above the node says. Keys have 128 bits, left-aligned, so IPv4 and IPv6 are the same to everything here.

A million routes as on the Internet take 143,000 nodes of 56 bytes and 5.7 MB of cells.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import uint32, uint64

from pyvpp.bits import popcount
from pyvpp.jit import inline
from pyvpp.tables import record_dtype
from pyvpp.typing import I64, U32, Records
from pyvpp_nodes.fib.trie.lookup import ROOT_BITS, SLOTS, STRIDE
from pyvpp_nodes.integers import int64

LEVELS = 22  # of six bits: 128 bits and four that are always zero
ROOT_LEVELS = ROOT_BITS // STRIDE  # levels that the roots stand for; nodes there have no block
NONE = 0xFFFFFFFF  # no load balance: in `values`, take the route away
LENGTHS = 129
ALL = 0xFFFFFFFFFFFFFFFF

TREE_NODE = record_dtype(
    [
        ("fewer", np.uint64),
        ("six", np.uint64),
        ("children", np.uint64),
        ("stale", np.uint64),  # slots to be looked at by `spread` and `build`
        ("cells", np.uint32),  # position in `cells`
        ("block", np.uint32),  # position in `nodes`, 0: none of its own; of a topmost node: its table's first root
        ("inherited", np.uint32),
        ("parent", np.uint32),  # 0: topmost
        ("next", np.uint32),  # in the list of marked nodes of a level, or of free ones
        ("slot", np.uint8),  # in the parent
        ("level", np.uint8),
        ("marked", np.uint8),
        ("alive", np.uint8),
        ("skips", np.uint8),  # is its block a skip?
    ]
)

# registers
TREE_NEXT, TREE_FREE, RETIRED, MARKED, DONE, MARKED_HEADS = range(6)
REGISTERS = MARKED_HEADS + LEVELS

# a heap of words: where the unused rest begins, words in use, then lists of free pieces by size / 2
HEAP_NEXT, HEAP_USED, HEAP_FREE = range(3)
HEAP_WORDS = HEAP_FREE + 100
CELLS_AT_ONCE = 512  # more than one change can take: a path of new nodes and two larger ones


class Arrays(NamedTuple):
    """All arrays of one address family."""

    roots: U32  # dataplane table: ROOT_SIZE for each table
    nodes: U32  # dataplane table: blocks; the one at 0 drops
    nodes_heap: I64
    tree: Records
    cells: U32
    cells_heap: I64
    retired: U32  # blocks that a worker may still read
    uniform: U32  # by load balance: the block that has it in all slots, 0 when there is none (yet)
    counts: I64  # [fib_index * LENGTHS + length]: routes
    registers: I64
    scratch: U32  # 64 entries of the block being made


# -- keys and places


@inline
def slot_at(high: Any, low: Any, level: int) -> int:
    """The six bits of a key that a level looks at."""
    if level < 10:
        return int64((high >> uint64(58 - 6 * level)) & uint64(63))
    if level == 10:
        return int64(((high << uint64(2)) | (low >> uint64(62))) & uint64(63))
    if level < 21:
        return int64((low >> uint64(122 - 6 * level)) & uint64(63))
    return int64((low << uint64(4)) & uint64(63))


@inline
def level_of(length: int) -> int:
    """The level at which a prefix ends."""
    return (length - 1) // STRIDE if length else 0


@inline
def place_of(slot: int, bits: int) -> int:
    """The heap place of the prefix made of the first `bits` of a slot's six."""
    return (1 << bits) | (slot >> (STRIDE - bits))


@inline
def below(k: int) -> Any:
    """The bits below number k, 0 to 63."""
    return (uint64(1) << uint64(k)) - uint64(1)


@inline
def slots_of(place: int) -> Any:
    """The slots within a prefix, as a mask."""
    bits = 0
    while place >> (bits + 1):
        bits += 1
    if bits == 0:
        return uint64(ALL)
    count = SLOTS >> bits
    return below(count) << uint64((place - (1 << bits)) * count)


# -- a node's bits and cells


@inline
def has(node: Any, place: int) -> bool:
    if place < SLOTS:
        return bool((node.fewer >> uint64(place)) & uint64(1))
    return bool((node.six >> uint64(place - SLOTS)) & uint64(1))


@inline
def cell_of_child(node: Any, slot: int) -> int:
    return int64(node.cells) + popcount(node.children & below(slot))


@inline
def cell_of(node: Any, place: int) -> int:
    """Where the load balance of a place stands (or would)."""
    at = int64(node.cells) + popcount(node.children)
    if place < SLOTS:
        return at + popcount(node.fewer & below(place))
    return at + popcount(node.fewer) + popcount(node.six & below(place - SLOTS))


@inline
def cells_in(node: Any) -> int:
    return popcount(node.children) + popcount(node.fewer) + popcount(node.six)


@inline
def child_of(t: Arrays, n: int, slot: int) -> int:
    """The tree node below a slot, 0 when there is none."""
    node = t.tree[n]
    if (node.children >> uint64(slot)) & uint64(1):
        return int64(t.cells[cell_of_child(node, slot)])
    return 0


@inline
def longest(t: Arrays, n: int, slot: int, bits: int) -> int:
    """The place of the longest prefix of at most so many bits that holds the slot, 0 when there is none."""
    node = t.tree[n]
    while bits >= 0:
        place = place_of(slot, bits)
        if has(node, place):
            return place
        bits -= 1
    return 0


@inline
def winner(t: Arrays, n: int, slot: int) -> int:
    """What a slot's addresses find, unless a child knows better."""
    place = longest(t, n, slot, STRIDE)
    if place:
        return int64(t.cells[cell_of(t.tree[n], place)])
    return int64(t.tree[n].inherited)


# -- heaps of words


@inline
def take(words: U32, heap: I64, size: int) -> int:
    """A piece of so many words (even); 0 when there is no room."""
    k = HEAP_FREE + (size >> 1)
    at = heap[k]
    if at:
        heap[k] = int64(words[at])
    else:
        at = heap[HEAP_NEXT]
        if at + size > len(words):
            return 0
        heap[HEAP_NEXT] = at + size
    heap[HEAP_USED] += size
    return int64(at)


@inline
def give(words: U32, heap: I64, at: int, size: int) -> None:
    """Back to the free ones. The piece's first word becomes a link."""
    k = HEAP_FREE + (size >> 1)
    words[at] = uint32(heap[k])
    heap[k] = at
    heap[HEAP_USED] -= size


# -- what a change leaves to be built


@inline
def mark(t: Arrays, n: int, slots: Any) -> None:
    """These slots of the node must be looked at again."""
    node = t.tree[n]
    node.stale = node.stale | slots
    if not node.marked:
        node.marked = 1
        head = MARKED_HEADS + int64(node.level)
        node.next = uint32(t.registers[head])
        t.registers[head] = n
        t.registers[MARKED] += 1
