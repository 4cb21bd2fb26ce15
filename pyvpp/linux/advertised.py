# SPDX-License-Identifier: Apache-2.0
"""Default routes that Linux learned from a router's advertisement.

They bear a mark, and netlink cannot give it. Without the mark Linux cannot make its own beside it when the next
advertisement comes, and ignores that: addresses would expire. So those are made by the older ioctl, which takes marks;
from then on they are told to be of the protocol `boot`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import ipaddress
import os
import socket
import struct
from collections.abc import Mapping
from pathlib import Path

from pyvpp.linux import rtnetlink
from pyvpp.linux.route import EXPIRES, PREF, PRIORITY, Route

# linux/route.h, linux/ipv6_route.h
_SIOCADDRT = 0x890B
_IN6_RTMSG = struct.Struct(
    "@16s16s16sIHHILIi"
)  # destination, source, gateway, type, lengths, metric, ticks, flags, interface
_RTF_UP, _RTF_GATEWAY, _RTF_EXPIRES, _RTF_PREF_SHIFT = 0x1, 0x2, 0x400000, 27
_ADVERTISED = 0x10000 | 0x40000  # RTF_DEFAULT, RTF_ADDRCONF


def advertised_routers() -> set[tuple[str, str, str]]:
    """Destination, gateway and interface of the default routes with Linux' mark for those from an advertisement."""
    found = set()
    with contextlib.suppress(FileNotFoundError):  # no IPv6
        for line in Path("/proc/thread-self/net/ipv6_route").read_text().splitlines():
            destination, length, _, _, gateway, _, _, _, flags, interface = line.split()
            if int(flags, 16) & _ADVERTISED == _ADVERTISED:
                prefix = f"{ipaddress.IPv6Address(bytes.fromhex(destination))}/{int(length, 16)}"
                found.add((prefix, str(ipaddress.IPv6Address(bytes.fromhex(gateway))), interface))
    return found


def add_advertised(route: Route, indexes: Mapping[str, int]) -> str:
    """Makes one with the mark; what Linux said when it did not, else nothing."""
    preference = rtnetlink.number(rtnetlink.value_of(route.attributes, PREF))
    seconds = rtnetlink.number(rtnetlink.value_of(route.attributes, EXPIRES))
    flags = _RTF_UP | _RTF_GATEWAY | _ADVERTISED | preference << _RTF_PREF_SHIFT | (_RTF_EXPIRES if seconds else 0)
    metric = rtnetlink.number(rtnetlink.value_of(route.attributes, PRIORITY))
    gateway = ipaddress.IPv6Address(route.gateway).packed
    ticks = seconds * os.sysconf("SC_CLK_TCK")
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as any_socket:
        try:
            message = _IN6_RTMSG.pack(
                bytes(16), bytes(16), gateway, 0, 0, 0, metric, ticks, flags, indexes[route.interface]
            )
            fcntl.ioctl(any_socket, _SIOCADDRT, message)
        except KeyError as missing:
            return f"interface {missing} is gone"
        except OSError as error:
            return "" if error.errno == errno.EEXIST else str(error)
    return ""
