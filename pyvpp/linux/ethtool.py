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


def _ask(name: str, command: int, value: int) -> int:
    """One struct ethtool_value there and back."""
    room = ctypes.create_string_buffer(struct.pack("II", command, value))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCETHTOOL, struct.pack("16sQ16x", name.encode(), ctypes.addressof(room)))
    return int(struct.unpack("II", room.raw[:8])[1])
