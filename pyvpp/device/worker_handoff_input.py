# SPDX-License-Identifier: Apache-2.0
"""worker-handoff-input: take the packets that other workers hand to this one.

They go on where they would have gone on the worker that received them: the ring says by each which node that is. The
sender gets a buffer of the same kind back for each. Rings are asked in turn, and what a round takes is limited as for
any input. Where no interface hands packets on there is no such node.
"""

from numba import uint32

from pyvpp.bits import fetch64, publish64
from pyvpp.buffers import give_back
from pyvpp.device.receive import SEGMENTS_AT_ONCE, segments_of
from pyvpp.handoff_ring import (
    CURSOR,
    FIRST,
    FORGOTTEN,
    READ,
    SLOTS,
    WORKERS,
    WRITTEN,
    note_debt,
    pay,
    ring_at,
    worker_at,
)
from pyvpp.jit import inline, jit
from pyvpp.node import FREE, Kind, node
from pyvpp.trace import TRACE_NUMBER_BITS, TraceRecord
from pyvpp.typing import I64, U16, U32, Records


def format_trace(record: TraceRecord) -> list[str]:
    thread, number = (record.trace >> TRACE_NUMBER_BITS) + 1, (record.trace & ((1 << TRACE_NUMBER_BITS) - 1)) + 1
    return [f"HANDED-OFF: from thread {thread} packet {number}, sw_if_index {record.rx}, next {record.next}"]


@inline
def take(
    rings: I64, at: int, meta: Records, pool: U32, frame: U32, nexts: U16, produced: int, segments: int
) -> tuple[int, int]:
    """Fills the frame further from the ring at `at`; answers how many packets, and segments, it has then."""
    written, mask = fetch64(rings, at + WRITTEN), rings[SLOTS] - 1
    read = rings[at + READ]
    while read < written and produced < len(frame) and segments < SEGMENTS_AT_ONCE:
        word = rings[at + FIRST + (read & mask)]
        read += 1
        b, next_ = word & 0xFFFFFFFF, word >> 32
        m = meta[b]
        if next_ == FREE:
            give_back(pool, b)
            continue
        note_debt(rings, at, b)
        m.feature = uint32(0)
        if next_ == FORGOTTEN:
            m.flags = uint32(0)
            give_back(pool, b)
            continue
        segments += segments_of(m)
        frame[produced] = b
        nexts[produced] = next_
        produced += 1
    if read != rings[at + READ]:
        publish64(rings, at + READ, read)
    return produced, segments


@node(name="worker-handoff-input", kind=Kind.INPUT, template=True, trace=format_trace)
@jit
def worker_handoff_input(meta: Records, frame: U32, nexts: U16, pool: U32, worker: int, handoff_rings: I64) -> int:
    workers = handoff_rings[WORKERS]
    cursor = worker_at(worker) + CURSOR
    first = handoff_rings[cursor]
    handoff_rings[cursor] = (first + 1) % workers
    produced, segments = 0, 0
    for k in range(workers):
        source = (first + k) % workers
        if source != worker:
            ring = ring_at(handoff_rings, source, worker)
            produced, segments = take(handoff_rings, ring, meta, pool, frame, nexts, produced, segments)
            pay(handoff_rings, pool, worker, source)
    return produced
