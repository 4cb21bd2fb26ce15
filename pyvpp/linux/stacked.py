# SPDX-License-Identifier: Apache-2.0
"""VLAN devices that are built on a link: found, made and removed.

Made from what Linux told of one (IFLA_INFO_DATA: VLAN id, protocol, flags, maps of priorities), whatever a newer kernel
adds to that.
"""

from __future__ import annotations

import errno
import socket
import struct
from typing import TYPE_CHECKING, NamedTuple

from pyvpp.linux import rtnetlink
from pyvpp.linux.rtnetlink import NLM_F_CREATE, NLM_F_EXCL, Netlink, Request

if TYPE_CHECKING:
    from pyvpp.linux.capture import Vlan

KIND = "vlan"
_RTM_NEWLINK, _RTM_DELLINK, _RTM_GETLINK = 16, 17, 18
_MESSAGE = struct.Struct("=BxHiII")  # struct ifinfomsg: family, type, interface, flags, which of them
_ADDRESS, _NAME, _MTU, _LINK, _INFO, _LINK_NETNS = 1, 3, 4, 5, 18, 37  # IFLA_*
_INFO_KIND, _INFO_DATA = 1, 2
_ID, _PROTOCOL = 1, 5  # IFLA_VLAN_*


class Device(NamedTuple):
    """A device on another, and what Linux tells of its kind."""

    ifindex: int
    kind: str
    data: bytes


def built_on(ifindex: int) -> list[Device]:
    """The VLANs on a link, in the order of their indexes."""
    with Netlink() as netlink:
        messages = netlink.dump(_RTM_GETLINK, _MESSAGE.pack(0, 0, 0, 0, 0))
    return sorted(device for message in messages if (device := vlan_on(message, ifindex)))


def vlan_on(message: bytes, ifindex: int) -> Device | None:
    """What a RTM_NEWLINK message tells, if it is of a VLAN on that link of the same namespace."""
    found = dict(rtnetlink.attributes(message[_MESSAGE.size :]))
    info = dict(rtnetlink.attributes(found.get(_INFO, b"")))
    kind = info.get(_INFO_KIND, b"").rstrip(b"\0").decode()
    if kind != KIND or _LINK_NETNS in found or rtnetlink.number(found.get(_LINK)) != ifindex:
        return None
    return Device(_MESSAGE.unpack_from(message)[2], kind, info.get(_INFO_DATA, b""))


def vlan_id(data: bytes) -> int:
    """The VLAN's id, from what Linux tells of it."""
    return rtnetlink.number(dict(rtnetlink.attributes(data)).get(_ID))


def tpid(data: bytes) -> int:
    """Its protocol: 0x8100 (802.1Q, where nothing is said) or 0x88a8 (802.1ad)."""
    return int.from_bytes(dict(rtnetlink.attributes(data)).get(_PROTOCOL, b"\x81\x00"), "big")


def creation(vlan: Vlan, below: int, ifindex: int) -> Request:
    """The request that makes a VLAN on the link `below`, with an index or, for 0, one that Linux chooses."""
    state = vlan.state
    info = rtnetlink.attribute(_INFO_KIND, vlan.kind.encode()) + rtnetlink.attribute(
        _INFO_DATA, bytes.fromhex(vlan.data)
    )
    body = (
        _MESSAGE.pack(0, 0, ifindex, 0, 0)
        + rtnetlink.attribute(_NAME, state.name.encode() + b"\0")
        + rtnetlink.attribute(_LINK, struct.pack("=I", below))
        + rtnetlink.attribute(_ADDRESS, bytes.fromhex(state.mac.replace(":", "")))
        + rtnetlink.attribute(_MTU, struct.pack("=I", state.mtu))
        + rtnetlink.attribute(_INFO, info)
    )
    return Request(_RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body)


def make(vlan: Vlan, below: int) -> int:
    """Makes a VLAN on a link unless it is there; its index, the same as before if that is free. Raises OSError."""
    for device in built_on(below):
        if device.kind == vlan.kind and device.data == bytes.fromhex(vlan.data):
            return device.ifindex
    with Netlink() as netlink:
        for wanted in (vlan.state.ifindex, 0):
            (refusal,) = netlink.ask([creation(vlan, below, wanted)])
            if refusal.errno not in (errno.EEXIST, errno.EBUSY):
                break
    if refusal.errno:
        raise OSError(refusal.errno, f"VLAN {vlan.state.name}: {refusal}")
    return socket.if_nametoindex(vlan.state.name)


def remove(ifindex: int) -> None:
    """Removes a device; fine when it is gone. Raises OSError."""
    with Netlink() as netlink:
        (refusal,) = netlink.ask([Request(_RTM_DELLINK, 0, _MESSAGE.pack(0, 0, ifindex, 0, 0))])
    if refusal.errno not in (0, errno.ENODEV):
        raise OSError(refusal.errno, f"device {ifindex}: {refusal}")
