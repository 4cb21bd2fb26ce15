# SPDX-License-Identifier: Apache-2.0
"""What the host changes on the TAPs that stand in for its NICs is what the NICs get: seen at once, kept in the journal.

A TAP dies with pyvpp, and what was set on it dies with it. So the journal is kept up to date while pyvpp runs: a lease
that was renewed, an address added by hand and a route taken away survive whatever ends it.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from pyvpp.linux import capture, multicast, other_sockets, rtnetlink
from pyvpp.linux.capture import UplinkState
from pyvpp.linux.journal import Entry, Journal
from pyvpp.linux.neighbors import read_neighbors
from pyvpp.linux.nexthops import read_nexthops
from pyvpp.linux.routes import read_routes

_GROUPS = 0x1 | 0x10 | 0x40 | 0x100 | 0x400  # links, addresses and routes of both families (linux/rtnetlink.h)
_SOL_NETLINK, _ADD_MEMBERSHIP, _NEXTHOP_GROUP = 270, 1, 32
_LINKS, _ADDRESSES, _ROUTES, _NEXTHOPS = (16, 17), (20, 21), (24, 25), (104, 105)
_ROUTE_HEADER, _OIF, _MULTIPATH, _NH_ID = 12, 4, 9, 30
_GETLINK, _ADDRESS, _LINK_BELOW, _LINKINFO, _INFO_KIND = 18, 1, 5, 18, 1
_LINK = struct.Struct("=BxHiII")  # family, type, interface, flags, which of them: struct ifinfomsg
_RECEIVE_BYTES = 1 << 16


class Changes:
    """Hears of changes in the caller's network namespace. Raises OSError."""

    def __init__(self) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
        )
        self._socket.bind((0, _GROUPS))
        with contextlib.suppress(OSError):  # before 5.3 there are no nexthop objects
            self._socket.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, _NEXTHOP_GROUP)

    def fileno(self) -> int:
        return self._socket.fileno()

    def concern(self, ifindexes: set[int]) -> bool:
        """Whether any of what was heard since this was asked last may be about these links."""
        found = False
        while True:
            try:
                data = self._socket.recv(_RECEIVE_BYTES)
            except BlockingIOError:
                return found
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                found = True  # more was said than there was room for
                continue
            found = found or any(_concerns(kind, body, ifindexes) for kind, body in _messages(data))

    def close(self) -> None:
        self._socket.close()


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 16 <= len(data):
        length, kind = struct.unpack_from("=IH", data, at)
        yield kind, data[at + 16 : at + length]
        at += max(16, (length + 3) & ~3)


def _concerns(kind: int, body: bytes, ifindexes: set[int]) -> bool:
    if kind in _ADDRESSES:
        return struct.unpack_from("=I", body, 4)[0] in ifindexes
    if kind in _LINKS:
        below = dict(rtnetlink.attributes(body[_LINK.size :])).get(_LINK_BELOW)
        return not ifindexes.isdisjoint((struct.unpack_from("=I", body, 4)[0], rtnetlink.number(below)))
    if kind in _ROUTES:
        found = dict(rtnetlink.attributes(body[_ROUTE_HEADER:]))
        return rtnetlink.number(found.get(_OIF)) in ifindexes or _MULTIPATH in found or _NH_ID in found
    return kind in _NEXTHOPS


def find_tap(ip: Any, entry: Entry) -> Any | None:
    """The TAP that stands in for a NIC, if it is still there, whatever its name is by now."""
    for link in ip.get_links(entry.tap_ifindex) if entry.tap_ifindex and _is_there(entry.tap_ifindex) else ():
        if kind_of(link) == "tun":
            return link
    link = capture.find_link(ip, entry.uplink.name)
    # If both are of one kind their indexes differ.
    return link if link is not None and kind_of(link) == "tun" and entry.uplink.kind != "tun" else None


def _is_there(ifindex: int) -> bool:
    with contextlib.suppress(OSError):
        return bool(socket.if_indextoname(ifindex))
    return False


def kind_of(link: Any) -> str:
    """Linux' kind of a virtual link, empty for others."""
    info = link.get_attr("IFLA_LINKINFO")
    return str(info.get_attr("IFLA_INFO_KIND") or "") if info is not None else ""


def is_plugged_in(state: UplinkState) -> bool:
    """Whether a NIC that was pulled is here, under whatever name: one with its MAC address, of its kind."""
    wanted = bytes.fromhex(state.mac.replace(":", ""))
    with rtnetlink.Netlink() as netlink:
        for message in netlink.dump(_GETLINK, _LINK.pack(0, 0, 0, 0, 0)):
            found = dict(rtnetlink.attributes(message[_LINK.size :]))
            kind = dict(rtnetlink.attributes(found.get(_LINKINFO, b""))).get(_INFO_KIND, b"")
            if found.get(_ADDRESS) == wanted and kind.rstrip(b"\0").decode() == state.kind:
                return True
    return False


def as_changed(ip: Any, entry: Entry, tap: Any | None) -> UplinkState:
    """The NIC's state with what the host changed on the TAP meanwhile."""
    state = entry.uplink
    if tap is None or not entry.taken or not tap["flags"] & capture.IFF_UP:
        return state
    ifindex, name = int(tap["index"]), str(tap.get_attr("IFLA_IFNAME"))
    names = {**capture.interface_names(ip), ifindex: state.name}
    addresses = tuple(_labelled(each, name, state.name) for each in capture.read_addresses(ip, ifindex))
    return msgspec.structs.replace(
        state,
        mtu=int(tap.get_attr("IFLA_MTU")),
        addresses=addresses,
        nexthops=read_nexthops(names, state.name),
        routes=read_routes(names, state.name, frozenset(address.address for address in addresses)),
        neighbors=read_neighbors(ifindex),
        groups=multicast.read_groups(name),
        vlans=capture.read_vlans(ip, ifindex),
        packet_sockets=tuple(other_sockets.packet_sockets(ifindex)),
    )


def _labelled(address: capture.Address, name: str, wanted: str) -> capture.Address:
    """Labels follow when Linux renames a link; this one is renamed back."""
    label = str(address.attributes.get("IFA_LABEL", ""))
    if name == wanted or label.partition(":")[0] != name:
        return address
    return msgspec.structs.replace(
        address, attributes={**address.attributes, "IFA_LABEL": wanted + label.removeprefix(name)}
    )


def note_changes(runtime_dir: str | Path, learned: bool = False) -> list[tuple[UplinkState, UplinkState]]:
    """Puts into the journal what changed on the TAPs since it was written: each uplink's state before and now.

    Groups alone are no reason to write, nor are packet sockets and neighbors that Linux has learned unless `learned`.
    Raises OperatorError when the journal cannot be written, OSError when Linux does not tell.
    """
    journal = Journal(runtime_dir)
    record = journal.look()
    if record is None:
        return []
    changes = []
    try:
        with IPRoute() as ip:
            for entry in record.entries:
                before, now = entry.uplink, as_changed(ip, entry, find_tap(ip, entry))
                if _settled(now, learned) != _settled(before, learned):
                    entry.uplink = now
                    changes.append((before, now))
    except NetlinkError as error:
        raise OSError(error.code, str(error)) from error
    if changes:
        journal.write(record)
    return changes


def _settled(state: UplinkState, learned: bool) -> UplinkState:
    """Without what changes by itself all the time."""
    kept = tuple(neighbor for neighbor in state.neighbors if learned or not neighbor.learned)
    return msgspec.structs.replace(
        state, neighbors=kept, groups=(), packet_sockets=state.packet_sockets if learned else ()
    )
