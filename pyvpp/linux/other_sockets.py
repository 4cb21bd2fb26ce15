# SPDX-License-Identifier: Apache-2.0
"""Sockets of other processes that a link's leaving would cut off: copies of them, and packet sockets bound to the link.

pidfd_getfd(2) gives a copy of another process's descriptor. A process that cannot be reached (no CAP_SYS_PTRACE, or
another pid namespace) has to look after itself, as it has to when the cable of a USB adapter is pulled.

Linux unbinds the packet sockets of a link that leaves, with the error ENETDOWN, and a DHCP client that survives that
hears no more of its server. `bind_again` binds them to the link that bears the name now.
"""

from __future__ import annotations

import ctypes
import os
import socket
from collections.abc import Container, Iterator
from pathlib import Path
from typing import NamedTuple

from pyvpp.linux import netns

_PIDFD_GETFD = 438  # the same on every architecture
_PROTOCOL_COLUMN, _INDEX_COLUMN, _INODE_COLUMN = 3, 4, 8  # of /proc/net/packet

_GONE = -1  # the index of a link that was there once

_libc = ctypes.CDLL(None, use_errno=True)


class PacketSocket(NamedTuple):
    """A copy of a packet socket, and its protocol as bind(2) takes it, in host order."""

    descriptor: int
    protocol: int


def copies(targets: set[str]) -> Iterator[tuple[str, int]]:
    """Copies of the sockets (`socket:[inode]`) that processes of this network namespace have, to be closed."""
    mine = netns.identity()
    seen: set[str] = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if netns.identity(process / "ns/net") != mine:
                continue
            links = [(link.name, os.readlink(link)) for link in (process / "fd").iterdir()]
        except OSError:
            continue  # it ended meanwhile
        wanted = [(int(number), target) for number, target in links if target in targets and target not in seen]
        seen.update(target for _, target in wanted)
        if wanted:
            yield from _copies_of(int(process.name), wanted)


def _copies_of(pid: int, wanted: list[tuple[int, str]]) -> Iterator[tuple[str, int]]:
    try:
        process = os.pidfd_open(pid)
    except OSError:
        return
    try:
        for number, target in wanted:
            if (copy := int(_libc.syscall(_PIDFD_GETFD, process, number, 0))) >= 0:
                yield target, copy
    finally:
        os.close(process)


def packet_sockets(ifindex: int, orphans: Container[str] = ()) -> dict[str, int]:
    """Protocols of the packet sockets that are bound to a link, by `socket:[inode]`.

    Those of a link that went away are bound to none; of these `orphans` are meant as well.
    """
    rows = [line.split() for line in Path("/proc/thread-self/net/packet").read_text().splitlines()[1:]]
    return {
        f"socket:[{row[_INODE_COLUMN]}]": int(row[_PROTOCOL_COLUMN], 16)
        for row in rows
        if int(row[_INDEX_COLUMN]) == ifindex
        or (int(row[_INDEX_COLUMN]) == _GONE and f"socket:[{row[_INODE_COLUMN]}]" in orphans)
    }


def find_packet_sockets(ifindex: int, orphans: Container[str] = ()) -> list[PacketSocket]:
    """Copies of those of other processes; to be closed by `close`."""
    protocols = packet_sockets(ifindex, orphans)
    return [PacketSocket(copy, protocols[target]) for target, copy in copies(set(protocols))] if protocols else []


def bind_again(found: list[PacketSocket], name: str) -> list[str]:
    """Binds them to the link that bears the name, which is up; the failures."""
    failures = []
    for descriptor, protocol in found:
        with socket.socket(fileno=os.dup(descriptor)) as copy:
            try:
                copy.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)  # takes ENETDOWN, if the owner has not met it yet
                copy.bind((name, protocol))
            except OSError as error:
                failures.append(f"a packet socket could not be bound again: {error.strerror}")
    return failures


def close(found: list[PacketSocket]) -> None:
    """Close the copies, and forget them."""
    while found:
        os.close(found.pop().descriptor)
