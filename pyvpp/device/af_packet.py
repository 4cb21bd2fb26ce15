# SPDX-License-Identifier: Apache-2.0
"""AF_PACKET: an interface of Linux read and written through rings shared with the operating system.

A queue is two sockets. The first has a receive and a transmit ring (TPACKET_V2), which lie in the heap, so that
kernels copy between ring and buffer by heap offsets. The second has none and sends what is too large for a slot of
the transmit ring, GSO packets above all, straight from the buffer by one system call each. Both carry
virtio_net_hdr, so that 64 KiB packets and unfinished checksums pass unchanged.

Each worker has a transmit ring of its own, so none waits for another. Packets received are spread over the queues by a
hash of their flow that is the same for both directions (PACKET_FANOUT_HASH); fragments of a packet stay together.

A receive slot holds a packet of the MTU. Linux puts the beginning of a larger one, a GSO packet, there and the whole
of it into the socket's queue (PACKET_COPY_THRESH), from where a system call fetches it into the buffer. So 8 MiB hold
4096 packets of 1500 bytes, what a worker that was not scheduled for 30 ms finds at 1.5 Gbit/s; with slots of 64 KiB
twice the memory held 256, and TCP through a tunnel, which arrives in segments, stood still for seconds. The block
retirement of TPACKET_V3 costs 1 ms of latency for no gain in rate.

What is sent passes the interface's queueing discipline. Around it (PACKET_QDISC_BYPASS, no faster over veth) Linux
drops a GSO packet that the NIC cannot segment itself instead of segmenting it, and everything while the NIC is busy.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import logging
import socket
import struct
from dataclasses import dataclass, replace
from typing import Any, Protocol

from pyvpp.device.offload import offload_of
from pyvpp.linux import netns
from pyvpp.tables import LINE_PAIR, Table, interface_table, record_dtype

RX_RING_BYTES = 8 << 20
RX_SLOT_BYTES = 2048  # and twice as large until a packet of the MTU fits
RX_OVERHEAD = 128  # TPACKET_V2's own header and address (52), virtio_net_hdr, alignment, Ethernet header, two tags
TX_SLOT_BYTES = 4096

# Offsets in a slot (struct tpacket2_hdr, linux/if_packet.h).
STATUS = 0
LENGTH = 4
CAPTURED = 8
MAC = 12
VLAN_TCI = 24
VLAN_TPID = 26
TX_DATA = 32

STATUS_KERNEL = 0
STATUS_USER = 1
STATUS_COPY = 2  # cut, and whole in the socket's queue
STATUS_VLAN_VALID = 0x10
STATUS_VLAN_TPID_VALID = 0x40
STATUS_AVAILABLE = 0
STATUS_SEND_REQUEST = 1

log = logging.getLogger(__name__)

AF_PACKET_RX_QUEUE = record_dtype(
    [
        ("ring", "<i8"),  # heap offset of the receive ring
        ("fd", "<i4"),
        ("sw_if_index", "<u4"),  # 0: no queue
        ("slots", "<u4"),
        ("slot_bytes", "<u4"),
        ("next", "<u4"),
        ("idle", "<u4"),  # calls of the input kernel that found nothing
        ("pad", "u1", (LINE_PAIR - 32,)),  # the next row is another worker's
    ]
)
AF_PACKET_TX_QUEUE = record_dtype(
    [
        ("tx", "<i8"),  # heap offset of the transmit ring
        ("fd", "<i4"),  # the socket of the rings
        ("send_fd", "<i4"),  # the socket without rings
        ("tx_slots", "<u4"),  # 0: this interface is none of ours
        ("tx_slot_bytes", "<u4"),
        ("tx_next", "<u4"),
        ("pad", "<u4"),
    ]
)
AF_PACKET_RX_QUEUES = Table("af_packet_rx_queues", AF_PACKET_RX_QUEUE, 64)
AF_PACKET_TX_QUEUES = interface_table("af_packet_tx_queues", AF_PACKET_TX_QUEUE, per_worker=True)

_SOL_PACKET = 263
_ADD_MEMBERSHIP = 1
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
_PROMISCUOUS = 1
_ALL_MULTICAST = 2
_SO_SNDBUFFORCE = 32
_SO_RCVBUFFORCE = 33
_ETH_P_ALL = 3
_SIOCGIFFLAGS = 0x8913
_SIOCGIFMTU = 0x8921
_SIOCGIFHWADDR = 0x8927
_IFF_UP = 0x1
_IFF_RUNNING = 0x40
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


class Queue:
    """A receive ring, if it is to have one, a transmit ring, and the socket that sends what is too large."""

    def __init__(self, linux_name: str, options: Options, receives: bool, in_company: bool) -> None:
        self.options = options
        self.rx_slots = 0
        self.rx_slot_bytes = RX_SLOT_BYTES
        self.tx_slots = options.tx_slots
        self.packets = 0
        self.drops = 0
        self.offset = -1  # in the heap
        self.rings = self._open(linux_name, _ETH_P_ALL if receives else 0, rings=True, deaf=in_company)
        try:
            self.sender = self._open(linux_name, 0, rings=False)
        except OSError:
            self.rings.close()
            raise

    def _open(self, linux_name: str, protocol: int, *, rings: bool, deaf: bool = False) -> socket.socket:
        """The order matters: with a ring in place the other options answer EBUSY; unbound, nothing is received yet."""
        opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        try:
            opened.setsockopt(_SOL_PACKET, _VERSION, _TPACKET_V2)
            opened.setsockopt(_SOL_PACKET, _VNET_HDR, 1)
            opened.setsockopt(_SOL_PACKET, _IGNORE_OUTGOING, 1)
            opened.setsockopt(_SOL_PACKET, _QDISC_BYPASS, int(self.options.qdisc_bypass))
            opened.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _SOCKET_BUFFER_BYTES)
            opened.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _SOCKET_BUFFER_BYTES)
            if rings:
                self._make_rings(opened, linux_name, receives=protocol != 0)
            if deaf:
                _set_deaf(opened)
            opened.bind((linux_name, protocol))
        except OSError:
            opened.close()
            raise
        return opened

    def _make_rings(self, opened: socket.socket, linux_name: str, receives: bool) -> None:
        opened.setsockopt(_SOL_PACKET, _LOSS, 1)  # a packet that cannot leave frees its slot
        if receives:
            opened.setsockopt(_SOL_PACKET, _COPY_THRESH, 1)
            self.rx_slot_bytes = rx_slot_bytes(_mtu(opened, linux_name))
            self.rx_slots = self.options.rx_slots or RX_RING_BYTES // self.rx_slot_bytes
            opened.setsockopt(_SOL_PACKET, _RX_RING, _ring_request(self.rx_slot_bytes, self.rx_slots))
        opened.setsockopt(_SOL_PACKET, _TX_RING, _ring_request(TX_SLOT_BYTES, self.tx_slots))

    def join(self, group: int | None) -> int:
        """Shares the interface's packets with the other queues of a group, None for a new one; answers the group.

        Numbers are Linux's to choose; it begins with 0.
        """
        kind = _FANOUT_IGNORE_OUTGOING | (_FANOUT_UNIQUE_ID if group is None else 0)  # type 0: by the flow's hash
        self.rings.setsockopt(_SOL_PACKET, _FANOUT, struct.pack("HH", group or 0, kind))
        return int(struct.unpack("HH", self.rings.getsockopt(_SOL_PACKET, _FANOUT, 4))[0])

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
        packets, drops = struct.unpack("II", self.rings.getsockopt(_SOL_PACKET, _STATISTICS, 8))
        self.packets += packets - drops  # its packets include those dropped (tpacket_stats)
        self.drops += drops
        return Statistics(self.packets, self.drops)

    def close(self) -> None:
        self.rings.close()
        self.sender.close()


class AfPacket:
    """Open packet sockets on one Linux interface; they go on working wherever the caller moves afterwards.

    `namespace` is the interface's network namespace (a file descriptor; None is the caller's). `all_multicast`
    makes the NIC accept every group: the groups joined on a TAP that stands in for the NIC are not known to it.
    `fanout` is the number of the group that the receive queues form, None when there is but one.
    """

    def __init__(
        self,
        linux_name: str,
        namespace: int | None = None,
        options: Options | None = None,
        *,
        promiscuous: bool = False,
        all_multicast: bool = False,
    ) -> None:
        self.linux_name = linux_name
        self.options = options or Options()
        self.queues: list[Queue] = []
        self.fanout: int | None = None
        self._seen_drops = 0
        self.offload = 0  # OFFLOAD_*: what may be left to Linux
        try:
            if namespace is None:
                self._open_all()
            else:
                netns.run_in(namespace, self._open_all)
            self.ifindex = self._interface_index()
            if promiscuous:
                self._join(_PROMISCUOUS)
            if all_multicast:
                self._join(_ALL_MULTICAST)
        except OSError:
            self.close()
            raise

    def _open_all(self) -> None:
        """One queue receives where Linux spreads no packets: before 5.17, or before 6.13 while the link is down."""
        try:
            self._open_queues()
        except OSError as error:
            if error.errno != errno.EINVAL or self.options.rx_queues == 1:
                raise
            log.warning("%s: Linux does not spread its packets over queues, there is one", self.linux_name)
            self.close()
            self.queues, self.fanout = [], None
            self.options = replace(self.options, rx_queues=1)
            self._open_queues()

    def _open_queues(self) -> None:
        """Until all are in the group each would receive every packet, so they begin deaf."""
        options = self.options
        self.offload = offload_of(self.linux_name)
        for number in range(max(options.rx_queues, options.tx_queues)):
            self.queues.append(
                Queue(self.linux_name, options, number < options.rx_queues, number < options.rx_queues > 1)
            )
        if options.rx_queues > 1:
            for queue in self.rx_queues:
                self.fanout = queue.join(self.fanout)
            for queue in self.rx_queues:
                queue.listen()

    @property
    def rx_queues(self) -> list[Queue]:
        return self.queues[: self.options.rx_queues]

    def map(self, heap: RingHeap) -> None:
        """Maps all rings into the heap. Raises OSError; then none is left mapped."""
        try:
            for queue in self.queues:
                queue.map(heap)
        except OSError:
            self.unmap(heap)
            raise

    def unmap(self, heap: RingHeap) -> None:
        """To be done when no kernel knows the rings any more."""
        for queue in self.queues:
            queue.unmap(heap)

    def statistics(self) -> Statistics:
        """Of all receive queues."""
        each = [queue.statistics() for queue in self.rx_queues]
        return Statistics(sum(queue.packets for queue in each), sum(queue.drops for queue in each))

    def newly_missed(self) -> int:
        """Packets the receive rings had no room for since this was asked last."""
        before, self._seen_drops = self._seen_drops, self.statistics().drops
        return self._seen_drops - before

    def mac(self) -> bytes:
        return self._ask(_SIOCGIFHWADDR)[2:8]

    def mtu(self) -> int:
        return _mtu(self._socket, self._socket.getsockname()[0])

    def link_up(self) -> bool:
        """Up and with a carrier, as Linux sees it."""
        flags = int(struct.unpack_from("H", self._ask(_SIOCGIFFLAGS))[0])
        return flags & (_IFF_UP | _IFF_RUNNING) == _IFF_UP | _IFF_RUNNING

    def close(self) -> None:
        for queue in self.queues:
            queue.close()

    @property
    def _socket(self) -> socket.socket:
        return self.queues[0].rings

    def _ask(self, request: int) -> bytes:
        """An ioctl on the interface by name; the socket belongs to the right namespace."""
        return _ask(self._socket, self._socket.getsockname()[0], request)  # follows a rename

    def _interface_index(self) -> int:
        return int(struct.unpack_from("i", self._ask(0x8933))[0])

    def _join(self, kind: int) -> None:
        self._socket.setsockopt(_SOL_PACKET, _ADD_MEMBERSHIP, struct.pack("iHH8x", self.ifindex, kind, 0))


def _set_deaf(opened: socket.socket) -> None:
    """A classic BPF program of one instruction: nothing is received (struct sock_fprog, linux/filter.h)."""
    program = ctypes.create_string_buffer(struct.pack("HBBI", _BPF_RETURN, 0, 0, 0))
    opened.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", 1, ctypes.addressof(program)))


def _ask(opened: socket.socket, name: str, request: int) -> bytes:
    return fcntl.ioctl(opened, request, struct.pack("16s24x", name.encode()))[16:]


def _mtu(opened: socket.socket, name: str) -> int:
    return int(struct.unpack_from("i", _ask(opened, name, _SIOCGIFMTU))[0])


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
