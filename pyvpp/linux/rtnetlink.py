# SPDX-License-Identifier: Apache-2.0
"""Routing netlink as bytes: messages are read, kept and sent again without knowing what their attributes mean.

What Linux tells of a route, a nexthop or a queueing discipline is, but for a few attributes, what it takes to make the
same anew. So whatever a newer kernel adds survives a take-over, and many requests go to Linux in one system call.
Integers are in the machine's byte order, as netlink has them (rtnetlink(7), linux/netlink.h).
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol, TypeVar

NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP = 0x1, 0x4, 0x300
NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE, NLM_F_APPEND = 0x100, 0x200, 0x400, 0x800
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence number, port
_ATTRIBUTE = struct.Struct("=HH")  # length, type
TYPE_MASK = 0x3FFF  # without NLA_F_NESTED and NLA_F_NET_BYTEORDER
_SOL_NETLINK, _NETLINK_CAP_ACK, _NETLINK_EXT_ACK = 270, 10, 11
_NLM_F_CAPPED, _NLM_F_ACK_TLVS = 0x100, 0x200
_NLMSGERR_ATTR_MSG = 1
_RECEIVE_BYTES = 1 << 20
_AT_ONCE = 64  # requests whose answers surely fit the socket's queue

Attributes = tuple[tuple[int, str], ...]  # type with its flags, value in hexadecimal: a journal can hold it


class Request(NamedTuple):
    """A message to Linux: its type (RTM_NEWROUTE), flags beyond REQUEST and ACK, header and attributes."""

    kind: int
    flags: int
    body: bytes


class Refusal(NamedTuple):
    """What Linux answered: 0 or an errno, and its explanation where it has one."""

    errno: int
    reason: str = ""

    def __str__(self) -> str:
        return self.reason or os.strerror(self.errno)


class Message(Protocol):
    """What can be asked for: a route, a nexthop."""

    def message(self, indexes: Mapping[str, int]) -> bytes:
        """As Linux takes it, interfaces by index. Raises KeyError: one is gone."""


M = TypeVar("M", bound=Message)


def number(value: bytes | None) -> int:
    """An attribute's integer, 0 where it is not there."""
    return int.from_bytes(value, "little") if value else 0


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded to four bytes."""
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + bytes(-len(value) % 4)


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Types (without their flags) and values."""
    for kind, value in _raw_attributes(data):
        yield kind & TYPE_MASK, value


def _raw_attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < _ATTRIBUTE.size:
            return
        yield kind, data[at + _ATTRIBUTE.size : at + length]
        at += (length + 3) & ~3


def kept(data: bytes) -> Attributes:
    """The attributes in a form for the journal."""
    return tuple((kind, value.hex()) for kind, value in _raw_attributes(data))


def value_of(found: Attributes, kind: int) -> bytes | None:
    """An attribute's value, whatever flags its type has."""
    for each, value in found:
        if each & TYPE_MASK == kind:
            return bytes.fromhex(value)
    return None


def without(found: Attributes, *kinds: int) -> Attributes:
    """Without the attributes of these types."""
    return tuple((kind, value) for kind, value in found if kind & TYPE_MASK not in kinds)


def encoded(found: Attributes) -> bytes:
    """The attributes as Linux takes them; the reverse of `kept`."""
    return b"".join(attribute(kind, bytes.fromhex(value)) for kind, value in found)


class Netlink:
    """A routing netlink socket in the caller's network namespace. Raises OSError when Linux does not answer at all."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BYTES)
        for option in (_NETLINK_CAP_ACK, _NETLINK_EXT_ACK):
            self._socket.setsockopt(_SOL_NETLINK, option, 1)
        self._socket.bind((0, 0))
        self._sequence = 0

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def dump(self, kind: int, body: bytes) -> list[bytes]:
        """The bodies of all messages that answer a GET request; none where the kernel does not know the request."""
        self._sequence += 1
        header = _HEADER.pack(_HEADER.size + len(body), kind, NLM_F_REQUEST | NLM_F_DUMP, self._sequence, 0)
        self._socket.send(header + body)
        found: list[bytes] = []
        while True:
            for answer, _, sequence, content in self._messages():
                if sequence != self._sequence:
                    continue
                if answer in (_NLMSG_DONE, _NLMSG_ERROR):
                    return found
                found.append(content)

    def ask(self, requests: Iterable[Request]) -> list[Refusal]:
        """Send requests, many at once; what Linux says to each, in their order."""
        waiting, refusals = list(requests), []
        for first in range(0, len(waiting), _AT_ONCE):
            refusals += self._ask_at_once(waiting[first : first + _AT_ONCE])
        return refusals

    def make(
        self, wanted: Sequence[M], indexes: Mapping[str, int], kind: int, flags: Callable[[M], int]
    ) -> list[tuple[M, str]]:
        """Have them all made, by messages of one kind; those that could not be, with the reason."""
        able: list[M] = []
        failed: list[tuple[M, str]] = []
        requests: list[Request] = []
        for each in wanted:
            try:
                requests.append(Request(kind, flags(each), each.message(indexes)))
                able.append(each)
            except KeyError as missing:
                failed.append((each, f"interface {missing} is gone"))
        for each, refusal in zip(able, self.ask(requests), strict=True):
            if refusal.errno not in (0, errno.EEXIST):
                failed.append((each, str(refusal)))
        return failed

    def _ask_at_once(self, requests: list[Request]) -> list[Refusal]:
        first = self._sequence + 1
        self._sequence += len(requests)
        message = b"".join(
            _HEADER.pack(_HEADER.size + len(body), kind, flags | NLM_F_REQUEST | NLM_F_ACK, number, 0)
            + body + bytes(-len(body) % 4)
            for number, (kind, flags, body) in enumerate(requests, first)
        )  # fmt: skip
        self._socket.send(message)
        refusals: dict[int, Refusal] = {}
        while len(refusals) < len(requests):
            for answer, flags, sequence, content in self._messages():
                if answer == _NLMSG_ERROR and first <= sequence <= self._sequence:
                    refusals[sequence] = _refusal(flags, content)
        return [refusals[number] for number in range(first, self._sequence + 1)]

    def _messages(self) -> Iterator[tuple[int, int, int, bytes]]:
        data = self._socket.recv(_RECEIVE_BYTES)
        at = 0
        while at + _HEADER.size <= len(data):
            length, kind, flags, sequence, _ = _HEADER.unpack_from(data, at)
            yield kind, flags, sequence, data[at + _HEADER.size : at + length]
            at += (length + 3) & ~3


def _refusal(flags: int, content: bytes) -> Refusal:
    number = -int(struct.unpack_from("=i", content)[0])
    reason = ""
    if flags & _NLM_F_ACK_TLVS and number:
        told = content[4 + _HEADER.size :] if flags & _NLM_F_CAPPED else content[4 + _inner_length(content) :]
        for kind, value in attributes(told):
            if kind == _NLMSGERR_ATTR_MSG:
                reason = value.rstrip(b"\0").decode(errors="replace")
    return Refusal(number, reason)


def _inner_length(content: bytes) -> int:
    length = int(struct.unpack_from("=I", content, 4)[0])
    return (length + 3) & ~3
