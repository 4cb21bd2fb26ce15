# SPDX-License-Identifier: Apache-2.0
"""Nexthop objects (`ip nexthop`) on a link and groups of them: read, and made again on the link that bears the name.

Linux forgets of a group the member whose link leaves.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Mapping

import msgspec

from pyvpp.linux import rtnetlink
from pyvpp.linux.rtnetlink import Attributes, Netlink, Request

_NEWNEXTHOP, _GETNEXTHOP = 104, 106
_ONLINK = 0x4
# linux/nexthop.h
_NHA_ID, _NHA_GROUP, _NHA_OIF, _NHA_RES_GROUP = 1, 2, 5, 12
_NHA_TAKEN = (1, 2, 3, 4, 6, 7, 8, 11, 16)  # the others are told only: statistics, buckets, the moment's
_RES_UNBALANCED_TIME = 4
_NESTED = 0x8000
_NEXTHOP = struct.Struct("=4BI")  # family, scope, protocol, -, flags


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


def read_nexthops(names: Mapping[int, str], name: str) -> tuple[Nexthop, ...]:
    """Nexthop objects on a link, then the groups that have one of them; none where Linux has no such objects."""
    with Netlink() as netlink:
        messages = netlink.dump(_GETNEXTHOP, _NEXTHOP.pack(*[0] * 5))
    nexthops = [_decode(message, names) for message in messages]
    own = [nexthop for nexthop in nexthops if nexthop.interface == name]
    ids = {nexthop.id for nexthop in own}
    return (*own, *(nexthop for nexthop in nexthops if ids & set(nexthop.members)))


def _decode(message: bytes, names: Mapping[int, str]) -> Nexthop:
    family, _, protocol, _, flags = _NEXTHOP.unpack_from(message)
    attributes = rtnetlink.kept(message[_NEXTHOP.size :])
    interface = names.get(rtnetlink.number(rtnetlink.value_of(attributes, _NHA_OIF)), "")
    group = rtnetlink.value_of(attributes, _NHA_GROUP) or b""
    members = tuple(struct.unpack_from("=I", group, at)[0] for at in range(0, len(group), 8))
    identity = rtnetlink.number(rtnetlink.value_of(attributes, _NHA_ID))
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


def apply_nexthops(names: Mapping[int, str], name: str, nexthops: tuple[Nexthop, ...]) -> list[str]:
    """Make the nexthop objects that are missing or have lost a member; returns those that could not be made."""
    if not nexthops:
        return []
    present = {nexthop.key() for nexthop in read_nexthops(names, name)}
    missing = [nexthop for nexthop in nexthops if nexthop.key() not in present]
    with Netlink() as netlink:
        failed = netlink.make(missing, {name: index for index, name in names.items()}, _NEWNEXTHOP, _make_flags)
    return [f"{nexthop}: {reason}" for nexthop, reason in failed]


def requests(wanted: tuple[Nexthop, ...], indexes: Mapping[str, int]) -> list[Request]:
    """What makes those whose interfaces are there."""
    found = []
    for each in wanted:
        with contextlib.suppress(KeyError):
            found.append(Request(_NEWNEXTHOP, _make_flags(each), each.message(indexes)))
    return found


def _make_flags(_: Nexthop) -> int:
    return rtnetlink.NLM_F_CREATE | rtnetlink.NLM_F_REPLACE
