# SPDX-License-Identifier: Apache-2.0
"""One end of the traffic: a process inside a namespace that does what the bench asks over its standard input.

A request and its answer are a line of JSON each: {"do": "count"} gives {"ok": [...]}, a failure {"error": text}. It is
started by its path and imports nothing but the standard library, so that it is up in 30 ms and takes no CPU until it
is asked; so it stays one file. It ends when its input does: with the bench, however that ends.
"""

import contextlib
import ctypes
import json
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

BLOCK = 128 << 10  # what iperf3 hands to the kernel at once
PATIENCE = 10.0
BATCH = 64  # frames a system call sends
LEAST_BURST = 8  # of frames that are due: a call from Python costs as much as several frames
DATAGRAM = 64
LOST_AFTER = 0.5
SOL_PACKET, QDISC_BYPASS = 263, 20


class Streams:
    """TCP connections, a thread each, that send or receive as fast as they can until stopped."""

    def __init__(self) -> None:
        self.bytes: list[int] = []
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    def listen(self, address: str, streams: int) -> int:
        """Takes so many connections and reads them; the port."""
        listener = socket.create_server((address, 0))
        self._sockets.append(listener)
        self.bytes = [0] * streams
        self._run(lambda: self._accept(listener, streams))
        return int(listener.getsockname()[1])

    def _accept(self, listener: socket.socket, streams: int) -> None:
        for k in range(streams):
            connection, _ = listener.accept()
            self._sockets.append(connection)
            self._run(lambda k=k, connection=connection: self._receive(k, connection))  # type: ignore[misc]

    def _receive(self, k: int, connection: socket.socket) -> None:
        room = bytearray(BLOCK)
        while n := connection.recv_into(room):
            self.bytes[k] += n

    def connect(self, address: str, port: int, streams: int) -> None:
        for _ in range(streams):
            connection = socket.create_connection((address, port), timeout=PATIENCE)
            connection.settimeout(None)
            self._sockets.append(connection)
            self._run(lambda connection=connection: self._send(connection))  # type: ignore[misc]

    @staticmethod
    def _send(connection: socket.socket) -> None:
        block = memoryview(bytes(BLOCK))
        while True:
            connection.sendall(block)

    def _run(self, body: Callable[[], None]) -> None:
        def quietly() -> None:
            with contextlib.suppress(OSError):  # that is how a stream ends
                body()

        self._threads.append(threading.Thread(target=quietly, daemon=True))
        self._threads[-1].start()

    def stop(self) -> None:
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(PATIENCE)
        for each in self._sockets:
            each.close()


class MessageHeader(ctypes.Structure):
    """struct mmsghdr (recvmmsg(2)) of one packet in one piece, without an address."""

    _fields_ = (
        ("name", ctypes.c_void_p), ("name_bytes", ctypes.c_uint32), ("pieces", ctypes.c_void_p),
        ("n_pieces", ctypes.c_size_t), ("control", ctypes.c_void_p), ("control_bytes", ctypes.c_size_t),
        ("flags", ctypes.c_int), ("sent", ctypes.c_uint32),
    )  # fmt: skip


class Piece(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class Flood:
    """Frames on an interface, the same ones again and again: as fast as they go, or so many a second.

    Each sender is a socket and a thread; the call into the kernel, which is where the time goes, leaves Python's lock.
    """

    def __init__(self, device: str, frames: list[str], senders: int, rate: float | None) -> None:
        self._frames = [ctypes.create_string_buffer(bytes.fromhex(frame)) for frame in frames]
        self._pieces = (Piece * BATCH)()
        self._messages = [(MessageHeader * BATCH)() for _ in range(senders)]
        for k in range(BATCH):
            frame = self._frames[k % len(self._frames)]
            self._pieces[k] = Piece(ctypes.addressof(frame), len(frame) - 1)  # less the NUL that ctypes adds
            for messages in self._messages:
                messages[k].pieces = ctypes.addressof(self._pieces[k])
                messages[k].n_pieces = 1
        self._rate = rate / senders if rate else None
        self._sendmmsg = ctypes.CDLL(None, use_errno=True).sendmmsg
        self.sent = [0] * senders
        self._stop = False
        self._sockets = [self._opened(device) for _ in range(senders)]
        self._threads = [threading.Thread(target=self._run, args=(k,), daemon=True) for k in range(senders)]
        for thread in self._threads:
            thread.start()

    @staticmethod
    def _opened(device: str) -> socket.socket:
        opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        opened.bind((device, 0))
        opened.setsockopt(SOL_PACKET, QDISC_BYPASS, 1)
        return opened

    def _run(self, k: int) -> None:
        began = time.perf_counter()
        descriptor, messages = self._sockets[k].fileno(), self._messages[k]
        while not self._stop:
            due = BATCH
            if self._rate:
                due = min(BATCH, int((time.perf_counter() - began) * self._rate) - self.sent[k])
                if due < LEAST_BURST:
                    continue  # a sleep would be longer than the burst
            self.sent[k] += max(self._sendmmsg(descriptor, messages, due, 0), 0)

    def pause(self) -> None:
        """Sends no more; what was sent can be counted."""
        self._stop = True
        for thread in self._threads:
            thread.join(PATIENCE)

    def stop(self) -> None:
        self.pause()
        for each in self._sockets:
            each.close()


class Echo:
    """Answers each datagram with itself."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((address, 0))
        self.port = int(self._socket.getsockname()[1])
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            datagram, sender = self._socket.recvfrom(2048)
            if not datagram:
                break
            with contextlib.suppress(OSError):
                self._socket.sendto(datagram, sender)

    def stop(self) -> None:
        """An empty datagram of our own ends it: a close would not wake the thread."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
            own.sendto(b"", self._socket.getsockname())
        self._thread.join(PATIENCE)
        self._socket.close()


def round_trips(address: str, port: int, seconds: float, gap: float) -> dict[str, Any]:
    """Requests one after the other, `gap` seconds apart, and their answers: ns, sorted, and how many never came."""
    times: list[int] = []
    lost = 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.connect((address, port))
        asking.settimeout(LOST_AFTER)
        deadline = time.monotonic() + seconds
        number = 0
        while time.monotonic() < deadline:
            number += 1
            request = struct.pack("!Q", number).ljust(DATAGRAM, b".")
            began = time.perf_counter_ns()
            try:
                asking.send(request)
                while asking.recv(2048) != request:
                    pass
                times.append(time.perf_counter_ns() - began)
            except OSError:  # a timeout, or an ICMP error of one before
                lost += 1
            if gap:
                time.sleep(gap)
    return {"times": sorted(times), "lost": lost}


def received(device: str) -> int:
    """Frames that Linux counted on an interface of this namespace."""
    with open("/proc/thread-self/net/dev") as rows:
        for row in rows:
            name, _, figures = row.partition(":")
            if name.strip() == device:
                return int(figures.split()[1])
    raise OSError(f"no interface {device}")


class Agent:
    """What is under way, and what can be asked for."""

    def __init__(self) -> None:
        self._streams: Streams | None = None
        self._flood: Flood | None = None
        self._echo: Echo | None = None
        self._process: subprocess.Popen[str] | None = None

    def listen(self, address: str, streams: int) -> int:
        self._streams = Streams()
        return self._streams.listen(address, streams)

    def connect(self, address: str, port: int, streams: int) -> None:
        self._streams = Streams()
        self._streams.connect(address, port, streams)

    def flood(self, device: str, frames: list[str], senders: int, rate: float | None = None) -> None:
        self._flood = Flood(device, frames, senders, rate)

    def pause(self) -> None:
        if self._flood:
            self._flood.pause()

    def echo(self, address: str) -> int:
        self._echo = Echo(address)
        return self._echo.port

    def ask(self, address: str, port: int, seconds: float, gap: float) -> dict[str, Any]:
        return round_trips(address, port, seconds, gap)

    def count(self) -> list[int]:
        """Bytes received or frames sent so far, and the time, ns."""
        counted = sum(self._streams.bytes) if self._streams else sum(self._flood.sent) if self._flood else 0
        return [counted, time.perf_counter_ns()]

    def received(self, device: str) -> int:
        return received(device)

    def begin(self, command: list[str]) -> int:
        """Starts a command; its process number."""
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        return self._process.pid

    def end(self, within: float) -> str:
        """What the command printed; it is killed when it takes too long."""
        assert self._process is not None
        try:
            return self._process.communicate(timeout=within)[0]
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.communicate()[0]

    def stop(self) -> None:
        """Ends what is under way."""
        for each in (self._streams, self._flood, self._echo):
            if each:
                each.stop()
        self._streams = self._flood = self._echo = None
        if self._process and self._process.poll() is None:
            self._process.kill()
            self._process.wait()


def main() -> None:
    agent = Agent()
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = {"ok": getattr(agent, request.pop("do"))(**request)}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    agent.stop()


if __name__ == "__main__":
    main()
