# SPDX-License-Identifier: Apache-2.0
"""Skips: long runs of tree nodes that only pass on, between a short prefix and a longer one, take one piece of memory.

A node passes on when it has one child and says nothing else; then all it stands for is six bits that must be right. A
run of such nodes, one below the other, is cut from its top into pieces of at most MOST (so that their bits fit a word).
A piece of at least LEAST has a skip, at its first node; its other nodes have no block. A lookup below one /128 takes 19
clocks instead of 105, below one /64 15 instead of 34, among 10,000 /128 of sixteen networks 62 instead of 131. Among
routes as on the Internet few nodes pass on for long, and it makes no difference; an IPv4 table has no skips.

Whoever changes a node marks the run that it ends or joins: all nodes of a run are built together.
"""

from numba import uint32, uint64

from pyvpp.bits import popcount
from pyvpp.jit import inline
from pyvpp_nodes.fib.trie.arrays import ROOT_LEVELS, Arrays, cells_in, mark, take
from pyvpp_nodes.fib.trie.lookup import CHILD, SKIP, STRIDE
from pyvpp_nodes.integers import int64

LEAST, MOST = 3, 10
SKIP_WORDS = 6


@inline
def passes_on(t: Arrays, n: int) -> bool:
    """Is it a live node below those that the roots lead to, with nothing but one child?"""
    node = t.tree[n]
    return bool(node.alive) and int64(node.level) > ROOT_LEVELS and node.children != uint64(0) and cells_in(node) == 1


@inline
def only_child(t: Arrays, n: int) -> int:
    return int64(t.cells[t.tree[n].cells])


@inline
def mark_runs_beside(t: Arrays, n: int) -> None:
    """A node got or lost something, so that it may pass on now, or no longer: runs end or begin with it."""
    above = int64(t.tree[n].parent)
    while passes_on(t, above):
        mark(t, above, uint64(0))
        above = int64(t.tree[above].parent)
    children = popcount(t.tree[n].children)
    for k in range(children if children <= 2 else 0):  # with more it has not passed on, before or after
        child = int64(t.cells[int64(t.tree[n].cells) + k])
        while passes_on(t, child):
            mark(t, child, uint64(0))
            child = only_child(t, child)


@inline
def skipped_at(t: Arrays, n: int) -> int:
    """How many nodes the skip spans that begins at this one; 0: none; -1: the node lies within one."""
    if not passes_on(t, n):
        return 0
    above, m = 0, int64(t.tree[n].parent)
    while passes_on(t, m):
        above, m = above + 1, int64(t.tree[m].parent)
    count, m = above + 1, only_child(t, n)
    while passes_on(t, m):
        count, m = count + 1, only_child(t, m)
    first = above - above % MOST
    length = min(MOST, count - first)
    if length < LEAST:
        return 0
    return length if first == above else -1


@inline
def entry_for(t: Arrays, n: int) -> int:
    """What leads to a node's block or skip."""
    node = t.tree[n]
    return int64(node.block) | (CHILD | SKIP if node.skips else CHILD)


@inline
def make_skip(t: Arrays, n: int, length: int) -> int:
    """The skip over so many nodes, filled but not published; -1 when there is no room."""
    skip = take(t.nodes, t.nodes_heap, SKIP_WORDS)
    if not skip:
        return -1
    expected, m = uint64(0), n
    for _ in range(length):
        m = only_child(t, m)
        expected = (expected << uint64(STRIDE)) | uint64(t.tree[m].slot)
    t.nodes[skip], t.nodes[skip + 1] = uint32(STRIDE * length), uint32(entry_for(t, m))
    t.nodes[skip + 2], t.nodes[skip + 3] = uint32(expected & uint64(0xFFFFFFFF)), uint32(expected >> uint64(32))
    t.nodes[skip + 4] = t.tree[n].inherited
    return skip
