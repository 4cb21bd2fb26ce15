# SPDX-License-Identifier: Apache-2.0
"""A route as Linux tells it and takes it.

Interfaces are named, because a TAP that stands in for a NIC may have another index; all else is netlink's own bytes.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import struct
from collections.abc import Mapping

import msgspec

from pyvpp.linux import rtnetlink
from pyvpp.linux.rtnetlink import Attributes

AF_INET, AF_INET6 = int(socket.AF_INET), int(socket.AF_INET6)
RTPROT_KERNEL, RTPROT_RA = 2, 9
RT_TABLE_MAIN, RT_TABLE_LOCAL, _RT_TABLE_COMPAT = 254, 255, 252
_RTM_F_CLONED = 0x200
_KEPT_FLAGS = 0x6  # pervasive, onlink; dead and linkdown are the moment's
# linux/rtnetlink.h
_DST, _OIF, _GATEWAY, PRIORITY, _PREFSRC, METRICS, _MULTIPATH, _CACHEINFO, _TABLE = 1, 4, 5, 6, 7, 8, 9, 12, 15
_VIA, PREF, _ENCAP_TYPE, _ENCAP, EXPIRES, _NH_ID = 18, 20, 21, 22, 23, 30
_SAID_BY_NEXTHOP = (_GATEWAY, _VIA, _ENCAP_TYPE, _ENCAP)
HEADER = struct.Struct("=8BI")  # family, destination and source length, tos, table, protocol, scope, type, flags
_HOP = struct.Struct("=HBBi")  # length, flags, weight - 1, interface


class Hop(msgspec.Struct, frozen=True):
    """One way of a multipath route."""

    interface: str
    weight: int
    flags: int
    attributes: Attributes


class Route(msgspec.Struct, frozen=True):
    """A route with all its attributes; next hops name their interfaces."""

    family: int
    destination_length: int
    source_length: int
    tos: int
    table: int
    protocol: int
    scope: int
    type: int
    flags: int
    interface: str
    attributes: Attributes
    multipath: tuple[Hop, ...] = ()
    advertised: bool = False  # a default route that Linux learned from a router's advertisement

    def __str__(self) -> str:
        words = [self.destination]
        words += [f"via {self.gateway}"] if self.gateway else []
        words += [f"nexthop {self.nexthop_id}"] if self.nexthop_id else []
        words += [f"over {len(self.multipath)} ways"] if self.multipath else []
        words += [f"table {self.table}"] if self.table != RT_TABLE_MAIN else []
        return " ".join(words)

    @property
    def destination(self) -> str:
        """The prefix, `0.0.0.0/0` or `::/0` for a default route."""
        return f"{self._address(_DST) or ('0.0.0.0' if self.family == AF_INET else '::')}/{self.destination_length}"

    @property
    def gateway(self) -> str:
        """The next hop's address, empty when the destination is on the link (or the route is multipath)."""
        return self._address(_GATEWAY)

    @property
    def source(self) -> str:
        """The source address it prefers, empty without one."""
        return self._address(_PREFSRC)

    @property
    def nexthop_id(self) -> int:
        """The nexthop object it goes by, 0 without one."""
        return rtnetlink.number(rtnetlink.value_of(self.attributes, _NH_ID))

    @property
    def on_link(self) -> bool:
        """Whether it needs no other route to find its gateway."""
        return not (self.gateway or self.multipath or self.nexthop_id or rtnetlink.value_of(self.attributes, _VIA))

    def key(self) -> bytes:
        """Equal for routes that Linux would show as equal, the ticking of a lifetime aside."""
        same = msgspec.structs.replace(self, attributes=rtnetlink.without(self.attributes, EXPIRES))
        return msgspec.json.encode(same._plain(), order="deterministic")

    def message(self, indexes: Mapping[str, int]) -> bytes:
        """As Linux takes it. Raises KeyError: an interface is gone."""
        told = self._plain()
        body = HEADER.pack(
            told.family, told.destination_length, told.source_length, told.tos,
            told.table if told.table < 256 else _RT_TABLE_COMPAT, told.protocol, told.scope, told.type, told.flags,
        ) + rtnetlink.attribute(_TABLE, struct.pack("=I", told.table)) + rtnetlink.encoded(told.attributes)  # fmt: skip
        if told.interface:
            body += rtnetlink.attribute(_OIF, struct.pack("=I", indexes[told.interface]))
        if told.multipath:
            hops = b"".join(_hop_message(hop, indexes[hop.interface]) for hop in told.multipath)
            body += rtnetlink.attribute(_MULTIPATH, hops)
        return body

    def _plain(self) -> Route:
        """Without what its nexthop object says: Linux tells that too, and refuses to be told."""
        if not self.nexthop_id:
            return self
        left = rtnetlink.without(self.attributes, *_SAID_BY_NEXTHOP)
        return msgspec.structs.replace(self, interface="", multipath=(), attributes=left, flags=0)

    def _address(self, kind: int) -> str:
        value = rtnetlink.value_of(self.attributes, kind)
        return str(ipaddress.ip_address(value)) if value else ""


def _hop_message(hop: Hop, ifindex: int) -> bytes:
    body = rtnetlink.encoded(hop.attributes)
    return _HOP.pack(_HOP.size + len(body), hop.flags, hop.weight, ifindex) + body


def _hops(data: bytes, names: Mapping[int, str]) -> tuple[Hop, ...]:
    found, at = [], 0
    while at + _HOP.size <= len(data):
        length, flags, weight, ifindex = _HOP.unpack_from(data, at)
        if length < _HOP.size:
            break
        attributes = rtnetlink.kept(data[at + _HOP.size : at + length])
        found.append(Hop(names.get(ifindex, ""), weight, flags & _KEPT_FLAGS, attributes))
        at += (length + 3) & ~3
    return tuple(found)


def decode(message: bytes, names: Mapping[int, str]) -> Route | None:
    """A route, or None for what Linux makes by itself: learned ones, and its own of the local table."""
    header, body = HEADER.unpack_from(message), message[HEADER.size :]
    family, destination_length, source_length, tos, table, protocol, scope, kind, flags = header
    attributes = rtnetlink.kept(body)
    table = rtnetlink.number(rtnetlink.value_of(attributes, _TABLE)) or table
    if flags & _RTM_F_CLONED or (table == RT_TABLE_LOCAL and protocol == RTPROT_KERNEL):
        return None
    interface = names.get(rtnetlink.number(rtnetlink.value_of(attributes, _OIF)), "")
    multipath = _hops(rtnetlink.value_of(attributes, _MULTIPATH) or b"", names)
    lifetime = rtnetlink.value_of(attributes, _CACHEINFO)
    attributes = rtnetlink.without(attributes, _OIF, _MULTIPATH, _CACHEINFO, _TABLE)
    if family == AF_INET6 and lifetime and (expires := struct.unpack_from("=i", lifetime, 8)[0]) > 0:
        seconds = max(1, expires // os.sysconf("SC_CLK_TCK"))
        attributes = (*attributes, (EXPIRES, struct.pack("=I", seconds).hex()))
    return Route(
        family, destination_length, source_length, tos, table, protocol, scope, kind, flags & _KEPT_FLAGS, interface,
        attributes, multipath,
    )  # fmt: skip
