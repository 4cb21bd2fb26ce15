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
from pyvpp.errors import OperatorError
from pyvpp.inheritance import Ring

RX_RING_BYTES = 8 << 20
RX_SLOT_BYTES = 2048  # and twice as large until a packet of the MTU fits
MOST_RX_BYTES = 256 << 20  # of a receive ring, which Linux makes of memory that is never paged out
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
    """Sockets for the receive ring, if there is to be one, for the transmit ring, and to send what is too large.

    The rings could share a socket, but Linux wakes whoever waits for it with each packet that has left: with the
    receiver in an epoll that is 0.15 of 1.05 microseconds that a packet of 60 bytes takes Linux to send.
    """

    def __init__(self, mtu: int, options: Options, receives: bool, in_company: bool) -> None:
        self.options = options
        self.rx_slots = 0
        self.rx_slot_bytes = rx_slot_bytes(mtu)
        self.tx_slots = options.tx_slots
        self.packets = 0
        self.drops = 0
        self.rx_offset = self.tx_offset = -1  # in the heap
        self.receiver: socket.socket | None = None
        opened: list[socket.socket] = []
        try:
            if receives:
                check_rx_slots(options.rx_slots, mtu)
                self.rx_slots = options.rx_slots or RX_RING_BYTES // self.rx_slot_bytes
                opened.append(self._open(rx_slots=self.rx_slots, deaf=in_company))
                self.receiver = opened[-1]
            opened.append(self._open(tx_slots=self.tx_slots))
            self.transmitter = opened[-1]
            self.sender = self._open()
        except (OSError, OperatorError):
            for each in opened:
                each.close()
            raise

    @classmethod
    def inherited(cls, given: Ring, options: Options) -> Queue:
        """The queue that another process had open."""
        queue = cls.__new__(cls)
        queue.options = options
        queue.rx_slots, queue.rx_slot_bytes, queue.tx_slots = given.rx_slots, given.rx_slot_bytes, given.tx_slots
        queue.packets, queue.drops = given.packets, given.drops
        queue.rx_offset = queue.tx_offset = -1
        queue.receiver = None if given.receiver is None else socket.socket(fileno=given.receiver)
        queue.transmitter, queue.sender = socket.socket(fileno=given.transmitter), socket.socket(fileno=given.sender)
        return queue

    def estate(self) -> Ring:
        """What another process needs to go on with it."""
        return Ring(
            self.receiver.fileno() if self.receiver else None, self.transmitter.fileno(), self.sender.fileno(),
            self.rx_slots, self.rx_slot_bytes, self.tx_slots, self.packets, self.drops,
        )  # fmt: skip

    @property
    def sockets(self) -> list[socket.socket]:
        return [*([self.receiver] if self.receiver else []), self.transmitter, self.sender]

    def _open(self, *, rx_slots: int = 0, tx_slots: int = 0, deaf: bool = False) -> socket.socket:
        """The order matters: with a ring in place the other options answer EBUSY; unbound, nothing is received yet."""
        opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        try:
            opened.setsockopt(SOL_PACKET, _VERSION, _TPACKET_V2)
            opened.setsockopt(SOL_PACKET, _VNET_HDR, 1)
            opened.setsockopt(SOL_PACKET, _IGNORE_OUTGOING, 1)
            opened.setsockopt(SOL_PACKET, _QDISC_BYPASS, int(self.options.qdisc_bypass))
            opened.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _SOCKET_BUFFER_BYTES)
            opened.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _SOCKET_BUFFER_BYTES)
            if rx_slots:
                opened.setsockopt(SOL_PACKET, _COPY_THRESH, 1)
                opened.setsockopt(SOL_PACKET, _RX_RING, _ring_request(self.rx_slot_bytes, rx_slots))
            if tx_slots:
                opened.setsockopt(SOL_PACKET, _LOSS, 1)  # a packet that cannot leave frees its slot
                opened.setsockopt(SOL_PACKET, _TX_RING, _ring_request(TX_SLOT_BYTES, tx_slots))
            if deaf:
                _set_deaf(opened)
        except OSError:
            opened.close()
            raise
        return opened

    def bind(self, linux_name: str) -> None:
        """Begins to receive, and to be able to send."""
        if self.receiver:
            self.receiver.bind((linux_name, _ETH_P_ALL))
        self.transmitter.bind((linux_name, 0))
        self.sender.bind((linux_name, 0))

    def join(self, group: int | None) -> int:
        """Shares the interface's packets with the other queues of a group, None for a new one; answers the group.

        Numbers are Linux's to choose; it begins with 0.
        """
        kind = _FANOUT_IGNORE_OUTGOING | (_FANOUT_UNIQUE_ID if group is None else 0)  # type 0: by the flow's hash
        self.heard.setsockopt(SOL_PACKET, _FANOUT, struct.pack("HH", group or 0, kind))
        return int(struct.unpack("HH", self.heard.getsockopt(SOL_PACKET, _FANOUT, 4))[0])

    def listen(self) -> None:
        """Ends the deafness of a queue in company."""
        self.heard.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)

    @property
    def heard(self) -> socket.socket:
        """The receiver, of a queue that has one."""
        assert self.receiver is not None
        return self.receiver

    @property
    def rx_bytes(self) -> int:
        return self.rx_slots * self.rx_slot_bytes

    @property
    def tx_bytes(self) -> int:
        return self.tx_slots * TX_SLOT_BYTES

    def map(self, heap: RingHeap) -> None:
        """Maps the rings into the heap, once."""
        if self.receiver:
            self.rx_offset = heap.map_ring(self.receiver.fileno(), self.rx_bytes)
        self.tx_offset = heap.map_ring(self.transmitter.fileno(), self.tx_bytes)

    def unmap(self, heap: RingHeap) -> None:
        for offset, length in ((self.rx_offset, self.rx_bytes), (self.tx_offset, self.tx_bytes)):
            if offset >= 0:
                heap.unmap_ring(offset, length)
        self.rx_offset = self.tx_offset = -1

    def attach_rx(self, row: Any, sw_if_index: int) -> None:
        """Describes the receive ring in a row of `af_packet_rx_queues`."""
        row.ring, row.slots, row.slot_bytes, row.next = self.rx_offset, self.rx_slots, self.rx_slot_bytes, 0
        row.fd = self.heard.fileno()
        row.sw_if_index = sw_if_index

    def attach_tx(self, row: Any) -> None:
        """Describes the transmit ring in a row of a worker's `af_packet_tx_queues`."""
        row.tx = self.tx_offset
        row.tx_slot_bytes, row.tx_next = TX_SLOT_BYTES, 0
        row.fd, row.send_fd = self.transmitter.fileno(), self.sender.fileno()
        row.tx_slots = self.tx_slots

    def poll_fds(self) -> tuple[int, ...]:
        """Readable when a packet waits in the receive ring."""
        return (self.heard.fileno(),)

    def statistics(self) -> Statistics:
        """The operating system forgets its figures whenever it tells them, so they are added up here."""
        packets, drops = struct.unpack("II", self.heard.getsockopt(SOL_PACKET, _STATISTICS, 8))
        self.packets += packets - drops  # its packets include those dropped (tpacket_stats)
        self.drops += drops
        return Statistics(self.packets, self.drops)

    def close(self) -> None:
        for each in self.sockets:
            each.close()


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


def check_rx_slots(slots: int, mtu: int) -> None:
    """Raises OperatorError where a receive ring of so many slots would take too much memory."""
    most = MOST_RX_BYTES // rx_slot_bytes(mtu)
    if slots > most:
        raise OperatorError(f"rx-ring-size {slots}: at most {most} for an MTU of {mtu}")


def _ring_request(slot_bytes: int, slots: int) -> bytes:
    """struct tpacket_req: a block is made of whole pages that are contiguous in memory, so it is kept small."""
    block_bytes = max(slot_bytes, PAGE)
    return struct.pack("IIII", block_bytes, slot_bytes * slots // block_bytes, slot_bytes, slots)
