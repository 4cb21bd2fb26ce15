# SPDX-License-Identifier: Apache-2.0
"""af-xdp-input: take packets from the receive ring of an AF_XDP socket.

Linux has written each packet into one of our own small buffers, which goes on through the graph as it is, and another
takes its place in the fill ring. Without a free one the packet is lost and its buffer goes back: the fill ring never
runs dry. A packet in several pieces, longer than a small buffer, is copied into a large one. A checksum or segmentation
that the sender left to a device is recognised (see `af_xdp_offload`).

Packets of an uplink go to uplink-input, all others to ethernet-input. A packet is lost, and counted, when no buffer is
free, when it is larger than any buffer, when it is datagrams that nothing says where to cut, and when the interface is
down. A descriptor that does not name a buffer given to Linux is counted and otherwise ignored.
"""

from enum import IntEnum

from numba import uint64

from pyvpp.buffers import (
    HEADROOM,
    L2_VALID,
    LARGE_ROOM,
    NO_BUFFER,
    slot_start,
    take_large,
    take_small,
)
from pyvpp.device.af_xdp_offload import ETHERNET_HEADER, find_unfinished, is_uncuttable
from pyvpp.device.af_xdp_ring import (
    CONTINUED,
    DESCRIPTOR_BYTES,
    LENGTH,
    NEED_WAKEUP,
    OPTIONS,
    WRAP,
    data_of,
    entries,
    entry,
    is_inside,
    lend,
    lent_to,
)
from pyvpp.device.receive import SEGMENTS_AT_ONCE, segments_of, set_received
from pyvpp.device.syscalls import acquire32, receive, release32
from pyvpp.device.trace import format_af_xdp_input
from pyvpp.interface import ADMIN_UP, UPLINK
from pyvpp.jit import inline, jit, outline, rare_case
from pyvpp.node import Kind, NodeCounter, Severity, node, set_error
from pyvpp.typing import U8, U16, U32, U64, Record, Records
from pyvpp.wire import copy, le32


class Next(IntEnum):
    ETHERNET = 0
    UPLINK = 1
    DROP = 2


class Counter(NodeCounter):
    NO_BUFFERS = 0, "no buffers"
    BAD_DESCRIPTOR = 1, "bad descriptor"
    BAD_LENGTH = 2, "packet larger than a buffer, or no packet"
    ADMIN_DOWN = 3, "interface is down", Severity.WARNING
    UNCUTTABLE = 4, "datagrams to be segmented, nothing says where"


@inline
def at_descriptor(ring: Record, index: int) -> int:
    return entry(int(ring.rx_ring), index, int(ring.slots), DESCRIPTOR_BYTES)


@inline
def descriptors_of(heap: U8, ring: Record, first: int, waiting: int) -> int:
    """How many descriptors the next packet has; 0 while the last of them is not there yet."""
    for k in range(waiting):
        if le32(heap, at_descriptor(ring, first + k) + OPTIONS) & CONTINUED == 0:
            return k + 1
    return 0


@inline
def return_pieces(
    heap: U8, meta: Records, ring: Record, queue: int, first: int, pieces: int, counters: U64
) -> None:  # fmt: skip
    """Gives the buffers of a packet nobody wants back to Linux."""
    for k in range(pieces):
        b = lent_to(heap, meta, at_descriptor(ring, first + k), queue)
        if b == NO_BUFFER:
            counters[Counter.BAD_DESCRIPTOR] += uint64(1)
        else:
            lend(heap, meta, ring, queue, b)


@outline
def gather(
    heap: U8, meta: Records, ring: Record, queue: int, first: int, pieces: int, pool: U32, counters: U64
) -> int:  # fmt: skip
    """A packet in several pieces, together in a large buffer, or NO_BUFFER: it is lost, and counted."""
    rare_case()
    total = 0
    whole = True
    for k in range(pieces):
        at = at_descriptor(ring, first + k)
        b = lent_to(heap, meta, at, queue)
        whole = whole and b != NO_BUFFER and is_inside(heap, at, b)
        total += le32(heap, at + LENGTH)
    large = NO_BUFFER
    if not whole or total > LARGE_ROOM or total < ETHERNET_HEADER:
        counters[Counter.BAD_LENGTH] += uint64(1)
    else:
        large = take_large(pool)
        if large == NO_BUFFER:
            counters[Counter.NO_BUFFERS] += uint64(1)
    if large != NO_BUFFER:
        start = slot_start(large) + HEADROOM
        set_received(meta[large], int(ring.sw_if_index), start, total, L2_VALID)
        for k in range(pieces):
            at = at_descriptor(ring, first + k)
            copy(heap, start, data_of(heap, at), le32(heap, at + LENGTH))
            start += le32(heap, at + LENGTH)
    return_pieces(heap, meta, ring, queue, first, pieces, counters)
    return large


@inline
def take_packet(heap: U8, meta: Records, ring: Record, queue: int, first: int, pool: U32, counters: U64) -> int:
    """The buffer of a packet in one piece, another in its place; or NO_BUFFER: it is lost, and counted."""
    at = at_descriptor(ring, first)
    b = lent_to(heap, meta, at, queue)
    if b == NO_BUFFER:
        counters[Counter.BAD_DESCRIPTOR] += uint64(1)
        return NO_BUFFER
    n = le32(heap, at + LENGTH)
    fresh = NO_BUFFER
    if n < ETHERNET_HEADER or not is_inside(heap, at, b):
        counters[Counter.BAD_LENGTH] += uint64(1)
    else:
        fresh = take_small(pool)
        if fresh == NO_BUFFER:
            counters[Counter.NO_BUFFERS] += uint64(1)
    if fresh == NO_BUFFER:
        lend(heap, meta, ring, queue, b)
        return NO_BUFFER
    lend(heap, meta, ring, queue, fresh)
    set_received(meta[b], int(ring.sw_if_index), data_of(heap, at), n, L2_VALID)
    return b


@inline
def publish(heap: U8, ring: Record, consumed: int) -> None:
    """Lets Linux have the descriptors that were read and the buffers that were lent; tells it if it must be told."""
    release32(heap, int(ring.rx_consumer), consumed & WRAP)
    release32(heap, int(ring.fill_producer), int(ring.fill_next))
    if acquire32(heap, int(ring.fill_flags)) & NEED_WAKEUP:
        receive(int(ring.fd), 0, 0)


@node(
    name="af-xdp-input",
    next={Next.ETHERNET: "ethernet-input", Next.UPLINK: "uplink-input", Next.DROP: "error-drop"},
    counters=Counter,
    kind=Kind.INPUT,
    template=True,
    trace=format_af_xdp_input,
)
@jit
def af_xdp_input(
    heap: U8,
    meta: Records,
    frame: U32,
    nexts: U16,
    counters: U64,
    pool: U32,
    instance: int,
    error_base: int,
    interfaces: Records,
    interface_rx: Records,
    interface_drops: U64,
    af_xdp_rx_queues: Records,
) -> int:
    ring = af_xdp_rx_queues[instance]
    if ring.slots == 0:
        return 0
    sw_if_index = int(ring.sw_if_index)
    flags = int(interfaces[sw_if_index].flags)
    mtu = int(interfaces[sw_if_index].mtu)
    next_node = Next.UPLINK.value if flags & UPLINK else Next.ETHERNET.value
    received = interface_rx[sw_if_index]
    at = le32(heap, int(ring.rx_consumer))
    waiting = entries(acquire32(heap, int(ring.rx_producer)), at, int(ring.slots))
    if waiting == 0:  # asked in every round: nothing is to be stored where Linux looks
        return 0
    produced = 0
    segments = 0
    while waiting > 0 and produced < len(frame) and segments < SEGMENTS_AT_ONCE:
        pieces = descriptors_of(heap, ring, at, waiting)
        if pieces == 0:
            break
        if flags & ADMIN_UP == 0:
            counters[Counter.ADMIN_DOWN] += uint64(1)
            return_pieces(heap, meta, ring, instance, at, pieces, counters)
        else:
            received.packets += uint64(1)
            for k in range(pieces):
                received.bytes += uint64(le32(heap, at_descriptor(ring, at + k) + LENGTH))
            if pieces == 1:
                b = take_packet(heap, meta, ring, instance, at, pool, counters)
            else:
                b = gather(heap, meta, ring, instance, at, pieces, pool, counters)
            if b == NO_BUFFER:
                interface_drops[sw_if_index] += uint64(1)
            else:
                find_unfinished(heap, meta[b], mtu)
                segments += segments_of(meta[b])
                frame[produced] = b
                nexts[produced] = next_node
                if is_uncuttable(meta[b], mtu):
                    nexts[produced] = set_error(meta[b], counters, error_base, Counter.UNCUTTABLE, Next.DROP)
                produced += 1
        at += pieces
        waiting -= pieces
    publish(heap, ring, at)
    return produced
