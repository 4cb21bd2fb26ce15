# SPDX-License-Identifier: Apache-2.0
"""A batch of changes from beginning to end: `edit`, `spread`, `build` in one call, which control code can afford."""

from pyvpp.jit import jit
from pyvpp.typing import U8, U32, U64
from pyvpp_nodes.fib.trie.arrays import DONE, RETIRED, Arrays
from pyvpp_nodes.fib.trie.build import build, spread
from pyvpp_nodes.fib.trie.edit import edit
from pyvpp_nodes.integers import int64

FINISHED, TREE_IS_FULL, RETIRED_IS_FULL, NODES_ARE_FULL = range(4)


@jit
def change(t: Arrays, top: int, fib_index: int, high: U64, low: U64, lengths: U8, values: U32) -> int:
    """Set routes to load balances, or remove those with NONE. What there is no room for, else FINISHED.

    Called again after room was made, with the same arguments, it goes on where it stopped.
    """
    t.registers[DONE] = edit(t, top, fib_index, high, low, lengths, values, t.registers[DONE])
    if t.registers[DONE] < len(lengths):
        return TREE_IS_FULL
    if spread(t) + int64(t.registers[RETIRED]) > len(t.retired):
        return RETIRED_IS_FULL
    if not build(t):
        return NODES_ARE_FULL
    t.registers[DONE] = 0
    return FINISHED
