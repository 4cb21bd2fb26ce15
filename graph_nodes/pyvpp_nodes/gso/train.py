# SPDX-License-Identifier: Apache-2.0
"""The segments of a large packet one behind the other in one buffer, each with room for a tunnel's header in front.

Into a tunnel over UDP they need not go one by one: with the tunnel's header before each they are the payload of a
large UDP packet whose segmentation is left to a device, and what that sends is each segment in its tunnel. So 64 KiB
remain one packet for the graph and one system call, and the outer headers are Linux' or the NIC's to repeat.

A train has gso_type UDP_L4 and, as gso_size, the distance from one segment to the next. `m.cur` is at the first
segment; before it is the headroom, as before every packet. That CSUM_PARTIAL is not set tells it from what Linux hands
over: its outer UDP header is yet to be written (`is_train`).
"""

from numba import uint8, uint16

from pyvpp.buffers import CSUM_PARTIAL, HEADROOM, NO_BUFFER, emit_to, give_back, slot_start, take_large
from pyvpp.jit import inline, jit
from pyvpp.typing import U8, U32, Record, Records
from pyvpp_nodes.gso.segment import (
    DONE,
    ECN,
    MALFORMED,
    NO_ROOM,
    UDP_L4,
    l4_of,
    move_metadata,
    payload_of,
    put_segment,
    segment,
)
from pyvpp_nodes.integers import int64

LONGEST = 0xFFFF - 28
"""Bytes of payload that an outer UDP header over IPv4 can count."""


@inline
def is_train(m: Record) -> bool:
    return bool(m.gso_type == UDP_L4 and m.flags & CSUM_PARTIAL == 0)


@inline
def put_train(heap: U8, m: Record, train: Record, new: int, ip: int, first: int, gap: int, most: int) -> int:
    """Writes segments of m's packet, from the one numbered `first` and at most so many; answers how many."""
    payload, start, end = payload_of(heap, m, ip), int64(m.cur), int64(m.cur) + int64(m.len)
    l4, size = l4_of(heap, m, ip), int64(m.gso_size)
    udp = int64(m.gso_type) & ~ECN == UDP_L4
    pitch = gap + payload - start + size
    k, n = 0, 0
    at = payload + first * size
    while at < end and k < most:
        n = min(size, end - at)
        put_segment(heap, new + k * pitch, start, ip, l4, payload, at, n, first + k, at + n >= end, udp)
        k += 1
        at += n
    move_metadata(m, train, new, (k - 1) * pitch + payload - start + n)
    if k > 1:
        train.gso_type = uint8(UDP_L4)
        train.gso_size = uint16(pitch)
    return k


@jit
def send_trains(heap: U8, meta: Records, b: int, ip: int, gap: int, pool: U32, emit: U32, to: int) -> tuple[int, int]:
    """Sends packet b as trains with so many bytes before each segment: how many packets went, and DONE or why not all.

    Without a large buffer, the rest of the way without trains.
    """
    m = meta[b]
    payload = payload_of(heap, m, ip)
    if payload == 0:
        return 0, MALFORMED
    size, bytes_in = int64(m.gso_size), int64(m.cur) + int64(m.len) - payload
    most = LONGEST // (gap + payload - int64(m.cur) + size)
    total = (bytes_in + size - 1) // size
    if total < 2 or most < 2:
        return segment(heap, meta, b, ip, pool, emit, to)
    sent, done = 0, 0
    while done < total:
        train = take_large(pool)
        if train == NO_BUFFER:
            return segment(heap, meta, b, ip, pool, emit, to) if sent == 0 else (sent, NO_ROOM)
        new = slot_start(train) + HEADROOM
        done += put_train(heap, m, meta[train], new, ip, done, gap, most)
        if not emit_to(emit, train, to):
            give_back(pool, train)
            return sent, NO_ROOM
        sent += 1
    return sent, DONE
