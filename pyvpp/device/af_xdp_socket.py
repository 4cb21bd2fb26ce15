# SPDX-License-Identifier: Apache-2.0
"""An AF_XDP socket with its umem and its rings: what there is of them before a kernel sees them (linux/if_xdp.h)."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import socket
import struct
import time
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

from pyvpp.device.af_xdp_offload import TX_METADATA_BYTES
from pyvpp.device.af_xdp_ring import ADDRESS_BYTES, CHUNK_BYTES, DESCRIPTOR_BYTES

RX_SLOTS = 2048
TX_SLOTS = 1024
LEAST_SLOTS, MOST_SLOTS = 64, 32768

AF_XDP = 44
_SOL_XDP = 283
_MMAP_OFFSETS, _RX_RING, _TX_RING, _UMEM_REG, _FILL_RING, _COMPLETION_RING, _STATISTICS, _OPTIONS, _TX_BUDGET = range(
    1, 10
)
_RX_AT, _TX_AT, _FILL_AT, _COMPLETION_AT = 0, 0x80000000, 0x100000000, 0x180000000  # file offsets for mmap
_SHARED_UMEM, _COPY, _ZERO_COPY, _USE_NEED_WAKEUP, _USE_FRAGMENTS = 1, 2, 4, 8, 16
_UNALIGNED_CHUNKS, _TX_METADATA = 1, 4
_OPTIONS_ZERO_COPY = 1
_SOL_PACKET, _VNET_HDR = 263, 15
_SO_SNDBUFFORCE = 32
_SEND_BUFFER_BYTES = 32 << 20
_TX_PACKETS_AT_ONCE = 256
_PATIENCE = 2.0  # seconds until Linux has let go of a queue


class Copy(Enum):
    """Whether Linux copies between the NIC's memory and ours; VPP's word for it is mode."""

    AUTO = "auto"
    COPY = "copy"
    ZERO_COPY = "zero-copy"


class Attach(Enum):
    """Where the XDP program runs: in the driver, or on Linux' own packets."""

    AUTO = "auto"
    NATIVE = "native"
    GENERIC = "generic"


@dataclass(frozen=True)
class Options:
    """What an operator may choose. `rx_queues` 0: as many as the interface has."""

    rx_queues: int = 1
    rx_slots: int = RX_SLOTS
    tx_slots: int = TX_SLOTS
    copy: Copy = Copy.AUTO
    attach: Attach = Attach.AUTO
    multi_buffer: bool = True


@dataclass(frozen=True)
class Statistics:
    """What Linux counted on a socket (struct xdp_statistics)."""

    rx_dropped: int = 0
    rx_invalid_descriptors: int = 0
    tx_invalid_descriptors: int = 0
    rx_ring_full: int = 0
    fill_ring_empty: int = 0
    tx_ring_empty: int = 0

    def __add__(self, other: Statistics) -> Statistics:
        return Statistics(*(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True)))


class RingHeap(Protocol):
    """What we need of the heap: where it lies, how much of it is slots, and places for mappings of file descriptors."""

    address: int
    slot_bytes: int
    pages: str

    def map_ring(self, fd: int, length: int, start: int = 0) -> int: ...
    def unmap_ring(self, offset: int, length: int) -> None: ...


def open_sender(linux_name: str) -> socket.socket:
    """A packet socket that sends what is to be segmented, and receives nothing. Raises OSError."""
    sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
    try:
        sender.setsockopt(_SOL_PACKET, _VNET_HDR, 1)
        sender.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _SEND_BUFFER_BYTES)
        sender.bind((linux_name, 0))
    except OSError:
        sender.close()
        raise
    return sender


class Queue:
    """A socket with its four rings, bound to one queue of an interface."""

    def __init__(self, number: int, options: Options, heap: RingHeap, first: Queue | None) -> None:
        """Registers the heap's slots as its umem, unless the `first` queue's are shared. Raises OSError."""
        self.number = number
        self.options = options
        self._heap = heap
        self._first = first
        self._mapped: list[tuple[int, int]] = []
        self.socket = socket.socket(AF_XDP, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        try:
            self.socket.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _SEND_BUFFER_BYTES)
            self.tx_metadata: bool = first.tx_metadata if first else self._register_umem()
            for ring, slots in (
                (_FILL_RING, options.rx_slots), (_RX_RING, options.rx_slots),
                (_COMPLETION_RING, options.tx_slots), (_TX_RING, options.tx_slots),
            ):  # fmt: skip
                self.socket.setsockopt(_SOL_XDP, ring, struct.pack("I", slots))
            with contextlib.suppress(OSError):  # Linux before 6.12 sends 32 a call
                self.socket.setsockopt(_SOL_XDP, _TX_BUDGET, struct.pack("I", _TX_PACKETS_AT_ONCE))
        except OSError:
            self.socket.close()
            raise

    @classmethod
    def inherited(cls, number: int, options: Options, heap: RingHeap, descriptor: int, tx_metadata: bool) -> Queue:
        """The socket that another process had open, whose heap is ours by now."""
        queue = cls.__new__(cls)
        queue.number, queue.options, queue.tx_metadata = number, options, tx_metadata
        queue._heap, queue._first, queue._mapped = heap, None, []
        queue.socket = socket.socket(AF_XDP, socket.SOCK_RAW, 0, fileno=descriptor)  # which it cannot be asked
        return queue

    def _register_umem(self) -> bool:
        """Answers whether metadata of packets to be sent is understood (Linux 6.8)."""

        def register(flags: int, metadata: int) -> None:
            layout = (self._heap.address, self._heap.slot_bytes, CHUNK_BYTES, 0, flags, metadata)
            self.socket.setsockopt(_SOL_XDP, _UMEM_REG, struct.pack("QQIIII", *layout))

        try:
            register(_UNALIGNED_CHUNKS | _TX_METADATA, TX_METADATA_BYTES)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            register(_UNALIGNED_CHUNKS, 0)
            return False
        return True

    def bind(self, ifindex: int, zero_copy: bool) -> None:
        """Binds the socket to its queue. One that another had a moment ago is waited for. Raises OSError."""
        if self._first:
            flags, shared = _SHARED_UMEM, self._first.socket.fileno()
        else:
            flags, shared = _USE_NEED_WAKEUP | (_ZERO_COPY if zero_copy else _COPY), 0
            flags |= _USE_FRAGMENTS if self.options.multi_buffer else 0
        address = struct.pack("HHIII", AF_XDP, flags, ifindex, self.number, shared)
        libc = ctypes.CDLL(None, use_errno=True)
        deadline = time.monotonic() + _PATIENCE
        while libc.bind(self.socket.fileno(), address, len(address)) < 0:
            code = ctypes.get_errno()
            if code != errno.EBUSY or time.monotonic() > deadline:
                raise OSError(code, os.strerror(code))
            time.sleep(0.005)

    @property
    def zero_copy(self) -> bool:
        return bool(struct.unpack("I", self.socket.getsockopt(_SOL_XDP, _OPTIONS, 4))[0] & _OPTIONS_ZERO_COPY)

    def statistics(self) -> Statistics:
        return Statistics(*struct.unpack("6Q", self.socket.getsockopt(_SOL_XDP, _STATISTICS, 48)))

    def map(self, rx_row: Any, tx_row: Any) -> None:
        """Maps the rings into the heap and describes them in a row of `af_xdp_rx_queues` and `af_xdp_tx_queues`."""
        at = struct.unpack("16Q", self.socket.getsockopt(_SOL_XDP, _MMAP_OFFSETS, 128))
        rx, tx, fill, completion = (at[k : k + 4] for k in (0, 4, 8, 12))  # producer, consumer, entries, flags
        rx_slots, tx_slots = self.options.rx_slots, self.options.tx_slots

        def place(ring: tuple[int, ...], start: int, slots: int, size: int) -> tuple[int, ...]:
            length = ring[2] + slots * size
            base = self._heap.map_ring(self.socket.fileno(), length, start)
            self._mapped.append((base, length))
            return tuple(base + offset for offset in ring)

        row = rx_row
        row.rx_producer, row.rx_consumer, row.rx_ring, _ = place(rx, _RX_AT, rx_slots, DESCRIPTOR_BYTES)
        row.fill_producer, _, row.fill_ring, row.fill_flags = place(fill, _FILL_AT, rx_slots, ADDRESS_BYTES)
        row.fd, row.fill_next = self.socket.fileno(), 0
        row = tx_row
        row.tx_producer, row.tx_consumer, row.tx_ring, row.tx_flags = place(tx, _TX_AT, tx_slots, DESCRIPTOR_BYTES)
        row.completion_producer, row.completion_consumer, row.completion_ring, _ = place(
            completion, _COMPLETION_AT, tx_slots, ADDRESS_BYTES
        )
        row.fd, row.tx_next, row.lock = self.socket.fileno(), 0, 0

    def unmap(self) -> None:
        while self._mapped:
            self._heap.unmap_ring(*self._mapped.pop())

    def push(self) -> None:
        """Makes Linux look at packets that its device did not take when they were sent."""
        with contextlib.suppress(OSError):
            self.socket.send(b"", socket.MSG_DONTWAIT)

    def close(self) -> None:
        self.socket.close()
