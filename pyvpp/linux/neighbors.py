# SPDX-License-Identifier: Apache-2.0
"""Neighbors of a link, and those it is a proxy for; they go with it.

Those Linux has learned are kept as well, as ones that it has to look after soon: without them the first packets to each
would wait for ARP, whose first request may be lost while the link comes up, and the next is a second away.
"""

from __future__ import annotations

import ipaddress
import struct

import msgspec

from pyvpp.linux import rtnetlink
from pyvpp.linux.route import AF_INET, AF_INET6
from pyvpp.linux.rtnetlink import Attributes, Netlink, Request

_NEWNEIGH, _DELNEIGH, _GETNEIGH = 28, 29, 30
_MESSAGE = struct.Struct("=BBHiHBB")  # family, -, -, interface, state, flags, type
_NUD_PERMANENT, _NUD_STALE = 0x80, 0x04
_NUD_UNANSWERED = 0x01 | 0x20  # incomplete, failed
_NUD_LEARNED = 0x02 | _NUD_STALE | 0x08 | 0x10  # reachable, stale, delay, probe
_NTF_PROXY, _NTF_OFFLOADED = 0x08, 0x20
_NTF_STICKY = 0x40
_NDA_DST = 1
_KEPT = (_NDA_DST, 2, 12, 15)  # NDA_LLADDR, NDA_PROTOCOL, NDA_FLAGS_EXT
_MULTICAST = 5  # rtm_type: Linux makes these for groups


class Neighbor(msgspec.Struct, frozen=True):
    """A neighbor or a proxy's entry."""

    family: int
    state: int
    flags: int
    attributes: Attributes

    @property
    def learned(self) -> bool:
        """Whether Linux asked for it, and nobody set it."""
        return bool(self.state & _NUD_LEARNED)

    def __str__(self) -> str:
        address = ipaddress.ip_address(rtnetlink.value_of(self.attributes, _NDA_DST) or bytes(4))
        return f"proxy {address}" if self.flags & _NTF_PROXY else str(address)


def read_neighbors(ifindex: int) -> tuple[Neighbor, ...]:
    """Those of a link, of both families."""
    found: list[Neighbor] = []
    with Netlink() as netlink:
        for proxies in (0, _NTF_PROXY):
            for family in (AF_INET, AF_INET6):
                for message in netlink.dump(_GETNEIGH, _MESSAGE.pack(family, 0, 0, 0, 0, proxies, 0)):
                    told, _, _, index, state, flags, kind = _MESSAGE.unpack_from(message)
                    known = state & (_NUD_PERMANENT | _NUD_LEARNED) or flags & _NTF_PROXY
                    if index != ifindex or kind == _MULTICAST or not known:
                        continue
                    if state & _NUD_LEARNED:
                        state = _NUD_STALE
                    attributes = rtnetlink.kept(message[_MESSAGE.size :])
                    kept = tuple((key, value) for key, value in attributes if key in _KEPT)
                    found.append(Neighbor(told, state, flags & ~(_NTF_OFFLOADED | _NTF_STICKY), kept))
    return tuple(found)


def forget_unanswered(ifindex: int) -> None:
    """Forgets those of a link that Linux has asked for in vain until now.

    What it asks in the moment in which a link comes up is often lost, since the other end has not noticed yet, and it
    asks again a second later; forgotten, it asks with the next packet.
    """
    with Netlink() as netlink:
        found = [
            message[: _MESSAGE.size] + rtnetlink.encoded(((_NDA_DST, destination.hex()),))
            for family in (AF_INET, AF_INET6)
            for message in netlink.dump(_GETNEIGH, _MESSAGE.pack(family, 0, 0, 0, 0, 0, 0))
            if _MESSAGE.unpack_from(message)[3] == ifindex and _MESSAGE.unpack_from(message)[4] & _NUD_UNANSWERED
            for kind, destination in rtnetlink.attributes(message[_MESSAGE.size :])
            if kind == _NDA_DST
        ]
        netlink.ask([Request(_DELNEIGH, 0, body) for body in found])


def requests(ifindex: int, neighbors: tuple[Neighbor, ...]) -> list[Request]:
    """What makes them, or sets them if they are there."""
    flags = rtnetlink.NLM_F_CREATE | rtnetlink.NLM_F_REPLACE
    return [
        Request(
            _NEWNEIGH,
            flags,
            _MESSAGE.pack(each.family, 0, 0, ifindex, each.state, each.flags, 0) + rtnetlink.encoded(each.attributes),
        )
        for each in neighbors
    ]


def apply_neighbors(ifindex: int, neighbors: tuple[Neighbor, ...]) -> list[str]:
    """Add them; what Linux refused."""
    with Netlink() as netlink:
        asked = netlink.ask(requests(ifindex, neighbors))
        return [f"neighbor: {refusal}" for refusal in asked if refusal.errno]
