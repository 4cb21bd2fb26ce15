# SPDX-License-Identifier: Apache-2.0
"""Changes of the tree of routes, and questions to it.

An `edit` that finds no room stops between two changes and goes on from there after the owner has made some.
"""

from typing import Any

from numba import uint32, uint64

from pyvpp.jit import inline, jit
from pyvpp.typing import U8, U32, U64
from pyvpp_nodes.fib.trie.arrays import (
    ALL,
    CELLS_AT_ONCE,
    HEAP_NEXT,
    LENGTHS,
    LEVELS,
    NONE,
    ROOT_LEVELS,
    TREE_FREE,
    TREE_NEXT,
    Arrays,
    cell_of,
    cell_of_child,
    cells_in,
    child_of,
    give,
    has,
    level_of,
    longest,
    mark,
    place_of,
    slot_at,
    slots_of,
    take,
    winner,
)
from pyvpp_nodes.fib.trie.lookup import SLOTS, STRIDE
from pyvpp_nodes.fib.trie.skip import mark_runs_beside
from pyvpp_nodes.integers import int64

# -- cells


@inline
def cells_size(count: int) -> int:
    return (count + 3) & ~3


@inline
def insert_cell(t: Arrays, n: int, at: int, value: int) -> None:
    """Make room for a cell at position `at`, before the bit that counts it is set."""
    node = t.tree[n]
    count, first = cells_in(node), int64(node.cells)
    index = at - first
    moved = first
    if cells_size(count + 1) != cells_size(count):
        moved = take(t.cells, t.cells_heap, cells_size(count + 1))
        for k in range(index):
            t.cells[moved + k] = t.cells[first + k]
    for k in range(count, index, -1):
        t.cells[moved + k] = t.cells[first + k - 1]
    t.cells[moved + index] = uint32(value)
    if moved != first:
        node.cells = uint32(moved)
        if count:
            give(t.cells, t.cells_heap, first, cells_size(count))


@inline
def remove_cell(t: Arrays, n: int, at: int) -> None:
    """Close the gap at position `at`, before the bit that counts it is cleared."""
    node = t.tree[n]
    count, first = cells_in(node), int64(node.cells)
    moved = first
    if cells_size(count - 1) != cells_size(count):
        moved = take(t.cells, t.cells_heap, cells_size(count - 1)) if count > 1 else 0
        for k in range(at - first):
            t.cells[moved + k] = t.cells[first + k]
    for k in range(at - first, count - 1):
        t.cells[moved + k] = t.cells[first + k + 1]
    if moved != first:
        give(t.cells, t.cells_heap, first, cells_size(count))
        node.cells = uint32(moved)


# -- nodes


@jit
def new_top(t: Arrays, first_root: int) -> int:
    """The topmost node of an empty table."""
    n = new_node(t, 0, 0, 0)
    t.tree[n].block = uint32(first_root)
    return n


@jit
def free_top(t: Arrays, n: int) -> None:
    """A table without routes is no more."""
    t.tree[n].alive = 0
    t.tree[n].next = uint32(t.registers[TREE_FREE])
    t.registers[TREE_FREE] = n


@inline
def new_node(t: Arrays, parent: int, slot: int, level: int) -> int:
    n = t.registers[TREE_FREE]
    if n:
        t.registers[TREE_FREE] = int64(t.tree[n].next)
    else:
        n = t.registers[TREE_NEXT]
        t.registers[TREE_NEXT] = n + 1
    node = t.tree[n]
    node.fewer = node.six = node.children = node.stale = uint64(0)
    node.cells = node.block = node.inherited = uint32(0)
    node.parent, node.slot, node.level = uint32(parent), slot, level
    node.marked, node.alive, node.skips = 0, 1, 0
    return int64(n)


@inline
def add_child(t: Arrays, n: int, slot: int) -> int:
    """A new node below a slot. It takes over what the slot says; above the roots its parent's work ends with that."""
    node = t.tree[n]
    level = int64(node.level)
    child = new_node(t, n, slot, level + 1)
    t.tree[child].inherited = uint32(winner(t, n, slot))
    insert_cell(t, n, cell_of_child(node, slot), child)
    node.children = node.children | (uint64(1) << uint64(slot))
    mark(t, child, uint64(ALL))
    if level >= ROOT_LEVELS:
        mark(t, n, uint64(1) << uint64(slot))
    return child


@inline
def prune(t: Arrays, n: int) -> None:
    """Unlink nodes that hold nothing any more, from here upwards. `build` frees them."""
    while t.tree[n].parent and cells_in(t.tree[n]) == 0:
        node = t.tree[n]
        parent, slot = int64(node.parent), int64(node.slot)
        mark(t, n, uint64(0))
        node.alive = 0
        above = t.tree[parent]
        remove_cell(t, parent, cell_of_child(above, slot))
        above.children = above.children & ~(uint64(1) << uint64(slot))
        mark(t, parent, uint64(1) << uint64(slot))
        mark_runs_beside(t, parent)
        n = parent


@inline
def put(t: Arrays, n: int, place: int, value: int) -> int:
    """Set or (NONE) clear a node's place; how many prefixes that makes more."""
    node = t.tree[n]
    had = has(node, place)
    if not had and value == NONE:
        return 0
    at = cell_of(node, place)
    if had and int64(t.cells[at]) == value:
        return 0
    mark(t, n, slots_of(place))
    if had and value != NONE:
        t.cells[at] = uint32(value)
        return 0
    if had:
        remove_cell(t, n, at)
    else:
        insert_cell(t, n, at, value)
    if place < SLOTS:
        node.fewer = node.fewer ^ (uint64(1) << uint64(place))
    else:
        node.six = node.six ^ (uint64(1) << uint64(place - SLOTS))
    mark_runs_beside(t, n)
    return -1 if had else 1


@inline
def descend(t: Arrays, top: int, high: Any, low: Any, length: int, make: bool) -> int:
    """The node in which a prefix ends; 0 when it is not there and is not to be made."""
    n, branch = top, 0
    for level in range(level_of(length)):
        slot = slot_at(high, low, level)
        child = child_of(t, n, slot)
        if not child:
            if not make:
                return 0
            branch = branch or n
            child = add_child(t, n, slot)
        n = child
    if branch:
        mark_runs_beside(t, branch)
    return n


@inline
def edit(t: Arrays, top: int, fib_index: int, high: U64, low: U64, lengths: U8, values: U32, start: int) -> int:
    """Set routes to load balances, or remove those with NONE, from number `start` on; the first not done."""
    for i in range(start, len(lengths)):
        if t.registers[TREE_NEXT] + LEVELS > len(t.tree) or t.cells_heap[HEAP_NEXT] + CELLS_AT_ONCE > len(t.cells):
            return i
        length, value = int64(lengths[i]), int64(values[i])
        n = descend(t, top, high[i], low[i], length, value != NONE)
        if n:
            level = level_of(length)
            place = place_of(slot_at(high[i], low[i], level), length - STRIDE * level)
            t.counts[fib_index * LENGTHS + length] += put(t, n, place, value)
            prune(t, n)
    return len(lengths)


# -- reading the tree


@jit
def find(t: Arrays, top: int, high: U64, low: U64, lengths: U8, out: U32) -> None:
    """The load balance of exactly these prefixes, NONE where there is none."""
    for i in range(len(lengths)):
        length = int64(lengths[i])
        out[i] = uint32(NONE)
        n = descend(t, top, high[i], low[i], length, False)
        if n:
            level = level_of(length)
            place = place_of(slot_at(high[i], low[i], level), length - STRIDE * level)
            if has(t.tree[n], place):
                out[i] = t.cells[cell_of(t.tree[n], place)]


@jit
def cover(t: Arrays, top: int, high: U64, low: U64, lengths: U8, out: U32) -> None:
    """The longest prefixes of at most these lengths: lengths and load balances, in place (NONE where there is none)."""
    for i in range(len(lengths)):
        most, n, level = int64(lengths[i]), top, 0
        out[i] = uint32(NONE)
        while True:
            slot = slot_at(high[i], low[i], level)
            place = longest(t, n, slot, min(STRIDE, most - STRIDE * level))
            if place:
                bits = 0
                while place >> (bits + 1):
                    bits += 1
                lengths[i] = STRIDE * level + bits
                out[i] = t.cells[cell_of(t.tree[n], place)]
            level += 1
            if STRIDE * level >= most:
                break
            n = child_of(t, n, slot)
            if not n:
                break


@jit
def dump(t: Arrays, top: int, high: U64, low: U64, lengths: U8, values: U32) -> int:
    """All routes of a table, in no order; how many. The arrays must be long enough."""
    found = 0
    for n in range(1, t.registers[TREE_NEXT]):
        node = t.tree[n]
        if not node.alive:
            continue
        key_high, key_low = uint64(0), uint64(0)
        above = n
        while t.tree[above].parent:
            level = int64(t.tree[above].level) - 1
            key_high |= word_of(int64(t.tree[above].slot), level, 0)
            key_low |= word_of(int64(t.tree[above].slot), level, 1)
            above = int64(t.tree[above].parent)
        if above != top:
            continue
        level, bits = int64(node.level), 0
        for place in range(1, 2 * SLOTS):
            if place >> (bits + 1):
                bits += 1
            if has(node, place):
                slot = (place - (1 << bits)) << (STRIDE - bits)
                high[found] = key_high | word_of(slot, level, 0)
                low[found] = key_low | word_of(slot, level, 1)
                lengths[found] = STRIDE * level + bits
                values[found] = t.cells[cell_of(node, place)]
                found += 1
    return found


@inline
def word_of(slot: int, level: int, half: int) -> Any:
    """A slot's six bits at their place in the upper (0) or lower (1) word of a key."""
    shift = 58 - STRIDE * level + 64 * half
    if shift <= -64 or shift >= 64:
        return uint64(0)
    return uint64(slot) << uint64(shift) if shift >= 0 else uint64(slot) >> uint64(-shift)
