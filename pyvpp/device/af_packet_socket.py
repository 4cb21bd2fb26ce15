# SPDX-License-Identifier: Apache-2.0
"""A queue of an AF_PACKET interface: its sockets, their options and rings, and what Linux counts there."""

from __future__ import annotations

import ctypes
import socket
import struct
from dataclasses import dataclass
from typing import Any, Protocol

from pyvpp.device.af_packet_ring import TX_SLOT_BYTES
from pyvpp.device.nic_options import NicOptions
from pyvpp.inheritance import Ring

RX_RING_BYTES = 8 << 20
RX_SLOT_BYTES = 2048  # and twice as large until a packet of the MTU fits
RX_OVERHEAD = 128  # TPACKET_V2's own header and address (52), virtio_net_hdr, alignment, Ethernet header, two tags

SOL_PACKET = 263
_RX_RING = 5
_STATISTICS = 6
_COPY_THRESH = 7
_VERSION = 10
_TX_RING = 13
_LOSS = 14
_VNET_HDR = 15
_FANOUT = 18
_QDISC_BYPASS = 20
_IGNORE_OUTGOING = 23
_TPACKET_V2 = 1
_FANOUT_UNIQUE_ID = 0x2000  # Linux chooses a number for the group
_FANOUT_IGNORE_OUTGOING = 0x4000  # a group does not take it over from its sockets
_SO_ATTACH_FILTER = 26
_SO_DETACH_FILTER = 27
_BPF_RETURN = 6
_SO_SNDBUFFORCE = 32
_SO_RCVBUFFORCE = 33
_ETH_P_ALL = 3
_SIOCGIFMTU = 0x8921
_SOCKET_BUFFER_BYTES = 32 << 20
PAGE = 4096


class RingHeap(Protocol):
    """What we need of the heap: a place for a mapping of a file descriptor, named by its heap offset."""

    def map_ring(self, fd: int, length: int) -> int: ...

    def unmap_ring(self, offset: int, length: int) -> None: ...


@dataclass(frozen=True)
class Statistics:
    """What the operating system counted on the receive rings since the device was opened."""

    packets: int
    drops: int


@dataclass(frozen=True)
class Options:
    """What an operator may choose. `rx_slots` 0: as many as 8 MiB hold."""

    rx_queues: int = 1
    tx_queues: int = 1
    rx_slots: int = 0
    tx_slots: int = 512
    qdisc_bypass: bool = False

    @classmethod
    def of(cls, nic: NicOptions, workers: int) -> Options:
        """A receive queue for each worker unless said otherwise, and a transmit ring for each in any case."""
        return cls(
            rx_queues=nic.num_rx_queues or workers,
            tx_queues=workers,
            rx_slots=nic.rx_ring_size or cls.rx_slots,
            tx_slots=nic.tx_ring_size or cls.tx_slots,
            qdisc_bypass=nic.qdisc_bypass,
        )


class Queue:
    """A receive ring, if it is to have one, a transmit ring, and the socket that sends what is too large."""

    def __init__(self, mtu: int, options: Options, receives: bool, in_company: bool) -> None:
        self.options = options
        self.rx_slots = 0
        self.rx_slot_bytes = rx_slot_bytes(mtu)
        self.tx_slots = options.tx_slots
        self.packets = 0
        self.drops = 0
        self.offset = -1  # in the heap
        self._protocol = _ETH_P_ALL if receives else 0
        self.rings = self._open(rings=True, deaf=in_company)
        try:
            self.sender = self._open(rings=False)
        except OSError:
            self.rings.close()
            raise

    @classmethod
    def inherited(cls, given: Ring, options: Options) -> Queue:
        """The queue that another process had open."""
        queue = cls.__new__(cls)
        queue.options, queue._protocol = options, _ETH_P_ALL if given.rx_slots else 0
        queue.rx_slots, queue.rx_slot_bytes, queue.tx_slots = given.rx_slots, given.rx_slot_bytes, given.tx_slots
        queue.packets, queue.drops, queue.offset = given.packets, given.drops, -1
        queue.rings, queue.sender = socket.socket(fileno=given.rings), socket.socket(fileno=given.sender)
        return queue

    def estate(self) -> Ring:
        """What another process needs to go on with it."""
        return Ring(
            self.rings.fileno(), self.sender.fileno(), self.rx_slots, self.rx_slot_bytes, self.tx_slots, self.packets,
            self.drops,
        )  # fmt: skip

    def _open(self, *, rings: bool, deaf: bool = False) -> socket.socket:
        """The order matters: with a ring in place the other options answer EBUSY; unbound, nothing is received yet."""
        opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        try:
            opened.setsockopt(SOL_PACKET, _VERSION, _TPACKET_V2)
            opened.setsockopt(SOL_PACKET, _VNET_HDR, 1)
            opened.setsockopt(SOL_PACKET, _IGNORE_OUTGOING, 1)
            opened.setsockopt(SOL_PACKET, _QDISC_BYPASS, int(self.options.qdisc_bypass))
            opened.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _SOCKET_BUFFER_BYTES)
            opened.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _SOCKET_BUFFER_BYTES)
            if rings:
                self._make_rings(opened)
            if deaf:
                _set_deaf(opened)
        except OSError:
            opened.close()
            raise
        return opened

    def bind(self, linux_name: str) -> None:
        """Begins to receive, and to be able to send."""
        self.rings.bind((linux_name, self._protocol))
        self.sender.bind((linux_name, 0))

    def _make_rings(self, opened: socket.socket) -> None:
        opened.setsockopt(SOL_PACKET, _LOSS, 1)  # a packet that cannot leave frees its slot
        if self._protocol:
            opened.setsockopt(SOL_PACKET, _COPY_THRESH, 1)
            self.rx_slots = self.options.rx_slots or RX_RING_BYTES // self.rx_slot_bytes
            opened.setsockopt(SOL_PACKET, _RX_RING, _ring_request(self.rx_slot_bytes, self.rx_slots))
        opened.setsockopt(SOL_PACKET, _TX_RING, _ring_request(TX_SLOT_BYTES, self.tx_slots))

    def join(self, group: int | None) -> int:
        """Shares the interface's packets with the other queues of a group, None for a new one; answers the group.

        Numbers are Linux's to choose; it begins with 0.
        """
        kind = _FANOUT_IGNORE_OUTGOING | (_FANOUT_UNIQUE_ID if group is None else 0)  # type 0: by the flow's hash
        self.rings.setsockopt(SOL_PACKET, _FANOUT, struct.pack("HH", group or 0, kind))
        return int(struct.unpack("HH", self.rings.getsockopt(SOL_PACKET, _FANOUT, 4))[0])

    def listen(self) -> None:
        """Ends the deafness of a queue in company."""
        self.rings.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)

    @property
    def ring_bytes(self) -> int:
        return self.rx_slots * self.rx_slot_bytes + self.tx_slots * TX_SLOT_BYTES

    def map(self, heap: RingHeap) -> None:
        """Maps the rings into the heap, once."""
        self.offset = heap.map_ring(self.rings.fileno(), self.ring_bytes)

    def unmap(self, heap: RingHeap) -> None:
        if self.offset >= 0:
            heap.unmap_ring(self.offset, self.ring_bytes)
        self.offset = -1

    def attach_rx(self, row: Any, sw_if_index: int) -> None:
        """Describes the receive ring in a row of `af_packet_rx_queues`."""
        row.ring, row.slots, row.slot_bytes, row.next = self.offset, self.rx_slots, self.rx_slot_bytes, 0
        row.fd = self.rings.fileno()
        row.sw_if_index = sw_if_index

    def attach_tx(self, row: Any) -> None:
        """Describes the transmit ring in a row of a worker's `af_packet_tx_queues`."""
        row.tx = self.offset + self.rx_slots * self.rx_slot_bytes
        row.tx_slot_bytes, row.tx_next = TX_SLOT_BYTES, 0
        row.fd, row.send_fd = self.rings.fileno(), self.sender.fileno()
        row.tx_slots = self.tx_slots

    def poll_fds(self) -> tuple[int, ...]:
        """Readable when a packet waits in the receive ring."""
        return (self.rings.fileno(),)

    def statistics(self) -> Statistics:
        """The operating system forgets its figures whenever it tells them, so they are added up here."""
        packets, drops = struct.unpack("II", self.rings.getsockopt(SOL_PACKET, _STATISTICS, 8))
        self.packets += packets - drops  # its packets include those dropped (tpacket_stats)
        self.drops += drops
        return Statistics(self.packets, self.drops)

    def close(self) -> None:
        self.rings.close()
        self.sender.close()


def _set_deaf(opened: socket.socket) -> None:
    """A classic BPF program of one instruction: nothing is received (struct sock_fprog, linux/filter.h)."""
    program = ctypes.create_string_buffer(struct.pack("HBBI", _BPF_RETURN, 0, 0, 0))
    opened.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", 1, ctypes.addressof(program)))


def rx_slot_bytes(mtu: int) -> int:
    """The size of a receive slot that takes a packet of the MTU, as many to a page or pages to a slot as fit evenly."""
    size = RX_SLOT_BYTES
    while size < mtu + RX_OVERHEAD:
        size *= 2
    return size


def _ring_request(slot_bytes: int, slots: int) -> bytes:
    """struct tpacket_req: a block is made of whole pages that are contiguous in memory, so it is kept small."""
    block_bytes = max(slot_bytes, PAGE)
    return struct.pack("IIII", block_bytes, slot_bytes * slots // block_bytes, slot_bytes, slots)
