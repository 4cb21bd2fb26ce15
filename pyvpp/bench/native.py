# SPDX-License-Identifier: Apache-2.0
"""What the bench itself needs compiled: to call a node by its address, again and again, and to time it."""

from pyvpp import dispatch as d
from pyvpp.buffers import POOL_ENTRIES, POOL_LARGE, POOL_LARGE_START, POOL_SMALL
from pyvpp.jit import jit
from pyvpp.typing import I64, U8, U16, U32, Records

KEPT = 1024  # entries at the top of each free list that a call may disturb


@jit
def call_node(entry: int, context: int, runtime: int, frame: int, n: int, nexts: int) -> int:
    """One call of a node's entry, all by address; what an input node returns."""
    return int(d.call_entry(entry, context, runtime, frame, n, nexts))


@jit
def replay(
    entry: int, runtime: int, context: I64, n: int, nexts: U16, room: U32, frame: U32, kept: Records, starts: I64,
    lengths: I64, memory: U8, heap: U8, meta: Records, pool: U32, emit: U32, top: U32, clocks: I64,
) -> int:  # fmt: skip
    """Calls a node once for each element of `clocks`, which gets the cycles of that call; what the last returned.

    `top` is room for the ends of the two free lists: KEPT entries each.
    """
    made = 0
    small, large = int(pool[POOL_SMALL]), int(pool[POOL_LARGE])
    first_small = POOL_ENTRIES + max(small - KEPT, 0)
    first_large = int(pool[POOL_LARGE_START]) + max(large - KEPT, 0)
    keep_small, keep_large = min(small, KEPT), min(large, KEPT)
    for k in range(keep_small):
        top[k] = pool[first_small + k]
    for k in range(keep_large):
        top[KEPT + k] = pool[first_large + k]
    for call in range(len(clocks)):
        at = 0
        for k in range(len(frame)):
            b = frame[k]
            room[k] = b
            meta[b] = kept[k]
            for j in range(lengths[k]):
                heap[starts[k] + j] = memory[at + j]
            at += lengths[k]
        pool[POOL_SMALL], pool[POOL_LARGE] = small, large
        for k in range(keep_small):
            pool[first_small + k] = top[k]
        for k in range(keep_large):
            pool[first_large + k] = top[KEPT + k]
        emit[0] = 0
        begin = int(d.cycles())
        made = d.call_entry(entry, context.ctypes.data, runtime, room.ctypes.data, n, nexts.ctypes.data)
        clocks[call] = d.cycles() - begin
    return int(made)


@jit
def count_calls(rows: Records, index: int, calls: int) -> int:
    """What the dispatcher does for the counters of a node after each call, so many times."""
    stamp = int(d.cycles())
    row = rows[index]
    for _ in range(calls):
        after = d.cycles()
        row.calls += 1
        row.vectors += 1
        spent = after - stamp
        row.clocks += spent
        if spent > row.max_clocks:
            row.max_clocks = spent
        stamp = after
    return int(stamp)
