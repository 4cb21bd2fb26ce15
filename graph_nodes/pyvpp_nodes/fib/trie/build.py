# SPDX-License-Identifier: Apache-2.0
"""From the tree of routes to the blocks that workers read.

After `edit` has changed the tree and marked what is stale, `spread` takes new inherited values down, and `build` makes
a new block for each marked node, the deepest first, out of the tree as it is at the end of the batch. A block is filled
aside and published by one store, into the root or into the parent's block, unless the parent is marked itself and will
name it. So an address finds what it found before the batch or what it finds after, at every instant. Old blocks rest
until the owner has seen every worker pass; then `reclaim` frees them.
"""

from typing import Any

from numba import uint32, uint64

from pyvpp.bits import load64, popcount, publish32, publish_range32
from pyvpp.jit import inline, jit
from pyvpp.typing import U32
from pyvpp_nodes.fib.trie.arrays import (
    ALL,
    LEVELS,
    MARKED,
    MARKED_HEADS,
    RETIRED,
    ROOT_LEVELS,
    TREE_FREE,
    TREE_NEXT,
    Arrays,
    child_of,
    give,
    mark,
    take,
    winner,
)
from pyvpp_nodes.fib.trie.lookup import CHILD, HEAD, POSITION, ROOT_BITS, SKIP, SLOTS, STRIDE
from pyvpp_nodes.fib.trie.skip import SKIP_WORDS, entry_for, make_skip, skipped_at
from pyvpp_nodes.integers import int64

# -- spread: inherited values


@inline
def spread(t: Arrays) -> int:
    """Take what marked nodes say now to the nodes below; how many are marked then."""
    for level in range(LEVELS - 1):
        n = t.registers[MARKED_HEADS + level]
        while n:
            node = t.tree[n]
            todo = node.children & node.stale
            slot = 0
            while todo:
                if todo & uint64(1):
                    child = child_of(t, n, slot)
                    value = uint32(winner(t, n, slot))
                    if t.tree[child].inherited != value:
                        t.tree[child].inherited = value
                        mark(t, child, uint64(ALL))
                todo = todo >> uint64(1)
                slot += 1
            n = int64(node.next)
    return int64(t.registers[MARKED])


# -- build: blocks


@inline
def block_size(runs: int) -> int:
    return (HEAD + runs + 1) & ~1


@inline
def retire(t: Arrays, block: int, skips: int) -> None:
    if block:
        t.retired[t.registers[RETIRED]] = uint32(block | SKIP if skips else block)
        t.registers[RETIRED] += 1


@inline
def uniform_block(t: Arrays, value: int) -> int:
    """The block with one load balance in all slots; -1 when there is no room to make it."""
    block = int64(t.uniform[value])
    if block == 0 and value:
        block = take(t.nodes, t.nodes_heap, block_size(1))
        if not block:
            return -1
        t.nodes[block], t.nodes[block + 1], t.nodes[block + HEAD] = uint32(1), uint32(0), uint32(value)
        t.uniform[value] = uint32(block)
    return block


@inline
def fill_scratch(t: Arrays, n: int) -> None:
    """The 64 entries of a node's block: shorter prefixes first, longer ones over them, children last."""
    node, entries = t.tree[n], t.scratch
    for slot in range(SLOTS):
        entries[slot] = node.inherited
    at = int64(node.cells) + popcount(node.children)
    bits, count = 1, SLOTS >> 1
    for place in range(2, SLOTS):
        if place >> (bits + 1):
            bits, count = bits + 1, count >> 1
        if (node.fewer >> uint64(place)) & uint64(1):
            first = (place - (1 << bits)) * count
            for slot in range(first, first + count):
                entries[slot] = t.cells[at]
            at += 1
    below_here = int64(node.cells)
    for slot in range(SLOTS):
        if (node.six >> uint64(slot)) & uint64(1):
            entries[slot] = t.cells[at]
            at += 1
        if (node.children >> uint64(slot)) & uint64(1):
            entries[slot] = uint32(entry_for(t, int64(t.cells[below_here])))
            below_here += 1


@inline
def runs_in(entries: U32) -> Any:
    """The bitmap of a block: where entries differ from the one before."""
    bitmap = uint64(1)
    for slot in range(1, SLOTS):
        if entries[slot] != entries[slot - 1]:
            bitmap |= uint64(1) << uint64(slot)
    return bitmap


@inline
def make_block(t: Arrays, bitmap: Any) -> int:
    """A block of the scratch's runs, filled but not published; -1 when there is no room."""
    block = take(t.nodes, t.nodes_heap, block_size(popcount(bitmap)))
    if not block:
        return -1
    t.nodes[block] = uint32(bitmap & uint64(0xFFFFFFFF))
    t.nodes[block + 1] = uint32(bitmap >> uint64(32))
    at = block + HEAD
    for slot in range(SLOTS):
        if (bitmap >> uint64(slot)) & uint64(1):
            t.nodes[at] = t.scratch[slot]
            at += 1
    return block


@inline
def is_uniform(level: int, bitmap: Any, first: int) -> bool:
    """Just below the roots, a node whose slots are all alike needs no block of its own."""
    return level == ROOT_LEVELS and bitmap == uint64(1) and first < CHILD


@inline
def first_root(t: Arrays, n: int) -> int:
    """The first root of the addresses below a node of the upper levels, or just below them."""
    at = 0
    shift = ROOT_BITS - STRIDE * int64(t.tree[n].level)
    while t.tree[n].parent:
        at |= int64(t.tree[n].slot) << shift
        shift += STRIDE
        n = int64(t.tree[n].parent)
    return at + int64(t.tree[n].block)


@inline
def replace_block(t: Arrays, n: int) -> bool:
    """A node below the roots gets a new block. False when there is no room."""
    node = t.tree[n]
    skipped, uniform = skipped_at(t, n), False
    if skipped > 0:
        block = make_skip(t, n, skipped)
    elif skipped < 0:
        block = 0
    else:
        fill_scratch(t, n)
        bitmap, first = runs_in(t.scratch), int64(t.scratch[0])
        uniform = is_uniform(int64(node.level), bitmap, first)
        block = uniform_block(t, first) if uniform else make_block(t, bitmap)
    if block < 0:
        return False
    retire(t, int64(node.block), int64(node.skips))
    node.block, node.skips = uint32(0 if uniform else block), skipped > 0
    if node.level == ROOT_LEVELS:
        publish32(t.roots, first_root(t, n), block)
    elif block:
        publish_entry(t, n)
    return True


@inline
def publish_entry(t: Arrays, n: int) -> None:
    """Store what leads to a node where it is looked for: in the parent's block or the skip that ends here.

    A marked parent will have a new block, which names the node. In a block a child's entry is a run of its own, so that
    storing there changes nothing else.
    """
    entry, slot, above = entry_for(t, n), int64(t.tree[n].slot), int64(t.tree[n].parent)
    while not (t.tree[above].marked or t.tree[above].block):
        above = int64(t.tree[above].parent)
    block = int64(t.tree[above].block)
    if t.tree[above].marked:
        return
    if t.tree[above].skips:
        publish32(t.nodes, block + 1, entry)
    else:
        publish32(t.nodes, block + HEAD - 1 + popcount(load64(t.nodes, block) << uint64(SLOTS - 1 - slot)), entry)


@inline
def replace_roots(t: Arrays, n: int) -> bool:
    """The stale slots of an upper node, but for those with a child, go into the roots. False when there is no room."""
    node = t.tree[n]
    span = 1 << (ROOT_BITS - STRIDE - STRIDE * int64(node.level))
    first = first_root(t, n)
    for slot in range(SLOTS):
        bit = uint64(1) << uint64(slot)
        if node.stale & bit and not node.children & bit:
            block = uniform_block(t, winner(t, n, slot))
            if block < 0:
                return False
            publish_range32(t.roots, first + slot * span, first + (slot + 1) * span, block)
    return True


@jit
def build(t: Arrays) -> bool:
    """Make and publish the blocks of all marked nodes. False when there is no room: make some, call again."""
    for level in range(LEVELS - 1, -1, -1):
        head = MARKED_HEADS + level
        while t.registers[head]:
            n = t.registers[head]
            node = t.tree[n]
            if not node.alive:
                retire(t, int64(node.block), int64(node.skips))
            elif level >= ROOT_LEVELS:
                if not replace_block(t, n):
                    return False
            elif not replace_roots(t, n):
                return False
            t.registers[head] = int64(node.next)
            t.registers[MARKED] -= 1
            node.marked = 0
            node.stale = uint64(0)
            if not node.alive:
                node.next = uint32(t.registers[TREE_FREE])
                t.registers[TREE_FREE] = n
    return True


# -- blocks that are no longer reachable


@jit
def forget(t: Arrays, value: int) -> None:
    """A load balance is no longer in the trie: its uniform block may go."""
    retire(t, int64(t.uniform[value]), 0)
    t.uniform[value] = uint32(0)


@jit
def reclaim(t: Arrays) -> None:
    """Free the retired blocks, once no worker can still be in one."""
    for i in range(t.registers[RETIRED]):
        block = int64(t.retired[i]) & POSITION
        skips = int64(t.retired[i]) & SKIP
        give(t.nodes, t.nodes_heap, block, SKIP_WORDS if skips else block_size(popcount(load64(t.nodes, block))))
    t.registers[RETIRED] = 0


@inline
def note_uniform(t: Arrays, value: int) -> int:
    """Count a load balance that will need a uniform block: its words, or 0 when it was counted."""
    if value == 0 or t.uniform[value]:
        return 0
    t.uniform[value] = uint32(1)
    return block_size(1)


@inline
def words_for(t: Arrays, n: int) -> int:
    """The words that a node's blocks will take. Children must have different numbers for blocks."""
    node = t.tree[n]
    words = 0
    if int64(node.level) < ROOT_LEVELS:
        for slot in range(SLOTS):
            if not (node.children >> uint64(slot)) & uint64(1):
                words += note_uniform(t, winner(t, n, slot))
        return words
    skipped = skipped_at(t, n)
    if skipped:
        return SKIP_WORDS if skipped > 0 else 0
    fill_scratch(t, n)
    bitmap, first = runs_in(t.scratch), int64(t.scratch[0])
    if is_uniform(int64(node.level), bitmap, first):
        return note_uniform(t, first)
    return block_size(popcount(bitmap))


@jit
def renew(t: Arrays) -> int:
    """Forget all blocks and mark every node: `build` makes them anew. How many words they will take."""
    t.uniform[:] = 0
    t.registers[RETIRED] = 0
    for n in range(1, t.registers[TREE_NEXT]):
        if int64(t.tree[n].level) >= ROOT_LEVELS:
            t.tree[n].block, t.tree[n].skips = uint32(n), 0
        if t.tree[n].alive:
            mark(t, n, uint64(ALL))
    words = block_size(1)
    for n in range(1, t.registers[TREE_NEXT]):
        if t.tree[n].alive:
            words += words_for(t, n)
    for n in range(1, t.registers[TREE_NEXT]):
        if int64(t.tree[n].level) >= ROOT_LEVELS:
            t.tree[n].block = uint32(0)
    t.uniform[:] = 0
    return words
