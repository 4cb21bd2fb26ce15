# SPDX-License-Identifier: Apache-2.0
"""From the rows of a list to the trees that `classify` looks through.

A row is a box: a first and a last value for each word of a packet. A node takes some bits of one word, wherever they
tell its rows best apart (as ByteCuts has it; Daly et al., ICCCN 2019), and has a child for each of their values. A row
whose box holds several of them stands below each: so much that a tree with all rows could be of any size. Therefore a
tree leaves the rows out that its root would have to repeat more than REPEATED times, and the next one has them, until
the last takes what is left (as CutSplit and others sort rows; Li et al., INFOCOM 2018). Rows that another one in front
hides within a node's own box are taken out of it.

However rows lie, there are no more than TREES trees, of no more than NODES_A_ROW nodes and LEAVES_A_ROW rows of leaves
for each row: where there is no more room a leaf stays long.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numba import uint64

from pyvpp.jit import Native, inline, jit
from pyvpp.typing import I64, U8, U64
from pyvpp_acl.classify import BITS_AT, LEAF, SHIFT_AT, WORD_AT
from pyvpp_nodes.integers import int64

TREES = 5
FEW = 2
"""Rows of which a leaf is made at once."""
REPEATED = 4
ROOT_BITS, NODE_BITS = 12, 6
"""Bits that a node looks at, at most."""
WORTH = 0.6
"""A node is worth its while when what is left in a child is less than this part of its rows."""
GROWTH = 8
EVERYWHERE = 1 << 40
SAMPLE = 8192
"""Rows that are looked at to choose the bits of a node."""
COMPARED = 1024
"""Rows of a node, at most, of which hidden ones are taken out."""
NODES_A_ROW, LEAVES_A_ROW, ROOM = 48, 16, 1 << 13

NODES, LEAVES, OPEN, MOST_LEAVES = range(4)
"""Registers: how many there are; and how many rows of leaves there may be, but for one leaf of each tree."""
FIRST_VALUE, LAST_VALUE, LOOKED_AT = range(3)
"""Of a node's box, by word."""


class Work(NamedTuple):
    """What trees are grown from and in."""

    low: I64  # first values by row and word, two-dimensional
    high: I64
    by_flags: U8  # rows that look at flags, too, and so hide no other
    bits: I64  # by word
    lists: I64  # rows of nodes that wait, one list behind the other
    open: I64  # those nodes: where they stand, and their list's beginning and end
    boxes: I64  # and their boxes
    counts: I64  # by child
    full: U8  # children whose box a row has filled: what comes behind is hidden
    nodes: U64
    leaves: I64  # rows
    known: I64  # leaves by a hash of their rows
    registers: I64


class Cut(NamedTuple):
    """Which bits a node looks at."""

    word: int
    shift: int
    size: int


@inline
def spread(
    work: Work, start: int, end: int, stride: int, word: int, shift: int, size: int, most: int
) -> tuple[int, int, float]:
    """For some bits: the rows that would be told apart, all rows of all children, and the sum of their squares."""
    n = 1 << size
    counts = work.counts
    for c in range(n + 1):
        counts[c] = 0
    kept = everywhere = int64(0)
    for k in range(start, end, stride):
        r = work.lists[k]
        first, last = work.low[r, word] >> shift, work.high[r, word] >> shift
        if last - first >= most:
            continue
        kept += 1
        if last - first + 1 >= n:
            everywhere += 1
            continue
        first, last = first & (n - 1), last & (n - 1)
        counts[first] += 1
        counts[last + 1] -= 1
        if last < first:
            counts[0] += 1
    total, squares, now = int64(0), 0.0, everywhere
    for c in range(n):
        now += counts[c]
        total += now
        squares += float(now) * float(now)
    return kept, total, squares


@inline
def alike(work: Work, start: int, end: int, word: int) -> bool:
    """Whether all rows say the same of a word."""
    first, last = work.low[work.lists[start], word], work.high[work.lists[start], word]
    for k in range(start, end):
        r = work.lists[k]
        if work.low[r, word] != first or work.high[r, word] != last:
            return False
    return True


@inline
def price(rows: int, kept: int, total: int, squares: float, children: int) -> float:
    """What bits leave to be done: rows of a child, by how many rows are looked for there; repetitions; memory."""
    left_out = rows / kept
    return float((squares / total * (total / kept) ** 0.2 + 0.08 * children / kept) * left_out * left_out)


@inline
def best_cut(work: Work, start: int, end: int, box: I64, widest: int, most: int) -> tuple[int, int, int]:
    """The bits that tell the rows of a list best apart: word, shift, and how many; none when they are not worth it."""
    rows = end - start
    stride = 1 + rows // SAMPLE
    sampled = (rows + stride - 1) // stride
    wanted = 0
    while 1 << wanted < rows:
        wanted += 1
    best, word, shift, size = WORTH * sampled, int64(0), int64(0), int64(0)
    for w in range(len(work.bits)):
        if alike(work, start, end, w):
            continue
        for candidate in range(3):
            n = min(widest, work.bits[w], wanted + 1 if candidate == 0 else max(1, wanted - 1) if candidate == 1 else 3)
            for s in range(work.bits[w] - n + 1):
                if box[LOOKED_AT, w] >> s & ((1 << n) - 1):
                    continue
                kept, total, squares = spread(work, start, end, stride, w, s, n, most)
                if kept and total <= GROWTH * sampled + 64:
                    cost = price(sampled, kept, total, squares, 1 << n)
                    if cost < best:
                        best, word, shift, size = cost, int64(w), int64(s), int64(n)
    return word, shift, size


@inline
def hides(work: Work, front: int, row: int, box: I64) -> bool:
    """Whether a row in front takes all packets of another one within a box."""
    if work.by_flags[front]:
        return False
    for w in range(len(work.bits)):
        if work.low[front, w] > max(work.low[row, w], box[FIRST_VALUE, w]):
            return False
        if work.high[front, w] < min(work.high[row, w], box[LAST_VALUE, w]):
            return False
    return True


@inline
def without_hidden(work: Work, start: int, end: int, box: I64) -> int:
    """Takes hidden rows out of a list; its new end."""
    kept = start
    for k in range(start, end):
        row, hidden = work.lists[k], False
        for j in range(start, kept):
            if hides(work, work.lists[j], row, box):
                hidden = True
                break
        if not hidden:
            work.lists[kept] = row
            kept += 1
    return kept


@inline
def fills_but_for(work: Work, row: int, word: int, box: I64) -> bool:
    """Whether a row means all packets of a box as far as the other words go."""
    if work.by_flags[row]:
        return False
    for w in range(len(work.bits)):
        if w != word and (work.low[row, w] > box[FIRST_VALUE, w] or work.high[row, w] < box[LAST_VALUE, w]):
            return False
    return True


@inline
def sort_out(work: Work, start: int, end: int, box: I64, cut: Cut, whole: bool, write: bool) -> None:
    """Counts the rows of each child, or writes their lists to where `counts` says; each says where it ends then.

    `whole`: the bits are the next ones of the word, so that a child's box is a part of the node's.
    """
    n, word, shift = 1 << cut.size, cut.word, cut.shift
    for c in range(n):
        work.full[c] = 0
    for k in range(start, end):
        row = work.lists[k]
        low, high = work.low[row, word], work.high[row, word]
        first, last = low >> shift, high >> shift
        if whole:
            first, last = max(low, box[FIRST_VALUE, word]) >> shift, min(high, box[LAST_VALUE, word]) >> shift
        fills = fills_but_for(work, row, word, box)
        for value in range(first, min(last, first + n - 1) + 1):
            c = value & (n - 1)
            if work.full[c]:
                continue
            if write:
                work.lists[work.counts[c]] = row
            work.counts[c] += 1
            if whole:
                work.full[c] = fills and low <= value << shift and ((value + 1) << shift) - 1 <= high
            else:
                work.full[c] = fills and low <= box[FIRST_VALUE, word] and box[LAST_VALUE, word] <= high


@inline
def put_leaf(work: Work, node: int, start: int, end: int) -> None:
    """A leaf of a list, one that is there already if its rows are the same."""
    n = end - start
    if n == 0:
        work.nodes[node] = uint64(LEAF)
        return
    h = int64(n)
    for k in range(start, end):
        h = (h ^ work.lists[k]) * 0x5BD1E995
        h = (h ^ h >> 28) & 0xFFFFFFFF
    place = h & (len(work.known) - 1)
    while work.known[place]:
        leaf = work.known[place]
        same, at = leaf >> 32 == n, leaf & 0xFFFFFFFF
        for k in range(n if same else 0):
            same = same and work.leaves[at + k] == work.lists[start + k]
        if same:
            break
        place = (place + 1) & (len(work.known) - 1)
    if work.known[place] == 0:
        at = work.registers[LEAVES]
        for k in range(n):
            work.leaves[at + k] = work.lists[start + k]
        work.registers[LEAVES] += n
        work.known[place] = at | n << 32
    at = work.known[place] & 0xFFFFFFFF
    work.nodes[node] = uint64(LEAF) | uint64(at) | uint64(n) << uint64(BITS_AT)


@inline
def open_node(work: Work, node: int, start: int, end: int) -> int:
    """One more node that waits; which."""
    k = work.registers[OPEN]
    work.registers[OPEN] += 1
    work.open[k, 0], work.open[k, 1], work.open[k, 2] = node, start, end
    return int64(k)


@inline
def close_node(work: Work, box: I64) -> None:
    """Makes a leaf of the last node that waits, or a node with children, some of which wait then.

    What is behind its list is free: whoever waited behind is done.
    """
    work.registers[OPEN] -= 1
    k = work.registers[OPEN]
    node, start, end = work.open[k, 0], work.open[k, 1], work.open[k, 2]
    for w in range(len(work.bits)):
        for what in range(3):
            box[what, w] = work.boxes[k, what, w]
    if end - start <= COMPARED:
        end = without_hidden(work, start, end, box)
    word, shift, size = int64(0), int64(0), int64(0)
    if end - start > FEW:
        word, shift, size = best_cut(work, start, end, box, ROOT_BITS if k == 0 else NODE_BITS, EVERYWHERE)
    cut = Cut(word, shift, size)
    whole = box[LAST_VALUE, word] - box[FIRST_VALUE, word] + 1 == 1 << (shift + size)
    if size == 0 or not places_of_lists(work, start, end, box, cut, whole):
        put_leaf(work, node, start, end)
        return
    sort_out(work, start, end, box, cut, whole, True)
    base, n = work.registers[NODES], 1 << size
    work.registers[NODES] += n
    work.nodes[node] = (
        uint64(base) | uint64(cut.shift) << uint64(SHIFT_AT) | uint64(cut.word) << uint64(WORD_AT)
        | uint64(n - 1) << uint64(BITS_AT)
    )  # fmt: skip
    put_children(work, base, end, box, cut, whole)


@inline
def places_of_lists(work: Work, start: int, end: int, box: I64, cut: Cut, whole: bool) -> bool:
    """Lets `counts` say where the children's lists will begin; False when there is no room for all that comes of it."""
    n, at = 1 << cut.size, end
    for c in range(n):
        work.counts[c] = 0
    sort_out(work, start, end, box, cut, whole, False)
    for c in range(n):
        rows = work.counts[c]
        work.counts[c] = at
        at += rows
    return bool(
        at <= len(work.lists)
        and work.registers[LEAVES] + at <= work.registers[MOST_LEAVES]
        and work.registers[NODES] + n + TREES <= len(work.nodes)
        and work.registers[OPEN] + n <= len(work.open)
    )


@inline
def put_children(work: Work, base: int, first: int, box: I64, cut: Cut, whole: bool) -> None:
    """Leaves of small lists; the others wait."""
    for c in range(1 << cut.size):
        last = work.counts[c]
        if last - first <= FEW:
            put_leaf(work, base + c, first, last)
        else:
            k = open_node(work, base + c, first, last)
            for w in range(len(work.bits)):
                for what in range(3):
                    work.boxes[k, what, w] = box[what, w]
            work.boxes[k, LOOKED_AT, cut.word] |= ((1 << cut.size) - 1) << cut.shift
            if whole:
                begins = box[FIRST_VALUE, cut.word] + (c << cut.shift)
                work.boxes[k, FIRST_VALUE, cut.word] = begins
                work.boxes[k, LAST_VALUE, cut.word] = begins + (1 << cut.shift) - 1
        first = last


@jit
def grow(work: Work, rows: I64, last: bool, box: I64, left_out: I64) -> int:
    """One tree, its root where the next free node is, of as many of the rows as it pays; how many are left out."""
    root, n, out = work.registers[NODES], len(rows), 0
    work.registers[NODES] += 1
    for w in range(len(work.bits)):
        box[FIRST_VALUE, w], box[LAST_VALUE, w], box[LOOKED_AT, w] = 0, (1 << work.bits[w]) - 1, 0
        for what in range(3):
            work.boxes[0, what, w] = box[what, w]
    for k in range(n):
        work.lists[k] = rows[k]
    if not last:
        word, shift, size = best_cut(work, 0, n, box, ROOT_BITS, REPEATED)
        kept = 0
        for k in range(n):
            r = rows[k]
            if size and (work.high[r, word] >> shift) - (work.low[r, word] >> shift) >= REPEATED:
                left_out[out] = r
                out += 1
            else:
                work.lists[kept] = r
                kept += 1
        n = kept
    open_node(work, root, 0, n)
    while work.registers[OPEN]:
        close_node(work, box)
    return int64(out)


class Grown(NamedTuple):
    """Trees of a list of rows. Rows are numbered from 0 on; those of leaves begin at 0."""

    trees: list[tuple[int, int]]
    """(root, first row)"""
    nodes: U64
    leaves: I64


def grown(low: Any, high: Any, by_flags: Any, bits: Sequence[int]) -> Grown:
    """The trees of rows that are boxes: first and last values by row and word, in words of so many bits."""
    rows, words = low.shape
    room = LEAVES_A_ROW * rows + ROOM
    work = Work(
        low=low, high=high, by_flags=by_flags, bits=np.array(bits, np.int64), lists=np.zeros(4 * room, np.int64),
        open=np.zeros((ROOM, 3), np.int64), boxes=np.zeros((ROOM, 3, words), np.int64),
        counts=np.zeros((1 << ROOT_BITS) + 1, np.int64), full=np.zeros(1 << ROOT_BITS, np.uint8),
        nodes=np.zeros(NODES_A_ROW * rows + ROOM, np.uint64), leaves=np.zeros(room + TREES * rows, np.int64),
        known=np.zeros(1 << (2 * room).bit_length(), np.int64), registers=np.array([0, 0, 0, room], np.int64),
    )  # fmt: skip
    trees: list[tuple[int, int]] = []
    left, box = np.arange(rows), np.zeros((3, words), np.int64)
    while len(left):
        trees.append((int(work.registers[NODES]), int(left[0])))
        left_out = np.zeros(len(left), np.int64)
        n = grow(work, left, len(trees) == TREES or len(left) <= FEW, box, left_out)
        left = left_out[:n]
    return Grown(trees, work.nodes[: work.registers[NODES]], work.leaves[: work.registers[LEAVES]])


def _use() -> None:
    one = np.zeros((1, 2), np.int64)
    grown(one, one + 1, np.zeros(1, np.uint8), (2, 2))


NATIVE = Native("acl", _use)
