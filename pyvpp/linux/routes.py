# SPDX-License-Identifier: Apache-2.0
"""Routes and nexthop objects that use a link: read from all tables, and made again on the link that bears the name.

They name interfaces by name, because a TAP that stands in for a NIC may have another index; all else is netlink's own
bytes. Linux forgets a route that goes over several links when one of them leaves, and of a nexthop group the member.

A default route that Linux learned from a router's advertisement bears a mark, and netlink cannot give it. Without the
mark Linux cannot make its own beside it when the next advertisement comes, and ignores that: addresses would expire. So
those are made by the older ioctl, which takes marks; from then on they are told to be of the protocol `boot`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import ipaddress
import os
import socket
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from pyvpp.linux import rtnetlink
from pyvpp.linux.rtnetlink import Attributes, Netlink, Request

AF_INET, AF_INET6 = int(socket.AF_INET), int(socket.AF_INET6)
RTPROT_KERNEL = 2
RT_TABLE_MAIN, RT_TABLE_LOCAL, _RT_TABLE_COMPAT = 254, 255, 252
_RTM_F_CLONED = 0x200
_NEWROUTE, _DELROUTE, _GETROUTE, _NEWNEXTHOP, _GETNEXTHOP = 24, 25, 26, 104, 106
_KEPT_FLAGS = 0x6  # pervasive, onlink; dead and linkdown are the moment's
_ONLINK = 0x4
# linux/rtnetlink.h
_DST, _OIF, _GATEWAY, _PRIORITY, _PREFSRC, _MULTIPATH, _CACHEINFO, _TABLE = 1, 4, 5, 6, 7, 9, 12, 15
_VIA, _ENCAP_TYPE, _ENCAP, _EXPIRES, _NH_ID = 18, 21, 22, 23, 30
_SAID_BY_NEXTHOP = (_GATEWAY, _VIA, _ENCAP_TYPE, _ENCAP)
_METRICS, _PREF = 8, 20
# linux/route.h, linux/ipv6_route.h
_SIOCADDRT = 0x890B
_IN6_RTMSG = struct.Struct(
    "@16s16s16sIHHILIi"
)  # destination, source, gateway, type, lengths, metric, ticks, flags, interface
_RTF_UP, _RTF_GATEWAY, _RTF_EXPIRES, _RTF_PREF_SHIFT = 0x1, 0x2, 0x400000, 27
_ADVERTISED = 0x10000 | 0x40000  # RTF_DEFAULT, RTF_ADDRCONF
_RTPROT_RA = 9
# linux/nexthop.h
_NHA_ID, _NHA_GROUP, _NHA_OIF, _NHA_RES_GROUP = 1, 2, 5, 12
_NHA_TAKEN = (1, 2, 3, 4, 6, 7, 8, 11, 16)  # the others are told only: statistics, buckets, the moment's
_RES_UNBALANCED_TIME = 4
_NESTED = 0x8000
_ROUTE = struct.Struct("=8BI")  # family, destination and source length, tos, table, protocol, scope, type, flags
_HOP = struct.Struct("=HBBi")  # length, flags, weight - 1, interface
_NEXTHOP = struct.Struct("=4BI")  # family, scope, protocol, -, flags
_ROUNDS = 3  # a gateway may lie behind another route, whose gateway lies behind a third


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
        return _number(rtnetlink.value_of(self.attributes, _NH_ID))

    @property
    def on_link(self) -> bool:
        """Whether it needs no other route to find its gateway."""
        return not (self.gateway or self.multipath or self.nexthop_id or rtnetlink.value_of(self.attributes, _VIA))

    def key(self) -> bytes:
        """Equal for routes that Linux would show as equal, the ticking of a lifetime aside."""
        same = msgspec.structs.replace(self, attributes=rtnetlink.without(self.attributes, _EXPIRES))
        return msgspec.json.encode(same._plain(), order="deterministic")

    def message(self, indexes: Mapping[str, int]) -> bytes:
        """As Linux takes it. Raises KeyError: an interface is gone."""
        told = self._plain()
        body = _ROUTE.pack(
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


class Nexthop(msgspec.Struct, frozen=True):
    """A nexthop object (`ip nexthop`), a group of them if `members` are named."""

    id: int
    family: int
    protocol: int
    flags: int
    interface: str
    attributes: Attributes
    members: tuple[int, ...] = ()

    def __str__(self) -> str:
        return f"nexthop {self.id}"

    def key(self) -> bytes:
        """Equal for nexthops that are the same."""
        return msgspec.json.encode(self, order="deterministic")

    def message(self, indexes: Mapping[str, int]) -> bytes:
        """As Linux takes it. Raises KeyError: its interface is gone."""
        body = _NEXTHOP.pack(self.family, 0, self.protocol, 0, self.flags) + rtnetlink.encoded(self.attributes)
        if self.interface:
            body += rtnetlink.attribute(_NHA_OIF, struct.pack("=I", indexes[self.interface]))
        return body


def _number(value: bytes | None) -> int:
    return int.from_bytes(value, "little") if value else 0


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


def _decode(message: bytes, names: Mapping[int, str]) -> Route | None:
    """A route, or None for what Linux makes by itself: learned ones, and its own of the local table."""
    header, body = _ROUTE.unpack_from(message), message[_ROUTE.size :]
    family, destination_length, source_length, tos, table, protocol, scope, kind, flags = header
    attributes = rtnetlink.kept(body)
    table = _number(rtnetlink.value_of(attributes, _TABLE)) or table
    if flags & _RTM_F_CLONED or (table == RT_TABLE_LOCAL and protocol == RTPROT_KERNEL):
        return None
    interface = names.get(_number(rtnetlink.value_of(attributes, _OIF)), "")
    multipath = _hops(rtnetlink.value_of(attributes, _MULTIPATH) or b"", names)
    lifetime = rtnetlink.value_of(attributes, _CACHEINFO)
    attributes = rtnetlink.without(attributes, _OIF, _MULTIPATH, _CACHEINFO, _TABLE)
    if family == AF_INET6 and lifetime and (expires := struct.unpack_from("=i", lifetime, 8)[0]) > 0:
        seconds = max(1, expires // os.sysconf("SC_CLK_TCK"))
        attributes = (*attributes, (_EXPIRES, struct.pack("=I", seconds).hex()))
    return Route(
        family, destination_length, source_length, tos, table, protocol, scope, kind, flags & _KEPT_FLAGS, interface,
        attributes, multipath,
    )  # fmt: skip


def read_routes(names: Mapping[int, str], name: str, sources: frozenset[str] = frozenset()) -> tuple[Route, ...]:
    """Routes of all tables and both families that use a link, or have one of `sources` (IPv4) as their source address.

    `names` are the interfaces' by index. Linux' own entries in the local table are left out: they come and go with the
    addresses.
    """
    found: list[Route] = []
    routers = _advertised_routers()
    with Netlink() as netlink:
        for family in (AF_INET, AF_INET6):
            for message in netlink.dump(_GETROUTE, _ROUTE.pack(family, *[0] * 8)):
                route = _decode(message, names)
                if route is None:
                    continue
                if (route.destination, route.gateway, route.interface) in routers and not route.multipath:
                    left = rtnetlink.without(route.attributes, _METRICS)  # the next advertisement sets them again
                    route = msgspec.structs.replace(route, advertised=True, protocol=_RTPROT_RA, attributes=left)
                used = {route.interface, *(hop.interface for hop in route.multipath)}
                from_us = family == AF_INET and route.source in sources
                if name in used or (from_us and used != {""}):
                    found.append(route)
    return tuple(found)


def _advertised_routers() -> set[tuple[str, str, str]]:
    """Destination, gateway and interface of the default routes with Linux' mark for those from an advertisement."""
    found = set()
    with contextlib.suppress(FileNotFoundError):  # no IPv6
        for line in Path("/proc/thread-self/net/ipv6_route").read_text().splitlines():
            destination, length, _, _, gateway, _, _, _, flags, interface = line.split()
            if int(flags, 16) & _ADVERTISED == _ADVERTISED:
                prefix = f"{ipaddress.IPv6Address(bytes.fromhex(destination))}/{int(length, 16)}"
                found.add((prefix, str(ipaddress.IPv6Address(bytes.fromhex(gateway))), interface))
    return found


def _add_advertised(route: Route, indexes: Mapping[str, int]) -> str:
    """Makes one with the mark; what Linux said when it did not, else nothing."""
    preference = _number(rtnetlink.value_of(route.attributes, _PREF))
    seconds = _number(rtnetlink.value_of(route.attributes, _EXPIRES))
    flags = _RTF_UP | _RTF_GATEWAY | _ADVERTISED | preference << _RTF_PREF_SHIFT | (_RTF_EXPIRES if seconds else 0)
    metric = _number(rtnetlink.value_of(route.attributes, _PRIORITY))
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


def read_nexthops(names: Mapping[int, str], name: str) -> tuple[Nexthop, ...]:
    """Nexthop objects on a link, then the groups that have one of them; none where Linux has no such objects."""
    with Netlink() as netlink:
        messages = netlink.dump(_GETNEXTHOP, _NEXTHOP.pack(*[0] * 5))
    nexthops = [_decode_nexthop(message, names) for message in messages]
    own = [nexthop for nexthop in nexthops if nexthop.interface == name]
    ids = {nexthop.id for nexthop in own}
    return (*own, *(nexthop for nexthop in nexthops if ids & set(nexthop.members)))


def _decode_nexthop(message: bytes, names: Mapping[int, str]) -> Nexthop:
    family, _, protocol, _, flags = _NEXTHOP.unpack_from(message)
    attributes = rtnetlink.kept(message[_NEXTHOP.size :])
    interface = names.get(_number(rtnetlink.value_of(attributes, _NHA_OIF)), "")
    group = rtnetlink.value_of(attributes, _NHA_GROUP) or b""
    members = tuple(struct.unpack_from("=I", group, at)[0] for at in range(0, len(group), 8))
    identity = _number(rtnetlink.value_of(attributes, _NHA_ID))
    resilient = rtnetlink.value_of(attributes, _NHA_RES_GROUP)
    attributes = tuple((kind, value) for kind, value in attributes if kind & rtnetlink.TYPE_MASK in _NHA_TAKEN)
    if resilient is not None:  # how long it has been out of balance is the moment's
        lasting = b"".join(
            rtnetlink.attribute(kind, value)
            for kind, value in rtnetlink.attributes(resilient)
            if kind != _RES_UNBALANCED_TIME
        )
        attributes = (*attributes, (_NHA_RES_GROUP | _NESTED, lasting.hex()))
    return Nexthop(identity, family, protocol, flags & _ONLINK, interface, attributes, members)


def _attempt(
    netlink: Netlink, wanted: Sequence[Nexthop | Route], indexes: Mapping[str, int], kind: int
) -> list[tuple[Nexthop | Route, str]]:
    """Make them all; those that could not be made, with the reason."""
    able: list[Nexthop | Route] = []
    failed: list[tuple[Nexthop | Route, str]] = []
    requests: list[Request] = []
    for each in wanted:
        try:
            requests.append(Request(kind, _make_flags(each), each.message(indexes)))
            able.append(each)
        except KeyError as missing:
            failed.append((each, f"interface {missing} is gone"))
    for each, refusal in zip(able, netlink.ask(requests), strict=True):
        if refusal.errno not in (0, errno.EEXIST):
            failed.append((each, str(refusal)))
    return failed


def _make_flags(each: Nexthop | Route) -> int:
    if isinstance(each, Nexthop) or (each.family == AF_INET6 and each.multipath):
        return rtnetlink.NLM_F_CREATE | rtnetlink.NLM_F_REPLACE
    return rtnetlink.NLM_F_CREATE | rtnetlink.NLM_F_APPEND


def apply_nexthops(names: Mapping[int, str], name: str, nexthops: tuple[Nexthop, ...]) -> list[str]:
    """Make the nexthop objects that are missing or have lost a member; returns those that could not be made."""
    if not nexthops:
        return []
    present = {nexthop.key() for nexthop in read_nexthops(names, name)}
    missing = [nexthop for nexthop in nexthops if nexthop.key() not in present]
    with Netlink() as netlink:
        failed = _attempt(netlink, missing, {name: index for index, name in names.items()}, _NEWNEXTHOP)
    return [f"{nexthop}: {reason}" for nexthop, reason in failed if isinstance(nexthop, Nexthop)]


def apply_routes(names: Mapping[int, str], name: str, routes: tuple[Route, ...], sources: frozenset[str]) -> list[str]:
    """Make the routes that are missing and take away what Linux added by itself for an address but was not there.

    Returns the routes that could not be made, with the reason: one that Linux no longer takes (its other interface is
    gone) must not keep the rest away.
    """
    wanted = {route.key() for route in routes}
    indexes = {name: index for index, name in names.items()}
    present: set[bytes] = set()
    surplus: list[Request] = []
    for route in read_routes(names, name, sources):
        key = route.key()
        present.add(key)
        if key not in wanted and route.protocol == RTPROT_KERNEL:
            surplus.append(Request(_DELROUTE, 0, route.message(indexes)))
    # On-link routes first, so that gateways can be resolved; more rounds for a gateway that lies behind another route.
    missing = sorted(
        (route for route in routes if route.key() not in present),
        key=lambda route: (not route.on_link, -route.destination_length),
    )
    failures: list[str] = []
    with Netlink() as netlink:
        for refusal in netlink.ask(surplus):
            if refusal.errno not in (0, errno.ESRCH):
                failures.append(f"a route that was not there: {refusal}")
        for route in missing:
            if route.advertised and (reason := _add_advertised(route, indexes)):
                failures.append(f"{route.destination}: {reason}")
        missing = [route for route in missing if not route.advertised]
        for _ in range(_ROUNDS):
            failed = _attempt(netlink, missing, indexes, _NEWROUTE)
            missing = [route for route, _ in failed if isinstance(route, Route)]
            if not missing:
                return failures
    return failures + [f"{route.destination}: {reason}" for route, reason in failed if isinstance(route, Route)]
