# SPDX-License-Identifier: Apache-2.0
"""Give a link (the TAP, or the NIC that came back) the state that was captured.

Every step compares first and changes only what differs, so that applying twice is the same as applying once.
"""

from __future__ import annotations

import contextlib
import errno
import time
from pathlib import Path
from typing import Any

from pyroute2.netlink import NLM_F_ACK, NLM_F_CREATE, NLM_F_REQUEST
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.rtnl import RTM_NEWADDR
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg

from pyvpp.linux import capture, multicast, nexthops, routes
from pyvpp.linux.capture import Address, UplinkState
from pyvpp.linux.discipline import apply_disciplines
from pyvpp.linux.neighbors import apply_neighbors
from pyvpp.linux.plan import Part
from pyvpp.linux.route import AF_INET6

_ASK = NLM_F_REQUEST | NLM_F_ACK
_ADD = _ASK | NLM_F_CREATE
EUI64_OFF = 1  # IN6_ADDR_GEN_MODE_NONE: Linux makes no link-local address by itself
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
    "ipv6/conf/use_tempaddr": "0",  # a temporary address that was there is added by itself, no second one is made
}
_FLAG_NAMES = {capture.IFF_PROMISC: "promisc", capture.IFF_ALLMULTI: "allmulticast", capture.IFF_NOARP: "noarp"}
_NOT_SYSCTLS = {"ipv6/conf/addr_gen_mode", "ipv6/conf/stable_secret", "ipv6/conf/mtu"}


def _request(ip: Any, message: Any, kind: int, flags: int) -> None:
    """Send one netlink request and wait for the kernel's answer."""
    ip.status["nlm_generator"] = False  # pyroute2 0.9 looks it up without having set it
    ip.nlm_request(message, kind, flags)


def write_sysctls(name: str, wanted: dict[str, str]) -> dict[str, str]:
    """Write the sysctls of a link that differ from what is wanted; returns those."""
    different: dict[str, str] = {}
    for key, value in wanted.items():
        if key in _NOT_SYSCTLS:
            continue
        family, _, leaf = key.rpartition("/")
        path = Path("/proc/sys/net", family, name, leaf)
        try:
            if path.read_text().strip() != value:
                different[key] = value
                path.write_text(value)
        except OSError:
            continue  # read-only in this kernel, or gone with the protocol
    return different


def unlike_default(state: UplinkState) -> dict[str, str]:
    """The sysctls in which a prepared link differs from one that has just come into this namespace."""
    different: dict[str, str] = {}
    for key, value in _while_preparing(state).items():
        family, _, leaf = key.rpartition("/")
        with contextlib.suppress(OSError):
            if Path("/proc/sys/net", family, "default", leaf).read_text().strip() != value:
                different[key] = value
    return different


def _while_preparing(state: UplinkState) -> dict[str, str]:
    return {**state.sysctls, **{key: value for key, value in _LATE_SYSCTLS.items() if key in state.sysctls}}


def write_stable_secret(name: str, state: UplinkState) -> None:
    """From which Linux makes a link-local address when the link comes up. Raises OSError."""
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


def _link_attributes(state: UplinkState, with_mac: bool) -> tuple[tuple[str, str, str | int], ...]:
    return (
        *((("MAC", "IFLA_ADDRESS", state.mac),) if with_mac else ()),
        ("MTU", "IFLA_MTU", state.mtu),
        ("queue length", "IFLA_TXQLEN", state.txqueuelen),
        ("group", "IFLA_GROUP", state.group),
        ("alias", "IFLA_IFALIAS", state.alias),
    )


def prepare_link(
    ip: Any, ifindex: int, name: str, state: UplinkState, *, with_mac: bool, sysctls: dict[str, str] | None = None
) -> dict[str, str]:
    """Everything about the link itself that can be set while it is down; `name` is its present name.

    Returns the sysctls that were not as wanted. To read them all takes 4 ms: `sysctls` may say which ones they are, as
    found on a link of the same kind or by `unlike_default`.
    """
    write_stable_secret(name, state)
    if state.address_generation is not None:
        _set_ip6_link(ip, ifindex, "IFLA_INET6_ADDR_GEN_MODE", EUI64_OFF)
    if sysctls is None:
        sysctls = _while_preparing(state)
    different = write_sysctls(name, sysctls)
    link = ip.get_links(ifindex)[0]
    changes: dict[str, Any] = {}
    for _, attribute, value in _link_attributes(state, with_mac):
        if (link.get_attr(attribute) or type(value)()) != value:
            changes[attribute] = value
    if changes:
        ip.link("set", index=ifindex, **changes)
    return different


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


def address_message(address: Address, ifindex: int) -> Any:
    """The message that adds an address, pyroute2's."""
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
                _request(ip, address_message(address, ifindex), RTM_NEWADDR, _ADD)
            except NetlinkError as error:
                # IPv6 switched off on the link, or an automatic address that Linux was faster with
                if error.code != errno.EEXIST and not (
                    address.family == AF_INET6 and error.code in (errno.EACCES, errno.EPERM)
                ):
                    raise


def apply_routes(ip: Any, state: UplinkState) -> list[str]:
    """Nexthop objects and routes; those that could not be made, with the reason."""
    names = capture.interface_names(ip)
    failures = nexthops.apply_nexthops(names, state.name, state.nexthops)
    return failures + routes.apply_routes(names, state.name, state.routes, state.sources)


def _finish(ip: Any, ifindex: int, state: UplinkState) -> None:
    """What was held back, or cannot be set while the link is down."""
    if state.address_generation is not None:
        _set_ip6_link(ip, ifindex, "IFLA_INET6_ADDR_GEN_MODE", state.address_generation)
    if state.token:
        _set_ip6_link(ip, ifindex, "IFLA_INET6_TOKEN", state.token)
    write_sysctls(state.name, state.sysctls)


def link_parts(state: UplinkState, *, with_mac: bool) -> tuple[str, ...]:
    """What `prepare_link` sets, as a plan tells it."""
    told = [f"{what}: {value}" for what, _, value in _link_attributes(state, with_mac) if value]
    return (*told, f"sysctls: {len(_while_preparing(state))}, where they differ")


def flow_parts(ip: Any, ifindex: int, state: UplinkState, wait: float = 0) -> tuple[Part, ...]:
    """What a prepared link that bears its final name needs for packets to flow, in this order."""
    flags = [name for flag, name in _FLAG_NAMES.items() if state.flags & flag]
    return (
        Part("link up", lambda: bring_up(ip, ifindex, state, wait=wait), ["up", *flags]),
        Part("addresses", lambda: apply_addresses(ip, ifindex, state), [str(each) for each in state.addresses]),
        Part("neighbors", lambda: apply_neighbors(ifindex, state.neighbors), [str(each) for each in state.neighbors]),
        Part("routes", lambda: apply_routes(ip, state), [str(each) for each in (*state.nexthops, *state.routes)]),
    )


def late_parts(ip: Any, ifindex: int, state: UplinkState, wait: float = 0) -> tuple[Part, ...]:
    """What packets need not wait for, in this order."""
    disciplines = [str(each) for each in state.disciplines]
    last = [f"{len(state.sysctls)}, those held back above all", *([state.token] if state.token else [])]
    return (
        Part("altnames", lambda: _set_altnames(ip, ifindex, state), list(state.altnames)),
        Part("multicast addresses", lambda: multicast.apply_static(state.name, state.multicast), list(state.multicast)),
        Part("queueing disciplines", lambda: apply_disciplines(ifindex, state.disciplines), disciplines),
        Part("usable addresses", lambda: _wait_until_usable(ip, ifindex, state, wait=wait), []),
        Part("sysctls", lambda: _finish(ip, ifindex, state), last),
    )


def apply_state(ip: Any, ifindex: int, state: UplinkState, *, wait: float, best_effort: bool = False) -> list[str]:
    """Bring a prepared link that bears its final name up, with addresses, routes and neighbors.

    Returns what could not be done. With `best_effort` a part that fails altogether is among that and the next is done
    all the same; else its exception goes on. `settle_state` does the rest.
    """
    return _run(flow_parts(ip, ifindex, state, wait), best_effort=best_effort)


def settle_state(ip: Any, ifindex: int, state: UplinkState, *, wait: float, best_effort: bool = False) -> list[str]:
    """What packets need not wait for; to be called after `apply_state`, with the same meaning."""
    return _run(late_parts(ip, ifindex, state, wait), best_effort=best_effort)


def _run(parts: tuple[Part, ...], *, best_effort: bool) -> list[str]:
    failures: list[str] = []
    for part in parts:
        try:
            failures += part.run() or []
        except Exception as error:
            if not best_effort:
                raise
            failures.append(f"{part.what}: {error}")
    return failures
