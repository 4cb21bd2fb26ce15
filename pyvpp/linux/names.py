# SPDX-License-Identifier: Apache-2.0
"""The interface that an operator means: by its name, its MAC address or its PCI address."""

from __future__ import annotations

import re
from typing import Any

from pyroute2 import IPRoute

from pyvpp.errors import OperatorError
from pyvpp.linux import ethtool

_MAC = re.compile(r"([0-9a-f]{2}[:-]){5}[0-9a-f]{2}", re.IGNORECASE)
_PCI = re.compile(r"(?:([0-9a-f]{4}):)?([0-9a-f]{2}:[0-9a-f]{2}\.[0-7])", re.IGNORECASE)
_ETHERNET = 1
_PAIRS = ("veth", "netkit")  # kinds whose link index names a peer, not a device below


def interface_name(meant: str) -> str:
    """The name of the interface; what is neither MAC nor PCI address is taken for a name, there or not.

    Of several interfaces with one MAC address the one that is no part of, and not built on, another is meant. Raises
    OperatorError when there is none, or more than one.
    """
    if _MAC.fullmatch(meant):
        what, wanted = "MAC address", meant.lower().replace("-", ":")
        known = _ethernet()
        found = [name for name, mac in known.items() if mac == wanted]
    elif pci := _PCI.fullmatch(meant):
        what, wanted = "PCI address", f"{pci[1] or '0000'}:{pci[2]}".lower()
        known = {name: ethtool.bus_address(name) for name in _ethernet()}
        found = [name for name, address in known.items() if address == wanted]
    else:
        return meant
    if len(found) == 1:
        return found[0]
    if found:
        raise OperatorError(f"uplink {meant}: {what} of {', '.join(found)}; name one of them")
    there = ", ".join(f"{name} ({address})" for name, address in known.items() if address)
    raise OperatorError(f"uplink {meant}: no interface has this {what}; there are: {there or 'none'}")


def interface_names_of(meant: list[str]) -> list[str]:
    """Of several, which have to be different ones, and none a VLAN of another. Raises OperatorError."""
    names = [interface_name(each) for each in meant]
    if len(set(names)) != len(names):
        raise OperatorError("--uplink: the same interface is named twice")
    if len(names) > 1:
        _check_apart(names)
    return names


def _check_apart(names: list[str]) -> None:
    """A VLAN goes with the interface it is on: to take it over by itself leaves that one to Linux."""
    with IPRoute() as ip:
        links = {int(link["index"]): link for link in ip.get_links()}
    named = {str(link.get_attr("IFLA_IFNAME")): link for link in links.values()}
    for name in names:
        link = named.get(name)
        below = links.get(link.get_attr("IFLA_LINK") or 0) if link is not None and _is_part_of_another(link) else None
        if below is not None and (lower := str(below.get_attr("IFLA_IFNAME"))) in names:
            raise OperatorError(
                f"--uplink: {name} is built on {lower}; name {lower}, whose VLANs go with it, or {name} alone"
            )


def _ethernet() -> dict[str, str]:
    """MAC addresses of the interfaces that can be uplinks, by name."""
    with IPRoute() as ip:
        links = [link for link in ip.get_links() if link["ifi_type"] == _ETHERNET and not _is_part_of_another(link)]
    return {str(link.get_attr("IFLA_IFNAME")): str(link.get_attr("IFLA_ADDRESS")) for link in links}


def _is_part_of_another(link: Any) -> bool:
    """A member of a bond or bridge, or a VLAN and the like on another interface of this namespace."""
    info = link.get_attr("IFLA_LINKINFO")
    kind = info.get_attr("IFLA_INFO_KIND") if info else None
    below = link.get_attr("IFLA_LINK") if kind not in _PAIRS and link.get_attr("IFLA_LINK_NETNSID") is None else None
    return link.get_attr("IFLA_MASTER") is not None or below is not None
