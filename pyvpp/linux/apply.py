# SPDX-License-Identifier: Apache-2.0
"""Give a link (the TAP, or the NIC that came back) the state that was captured.

Every step compares first and changes only what differs, so that applying twice is the same as applying once.
"""

from __future__ import annotations

import errno
import struct
import time
from pathlib import Path
from typing import Any

from pyroute2.netlink import NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_REPLACE, NLM_F_REQUEST
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.rtnl import RTM_DELROUTE, RTM_NEWADDR, RTM_NEWNEIGH, RTM_NEWROUTE
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ndmsg import ndmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from pyvpp.linux import capture
from pyvpp.linux.capture import AF_INET6, Address, Neighbor, Route, UplinkState

_ASK = NLM_F_REQUEST | NLM_F_ACK
_ADD = _ASK | NLM_F_CREATE
_EUI64_OFF = 1  # IN6_ADDR_GEN_MODE_NONE: Linux makes no link-local address by itself
# What Linux sets by itself; all other flags of an address are the operator's.
_KERNEL_ADDRESS_FLAGS = (
    capture.IFA_F_SECONDARY
    | capture.IFA_F_TENTATIVE
    | capture.IFA_F_PERMANENT
    | capture.IFA_F_DADFAILED
    | capture.IFA_F_DEPRECATED
)
# Held back until the addresses stand: duplicate address detection would keep them unusable for a second.
_LATE_SYSCTLS = {
    "ipv6/conf/accept_dad": "0",
    "ipv6/conf/dad_transmits": "0",
    "ipv6/conf/router_solicitation_delay": "0",
}
_NOT_SYSCTLS = {"ipv6/conf/addr_gen_mode", "ipv6/conf/stable_secret", "ipv6/conf/mtu"}


def _request(ip: Any, message: Any, kind: int, flags: int) -> None:
    """Send one netlink request and wait for the kernel's answer."""
    ip.status["nlm_generator"] = False  # pyroute2 0.9 looks it up without having set it
    ip.nlm_request(message, kind, flags)


def _netlink(value: Any) -> Any:
    """The reverse of `capture.plain`: nested attributes as pyroute2 takes them."""
    if isinstance(value, dict):
        return {
            key: [(n, _netlink(v)) for n, v in item] if key == "attrs" else _netlink(item)
            for key, item in value.items()
        }
    return value


def write_sysctls(name: str, wanted: dict[str, str]) -> None:
    """Write the sysctls of a link that differ from what is wanted."""
    for key, value in wanted.items():
        if key in _NOT_SYSCTLS:
            continue
        family, _, leaf = key.rpartition("/")
        path = Path("/proc/sys/net", family, name, leaf)
        try:
            if path.read_text().strip() != value:
                path.write_text(value)
        except OSError:
            continue  # read-only in this kernel, or gone with the protocol


def _write_stable_secret(name: str, state: UplinkState) -> None:
    if secret := state.sysctls.get("ipv6/conf/stable_secret"):
        path = Path("/proc/sys/net/ipv6/conf", name, "stable_secret")
        try:
            if not path.exists() or path.read_text().strip() != secret:
                path.write_text(secret)
        except OSError:
            path.write_text(secret)


def _set_ip6_link(ip: Any, ifindex: int, attribute: str, value: Any) -> None:
    try:
        ip.link("set", index=ifindex, IFLA_AF_SPEC={"attrs": [("AF_INET6", {"attrs": [(attribute, value)]})]})
    except NetlinkError as error:
        if error.code not in (errno.EAFNOSUPPORT, errno.EINVAL, errno.ENODEV, errno.EOPNOTSUPP):
            raise


def prepare_link(ip: Any, ifindex: int, name: str, state: UplinkState, *, with_mac: bool) -> None:
    """Everything about the link itself that can be set while it is down; `name` is its present name."""
    _write_stable_secret(name, state)
    if state.address_generation is not None:
        _set_ip6_link(ip, ifindex, "IFLA_INET6_ADDR_GEN_MODE", _EUI64_OFF)
    write_sysctls(
        name, {**state.sysctls, **{key: value for key, value in _LATE_SYSCTLS.items() if key in state.sysctls}}
    )
    link = ip.get_links(ifindex)[0]
    changes: dict[str, Any] = {}
    if with_mac and link.get_attr("IFLA_ADDRESS") != state.mac:
        changes["address"] = state.mac
    for attribute, value in (("IFLA_MTU", state.mtu), ("IFLA_TXQLEN", state.txqueuelen), ("IFLA_GROUP", state.group)):
        if link.get_attr(attribute) != value:
            changes[attribute] = value
    if (link.get_attr("IFLA_IFALIAS") or "") != state.alias:
        changes["IFLA_IFALIAS"] = state.alias
    if changes:
        ip.link("set", index=ifindex, **changes)


def _set_altnames(ip: Any, ifindex: int, state: UplinkState) -> None:
    properties = ip.get_links(ifindex)[0].get_attr("IFLA_PROP_LIST")
    present = set(properties.altnames()) if properties else set()
    if missing := [altname for altname in state.altnames if altname not in present]:
        ip.link("property_add", index=ifindex, altname=missing)


def bring_up(ip: Any, ifindex: int, state: UplinkState, *, wait: float) -> None:
    """Set the link's flags, bring it up, and wait a moment for its carrier if it had one."""
    flags = (state.flags & capture.KEPT_LINK_FLAGS) | capture.IFF_UP
    ip.link("set", index=ifindex, flags=flags, change=capture.KEPT_LINK_FLAGS | capture.IFF_UP)
    deadline = time.monotonic() + (wait if state.carrier else 0)
    while time.monotonic() < deadline:
        link = ip.get_links(ifindex)[0]
        if link.get_attr("IFLA_OPERSTATE") in ("UP", "UNKNOWN") and link.get_attr("IFLA_QDISC") != "noop":
            break
        time.sleep(0.002)
    if state.carrier and ip.get_links(ifindex)[0].get_attr("IFLA_OPERSTATE") == "UNKNOWN":
        ip.link("set", index=ifindex, IFLA_OPERSTATE="UP")  # a TAP never says it by itself


def _wait_until_usable(ip: Any, ifindex: int, state: UplinkState, *, wait: float) -> None:
    """Wait a moment until no address is tentative: a link whose carrier Linux learns late makes them usable only then.

    Were duplicate address detection switched on again before, it would keep them unusable for a second after all.
    """
    deadline = time.monotonic() + (wait if state.carrier else 0)
    while time.monotonic() < deadline:
        flags = [address.flags for address in capture.read_addresses(ip, ifindex)]
        if not any(flag & capture.IFA_F_TENTATIVE and not flag & capture.IFA_F_DADFAILED for flag in flags):
            return
        time.sleep(0.002)


def _address_key(address: Address) -> tuple[Any, ...]:
    return address.family, address.address, address.prefix_length, str(address.attributes.get("IFA_ADDRESS"))


def _address_message(address: Address, ifindex: int) -> Any:
    message = ifaddrmsg()
    message["family"], message["prefixlen"] = address.family, address.prefix_length
    message["scope"], message["index"] = address.scope, ifindex
    flags = address.flags & ~_KERNEL_ADDRESS_FLAGS
    message["flags"] = flags & 0xFF
    message["attrs"] = [*address.attributes.items(), ("IFA_FLAGS", flags)]
    return message


def apply_addresses(ip: Any, ifindex: int, state: UplinkState) -> None:
    """Add the addresses that are missing, in their order; take away link-local ones that Linux made meanwhile."""
    wanted = {_address_key(address) for address in state.addresses}
    present = set()
    for address in capture.read_addresses(ip, ifindex):
        if _address_key(address) in wanted:
            present.add(_address_key(address))
        elif address.is_link_local:
            ip.addr("del", index=ifindex, address=address.address, prefixlen=address.prefix_length)
    for address in state.addresses:
        if _address_key(address) not in present:
            try:
                _request(ip, _address_message(address, ifindex), RTM_NEWADDR, _ADD)
            except NetlinkError as error:
                # IPv6 switched off on the link, or an automatic address that Linux was faster with
                if error.code != errno.EEXIST and not (
                    address.family == AF_INET6 and error.code in (errno.EACCES, errno.EPERM)
                ):
                    raise


def _route_message(route: Route, indexes: dict[str, int]) -> Any:
    message = rtmsg()
    message["family"], message["tos"], message["type"] = route.family, route.tos, route.type
    message["dst_len"], message["src_len"] = route.destination_length, route.source_length
    message["table"] = route.table if route.table < 256 else 252  # RT_TABLE_COMPAT: the attribute says it
    message["proto"], message["scope"], message["flags"] = route.protocol, route.scope, route.flags
    attributes: list[tuple[str, Any]] = [("RTA_TABLE", route.table)]
    for name, value in route.attributes.items():
        attributes.append((name, struct.pack("=I", value) if name == "RTA_EXPIRES" else _netlink(value)))
    if route.interface:
        attributes.append(("RTA_OIF", indexes[route.interface]))
    if route.multipath:
        hops = [
            {
                "oif": indexes[hop.interface],
                "hops": hop.weight,
                "flags": hop.flags,
                "attrs": [(n, _netlink(v)) for n, v in hop.attributes.items()],
            }
            for hop in route.multipath
        ]
        attributes.append(("RTA_MULTIPATH", hops))
    message["attrs"] = attributes
    return message


def _add_route(ip: Any, route: Route, indexes: dict[str, int]) -> None:
    flags = NLM_F_REPLACE if route.family == AF_INET6 and route.multipath else NLM_F_APPEND
    try:
        _request(ip, _route_message(route, indexes), RTM_NEWROUTE, _ADD | flags)
    except NetlinkError as error:
        if error.code != errno.EEXIST:
            raise


def apply_routes(ip: Any, state: UplinkState) -> list[str]:
    """Add the routes that are missing and take away what Linux added by itself for an address but was not there.

    Returns the routes that could not be added, with the reason: one that Linux no longer takes (its other interface is
    gone) must not keep the rest away.
    """
    wanted = {route.key() for route in state.routes}
    sources = frozenset(address.address for address in state.addresses)
    indexes = {name: index for index, name in capture.interface_names(ip).items()}
    present = set()
    for route in capture.read_routes(ip, state.name, sources):
        key = route.key()
        present.add(key)
        if key not in wanted and route.protocol == capture.RTPROT_KERNEL:
            try:
                _request(ip, _route_message(route, indexes), RTM_DELROUTE, _ASK)
            except NetlinkError as error:
                if error.code != errno.ESRCH:
                    raise
    # On-link routes first, so that gateways can be resolved; more rounds for a gateway that lies behind another route.
    left = sorted(
        (route for route in state.routes if route.key() not in present),
        key=lambda route: (
            bool(route.gateway or route.multipath or "RTA_VIA" in route.attributes),
            -route.destination_length,
        ),
    )
    failures: list[str] = []
    for _ in range(3):
        again, failures = [], []
        for route in left:
            try:
                _add_route(ip, route, indexes)
            except KeyError as missing:
                failures.append(f"{route.destination}: interface {missing} is gone")
            except NetlinkError as error:
                again.append(route)
                failures.append(f"{route.destination}: {error}")
        if not again:
            break
        left = again
    return failures


def apply_neighbors(ip: Any, ifindex: int, neighbors: tuple[Neighbor, ...]) -> None:
    """Add the permanent neighbors."""
    for neighbor in neighbors:
        message = ndmsg()
        message["family"], message["ifindex"] = neighbor.family, ifindex
        message["state"], message["flags"] = neighbor.state, neighbor.flags
        message["attrs"] = list(neighbor.attributes.items())
        _request(ip, message, RTM_NEWNEIGH, _ADD | NLM_F_REPLACE)


def apply_state(ip: Any, ifindex: int, state: UplinkState, *, wait: float) -> list[str]:
    """Bring a prepared link that bears its final name up, with addresses, routes and neighbors.

    Returns what could not be done.
    """
    _set_altnames(ip, ifindex, state)
    bring_up(ip, ifindex, state, wait=wait)
    apply_addresses(ip, ifindex, state)
    failures = apply_routes(ip, state)
    apply_neighbors(ip, ifindex, state.neighbors)
    _wait_until_usable(ip, ifindex, state, wait=wait)
    if state.address_generation is not None:
        _set_ip6_link(ip, ifindex, "IFLA_INET6_ADDR_GEN_MODE", state.address_generation)
    if state.token:
        _set_ip6_link(ip, ifindex, "IFLA_INET6_TOKEN", state.token)
    write_sysctls(state.name, state.sysctls)
    return failures
