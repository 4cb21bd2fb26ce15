# SPDX-License-Identifier: Apache-2.0
"""AF_PACKET: an interface of Linux read and written through rings shared with the operating system.

Two sockets an interface. The first has a receive and a transmit ring (TPACKET_V2), which lie in the heap, so that
kernels copy between ring and buffer by heap offsets. The second has none and sends what is too large for a slot of
the transmit ring, GSO packets above all, straight from the buffer by one system call each. Both carry
virtio_net_hdr, so that 64 KiB packets and unfinished checksums pass unchanged.

A receive slot holds a packet of the MTU. Linux puts the beginning of a larger one, a GSO packet, there and the whole
of it into the socket's queue (PACKET_COPY_THRESH), from where a system call fetches it into the buffer. So 8 MiB hold
4096 packets of 1500 bytes, what a worker that was not scheduled for 30 ms finds at 1.5 Gbit/s; with slots of 64 KiB
twice the memory held 256, and TCP through a tunnel, which arrives in segments, stood still for seconds. The block
retirement of TPACKET_V3 costs 1 ms of latency for no gain in rate.

What is sent passes the interface's queueing discipline. Around it (PACKET_QDISC_BYPASS, no faster over veth) Linux
drops a GSO packet that the NIC cannot segment itself instead of segmenting it, and everything while the NIC is busy.
"""

from __future__ import annotations

import fcntl
import socket
import struct
from dataclasses import dataclass
from typing import Any, Protocol

from pyvpp.linux import netns
from pyvpp.tables import interface_table, record_dtype

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

AF_PACKET_RING = record_dtype(
    [
        ("rx", "<i8"),  # heap offset of the receive ring
        ("tx", "<i8"),  # heap offset of the transmit ring
        ("fd", "<i4"),  # the socket of the rings
        ("send_fd", "<i4"),  # the socket without rings
        ("rx_slots", "<u4"),  # 0: this interface is none of ours
        ("rx_slot_bytes", "<u4"),
        ("rx_next", "<u4"),
        ("tx_slots", "<u4"),
        ("tx_slot_bytes", "<u4"),
        ("tx_next", "<u4"),
        ("tx_lock", "<u4"),  # one worker at a time fills the transmit ring
        ("idle", "<u4"),  # calls of the input kernel that found nothing
    ]
)
ROW_BYTES = AF_PACKET_RING.itemsize
TX_LOCK = dict(AF_PACKET_RING.fields or {})["tx_lock"][1]
AF_PACKET_RINGS = interface_table("af_packet_rings", AF_PACKET_RING)

_SOL_PACKET = 263
_ADD_MEMBERSHIP = 1
_RX_RING = 5
_STATISTICS = 6
_COPY_THRESH = 7
_VERSION = 10
_TX_RING = 13
_LOSS = 14
_VNET_HDR = 15
_IGNORE_OUTGOING = 23
_TPACKET_V2 = 1
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
_PAGE = 4096


class RingHeap(Protocol):
    """What we need of the heap: a place for a mapping of a file descriptor, named by its heap offset."""

    def map_ring(self, fd: int, length: int) -> int: ...


@dataclass(frozen=True)
class Statistics:
    """What the operating system counted on the receive ring since the device was opened."""

    packets: int
    drops: int


class AfPacket:
    """An open pair of packet sockets on one Linux interface; it goes on working wherever the caller moves afterwards.

    `namespace` is the interface's network namespace (a file descriptor; None is the caller's). `all_multicast`
    makes the NIC accept every group: the groups joined on a TAP that stands in for the NIC are not known to it.
    """

    def __init__(
        self,
        linux_name: str,
        namespace: int | None = None,
        *,
        rx_slots: int | None = None,
        tx_slots: int = 512,
        promiscuous: bool = False,
        all_multicast: bool = False,
    ) -> None:
        self.linux_name = linux_name
        self.rx_slot_bytes = RX_SLOT_BYTES
        self.rx_slots = rx_slots or 0
        self.tx_slots = tx_slots
        self._packets = 0
        self._drops = 0

        def open_both() -> tuple[socket.socket, socket.socket]:
            rings = self._open(_ETH_P_ALL, rings=True)
            try:
                return rings, self._open(0, rings=False)
            except OSError:
                rings.close()
                raise

        self._rings, self._sender = netns.run_in(namespace, open_both) if namespace is not None else open_both()
        self.ifindex = self._interface_index()
        if promiscuous:
            self._join(_PROMISCUOUS)
        if all_multicast:
            self._join(_ALL_MULTICAST)

    def _open(self, protocol: int, rings: bool) -> socket.socket:
        """The order matters: with a ring in place the other options answer EBUSY; unbound, nothing is received yet."""
        opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        try:
            opened.setsockopt(_SOL_PACKET, _VERSION, _TPACKET_V2)
            opened.setsockopt(_SOL_PACKET, _VNET_HDR, 1)
            opened.setsockopt(_SOL_PACKET, _IGNORE_OUTGOING, 1)
            opened.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _SOCKET_BUFFER_BYTES)
            opened.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _SOCKET_BUFFER_BYTES)
            if rings:
                opened.setsockopt(_SOL_PACKET, _LOSS, 1)  # a packet that cannot leave frees its slot
                opened.setsockopt(_SOL_PACKET, _COPY_THRESH, 1)
                self.rx_slot_bytes = rx_slot_bytes(_mtu(opened, self.linux_name))
                self.rx_slots = self.rx_slots or RX_RING_BYTES // self.rx_slot_bytes
                opened.setsockopt(_SOL_PACKET, _RX_RING, _ring_request(self.rx_slot_bytes, self.rx_slots))
                opened.setsockopt(_SOL_PACKET, _TX_RING, _ring_request(TX_SLOT_BYTES, self.tx_slots))
            opened.bind((self.linux_name, protocol))
        except OSError:
            opened.close()
            raise
        return opened

    def attach(self, heap: RingHeap, row: Any) -> None:
        """Maps the rings into the heap and describes them in a row of `af_packet_rings`. Once per device."""
        offset = heap.map_ring(self._rings.fileno(), self.ring_bytes)
        row.rx = offset
        row.tx = offset + self.rx_slots * self.rx_slot_bytes
        row.fd = self._rings.fileno()
        row.send_fd = self._sender.fileno()
        row.rx_slot_bytes = self.rx_slot_bytes
        row.rx_next = 0
        row.tx_slots = self.tx_slots
        row.tx_slot_bytes = TX_SLOT_BYTES
        row.tx_next = 0
        row.rx_slots = self.rx_slots

    @staticmethod
    def detach(row: Any) -> None:
        """Takes the rings from the kernels; to be done at a barrier, before `close`."""
        row.rx_slots = 0
        row.tx_slots = 0
        row.fd = -1
        row.send_fd = -1

    @property
    def ring_bytes(self) -> int:
        return self.rx_slots * self.rx_slot_bytes + self.tx_slots * TX_SLOT_BYTES

    def poll_fds(self) -> tuple[int, ...]:
        """Readable when a packet waits in the receive ring."""
        return (self._rings.fileno(),)

    def statistics(self) -> Statistics:
        """The operating system forgets its figures whenever it tells them, so they are added up here."""
        packets, drops = struct.unpack("II", self._rings.getsockopt(_SOL_PACKET, _STATISTICS, 8))
        self._packets += packets - drops  # its packets include those dropped (tpacket_stats)
        self._drops += drops
        return Statistics(self._packets, self._drops)

    def newly_missed(self) -> int:
        """Packets the receive ring had no room for since this was asked last."""
        before = self._drops
        return self.statistics().drops - before

    def mac(self) -> bytes:
        return self._ask(_SIOCGIFHWADDR)[2:8]

    def mtu(self) -> int:
        return _mtu(self._rings, self._rings.getsockname()[0])

    def link_up(self) -> bool:
        """Up and with a carrier, as Linux sees it."""
        flags = int(struct.unpack_from("H", self._ask(_SIOCGIFFLAGS))[0])
        return flags & (_IFF_UP | _IFF_RUNNING) == _IFF_UP | _IFF_RUNNING

    def close(self) -> None:
        self._rings.close()
        self._sender.close()

    def _ask(self, request: int) -> bytes:
        """An ioctl on the interface by name; the socket belongs to the right namespace."""
        return _ask(self._rings, self._rings.getsockname()[0], request)  # follows a rename

    def _interface_index(self) -> int:
        return int(struct.unpack_from("i", self._ask(0x8933))[0])

    def _join(self, kind: int) -> None:
        self._rings.setsockopt(_SOL_PACKET, _ADD_MEMBERSHIP, struct.pack("iHH8x", self.ifindex, kind, 0))


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
    block_bytes = max(slot_bytes, _PAGE)
    return struct.pack("IIII", block_bytes, slot_bytes * slots // block_bytes, slot_bytes, slots)
