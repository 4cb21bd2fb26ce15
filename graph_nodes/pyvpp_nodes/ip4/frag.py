# SPDX-License-Identifier: Apache-2.0
"""ip4-frag: cut a packet that is larger than the MTU of where it goes into fragments (RFC 791, 3.2).

ip4-rewrite and ip4-midchain send it here as it came, TTL included, and get the fragments back. Each has as much data
as fits, a multiple of eight bytes. A fragment that is cut again keeps id, offset and More Fragments; a packet keeps
its id, unless that is zero: then it gets a running one, since tunnel headers carry none and fragments of two packets
must not be mixed up. A checksum that was left to a device is finished first, no device can once its bytes lie in
several packets. A GSO packet without DF, from a sender that does not look for the path's MTU, is cut into the segments
its sender meant, which come back here one by one.

Dropped and counted: DF set, IP options, lengths that contradict each other, and what finds no buffer (fragments
already sent are lost on the receiver).
"""

from enum import IntEnum

import numpy as np
from numba import uint64

from pyvpp.buffers import HEADROOM, NO_BUFFER, emit_to, give_back, slot_start
from pyvpp.checksum import complete_checksum
from pyvpp.jit import inline, jit
from pyvpp.node import FREE, NodeCounter, Severity, node
from pyvpp.tables import Table
from pyvpp.trace import TraceRecord
from pyvpp.trace_format import format_ip4
from pyvpp.typing import U8, U16, U32, U64, Record, Records
from pyvpp.wire import be16, copy, put_be16
from pyvpp_nodes.fib.tables import Kind
from pyvpp_nodes.gso.segment import DONE, NO_ROOM, move_metadata, segment, take_sized
from pyvpp_nodes.integers import int64
from pyvpp_nodes.ip4.header import (
    DONT_FRAGMENT,
    FRAGMENT,
    FRAGMENT_OFFSET,
    HEADER_BYTES,
    ID,
    MORE_FRAGMENTS,
    TOTAL_LENGTH,
    header_bytes,
    is_fragment,
    put_checksum,
)

MIDCHAIN = int(Kind.MIDCHAIN)

IP4_FRAG_ID = Table("ip4_frag_id", dtype=np.dtype(np.uint32), capacity=1, per_worker=True)


class Next(IntEnum):
    DROP = 0
    REWRITE = 1
    MIDCHAIN = 2


class Counter(NodeCounter):
    FRAGMENTED = 0, "packet fragmented", Severity.INFO
    SMALL_PACKET = 1, "packet smaller than MTU", Severity.INFO
    FRAGMENT_SENT = 2, "number of sent fragments", Severity.INFO
    CANT_FRAGMENT_HEADER = 3, "can't fragment header"
    DONT_FRAGMENT_SET = 4, "can't fragment this packet"
    MALFORMED = 5, "malformed packet"
    MEMORY = 6, "could not allocate buffer"
    SEGMENTED = 7, "gso packet segmented", Severity.INFO
    SEGMENT_SENT = 8, "number of sent segments", Severity.INFO


@inline
def verdict(heap: U8, m: Record, mtu: int) -> int:
    ip = int64(m.cur)
    length = int64(m.len)
    if length < HEADER_BYTES or be16(heap, ip + TOTAL_LENGTH) > length or be16(heap, ip + TOTAL_LENGTH) < HEADER_BYTES:
        return int64(Counter.MALFORMED)
    if m.gso_type != 0:  # however small it is itself: it would come back here, since its segments are too large
        return int64(Counter.DONT_FRAGMENT_SET if be16(heap, ip + FRAGMENT) & DONT_FRAGMENT else Counter.SEGMENTED)
    if be16(heap, ip + TOTAL_LENGTH) <= mtu:
        return int64(Counter.SMALL_PACKET)
    if header_bytes(heap, ip) != HEADER_BYTES or mtu < HEADER_BYTES + 8:
        return int64(Counter.CANT_FRAGMENT_HEADER)
    if be16(heap, ip + FRAGMENT) & DONT_FRAGMENT:
        return int64(Counter.DONT_FRAGMENT_SET)
    return int64(Counter.FRAGMENTED)


@inline
def choose_id(heap: U8, ip: int, ip4_frag_id: U32) -> None:
    """Only a whole packet with id zero gets another."""
    if be16(heap, ip + ID) == 0 and not is_fragment(heap, ip):
        ip4_frag_id[0] = (int64(ip4_frag_id[0]) + 1) & 0xFFFF
        put_be16(heap, ip + ID, int64(ip4_frag_id[0]))


@jit
def fragment(heap: U8, meta: Records, b: int, mtu: int, pool: U32, emit: U32, to: int) -> tuple[int, int]:
    """Sends the fragments of packet b: how many went, and FRAGMENTED or MEMORY."""
    m = meta[b]
    ip = int64(m.cur)
    end = ip + be16(heap, ip + TOTAL_LENGTH)
    room = mtu - HEADER_BYTES
    whole = be16(heap, ip + FRAGMENT)
    at = ip + HEADER_BYTES
    offset = whole & FRAGMENT_OFFSET
    sent = 0
    while at < end:
        n = end - at if end - at <= room else room & ~7  # all but the last: multiples of 8 (RFC 791, 3.1)
        piece = take_sized(pool, HEADER_BYTES + n)
        if piece == NO_BUFFER:
            return sent, int64(Counter.MEMORY)
        new = slot_start(piece) + HEADROOM
        copy(heap, new, ip, HEADER_BYTES)
        copy(heap, new + HEADER_BYTES, at, n)
        more = MORE_FRAGMENTS if at + n < end else whole & MORE_FRAGMENTS
        put_be16(heap, new + FRAGMENT, more | offset)
        put_be16(heap, new + TOTAL_LENGTH, HEADER_BYTES + n)
        put_checksum(heap, new, HEADER_BYTES)
        move_metadata(m, meta[piece], new, HEADER_BYTES + n)
        if not emit_to(emit, piece, to):
            give_back(pool, piece)
            return sent, int64(Counter.MEMORY)
        sent += 1
        at += n
        offset += n >> 3
    return sent, int64(Counter.FRAGMENTED)


@inline
def cut_as_meant(heap: U8, meta: Records, b: int, pool: U32, emit: U32, to: int) -> tuple[int, int]:
    """Sends the segments of GSO packet b: how many went, and SEGMENTED, MALFORMED or MEMORY."""
    sent, result = segment(heap, meta, b, int64(meta[b].cur), pool, emit, to)
    if result == DONE:
        return sent, int64(Counter.SEGMENTED)
    return sent, int64(Counter.MEMORY if result == NO_ROOM else Counter.MALFORMED)


def format_trace(record: TraceRecord) -> list[str]:
    return format_ip4(record.data)


@node(
    name="ip4-frag",
    next={Next.DROP: "ip4-drop", Next.REWRITE: "ip4-rewrite", Next.MIDCHAIN: "ip4-midchain"},
    counters=Counter,
    trace=format_trace,
)
@jit
def ip4_frag(
    heap: U8,
    meta: Records,
    frame: U32,
    nexts: U16,
    counters: U64,
    pool: U32,
    emit: U32,
    error_base: int,
    adjacencies: Records,
    ip4_frag_id: U32,
) -> None:
    for i, b in enumerate(frame):
        m = meta[b]
        adjacency = adjacencies[m.adj]
        to = int64(Next.MIDCHAIN) if adjacency.kind == MIDCHAIN else int64(Next.REWRITE)
        result = verdict(heap, m, int64(adjacency.mtu))
        if result == Counter.FRAGMENTED:
            complete_checksum(heap, m)
            choose_id(heap, int64(m.cur), ip4_frag_id)
            sent, result = fragment(heap, meta, b, int64(adjacency.mtu), pool, emit, to)
            counters[Counter.FRAGMENT_SENT] += uint64(sent)
        elif result == Counter.SEGMENTED:
            sent, result = cut_as_meant(heap, meta, b, pool, emit, to)
            counters[Counter.SEGMENT_SENT] += uint64(sent)
        counters[result] += uint64(1)
        if result in (Counter.FRAGMENTED, Counter.SEGMENTED):
            nexts[i] = FREE
        elif result == Counter.SMALL_PACKET:
            m.len = be16(heap, int64(m.cur) + TOTAL_LENGTH)  # only padding was too long
            nexts[i] = to
        else:
            m.error = error_base + result
            nexts[i] = Next.DROP
