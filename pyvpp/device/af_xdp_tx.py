# SPDX-License-Identifier: Apache-2.0
"""af-xdp-tx: hand packets to a Linux interface through an AF_XDP socket.

Linux reads a packet where it lies: a descriptor names it, and the buffer is held back until the completion ring says
that it has left. One longer than a small slot takes several descriptors. An unfinished checksum is left to Linux or
the NIC by the metadata in front of the packet where they know that, and is finished here where they do not.

A packet that is to be segmented has no place in the ring, since a descriptor says nothing of it. It is sent by a system
call of its own through a packet socket, whose virtio_net_hdr does, after those that came before it.

A packet longer than the MTU is lost, and counted, as is one that finds the ring full, and one that is to be segmented
and that Linux does not take. What of the ring the device does not take at once stays there and leaves with the next
packets, or within a second.
"""

from numba import uint64

from pyvpp.buffers import CSUM_PARTIAL, TRACED, slot_start
from pyvpp.checksum import complete_checksum
from pyvpp.device import af_xdp_tables, vnet
from pyvpp.device.af_xdp_offload import (
    ETHERNET_HEADER,
    TAG,
    TX_METADATA_BYTES,
    put_tx_metadata,
)
from pyvpp.device.af_xdp_ring import (
    ADDRESS_BYTES,
    CONTINUED,
    DESCRIPTOR_BYTES,
    LENT_TX,
    NEED_WAKEUP,
    WITH_METADATA,
    WRAP,
    entries,
    entry,
    piece_bytes,
    pieces_of,
    put_descriptor,
    take_back,
)
from pyvpp.device.syscalls import EAGAIN, MSG_DONTWAIT, acquire32, address_of, lock, release32, send, unlock
from pyvpp.device.trace import format_af_xdp_tx
from pyvpp.device.vnet import write_vnet
from pyvpp.jit import inline, jit
from pyvpp.node import FREE, HELD, NodeCounter, Severity, node
from pyvpp.typing import U8, U16, U32, U64, Record, Records
from pyvpp.wire import le32

KICKS = 16  # system calls for a frame at most: without XDP_MAX_TX_SKB_BUDGET each sends 32 packets


class Counter(NodeCounter):
    RING_FULL = 0, "tx ring full"
    BAD_LENGTH = 1, "packet longer than the mtu, or no packet"
    SEND_FAILED = 2, "send failed"
    BAD_COMPLETION = 3, "bad completion", Severity.WARNING


@inline
def reclaim(heap: U8, meta: Records, ring: Record, pool: U32, counters: U64) -> None:
    """Frees the buffers of packets that have left."""
    at = le32(heap, int(ring.completion_consumer))
    done = entries(acquire32(heap, int(ring.completion_producer)), at, int(ring.slots))
    for _ in range(done):
        if not take_back(
            heap, meta, pool, entry(int(ring.completion_ring), at, int(ring.slots), ADDRESS_BYTES)
        ):  # fmt: skip
            counters[Counter.BAD_COMPLETION] += uint64(1)
        at += 1
    release32(heap, int(ring.completion_consumer), at & WRAP)


@inline
def room_in(heap: U8, ring: Record) -> int:
    """Descriptors that fit the ring: with Linux, to be sent or to be completed, is no more than either ring holds."""
    slots = int(ring.slots)
    sent = entries(int(ring.tx_next), acquire32(heap, int(ring.tx_consumer)), slots)
    return slots - sent


@inline
def kick(heap: U8, ring: Record) -> None:
    """Lets Linux see the descriptors and, if it must be told, makes it send them, until it has all or wants none."""
    release32(heap, int(ring.tx_producer), int(ring.tx_next))
    for _ in range(KICKS):
        if acquire32(heap, int(ring.tx_flags)) & NEED_WAKEUP == 0:
            return
        result = send(int(ring.fd), 0, 0, MSG_DONTWAIT)
        if acquire32(heap, int(ring.tx_consumer)) == int(ring.tx_next) or (result < 0 and result != -EAGAIN):
            return


@inline
def leave_checksum(heap: U8, ring: Record, m: Record, b: int, first: int) -> int:
    """Sees to an unfinished checksum; answers the options of the first descriptor, which names so many bytes."""
    if int(m.flags) & CSUM_PARTIAL == 0 or int(m.csum_start) < int(m.cur):
        return 0
    field = int(m.csum_start) + int(m.csum_offset)
    if ring.metadata and field + 2 <= int(m.cur) + first and slot_start(b) + TX_METADATA_BYTES <= int(m.cur):
        put_tx_metadata(heap, m)
        return WITH_METADATA
    if field + 2 <= int(m.cur) + int(m.len):
        complete_checksum(heap, m)
    return 0


@inline
def put_packet(heap: U8, ring: Record, m: Record, b: int, pieces: int) -> None:
    """Describes a packet in the next so many places of the ring, and holds its buffer back."""
    start, left = int(m.cur), int(m.len)
    size = piece_bytes(start, left, int(ring.boundary))
    options = leave_checksum(heap, ring, m, b, size)
    m.flags = int(m.flags) | LENT_TX
    m.feature = pieces
    for _ in range(pieces):
        size = piece_bytes(start, left, int(ring.boundary))
        left -= size
        if left:
            options |= CONTINUED
        at = entry(int(ring.tx_ring), int(ring.tx_next), int(ring.slots), DESCRIPTOR_BYTES)
        put_descriptor(heap, at, start, size, options)
        ring.tx_next = (int(ring.tx_next) + 1) & WRAP
        start += size
        options = 0


@inline
def send_whole(heap: U8, ring: Record, m: Record) -> int:
    """Sends a packet that is to be segmented, its virtio_net_hdr written into the headroom; why not, or -1."""
    if ring.slots == 0:
        return Counter.RING_FULL.value
    kick(heap, ring)
    start = int(m.cur) - vnet.BYTES
    write_vnet(heap, start, m, 0)
    sent = send(int(ring.send_fd), address_of(heap, start), int(m.len) + vnet.BYTES, MSG_DONTWAIT)
    return -1 if sent >= 0 else Counter.SEND_FAILED.value


@inline
def refusal(ring: Record, m: Record, longest: int) -> int:
    """Why a packet cannot leave by the ring, or -1."""
    n = int(m.len)
    if ring.slots == 0:
        return Counter.RING_FULL.value
    return Counter.BAD_LENGTH.value if n > longest or n < ETHERNET_HEADER else -1


@node(name="af-xdp-tx", next={}, counters=Counter, template=True, trace=format_af_xdp_tx)
@jit
def af_xdp_tx(
    heap: U8,
    meta: Records,
    frame: U32,
    nexts: U16,
    counters: U64,
    pool: U32,
    instance: int,
    worker: int,
    error_base: int,
    interfaces: Records,
    interface_drops: U64,
    af_xdp_interfaces: Records,
    af_xdp_tx_queues: Records,
) -> None:
    queue = int(af_xdp_interfaces[instance].first) + worker % max(1, int(af_xdp_interfaces[instance].queues))
    ring = af_xdp_tx_queues[queue]
    longest = int(interfaces[instance].mtu) + ETHERNET_HEADER + TAG
    traced = 0
    lock(af_xdp_tx_queues, queue * af_xdp_tables.TX_ROW_BYTES + af_xdp_tables.TX_LOCK)
    if ring.slots:
        reclaim(heap, meta, ring, pool, counters)
    for i, b in enumerate(frame):
        m = meta[b]
        nexts[i] = FREE
        if m.gso_type:
            error = send_whole(heap, ring, m)
        else:
            error = refusal(ring, m, longest)
        if error < 0 and m.gso_type == 0:
            pieces = pieces_of(int(m.cur), int(m.len), int(ring.boundary))
            if pieces > room_in(heap, ring):
                kick(heap, ring)
                reclaim(heap, meta, ring, pool, counters)
            if pieces > room_in(heap, ring):
                error = Counter.RING_FULL.value
            else:
                put_packet(heap, ring, m, int(b), pieces)
                traced |= int(m.flags) & TRACED
                nexts[i] = HELD
        if error >= 0:
            counters[error] += uint64(1)
            interface_drops[instance] += uint64(1)
            m.error = error_base + error
    if ring.slots:
        kick(heap, ring)
        if not traced:  # what is reclaimed is traced no more, and the trace of this frame is still to be written
            reclaim(heap, meta, ring, pool, counters)
    unlock(af_xdp_tx_queues, queue * af_xdp_tables.TX_ROW_BYTES + af_xdp_tables.TX_LOCK)
