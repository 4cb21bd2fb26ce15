# SPDX-License-Identifier: Apache-2.0
"""One end of the traffic: a process inside a namespace that does what the bench asks over its standard input.

A request and its answer are a line of JSON each: {"do": "count"} gives {"ok": [...]}, a failure {"error": text}. It is
started by its path and imports nothing but the standard library, so that it is up in 30 ms and takes no CPU until it
is asked; so it stays one file. It ends when its input does: with the bench, however that ends.
"""

import array
import contextlib
import json
import mmap
import os
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
SLOTS, SLOT_BYTES = 512, 256
BATCH = SLOTS // 2  # frames a system call sends
BURST, LEAST_BURST = 64, 8  # of frames that are due: a call from Python costs as much as several frames
DATAGRAM = 64
LOST_AFTER = 0.5
SOL_PACKET = 263
VERSION, TX_RING, LOSS, VNET_HDR, QDISC_BYPASS = 10, 13, 14, 15, 20
TPACKET_V2 = 1
SLOT_LENGTH, SLOT_DATA = 4, 32  # in struct tpacket2_hdr, and behind it
SEND_REQUEST = 1
VNET_BYTES = 10
SO_SNDBUFFORCE, SEND_BUFFER_BYTES = 32, 8 << 20


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


class SendRing:
    """A transmit ring (TPACKET_V2) full of frames, the same ones again and again.

    It spares Linux what sendmmsg takes a packet to look at its headers, and Python is asked once for many frames, so
    that the sender, whose processor Linux makes the receiver of a veth work on as well, is less of a limit. Each slot
    has a virtio_net_hdr that says "all in one piece", see `af_packet_tx`.
    """

    def __init__(self, device: str, frames: list[bytes]) -> None:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        for option, value in ((VERSION, TPACKET_V2), (VNET_HDR, 1), (QDISC_BYPASS, 1), (LOSS, 1)):
            self._socket.setsockopt(SOL_PACKET, option, value)
        self._socket.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, SEND_BUFFER_BYTES)
        blocks = struct.pack("IIII", SLOTS * SLOT_BYTES, 1, SLOT_BYTES, SLOTS)
        self._socket.setsockopt(SOL_PACKET, TX_RING, blocks)
        self._memory = mmap.mmap(self._socket.fileno(), SLOTS * SLOT_BYTES)
        self._socket.bind((device, 0))
        for k in range(SLOTS):
            frame = frames[k % len(frames)]
            struct.pack_into("II", self._memory, k * SLOT_BYTES + SLOT_LENGTH, VNET_BYTES + len(frame), 0)
            content = struct.pack("<BBHHHH", 0, 0, len(frame), 0, 0, 0) + frame
            at = k * SLOT_BYTES + SLOT_DATA
            self._memory[at : at + len(content)] = content
        self._status = memoryview(self._memory).cast("I")[:: SLOT_BYTES // 4]
        self._requests = memoryview(array.array("I", [SEND_REQUEST]) * SLOTS)
        self._next = 0

    def send(self, n: int, stopped: Callable[[], bool]) -> None:
        """Sends the next so many frames, SLOTS at most; fewer when it is stopped meanwhile."""
        first = min(n, SLOTS - self._next)
        for slots in (self._status[self._next : self._next + first], self._status[: n - first]):
            while any(slots) and not stopped():  # somebody still has what was sent from there
                os.sched_yield()
            slots[:] = self._requests[: len(slots)]
        self._next = (self._next + n) % SLOTS
        while self._status[self._next - 1] == SEND_REQUEST and not stopped():
            with contextlib.suppress(OSError):  # ENOBUFS: the receiver's queue was full for a moment
                self._socket.send(b"", socket.MSG_DONTWAIT)

    def close(self) -> None:
        self._status.release()
        self._memory.close()
        self._socket.close()


class Flood:
    """Frames on an interface, the same ones again and again: as fast as they go, or so many a second.

    Each sender is a ring and a thread; the call into the kernel, which is where the time goes, leaves Python's lock.
    """

    def __init__(self, device: str, frames: list[str], senders: int, rate: float | None) -> None:
        self._rate = rate / senders if rate else None
        self.sent = [0] * senders
        self._stop = False
        self._rings = [SendRing(device, [bytes.fromhex(frame) for frame in frames]) for _ in range(senders)]
        self._threads = [threading.Thread(target=self._run, args=(k,), daemon=True) for k in range(senders)]
        for thread in self._threads:
            thread.start()

    def _run(self, k: int) -> None:
        began = time.perf_counter()
        ring = self._rings[k]
        while not self._stop:
            due = BATCH
            if self._rate:
                due = min(BURST, int((time.perf_counter() - began) * self._rate) - self.sent[k])
                if due < LEAST_BURST:
                    continue  # a sleep would be longer than the burst
            ring.send(due, lambda: self._stop)
            self.sent[k] += due

    def pause(self) -> None:
        """Sends no more; what was sent can be counted."""
        self._stop = True
        for thread in self._threads:
            thread.join(PATIENCE)

    def stop(self) -> None:
        self.pause()
        for each in self._rings:
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
