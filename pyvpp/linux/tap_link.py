# SPDX-License-Identifier: Apache-2.0
"""What a TAP or TUN needs of netlink, in the caller's network namespace."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Interface
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

_SCOPE_LINK = 253


@contextlib.contextmanager
def _opened() -> Iterator[Any]:
    """A netlink socket, on which Linux's refusals are OSErrors."""
    with IPRoute() as netlink:
        try:
            yield netlink
        except NetlinkError as error:
            raise OSError(error.code, os.strerror(error.code)) from error


def set_link(
    name: str, *, mac: bytes | None = None, mtu: int | None = None, up: bool | None = None, queue: int | None = None
) -> None:
    """Sets what is given, the address before the interface goes up; `queue` in packets. Raises OSError."""
    changes: dict[str, Any] = {}
    if queue is not None:
        changes["txqlen"] = queue
    if mac is not None:
        changes["address"] = mac.hex(":")
    if mtu is not None:
        changes["mtu"] = mtu
    with _opened() as netlink:
        index = _index(netlink, name)
        if changes:
            netlink.link("set", index=index, **changes)
        if up is not None:
            netlink.link("set", index=index, state="up" if up else "down")


def move(name: str, namespace: int) -> None:
    """Moves an interface to another network namespace, a file descriptor. Raises OSError: EEXIST when it has one."""
    with _opened() as netlink:
        netlink.link("set", index=_index(netlink, name), net_ns_fd=namespace)


def remove(name: str) -> None:
    """Takes an interface away. Raises OSError."""
    with _opened() as netlink:
        netlink.link("del", index=_index(netlink, name))


def add_pod_address(name: str, address: IPv4Address) -> None:
    """A pod's address is a host route; its default route names the interface alone: a TUN has no neighbours.

    Raises OSError: EEXIST when there is a default route.
    """
    with _opened() as netlink:
        index = _index(netlink, name)
        netlink.addr("add", index=index, address=str(address), prefixlen=32)
        netlink.route("add", family=socket.AF_INET, dst="0.0.0.0/0", oif=index, scope=_SCOPE_LINK)


def add_address(name: str, address: IPv4Interface) -> None:
    """An address with its prefix. Raises OSError."""
    with _opened() as netlink:
        netlink.addr("add", index=_index(netlink, name), address=str(address.ip), prefixlen=address.network.prefixlen)


def mac(name: str) -> bytes:
    with IPRoute() as netlink:
        link = netlink.get_links(_index(netlink, name))[0]
        return bytes.fromhex(str(link.get_attr("IFLA_ADDRESS") or "").replace(":", ""))


def mtu(name: str) -> int:
    with IPRoute() as netlink:
        return int(netlink.get_links(_index(netlink, name))[0].get_attr("IFLA_MTU"))


def _index(netlink: Any, name: str) -> int:
    found = netlink.link_lookup(ifname=name)
    if not found:
        raise FileNotFoundError(errno.ENOENT, f"no interface {name}")
    return int(found[0])
