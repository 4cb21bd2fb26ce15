# SPDX-License-Identifier: Apache-2.0
"""An interface of Linux asked by ioctl(2): state, MTU, MAC address, driver, number of queues."""

from __future__ import annotations

import contextlib
import fcntl
import socket
import struct

from pyvpp.linux import ethtool

_SIOCGIFNAME, _SIOCGIFFLAGS, _SIOCGIFMTU, _SIOCGIFHWADDR, _SIOCGIFINDEX = 0x8910, 0x8913, 0x8921, 0x8927, 0x8933
_SIOCSIFMTU, _SIOCSIFHWADDR = 0x8922, 0x8924
_ARPHRD_ETHER = 1
_ETHTOOL_GDRVINFO, _ETHTOOL_GCHANNELS = 0x03, 0x3C
_SOL_PACKET, _ADD_MEMBERSHIP, _ALL_MULTICAST = 263, 1, 2
_IFF_UP, _IFF_RUNNING = 0x1, 0x40


class LinuxInterface:
    """An interface of Linux as ioctl(2) shows it, in the namespace this was made in; follows a rename."""

    def __init__(self, name: str) -> None:
        """Raises OSError when there is none of the name."""
        self._member: socket.socket | None = None
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        try:
            request = struct.pack("16s24x", name.encode())
            self.ifindex = int(struct.unpack_from("i", fcntl.ioctl(self._socket, _SIOCGIFINDEX, request), 16)[0])
        except OSError:
            self._socket.close()
            raise

    def _name(self) -> str:
        """Its name by now."""
        answer = fcntl.ioctl(self._socket, _SIOCGIFNAME, struct.pack("16xi20x", self.ifindex))
        return answer[:16].split(b"\0", 1)[0].decode()

    def _ask(self, request: int) -> bytes:
        return fcntl.ioctl(self._socket, request, struct.pack("16s24x", self._name().encode()))[16:]

    def _ethtool(self, command: int, length: int) -> bytes:
        return ethtool.exchange(self._socket, self._name(), struct.pack("I", command).ljust(length, b"\0"))

    def mac(self) -> bytes:
        return self._ask(_SIOCGIFHWADDR)[2:8]

    def set_mac(self, mac: bytes) -> None:
        """Raises OSError."""
        self._set(_SIOCSIFHWADDR, struct.pack("H6s16x", _ARPHRD_ETHER, mac))

    def set_mtu(self, mtu: int) -> None:
        """Raises OSError."""
        self._set(_SIOCSIFMTU, struct.pack("i20x", mtu))

    def _set(self, request: int, value: bytes) -> None:
        fcntl.ioctl(self._socket, request, struct.pack("16s", self._name().encode()) + value)

    def mtu(self) -> int:
        return int(struct.unpack_from("i", self._ask(_SIOCGIFMTU))[0])

    def up(self) -> bool:
        """Up and with a carrier."""
        flags = int(struct.unpack_from("H", self._ask(_SIOCGIFFLAGS))[0])
        return flags & (_IFF_UP | _IFF_RUNNING) == _IFF_UP | _IFF_RUNNING

    def driver(self) -> str:
        """The driver's name, empty when it does not say."""
        with contextlib.suppress(OSError):
            return self._ethtool(_ETHTOOL_GDRVINFO, 196)[4:36].split(b"\0", 1)[0].decode()
        return ""

    def rx_queues(self) -> int:
        """Receive queues in use (struct ethtool_channels)."""
        with contextlib.suppress(OSError):
            rx, _, _, combined = struct.unpack_from("4I", self._ethtool(_ETHTOOL_GCHANNELS, 36), 20)
            return max(1, int(rx + combined))
        return 1

    def accept_all_multicast(self) -> None:
        """As long as this is open, the NIC takes every group's packets. Raises OSError."""
        self._member = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        request = struct.pack("iHH8x", self.ifindex, _ALL_MULTICAST, 0)
        self._member.setsockopt(_SOL_PACKET, _ADD_MEMBERSHIP, request)

    def close(self) -> None:
        self._socket.close()
        if self._member:
            self._member.close()
