# SPDX-License-Identifier: Apache-2.0
"""af-packet-input: take packets from the receive ring of a Linux interface.

Each packet is copied into a small buffer, or into a large one when it does not fit, and its slot goes back to the
operating system at once. The VLAN tag, which Linux keeps beside the packet, is put back in its place. Whatever is
left to do on the packet (a checksum, a segmentation) is noted in its metadata.

Packets of an uplink go to uplink-input, all others to ethernet-input. A packet is lost, and counted, when Linux cut
it, when no buffer is free, and when the interface is down.
"""

from enum import IntEnum

from numba import uint64

from pyvpp.buffers import CSUM_PARTIAL, HEADROOM, L2_VALID, LARGE_ROOM, NO_BUFFER, slot_start
from pyvpp.device import af_packet, vnet
from pyvpp.device.receive import set_received, take_for
from pyvpp.device.syscalls import acquire32, release32, take_socket_error
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
def slot_to_buffer(heap: U8, slot: int, m: Record, sw_if_index: int, start: int) -> None:
    """Copies the packet of a slot to `start`, its VLAN tag put back, and sets its metadata."""
    mac = slot + le16(heap, slot + af_packet.MAC)
    n = le32(heap, slot + af_packet.CAPTURED)
    status = le32(heap, slot + af_packet.STATUS)
    tag = TAG if status & af_packet.STATUS_VLAN_VALID else 0
    set_received(m, sw_if_index, start, n + tag, L2_VALID)
    read_vnet(heap, mac - vnet.BYTES, m)
    if not tag:
        copy(heap, start, mac, n)
        return
    tpid = le16(heap, slot + af_packet.VLAN_TPID) if status & af_packet.STATUS_VLAN_TPID_VALID else TPID_8021Q
    copy(heap, start, mac, MAC_ADDRESSES)
    put_be16(heap, start + MAC_ADDRESSES, tpid)
    put_be16(heap, start + MAC_ADDRESSES + 2, le16(heap, slot + af_packet.VLAN_TCI))
    copy(heap, start + MAC_ADDRESSES + TAG, mac + MAC_ADDRESSES, n - MAC_ADDRESSES)
    if int(m.flags) & CSUM_PARTIAL:
        m.csum_start = int(m.csum_start) + TAG


@inline
def take_for_slot(heap: U8, slot: int, pool: U32, counters: U64) -> int:
    """A buffer for the packet of a slot, or NO_BUFFER, counted."""
    n = le32(heap, slot + af_packet.CAPTURED)
    if n != le32(heap, slot + af_packet.LENGTH) or n < MAC_ADDRESSES or n + TAG > LARGE_ROOM:
        counters[Counter.TRUNCATED] += uint64(1)
        return NO_BUFFER
    b = take_for(pool, n + TAG)
    if b == NO_BUFFER:
        counters[Counter.NO_BUFFERS] += uint64(1)
    return b


@inline
def look_for_error(ring: Record, counters: U64) -> None:
    """Now and then on an idle ring: an error nobody takes would keep the worker from sleeping."""
    ring.idle = (int(ring.idle) + 1) & 0xFFFF
    if int(ring.idle) % LOOK_EVERY == 0 and take_socket_error(int(ring.fd)) < 0:
        counters[Counter.SOCKET_ERROR] += uint64(1)


@node(
    name="af-packet-input",
    next={Next.ETHERNET: "ethernet-input", Next.UPLINK: "uplink-input"},
    counters=Counter,
    kind=Kind.INPUT,
    template=True,
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
    af_packet_rings: Records,
) -> int:
    ring = af_packet_rings[instance]
    flags = int(interfaces[instance].flags)
    next_node = Next.UPLINK.value if flags & UPLINK else Next.ETHERNET.value
    received = interface_rx[instance]
    produced = 0
    for i in range(min(len(frame), int(ring.rx_slots))):
        slot = int(ring.rx) + int(ring.rx_next) * int(ring.rx_slot_bytes)
        if not acquire32(heap, slot) & af_packet.STATUS_USER:
            if i == 0:
                look_for_error(ring, counters)
            break
        if flags & ADMIN_UP:
            received.packets += uint64(1)
            received.bytes += uint64(le32(heap, slot + af_packet.LENGTH))
            b = take_for_slot(heap, slot, pool, counters)
            if b == NO_BUFFER:
                interface_drops[instance] += uint64(1)
            else:
                slot_to_buffer(heap, slot, meta[b], instance, slot_start(b) + HEADROOM)
                frame[produced] = b
                nexts[produced] = next_node
                produced += 1
        else:
            counters[Counter.ADMIN_DOWN] += uint64(1)
        release32(heap, slot, af_packet.STATUS_KERNEL)
        ring.rx_next = (int(ring.rx_next) + 1) % int(ring.rx_slots)
    return produced
