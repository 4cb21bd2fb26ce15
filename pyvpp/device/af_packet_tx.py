# SPDX-License-Identifier: Apache-2.0
"""af-packet-tx: hand packets to a Linux interface.

A packet that fits a slot of the transmit ring is copied there, and one system call at the end of the frame makes
the operating system take them all. A larger one, which with an ordinary MTU is a GSO packet, is sent straight from
its buffer, after those that came before it.

A packet longer than the MTU and nobody's to segment is lost, and counted, as is one that finds the ring full twice
and one that the operating system does not take: nothing waits in the ring. It takes none whose partial checksum is not
in the packet.
"""

from numba import uint64

from pyvpp.device import af_packet_ring, vnet
from pyvpp.device.syscalls import MSG_DONTWAIT, acquire32, address_of, release32, send
from pyvpp.device.trace import format_af_packet_tx
from pyvpp.device.vnet import is_finishable, write_vnet
from pyvpp.jit import inline, jit
from pyvpp.node import FREE, NodeCounter, node
from pyvpp.typing import U8, U16, U32, U64, Record, Records
from pyvpp.wire import copy, put_le32

ETHERNET_AND_TAG = 18

# Linux copies this much into the packet's first piece of memory and points to the slot for the rest, which a veth
# must copy once more: taking small packets whole saves 0.4 microseconds each.
LINEAR = 256


class Counter(NodeCounter):
    RING_FULL = 0, "tx ring full"
    OVERSIZED = 1, "packet longer than the mtu"
    SEND_FAILED = 2, "send failed"


@inline
def before(ring: Record, n: int) -> int:
    """The slot that many places before the next one."""
    return (int(ring.tx_next) + int(ring.tx_slots) - n) % int(ring.tx_slots)


@inline
def is_marked(heap: U8, ring: Record, position: int) -> bool:
    slot = int(ring.tx) + position * int(ring.tx_slot_bytes)
    return acquire32(heap, slot) == af_packet_ring.STATUS_SEND_REQUEST


@inline
def kick(heap: U8, ring: Record, marked: int) -> int:
    """Makes the operating system take the `marked` slots; answers how many it did not, whose packets are lost.

    A first failure may be an old error of the socket, told once: that the interface has been down. What would stay in
    the ring would leave with the next packet, and there may be none: TCP waits for the answer to what is in there.
    """
    for _ in range(2):
        send(int(ring.fd), 0, 0, MSG_DONTWAIT)
        if not is_marked(heap, ring, before(ring, 1)):
            return 0
    lost = 0
    while lost < marked and is_marked(heap, ring, before(ring, 1)):
        ring.tx_next = before(ring, 1)
        release32(heap, int(ring.tx) + int(ring.tx_next) * int(ring.tx_slot_bytes), af_packet_ring.STATUS_AVAILABLE)
        lost += 1
    return lost


@inline
def buffer_to_slot(heap: U8, ring: Record, m: Record) -> bool:
    """Copies a packet into the next slot and marks it; False when the slot is still in use."""
    if ring.tx_slots == 0:
        return False
    slot = int(ring.tx) + int(ring.tx_next) * int(ring.tx_slot_bytes)
    if acquire32(heap, slot) != af_packet_ring.STATUS_AVAILABLE:
        return False
    n = int(m.len)
    header = slot + af_packet_ring.TX_DATA
    write_vnet(heap, header, m, min(n, LINEAR))
    copy(heap, header + vnet.BYTES, int(m.cur), n)
    put_le32(heap, slot + af_packet_ring.LENGTH, n + vnet.BYTES)
    release32(heap, slot, af_packet_ring.STATUS_SEND_REQUEST)
    ring.tx_next = (int(ring.tx_next) + 1) % int(ring.tx_slots)
    return True


@inline
def send_from_buffer(heap: U8, ring: Record, m: Record) -> bool:
    """Sends a packet by a system call of its own, its header written into the headroom."""
    start = int(m.cur) - vnet.BYTES
    write_vnet(heap, start, m, 0)
    return send(int(ring.send_fd), address_of(heap, start), int(m.len) + vnet.BYTES, MSG_DONTWAIT) >= 0


@node(name="af-packet-tx", next={}, counters=Counter, template=True, trace=format_af_packet_tx)
@jit
def af_packet_tx(
    heap: U8,
    meta: Records,
    frame: U32,
    nexts: U16,
    counters: U64,
    instance: int,
    error_base: int,
    interfaces: Records,
    interface_drops: U64,
    af_packet_tx_queues: Records,
) -> None:
    ring = af_packet_tx_queues[instance]
    longest = int(interfaces[instance].mtu) + ETHERNET_AND_TAG
    room = int(ring.tx_slot_bytes) - af_packet_ring.TX_DATA - vnet.BYTES
    marked = 0
    lost = 0
    for i, b in enumerate(frame):
        m = meta[b]
        nexts[i] = FREE
        n = int(m.len)
        error = -1
        if n > longest and m.gso_type == 0:
            error = Counter.OVERSIZED.value
        elif not is_finishable(m):  # in the ring Linux would throw it away without a word
            error = Counter.SEND_FAILED.value
        elif n <= room and buffer_to_slot(heap, ring, m):
            marked += 1
        else:
            if marked:
                lost += kick(heap, ring, marked)
                marked = 0
            if n > room:
                if not send_from_buffer(heap, ring, m):
                    error = Counter.SEND_FAILED.value
            elif buffer_to_slot(heap, ring, m):
                marked = 1
            else:
                error = Counter.RING_FULL.value
        if error >= 0:
            counters[error] += uint64(1)
            interface_drops[instance] += uint64(1)
            m.error = error_base + error
    if marked:
        lost += kick(heap, ring, marked)
    counters[Counter.SEND_FAILED] += uint64(lost)
    interface_drops[instance] += uint64(lost)
