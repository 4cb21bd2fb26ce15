# SPDX-License-Identifier: Apache-2.0
"""pcap files, and the capture of `pcap trace` that fills them.

While a capture runs, workers copy packets into memory; the file is written when it stops. Format: libpcap 2.4 with
microseconds, link type Ethernet; packets of interfaces without Ethernet get a header with the right ethertype and the
MAC addresses zero, so that one file can hold both kinds.
"""

import struct
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pyvpp import dispatch as d
from pyvpp.errors import OperatorError

if TYPE_CHECKING:
    from pyvpp.engine import Engine

MAGIC = 0xA1B2C3D4
ETHERNET = 1
SNAP_LENGTH = 65535
KINDS = {"rx": d.CAPTURE_RX, "tx": d.CAPTURE_TX, "drop": d.CAPTURE_DROP}
MAX_PACKETS = 100_000


def file_header(link_type: int) -> bytes:
    return struct.pack("<IHHiIII", MAGIC, 2, 4, 0, 0, SNAP_LENGTH, link_type)


def packet_record(ns: int, data: bytes, length: int) -> bytes:
    """A packet with its header: ns since 1970, the bytes that were kept, how many it had on the wire."""
    seconds, rest = divmod(ns, 1_000_000_000)
    return struct.pack("<IIII", seconds, rest // 1000, len(data), length) + data


def write(path: Path, packets: Iterable[tuple[int, bytes, int]], link_type: int = ETHERNET) -> int:
    """Writes packets (time in ns since 1970, bytes, length on the wire); returns how many. Raises OSError."""
    count = 0
    with path.open("wb") as file:
        file.write(file_header(link_type))
        for ns, data, length in packets:
            file.write(packet_record(ns, data, length))
            count += 1
    return count


@dataclass
class Capture:
    """A running capture."""

    kinds: int
    limit: int
    path: Path
    interface: int
    memory: list[Any]
    began_ns: int
    clock_ns: int
    """the workers' clock at that moment"""


class PacketCapture:
    """`engine.capture`: at most one at a time."""

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine
        self.running: Capture | None = None

    @property
    def captured(self) -> int:
        """Packets so far. Each worker keeps the first `limit` of its own, among which are the first of all."""
        found = sum(int(worker.control[d.CAPTURE_USED]) for worker in self._engine.workers)
        return min(found, self.running.limit) if self.running else found

    def start(self, kinds: int, path: Path, limit: int, interface: int, max_bytes: int) -> None:
        """Begins a capture; `interface` 0 is any. Raises OperatorError when one runs or the file cannot be made."""
        if self.running:
            raise OperatorError("dispatch trace already enabled; `pcap trace off' ends it")
        if not 1 <= limit <= MAX_PACKETS:
            raise OperatorError(f"max {limit}: must be from 1 to {MAX_PACKETS}")
        try:
            path.open("wb").close()
        except OSError as error:
            raise OperatorError(f"file {path}: {error.strerror}") from error
        workers = self._engine.workers
        memory = [np.zeros(limit, d.CAPTURE) for _ in workers]
        self.running = Capture(kinds, limit, path, interface, memory, time.time_ns(), workers[0].now)
        with self._engine.barrier():
            for worker, records in zip(workers, memory, strict=True):
                worker.control[d.CAPTURE_ADDRESS] = records.ctypes.data
                worker.control[d.CAPTURE_CAPACITY] = limit
                worker.control[d.CAPTURE_USED] = 0
                worker.control[d.CAPTURE_BYTES] = min(max_bytes, d.CAPTURE_DATA)
                worker.control[d.CAPTURE_INTERFACE] = interface
                worker.control[d.CAPTURE_KINDS] = kinds

    def stop(self) -> tuple[int, Path]:
        """Ends the capture and writes the file; how many packets, and where. Raises OperatorError."""
        capture = self.running
        if capture is None:
            raise OperatorError("dispatch trace already disabled")
        with self._engine.barrier():
            for worker in self._engine.workers:
                worker.control[d.CAPTURE_KINDS] = 0
        self.running = None
        packets = []
        for worker, records in zip(self._engine.workers, capture.memory, strict=True):
            for record in records[: int(worker.control[d.CAPTURE_USED])]:
                packets.append(self._packet(record, capture.began_ns + int(record["time"]) - capture.clock_ns))
            worker.control[d.CAPTURE_USED] = 0
        try:
            packets.sort(key=lambda packet: packet[0])  # those of one moment stay in the order they passed
            return write(capture.path, packets[: capture.limit]), capture.path
        except OSError as error:
            raise OperatorError(f"file {capture.path}: {error.strerror}") from error

    def _packet(self, record: Any, ns: int) -> tuple[int, bytes, int]:
        data = record["data"][: int(record["captured"])].tobytes()
        interface = self._engine.interfaces.get(int(record["sw_if_index"]))
        if interface is not None and interface.p2p:
            ethertype = b"\x86\xdd" if data[:1] and data[0] >> 4 == 6 else b"\x08\x00"
            return ns, bytes(12) + ethertype + data, int(record["length"]) + 14
        return ns, data, int(record["length"])
