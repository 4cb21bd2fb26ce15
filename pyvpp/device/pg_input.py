# SPDX-License-Identifier: Apache-2.0
"""pg-input: make packets of the packet generator's enabled streams.

A stream's packets were built when it was defined, one for each variation of its addresses, ports and size; here they
are copied into buffers one after another and appear to arrive on the stream's interface. A stream makes as many as
its rate allows by now, at most its vector size at a time, until its limit. Without a free buffer it waits. It runs
on one worker.
"""

import numpy as np
from numba import uint64

from pyvpp.bits import prefetch_once
from pyvpp.buffers import BUFFER, HEADROOM, SMALL_ROOM, slot_start, take_many
from pyvpp.jit import inline, jit
from pyvpp.node import Kind, NodeCounter, Severity, node
from pyvpp.tables import Table, record_dtype
from pyvpp.trace import TraceRecord
from pyvpp.trace_format import format_packet
from pyvpp.typing import I64, U8, U16, U32, U64, Record, Records
from pyvpp.wire import LINE, copy_line

PG_STREAM = record_dtype(
    [
        ("enabled", np.int64),
        ("interface", np.int64),  # sw_if_index the packets arrive on
        ("next", np.int64),  # TO_NODE | index
        ("frame", np.int64),  # packets at a time, at most
        ("first", np.int64),  # in pg_lengths
        ("data", np.int64),  # where the first begins in pg_data
        ("variations", np.int64),
        ("largest", np.int64),  # bytes of the longest
        ("position", np.int64),  # the variation that comes next
        ("source", np.int64),  # where that one begins in pg_data
        ("limit", np.int64),  # 0: none
        ("sent", np.int64),
        ("last", np.int64),  # ns, when credit was given; -1: not yet
        ("rate", np.float64),  # packets in a ns; 0: as many as possible
        ("credit", np.float64),  # packets that may be sent by now
        ("burst", np.float64),  # credit never grows above
    ]
)
STATE_STREAMS, STATE_CURSOR = 0, 1
AHEAD = 16 * LINE
"""How far in advance a packet is asked for: 14 clocks instead of 19 where a large table drives it out of the cache.

Read once in a long while, packets are no reason to drive the table out in their turn: 3 clocks of `ip4-1m`.
"""

PG_STREAMS = Table("pg_streams", PG_STREAM, 16, per_worker=True)  # all; enabled only where it belongs
PG_METADATA = Table("pg_metadata", BUFFER, 16)  # by stream: what its packets' metadata begin with
PG_LENGTHS = Table("pg_lengths", np.uint32, 16)
PG_DATA = Table("pg_data", np.uint8, 4096)  # the packets one after another, each padded to whole LINEs
PG_STATE = Table("pg_state", np.int64, 2, per_worker=True)


class Counter(NodeCounter):
    NO_BUFFERS = 0, "no buffers", Severity.WARNING


def format_trace(record: TraceRecord) -> list[str]:
    return [
        f"stream {record.adj}, {record.len} bytes, sw_if_index {record.rx}, next_node {record.next}",
        *format_packet(record.data, ethernet=record.next == "ethernet-input"),
    ]


@inline
def allowance(stream: Record, now: int, most: int) -> int:
    """How many packets the stream may make now."""
    n = min(most, int(stream.frame))
    if stream.rate > 0.0:
        if stream.last < 0:
            stream.last = now
        stream.credit = min(stream.credit + stream.rate * (now - stream.last), stream.burst)
        stream.last = now
        n = min(n, int(stream.credit))
    if stream.limit > 0:
        n = min(n, int(stream.limit) - int(stream.sent))
    return n


@node(name="pg-input", next={}, counters=Counter, kind=Kind.INPUT, trace=format_trace)
@jit
def pg_input(
    heap: U8,
    meta: Records,
    frame: U32,
    nexts: U16,
    counters: U64,
    pool: U32,
    now: int,
    interface_rx: Records,
    pg_streams: Records,
    pg_metadata: Records,
    pg_lengths: U32,
    pg_data: U8,
    pg_state: I64,
) -> int:
    produced = 0
    n_streams = int(pg_state[STATE_STREAMS])
    pg_state[STATE_CURSOR] += 1
    for k in range(n_streams):
        index = (int(pg_state[STATE_CURSOR]) + k) % n_streams
        stream = pg_streams[index]
        if stream.enabled == 0:
            continue
        wanted = allowance(stream, now, len(frame) - produced)
        made = take_many(pool, frame[produced : produced + wanted], int(stream.largest) > SMALL_ROOM)
        if made < wanted:
            counters[Counter.NO_BUFFERS] += uint64(1)
        position, variations, next_ = int(stream.position), int(stream.variations), stream.next
        source = int(stream.source)
        lengths = pg_lengths[stream.first : stream.first + variations]
        metadata = pg_metadata[uint64(index)]
        next_here = nexts[produced : produced + made]
        size = 0
        for i, b in enumerate(frame[produced : produced + made]):
            n = int(lengths[uint64(position)])  # unsigned: 1.5 clocks less than an index that could count from the end
            start = slot_start(int(b)) + HEADROOM
            prefetch_once(pg_data, source + AHEAD)
            for at in range(start, start + n, LINE):
                copy_line(heap, at, pg_data, source)
                source += LINE
            meta[b] = metadata
            m = meta[b]
            m.cur = start
            m.len = n
            m.l2 = start
            next_here[i] = next_
            size += n
            position += 1
            if position == variations:
                position = 0
                source = int(stream.data)
        stream.source = source
        produced += made
        stream.position = position
        stream.sent += made
        if stream.rate > 0.0:
            stream.credit -= made
        if stream.limit > 0 and stream.sent >= stream.limit:
            stream.enabled = 0
        interface_rx[stream.interface].packets += uint64(made)
        interface_rx[stream.interface].bytes += uint64(size)
    return produced
