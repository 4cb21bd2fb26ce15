# SPDX-License-Identifier: Apache-2.0
"""Routes that use a link: read from all tables, and made again on the link that bears the name.

Linux forgets a route that goes over several links when one of them leaves.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterable, Mapping

import msgspec

from pyvpp.linux import rtnetlink
from pyvpp.linux.advertised import add_advertised, advertised_routers
from pyvpp.linux.route import AF_INET, AF_INET6, HEADER, METRICS, RTPROT_KERNEL, RTPROT_RA, Route, decode
from pyvpp.linux.rtnetlink import Netlink, Request

_NEWROUTE, _DELROUTE, _GETROUTE = 24, 25, 26
_ROUNDS = 3  # a gateway may lie behind another route, whose gateway lies behind a third


def read_routes(names: Mapping[int, str], name: str, sources: frozenset[str] = frozenset()) -> tuple[Route, ...]:
    """Routes of all tables and both families that use a link, or have one of `sources` (IPv4) as their source address.

    `names` are the interfaces' by index. Linux' own entries in the local table are left out: they come and go with the
    addresses.
    """
    found: list[Route] = []
    routers = advertised_routers()
    with Netlink() as netlink:
        for family in (AF_INET, AF_INET6):
            for message in netlink.dump(_GETROUTE, HEADER.pack(family, *[0] * 8)):
                route = decode(message, names)
                if route is None:
                    continue
                if (route.destination, route.gateway, route.interface) in routers and not route.multipath:
                    left = rtnetlink.without(route.attributes, METRICS)  # the next advertisement sets them again
                    route = msgspec.structs.replace(route, advertised=True, protocol=RTPROT_RA, attributes=left)
                used = {route.interface, *(hop.interface for hop in route.multipath)}
                from_us = family == AF_INET and route.source in sources
                if name in used or (from_us and used != {""}):
                    found.append(route)
    return tuple(found)


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
    # More rounds for a gateway that lies behind another route.
    missing = _in_order(route for route in routes if route.key() not in present)
    failures: list[str] = []
    with Netlink() as netlink:
        for refusal in netlink.ask(surplus):
            if refusal.errno not in (0, errno.ESRCH):
                failures.append(f"a route that was not there: {refusal}")
        for route in missing:
            if route.advertised and (reason := add_advertised(route, indexes)):
                failures.append(f"{route.destination}: {reason}")
        missing = [route for route in missing if not route.advertised]
        for _ in range(_ROUNDS):
            failed = netlink.make(missing, indexes, _NEWROUTE, _make_flags)
            missing = [route for route, _ in failed]
            if not missing:
                return failures
    return failures + [f"{route.destination}: {reason}" for route, reason in failed]


def requests(wanted: tuple[Route, ...], indexes: Mapping[str, int]) -> list[Request]:
    """What makes those whose interfaces are there, on a link that has none.

    Without those that Linux makes by itself, and those that netlink cannot make and whatever has to stand behind them.
    """
    found = []
    learned = {route.destination for route in wanted if route.advertised}
    for route in _in_order(wanted):
        if route.destination not in learned and route.protocol != RTPROT_KERNEL:
            with contextlib.suppress(KeyError):
                found.append(Request(_NEWROUTE, _make_flags(route), route.message(indexes)))
    return found


def _in_order(wanted: Iterable[Route]) -> list[Route]:
    """On-link routes first, so that gateways can be resolved."""
    return sorted(wanted, key=lambda route: (not route.on_link, -route.destination_length))


def _make_flags(route: Route) -> int:
    if route.family == AF_INET6 and route.multipath:
        return rtnetlink.NLM_F_CREATE | rtnetlink.NLM_F_REPLACE
    return rtnetlink.NLM_F_CREATE | rtnetlink.NLM_F_APPEND
