# SPDX-License-Identifier: Apache-2.0
"""Multicast groups that belong to a link: addresses set by hand, and groups that sockets have joined.

A socket remembers that it joined a group on an interface of some index; Linux forgets it with the interface. The TAP
has the NIC's index, so all that is missing is to join once more, and that is done through copies of the sockets
themselves (`pyvpp.linux.other_sockets`).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import ipaddress
import os
import socket
import struct
from pathlib import Path
from typing import NamedTuple

from pyvpp.linux import other_sockets

_SIOCADDMULTI = 0x8931
_MCAST_JOIN_GROUP, _MCAST_LEAVE_GROUP, _MCAST_MSFILTER = 42, 45, 48
_LEVELS = {4: socket.IPPROTO_IP, 6: socket.IPPROTO_IPV6}
_FILTER_BYTES, _MOST_SOURCES, _ADDRESS_BYTES = 144, 64, 128  # struct group_filter, struct sockaddr_storage
_DATAGRAMS = ("udp", "udp6", "raw", "raw6", "udplite", "udplite6")
_INODE_COLUMN = 9
_LINUX_OWN = {ipaddress.ip_address(own) for own in ("224.0.0.1", "ff01::1", "ff02::1", "ff01::2", "ff02::2", "ff05::2")}
_SOLICITED = ipaddress.ip_network("ff02::1:ff00:0/104")
_OWN_NET = Path("/proc/thread-self/net")

_libc = ctypes.CDLL(None, use_errno=True)


class Member(NamedTuple):
    """A copy of a socket that has joined a group, and its filter (struct group_filter)."""

    descriptor: int
    group: str
    filter: bytes


def read_static(name: str) -> tuple[str, ...]:
    """Link-layer addresses somebody set (`ip maddr add`)."""
    found = []
    for line in (_OWN_NET / "dev_mcast").read_text().splitlines():
        _, device, _, by_hand, address = line.split()
        if device == name and int(by_hand):
            found.append(bytes.fromhex(address).hex(":"))
    return tuple(found)


def apply_static(name: str, wanted: tuple[str, ...]) -> list[str]:
    """Set those that are missing; what Linux refused."""
    failures = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for address in sorted(set(wanted) - set(read_static(name))):
            try:
                hardware = bytes.fromhex(address.replace(":", ""))
                fcntl.ioctl(any_socket, _SIOCADDMULTI, struct.pack("16sH14s", name.encode(), 0, hardware) + bytes(8))
            except OSError as error:
                failures.append(f"multicast address {address}: {error.strerror}")
    return failures


def read_groups(name: str) -> tuple[str, ...]:
    """Groups of both families that sockets have joined on a link; those Linux joins itself are left out."""
    found: list[ipaddress.IPv4Address | ipaddress.IPv6Address] = []
    device = ""
    with contextlib.suppress(FileNotFoundError):
        for line in (_OWN_NET / "igmp").read_text().splitlines()[1:]:
            words = line.split()
            if not line.startswith("\t"):
                device = words[1].rstrip(":")
            elif device == name:  # the address as it lies in memory
                found.append(ipaddress.IPv4Address(struct.pack("=I", int(words[0], 16))))
    with contextlib.suppress(FileNotFoundError):
        for line in (_OWN_NET / "igmp6").read_text().splitlines():
            _, device, address, *_ = line.split()
            if device == name:
                found.append(ipaddress.IPv6Address(bytes.fromhex(address)))
    return tuple(str(group) for group in found if group not in _LINUX_OWN and group not in _SOLICITED)


def find_members(ifindex: int, groups: tuple[str, ...]) -> list[Member]:
    """Copies of the sockets in this network namespace that have joined one of the groups on that interface."""
    if not groups:
        return []
    members = []
    for _, copy in other_sockets.copies(_datagram_sockets()):
        for group in groups:
            if (found := _filter_of(copy, ifindex, group)) is not None:
                members.append(Member(os.dup(copy), group, found))
        os.close(copy)
    return members


def _datagram_sockets() -> set[str]:
    found: set[str] = set()
    for protocol in _DATAGRAMS:
        with contextlib.suppress(FileNotFoundError):
            lines = (_OWN_NET / protocol).read_text().splitlines()[1:]
            found.update(f"socket:[{line.split()[_INODE_COLUMN]}]" for line in lines)
    return found


def _sockaddr(group: str) -> bytes:
    address = ipaddress.ip_address(group)
    if address.version == 4:
        packed = struct.pack("=HH", socket.AF_INET, 0) + address.packed
    else:
        packed = struct.pack("=HHI", socket.AF_INET6, 0, 0) + address.packed
    return packed.ljust(_ADDRESS_BYTES, b"\0")


def _level(group: str) -> int:
    return _LEVELS[ipaddress.ip_address(group).version]


def _filter_of(descriptor: int, ifindex: int, group: str) -> bytes | None:
    """The filter with which a socket has joined a group, None if it has not."""
    size = _FILTER_BYTES + _MOST_SOURCES * _ADDRESS_BYTES
    asked = struct.pack("=I4x", ifindex) + _sockaddr(group) + struct.pack("=II", 0, _MOST_SOURCES)
    buffer = ctypes.create_string_buffer(asked.ljust(size, b"\0"), size)
    length = ctypes.c_uint32(size)
    if _libc.getsockopt(descriptor, _level(group), _MCAST_MSFILTER, buffer, ctypes.byref(length)):
        return None
    sources = min(struct.unpack_from("=I", buffer.raw, _FILTER_BYTES - 4)[0], _MOST_SOURCES)
    return buffer.raw[: _FILTER_BYTES + sources * _ADDRESS_BYTES]


def join_again(members: list[Member], old: int, new: int) -> list[str]:
    """Let sockets that joined on the interface that was `old` join on `new`, with the same filter; the failures."""
    failures = []
    for descriptor, group, told in members:
        level, address = _level(group), _sockaddr(group)
        with socket.socket(fileno=os.dup(descriptor)) as member:
            with contextlib.suppress(OSError):  # Linux may have forgotten it already
                member.setsockopt(level, _MCAST_LEAVE_GROUP, struct.pack("=I4x", old) + address)
            try:
                member.setsockopt(level, _MCAST_JOIN_GROUP, struct.pack("=I4x", new) + address)
                member.setsockopt(level, _MCAST_MSFILTER, struct.pack("=I4x", new) + told[8:])
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    failures.append(f"multicast group {group}: {error.strerror}")
    return failures


def close(members: list[Member]) -> None:
    """Close the copies, and forget them."""
    while members:
        os.close(members.pop().descriptor)


def unreached(groups: tuple[str, ...], members: list[Member]) -> list[str]:
    """Groups whose sockets were not found."""
    found = {member.group for member in members}
    return [f"multicast group {group}: who joined it was not found" for group in groups if group not in found]
