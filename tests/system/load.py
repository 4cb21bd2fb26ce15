# SPDX-License-Identifier: Apache-2.0
"""Traffic that goes on while something else happens: TCP streams and numbered datagrams, every byte of them verified.

What is sent is a piece of one random pattern; where it begins follows from how much was sent, or from the datagram's
number, so that the receiver knows what to expect, and a packet in the wrong place is noticed as well as a wrong byte.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable
from types import TracebackType

import numpy as np

from tests.system.conftest import Namespace

PERIOD = 65_521  # a prime: no packet or segment size divides it
PATTERN = np.random.default_rng(4).integers(0, 256, PERIOD, np.uint8).tobytes() * 4
BLOCK = 100_000
PATIENCE = 30.0
UDP_SEGMENT = 103
SEGMENT = 1200  # bytes of a datagram that Linux or a device cuts off
SIZES = (18, 1000, 1472, 1473, 4000, 9000, 30_000)  # from the second half on in fragments
HEADER = struct.Struct("!II")  # number and bytes of a datagram
PAUSE = 0.002


def expected(start: int, length: int) -> bytes:
    """What stands at a place of the endless pattern; at most BLOCK bytes."""
    return PATTERN[start % PERIOD : start % PERIOD + length]


class Load:
    """Threads that run between `with` and its end; what went wrong in them is raised there."""

    def __init__(self) -> None:
        self.stopping = threading.Event()
        self._failures: list[BaseException] = []
        self._threads: list[threading.Thread] = []

    def run(self, body: Callable[[], None]) -> None:
        def guarded() -> None:
            try:
                body()
            except BaseException as error:
                self._failures.append(error)

        self._threads.append(threading.Thread(target=guarded, daemon=True))

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stopping.set()
        for thread in self._threads:
            thread.join(PATIENCE)
        if error is None and self._failures:
            raise self._failures[0]
        assert error or not any(thread.is_alive() for thread in self._threads), "a thread does not end"


class Stream:
    """A TCP connection from one namespace to an address of another, as fast as it goes until the load ends.

    It must come through whatever happens meanwhile: all that was sent arrives.
    """

    def __init__(self, load: Load, source: Namespace, target: Namespace, address: str) -> None:
        self.name = f"TCP {source.name} to {address}"
        self.sent = self.received = 0
        self._stopping = load.stopping
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with target.inside(lambda: socket.create_server((address, 0), family=family)) as listener:
            listener.settimeout(PATIENCE)
            where = listener.getsockname()[:2]
            self._near = source.inside(lambda: socket.create_connection(where, timeout=PATIENCE))
            self._far, _ = listener.accept()
        self._far.settimeout(PATIENCE)
        load.run(self._send)
        load.run(self._receive)

    def _send(self) -> None:
        with self._near:
            while not self._stopping.is_set():
                piece = expected(self.sent, BLOCK)
                self._near.sendall(piece)
                self.sent += len(piece)
            self._near.shutdown(socket.SHUT_WR)
            assert self._near.recv(1) == b"", self.name  # waits until the other end has read all

    def _receive(self) -> None:
        with self._far:
            while data := self._far.recv(BLOCK):
                assert data == expected(self.received, len(data)), f"{self.name}: wrong at byte {self.received}"
                self.received += len(data)
        assert self.received == self.sent, f"{self.name}: {self.sent} bytes sent, {self.received} received"


class Datagrams:
    """Numbered datagrams of all sizes, most of them in fragments, some cut by Linux or a device (UDP_SEGMENT).

    Some may be lost; those that arrive are as they were sent, and none arrives twice.
    """

    def __init__(self, load: Load, source: Namespace, target: Namespace, address: str) -> None:
        self.name = f"UDP {source.name} to {address}"
        self.sent = self.received = 0
        self._stopping = load.stopping
        self._sent_all = threading.Event()
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._far = target.inside(lambda: socket.socket(family, socket.SOCK_DGRAM))
        self._far.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)  # SO_RCVBUFFORCE
        self._far.bind((address, 0))
        self._far.settimeout(0.5)
        self._near = source.inside(lambda: socket.socket(family, socket.SOCK_DGRAM))
        if family == socket.AF_INET:
            self._near.setsockopt(socket.IPPROTO_IP, 10, 0)  # IP_MTU_DISCOVER: IP_PMTUDISC_DONT, so that any size goes
        self._near.connect(self._far.getsockname()[:2])
        load.run(self._send)
        load.run(self._receive)

    def _datagram(self, size: int) -> bytes:
        number, self.sent = self.sent, self.sent + 1
        return HEADER.pack(number, size) + expected(number * 7919, size - HEADER.size)

    def _send(self) -> None:
        turn = 0
        with self._near:
            while not self._stopping.wait(PAUSE):
                turn += 1
                with contextlib.suppress(OSError):  # of an ICMP error, or since the way is down
                    if turn % 8:
                        self._near.send(self._datagram(SIZES[turn % len(SIZES)]))
                    else:
                        train = b"".join(self._datagram(SEGMENT) for _ in range(20))
                        self._near.sendmsg([train], [(socket.IPPROTO_UDP, UDP_SEGMENT, struct.pack("H", SEGMENT))])
        self._sent_all.set()

    def _receive(self) -> None:
        seen: set[int] = set()
        with self._far:
            while True:
                try:
                    data = self._far.recv(0xFFFF)
                except TimeoutError:
                    if self._sent_all.is_set():
                        return
                    continue
                number, size = HEADER.unpack_from(data)
                assert len(data) == size, f"{self.name}: {len(data)} bytes of {size}"
                assert data[HEADER.size :] == expected(number * 7919, size - HEADER.size), f"{self.name}: wrong bytes"
                assert number not in seen, f"{self.name}: {number} came twice"
                seen.add(number)
                self.received += 1


def lasting(seconds: float) -> Callable[[], bool]:
    """Whether so much time has not passed yet."""
    deadline = time.monotonic() + seconds
    return lambda: time.monotonic() < deadline
