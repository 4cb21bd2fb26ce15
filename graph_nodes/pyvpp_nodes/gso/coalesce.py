# SPDX-License-Identifier: Apache-2.0
"""Joining packets of a TCP stream that follow each other into the one large packet they could have been (GRO).

Which packets those are says `pyvpp_nodes.gso.stream`. A flow's packets keep their order: whatever of it does not fit
ends the large packet, and comes behind it.
"""

from numba import uint8, uint16, uint32

from pyvpp.buffers import (
    CSUM_PARTIAL,
    CSUM_VALID,
    HEADROOM,
    LARGE_BUFFERS,
    LARGE_SLOT,
    NO_BUFFER,
    give_back,
    slot_start,
    take_large,
)
from pyvpp.checksum import WITHOUT_CSUM_PARTIAL, fold
from pyvpp.jit import inline, jit
from pyvpp.tables import Table
from pyvpp.typing import U8, U32, Record, Records
from pyvpp.wire import be32, copy, le32, put_be16, put_le16, put_u8, u8
from pyvpp_nodes.gso.checksum import pseudo_header_sum
from pyvpp_nodes.gso.segment import FIN_PSH, TCP4, TCP6, TCP_CHECKSUM, TCP_FLAGS, TCP_SEQUENCE, move_metadata
from pyvpp_nodes.gso.stream import (
    GRO_FLOW,
    IP6_BYTES,
    IP6_PAYLOAD_LENGTH,
    MOST,
    continues,
    is_verified,
    payload_of,
    same_addresses,
)
from pyvpp_nodes.integers import int64
from pyvpp_nodes.ip4.header import HEADER_BYTES, TCP, TOTAL_LENGTH, put_checksum

GRO_FLOWS = Table("gro_flows", GRO_FLOW, 8, per_worker=True)
"""The large packets that may grow, as a worker's frame knows them: nothing outlives the frame."""


@inline
def find_flow(heap: U8, gro_flows: Records, tx: int, ip: int, l4: int) -> int:
    """The flow of a TCP packet, or -1."""
    for k in range(len(gro_flows)):
        flow = gro_flows[k]
        if flow.buffer != 0 and flow.tx == tx and le32(heap, flow.l4) == le32(heap, l4):
            if same_addresses(heap, int64(flow.ip), ip):
                return k
    return -1


@inline
def open_flow(heap: U8, flow: Record, m: Record, b: int, position: int, ip: int, l4: int) -> None:
    """A joinable packet may be the first of a large one."""
    payload = payload_of(heap, l4)
    n = int64(m.cur) + int64(m.len) - payload
    flow.ip = ip
    flow.l4 = l4
    flow.buffer = uint32(b)
    flow.position = uint32(position)
    flow.sequence = uint32((be32(heap, l4 + TCP_SEQUENCE) + n) & 0xFFFFFFFF)
    flow.payload = uint32(n)
    flow.count = uint32(1)
    flow.fixed_id = uint32(0)
    flow.tx = m.tx


@inline
def make_room(heap: U8, meta: Records, flow: Record, frame: U32, pool: U32) -> bool:
    """Moves the flow's first packet into a large buffer, which takes its place in the frame; False: there is none.

    One that is in a large buffer already stays, unless so many tunnels were taken off that less than the longest
    packet fits behind them.
    """
    b = int64(flow.buffer)
    if b < LARGE_BUFFERS and int64(flow.ip) + MOST <= slot_start(b) + LARGE_SLOT:
        return True
    large = take_large(pool)
    if large == NO_BUFFER:
        return False
    m, start = meta[b], slot_start(large) + HEADROOM
    shift = start - int64(m.cur)
    copy(heap, start, int64(m.cur), int64(m.len))
    move_metadata(m, meta[large], start, int64(m.len))
    flow.buffer = uint32(large)
    flow.ip = int64(flow.ip) + shift
    flow.l4 = int64(flow.l4) + shift
    frame[flow.position] = uint32(large)
    m.flags = uint32(0)
    give_back(pool, b)
    return True


@inline
def describe(heap: U8, flow: Record, first: Record) -> None:
    """Lengths, checksums and GSO state of the packet as it is now."""
    ip, l4 = int64(flow.ip), int64(flow.l4)
    end = int64(first.cur) + int64(first.len)
    is_ip4 = u8(heap, ip) >> 4 == 4
    if is_ip4:
        put_be16(heap, ip + TOTAL_LENGTH, end - ip)
        put_checksum(heap, ip, HEADER_BYTES)
    else:
        put_be16(heap, ip + IP6_PAYLOAD_LENGTH, end - ip - IP6_BYTES)
    put_le16(heap, l4 + TCP_CHECKSUM, fold(pseudo_header_sum(heap, ip, end - l4, TCP)))
    first.flags = first.flags & (WITHOUT_CSUM_PARTIAL ^ CSUM_VALID) | CSUM_PARTIAL
    first.csum_start = uint32(l4)
    first.csum_offset = uint16(TCP_CHECKSUM)
    first.gso_size = uint16(flow.payload)
    first.gso_type = uint8(TCP4 if is_ip4 else TCP6)


@jit
def join(heap: U8, meta: Records, flow: Record, b: int, ip: int, l4: int, frame: U32, pool: U32) -> bool:
    """Appends a joinable packet to its flow's first; False: it is not what comes next. Its buffer stays as it was."""
    m = meta[b]
    if not continues(heap, meta, flow, m, ip, l4) or not is_verified(heap, m, ip, l4):
        return False
    if flow.count == 1 and not is_verified(heap, meta[flow.buffer], int64(flow.ip), int64(flow.l4)):
        return False
    if not make_room(heap, meta, flow, frame, pool):
        return False
    first = meta[flow.buffer]
    payload = payload_of(heap, l4)
    n = int64(m.cur) + int64(m.len) - payload
    copy(heap, int64(first.cur) + int64(first.len), payload, n)
    first.len = uint32(int64(first.len) + n)
    flow.sequence = uint32((int64(flow.sequence) + n) & 0xFFFFFFFF)
    flow.count += uint32(1)
    flags = int64(flow.l4) + TCP_FLAGS
    put_u8(heap, flags, u8(heap, flags) | u8(heap, l4 + TCP_FLAGS) & FIN_PSH)
    describe(heap, flow, first)
    return True
