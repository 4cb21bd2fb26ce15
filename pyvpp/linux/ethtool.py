# SPDX-License-Identifier: Apache-2.0
"""Offloads of a Linux interface, switched by the ioctl that ethtool uses (linux/ethtool.h, SIOCETHTOOL).

They belong to the device, not to a namespace: one that moves takes them along, changed as they are.
"""

import ctypes
import fcntl
import socket
import struct
from enum import Enum

_SIOCETHTOOL = 0x8946
_GDRVINFO, _GSTRINGS, _GSSET_INFO, _GFEATURES = 0x03, 0x1B, 0x37, 0x3A
_SS_FEATURES = 4
_STRING_BYTES = 32
TX_CHECKSUM_ANYWHERE = "tx-checksum-ip-generic"
"""The feature of a device that finishes checksums wherever they are, NETIF_F_HW_CSUM."""


class Offload(Enum):
    """An offload by its pair of ethtool commands: read and write."""

    RX_CHECKSUM = 0x14, 0x15
    TX_CHECKSUM = 0x16, 0x17
    SCATTER_GATHER = 0x18, 0x19
    TSO = 0x1E, 0x1F
    GSO = 0x23, 0x24
    GRO = 0x2B, 0x2C


def read(name: str, offload: Offload) -> bool:
    """Whether an interface of the caller's namespace has the offload on. Raises OSError when its driver cannot say."""
    return bool(_ask(name, offload.value[0], 0))


def switch(name: str, offload: Offload, on: bool) -> None:
    """Raises OSError when the driver does not let itself be told."""
    _ask(name, offload.value[1], int(on))


def bus_address(name: str) -> str:
    """Where the device is on its bus, the PCI address for instance; empty when its driver does not say."""
    try:
        return _exchange(name, struct.pack("I", _GDRVINFO).ljust(196, b"\0"))[100:132].split(b"\0", 1)[0].decode()
    except OSError:
        return ""


def active_features(name: str) -> set[str]:
    """The features that are on, by the names of `ethtool -k`. Raises OSError when there is no such interface."""
    info = _exchange(name, struct.pack("IIQI", _GSSET_INFO, 0, 1 << _SS_FEATURES, 0))
    (count,) = struct.unpack_from("I", info, 16)
    strings = _exchange(name, struct.pack("III", _GSTRINGS, _SS_FEATURES, count) + bytes(count * _STRING_BYTES))
    words = -(-count // 32)
    answer = _exchange(name, struct.pack("II", _GFEATURES, words) + bytes(16 * words))
    active = [struct.unpack_from("I", answer, 8 + 16 * k + 8)[0] for k in range(words)]  # the third word of each block
    names = [strings[12 + k * _STRING_BYTES :][:_STRING_BYTES].split(b"\0")[0].decode() for k in range(count)]
    return {each for k, each in enumerate(names) if active[k // 32] >> k % 32 & 1}


def _ask(name: str, command: int, value: int) -> int:
    """One struct ethtool_value there and back."""
    return int(struct.unpack_from("II", _exchange(name, struct.pack("II", command, value)))[1])


def _exchange(name: str, request: bytes) -> bytes:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        return exchange(any_socket, name, request)


def exchange(opened: socket.socket, name: str, request: bytes) -> bytes:
    """A request as the driver of an interface in the socket's namespace left it. Raises OSError."""
    room = ctypes.create_string_buffer(request, len(request))
    fcntl.ioctl(opened, _SIOCETHTOOL, struct.pack("16sQ16x", name.encode(), ctypes.addressof(room)))
    return room.raw
