# SPDX-License-Identifier: Apache-2.0
"""A connection between two processes of one machine that carries structures, and file descriptors beside them.

A message is its length and the number of its descriptors (two 32-bit numbers, as the machine has them), the descriptors
(SCM_RIGHTS, as many at a time as Linux takes), and JSON. Nothing is received in part.
"""

from __future__ import annotations

import array
import socket
import struct
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")

_HEAD = struct.Struct("=II")
_AT_ONCE = 200  # SCM_MAX_FD is 253
_LONGEST = 1 << 28


class Closed(Exception):
    """The other process is gone."""


class Channel:
    """One end. `send` and `receive` block, for as long as `timeout` says, and then raise TimeoutError."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end

    @classmethod
    def pair(cls) -> tuple[Channel, socket.socket]:
        """Our end, and the other as it goes to another process."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        return cls(ours), theirs

    def fileno(self) -> int:
        return self._end.fileno()

    def send(self, message: Any, descriptors: Sequence[int] = ()) -> None:
        """Raises Closed when nobody will receive it."""
        content = msgspec.json.encode(message)
        try:
            self._end.sendall(_HEAD.pack(len(content), len(descriptors)))
            for start in range(0, len(descriptors), _AT_ONCE):
                some = array.array("i", descriptors[start : start + _AT_ONCE])
                self._end.sendmsg([b"\0"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, some)])
            self._end.sendall(content)
        except TimeoutError:
            raise
        except OSError as error:
            raise Closed from error

    def receive(self, kind: type[T], timeout: float | None = None) -> tuple[T, list[int]]:
        """The next message and its descriptors, which are the caller's. Raises Closed, or ValueError when it is of
        another kind."""
        self._end.settimeout(timeout)
        length, count = _HEAD.unpack(self._read(_HEAD.size))
        if length > _LONGEST:
            raise ValueError(f"a message of {length} bytes")
        descriptors: list[int] = []
        while len(descriptors) < count:
            some = array.array("i")
            room = socket.CMSG_SPACE(_AT_ONCE * some.itemsize)
            data, ancillary, _, _ = self._end.recvmsg(1, room, socket.MSG_CMSG_CLOEXEC)
            if not data:
                raise Closed
            for _, _, content in ancillary:
                some.frombytes(content[: len(content) - len(content) % some.itemsize])
            descriptors += some
        try:
            return msgspec.json.decode(self._read(length), type=kind), descriptors
        except msgspec.MsgspecError as error:
            raise ValueError(str(error)) from error

    def _read(self, length: int) -> bytes:
        parts: list[bytes] = []
        while length:
            try:
                part = self._end.recv(min(length, 1 << 20))
            except ConnectionError as error:
                raise Closed from error
            if not part:
                raise Closed
            parts.append(part)
            length -= len(part)
        return b"".join(parts)

    def close(self) -> None:
        self._end.close()
