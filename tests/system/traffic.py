# SPDX-License-Identifier: Apache-2.0
"""Traffic between namespaces that a tunnel's MTU concerns: pings and datagrams of a size, ICMP errors, TCP."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
import time
import zlib
from dataclasses import dataclass

import numpy as np

from pyvpp import demo
from tests.system.conftest import Namespace

IP_MTU_DISCOVER, DONT_SET_DF, ALWAYS_SET_DF = 10, 0, 3
IP_RECVERR = 11
UDP_SEGMENT = 103
MSG_ERRQUEUE = 0x2000
SO_EE_ORIGIN_ICMP = 2
UNREACHABLE, FRAGMENTATION_NEEDED = 3, 4
PATIENCE = 60.0  # `sendall` counts it for the whole
ATTEMPTS, ANSWER = 20, 0.25


def ping(source: Namespace, address: str, length: int, *, df: bool) -> bool:
    """Whether an echo request that is so long as an IP packet was answered by one as long.

    Asks again for some seconds: each unknown neighbor on the way costs a packet, and Linux asks for one once a second.
    """
    body = struct.pack("!HH", length, 1) + bytes(k % 251 for k in range(length - 28))
    message = struct.pack("!BBH", 8, 0, demo.checksum(b"\x08\0\0\0" + body + bytes(length % 2))) + body
    with source.inside(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)) as icmp:
        icmp.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, ALWAYS_SET_DF if df else DONT_SET_DF)
        for _ in range(ATTEMPTS):
            icmp.sendto(message, (address, 0))
            deadline = time.monotonic() + ANSWER
            while select.select([icmp], [], [], max(0.0, deadline - time.monotonic()))[0]:
                packet = icmp.recv(0xFFFF)
                answer = packet[(packet[0] & 15) * 4 :]
                if answer[0] == 0 and answer[4:] == body:
                    return True
    return False


@dataclass(frozen=True)
class TooBig:
    """What an ICMP "fragmentation needed" said, and who."""

    mtu: int
    sender: str


def too_big(source: Namespace, address: str, length: int) -> TooBig | None:
    """What comes back for a UDP packet of so many bytes with DF set, sent again for a second; None: nothing."""
    with source.inside(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as udp:
        udp.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, ALWAYS_SET_DF)
        udp.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
        udp.connect((address, 9))
        poll = select.poll()
        poll.register(udp, select.POLLERR)
        for _ in range(4):
            with contextlib.suppress(OSError):  # the error of the one before
                udp.send(bytes(length - 28))
            if not poll.poll(1000 * ANSWER):
                continue
            _, ancillary, _, _ = udp.recvmsg(2048, 512, MSG_ERRQUEUE)
            for level, kind, data in ancillary:
                if (level, kind) != (socket.IPPROTO_IP, IP_RECVERR):
                    continue
                _, origin, icmp_type, code, _, info, _ = struct.unpack_from("=IBBBBII", data)
                if (origin, icmp_type, code) == (SO_EE_ORIGIN_ICMP, UNREACHABLE, FRAGMENTATION_NEEDED):
                    return TooBig(info, socket.inet_ntoa(data[20:24]))
    return None


def transfer(source: Namespace, target: Namespace, address: str, megabytes: int = 8) -> None:
    """Sends so much from source to target by TCP and back again, compared by checksum."""
    payload = np.random.default_rng(megabytes).integers(0, 256, megabytes << 20, np.uint8).tobytes()
    failure: list[BaseException] = []

    def receive(connection: socket.socket) -> tuple[int, int]:
        crc = n = 0
        while n < len(payload) and (data := connection.recv(1 << 20)):
            crc = zlib.crc32(data, crc)
            n += len(data)
        return n, crc

    def serve() -> None:
        try:
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(PATIENCE)
                seen.append(receive(connection))
                connection.sendall(payload)
        except OSError as error:
            failure.append(error)

    seen: list[tuple[int, int]] = []
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with target.inside(lambda: socket.create_server((address, 0), family=family)) as listener:
        listener.settimeout(PATIENCE)
        server = threading.Thread(target=serve)
        server.start()
        try:
            with source.inside(
                lambda: socket.create_connection(listener.getsockname()[:2], timeout=PATIENCE)
            ) as client:
                client.sendall(payload)
                seen.append(receive(client))
        finally:
            server.join()
    assert not failure, failure
    assert seen == [(len(payload), zlib.crc32(payload))] * 2


def datagrams(source: Namespace, target: Namespace, address: str, size: int = 1200, count: int = 40) -> None:
    """Sends so many datagrams by one call, which Linux or a device is to cut (UDP_SEGMENT); all must arrive, and one
    more that nobody cuts."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    payload = np.random.default_rng(size).integers(0, 256, size * count - 7, np.uint8).tobytes()
    with target.inside(lambda: socket.socket(family, socket.SOCK_DGRAM)) as receiver:
        receiver.bind((address, 0))
        receiver.settimeout(PATIENCE)
        with source.inside(lambda: socket.socket(family, socket.SOCK_DGRAM)) as sender:
            sender.connect(receiver.getsockname()[:2])
            sender.send(payload[:99])  # finds the way: the first packet may be lost to an unknown neighbor's ARP
            assert receiver.recv(0xFFFF) == payload[:99]
            sender.sendmsg([payload], [(socket.IPPROTO_UDP, UDP_SEGMENT, struct.pack("H", size))])
        for start in range(0, len(payload), size):
            assert receiver.recv(0xFFFF) == payload[start : start + size]


def datagrams_to_nobody(source: Namespace, address: str, size: int, n: int) -> None:
    """So many bytes as datagrams of a size, by one call."""
    with source.inside(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sender:
        sender.connect((address, 9))
        sender.sendmsg([bytes(n)], [(socket.IPPROTO_UDP, UDP_SEGMENT, struct.pack("H", size))])


def learned_mtu(source: Namespace, address: str) -> int | None:
    """The path's MTU as the routing cache has it; None when nothing was learned."""
    words = source.ip("route", "get", address).split()
    return int(words[words.index("mtu") + 1]) if "mtu" in words else None
