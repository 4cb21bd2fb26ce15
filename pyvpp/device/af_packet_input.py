# SPDX-License-Identifier: Apache-2.0
"""af-packet-input: take packets from the receive ring of a Linux interface.

Each packet is copied into a small buffer, or into a large one when it does not fit, and its slot goes back to the
operating system at once. One that does not fit the slot is fetched from the socket's queue by a system call; the two
are in the same order. The VLAN tag, which Linux keeps beside the packet, is put back in its place. Whatever is left to
do on the packet (a checksum, a segmentation) is noted in its metadata.

Packets of an uplink go to uplink-input, all others to ethernet-input. A packet is lost, and counted, when Linux cut
it since the socket's queue was full, when no buffer is free, and when the interface is down.
"""

from enum import IntEnum

from numba import uint64

from pyvpp.buffers import HEADROOM, L2_VALID, LARGE_ROOM, NO_BUFFER, give_back, slot_start
from pyvpp.device import af_packet_ring, vnet
from pyvpp.device.receive import SEGMENTS_AT_ONCE, segments_of, set_received, take_for
from pyvpp.device.syscalls import acquire32, address_of, receive, release32, take_socket_error
from pyvpp.device.trace import format_af_packet_input
from pyvpp.device.vnet import read_vnet
from pyvpp.interface import ADMIN_UP, UPLINK
from pyvpp.jit import inline, jit
from pyvpp.node import Kind, NodeCounter, Severity, node
from pyvpp.typing import U8, U16, U32, U64, Record, Records
from pyvpp.wire import copy, le16, le32, put_be16

MAC_ADDRESSES = 12
TAG = 4
TPID_8021Q = 0x8100
LOOK_EVERY = 64


class Next(IntEnum):
    ETHERNET = 0
    UPLINK = 1


class Counter(NodeCounter):
    TRUNCATED = 0, "packet cut by the ring"
    NO_BUFFERS = 1, "no buffers"
    ADMIN_DOWN = 2, "interface is down", Severity.WARNING
    SOCKET_ERROR = 3, "linux interface went down", Severity.WARNING


@inline
def put_tag(heap: U8, slot: int, m: Record) -> None:
    """Puts the VLAN tag, which Linux keeps in the slot's header, back behind the MAC addresses."""
    status = le32(heap, slot + af_packet_ring.STATUS)
    if not status & af_packet_ring.STATUS_VLAN_VALID:
        return
    tpid = le16(heap, slot + af_packet_ring.VLAN_TPID) if status & af_packet_ring.STATUS_VLAN_TPID_VALID else TPID_8021Q
    start = int(m.cur) - TAG
    copy(heap, start, int(m.cur), MAC_ADDRESSES)
    put_be16(heap, start + MAC_ADDRESSES, tpid)
    put_be16(heap, start + MAC_ADDRESSES + 2, le16(heap, slot + af_packet_ring.VLAN_TCI))
    m.cur = start
    m.l2 = start
    m.l3 = start
    m.l4 = start
    m.len = int(m.len) + TAG


@inline
def slot_to_buffer(heap: U8, slot: int, m: Record, sw_if_index: int, start: int) -> None:
    """Copies the packet of a slot to `start` and sets its metadata."""
    mac = slot + le16(heap, slot + af_packet_ring.MAC)
    n = le32(heap, slot + af_packet_ring.CAPTURED)
    set_received(m, sw_if_index, start, n, L2_VALID)
    read_vnet(heap, mac - vnet.BYTES, m)
    copy(heap, start, mac, n)
    put_tag(heap, slot, m)


@inline
def is_queued(heap: U8, slot: int) -> bool:
    return bool(le32(heap, slot + af_packet_ring.STATUS) & af_packet_ring.STATUS_COPY)


@inline
def queue_to_buffer(heap: U8, slot: int, fd: int, m: Record, sw_if_index: int, start: int) -> bool:
    """Fetches the packet that the slot has only the beginning of to `start`; False when it does not come."""
    n = le32(heap, slot + af_packet_ring.LENGTH)
    if receive(fd, address_of(heap, start - vnet.BYTES), n + vnet.BYTES) != n + vnet.BYTES:
        return False
    set_received(m, sw_if_index, start, n, L2_VALID)
    read_vnet(heap, start - vnet.BYTES, m)
    put_tag(heap, slot, m)
    return True


@inline
def forget(heap: U8, slot: int, fd: int) -> None:
    """Nobody wants the packet of a slot; left in the queue it would be taken for the next slot's."""
    if is_queued(heap, slot):
        receive(fd, 0, 0)


@inline
def take_packet(heap: U8, meta: Records, slot: int, fd: int, pool: U32, sw_if_index: int, counters: U64) -> int:
    """The packet of a slot in a buffer, or NO_BUFFER: it is lost, and counted."""
    n = le32(heap, slot + af_packet_ring.LENGTH)
    whole = n == le32(heap, slot + af_packet_ring.CAPTURED)
    if not (whole or is_queued(heap, slot)) or n < MAC_ADDRESSES or n + TAG > LARGE_ROOM:
        counters[Counter.TRUNCATED] += uint64(1)
        forget(heap, slot, fd)
        return NO_BUFFER
    b = take_for(pool, n + TAG)
    if b == NO_BUFFER:
        counters[Counter.NO_BUFFERS] += uint64(1)
        forget(heap, slot, fd)
    elif whole:
        slot_to_buffer(heap, slot, meta[b], sw_if_index, slot_start(b) + HEADROOM)
    elif not queue_to_buffer(heap, slot, fd, meta[b], sw_if_index, slot_start(b) + HEADROOM):
        counters[Counter.TRUNCATED] += uint64(1)
        give_back(pool, b)
        return NO_BUFFER
    return b


@inline
def look_for_error(queue: Record, counters: U64) -> None:
    """Now and then on an idle ring: an error nobody takes would keep the worker from sleeping."""
    queue.idle = (int(queue.idle) + 1) & 0xFFFF
    if int(queue.idle) % LOOK_EVERY == 0 and take_socket_error(int(queue.fd)) < 0:
        counters[Counter.SOCKET_ERROR] += uint64(1)


@node(
    name="af-packet-input",
    next={Next.ETHERNET: "ethernet-input", Next.UPLINK: "uplink-input"},
    counters=Counter,
    kind=Kind.INPUT,
    template=True,
    trace=format_af_packet_input,
)
@jit
def af_packet_input(
    heap: U8,
    meta: Records,
    frame: U32,
    nexts: U16,
    counters: U64,
    pool: U32,
    instance: int,
    interfaces: Records,
    interface_rx: Records,
    interface_drops: U64,
    af_packet_rx_queues: Records,
) -> int:
    queue = af_packet_rx_queues[instance]
    sw_if_index = int(queue.sw_if_index)
    flags = int(interfaces[sw_if_index].flags)
    next_node = Next.UPLINK.value if flags & UPLINK else Next.ETHERNET.value
    received = interface_rx[sw_if_index]
    produced = 0
    segments = 0
    for i in range(min(len(frame), int(queue.slots))):
        slot = int(queue.ring) + int(queue.next) * int(queue.slot_bytes)
        if segments >= SEGMENTS_AT_ONCE:
            break
        if not acquire32(heap, slot) & af_packet_ring.STATUS_USER:
            if i == 0:
                look_for_error(queue, counters)
            break
        if flags & ADMIN_UP:
            received.packets += uint64(1)
            received.bytes += uint64(le32(heap, slot + af_packet_ring.LENGTH))
            b = take_packet(heap, meta, slot, int(queue.fd), pool, sw_if_index, counters)
            if b == NO_BUFFER:
                interface_drops[sw_if_index] += uint64(1)
            else:
                segments += segments_of(meta[b])
                frame[produced] = b
                nexts[produced] = next_node
                produced += 1
        else:
            counters[Counter.ADMIN_DOWN] += uint64(1)
            forget(heap, slot, int(queue.fd))
        release32(heap, slot, af_packet_ring.STATUS_KERNEL)
        queue.next = (int(queue.next) + 1) % int(queue.slots)
    return produced
