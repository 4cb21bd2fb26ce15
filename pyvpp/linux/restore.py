# SPDX-License-Identifier: Apache-2.0
"""Give Linux its NICs back, from the journal alone.

Idempotent, and the same for every caller: pyvpp when it stops, a take-over that failed half way, the guardian,
`pyvpp restore`.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from pyvpp.errors import OperatorError
from pyvpp.linux import apply, capture, ethtool, multicast, netns
from pyvpp.linux.capture import UplinkState
from pyvpp.linux.ethtool import Offload
from pyvpp.linux.exchange import Exchange
from pyvpp.linux.journal import Entry, Journal, holds_lock, lock_runtime_dir
from pyvpp.linux.neighbors import read_neighbors
from pyvpp.linux.routes import read_nexthops, read_routes


def restore(
    runtime_dir: str | Path,
    name: str | None = None,
    wait_for_lock: float = 0,
    gaps: dict[str, float] | None = None,
) -> list[str]:
    """Restore every uplink in the journal (or just one) and return what could not be brought back, one line each.

    `gaps` is filled with the milliseconds for which nobody handled the packets of each.

    Fine when nothing is taken over. Fails with an OperatorError while a living pyvpp has the runtime directory.
    """
    directory = Path(runtime_dir).absolute()
    if not directory.exists():
        return []
    with contextlib.ExitStack() as stack:
        if not holds_lock(directory):
            stack.enter_context(lock_runtime_dir(directory, wait_for_lock))
        journal = Journal(directory)
        record = journal.read()
        if record is None:
            return _sweep(journal)
        home = netns.find(record.netns)
        if home is None:
            journal.remove()
            return ["the network namespace the uplinks came from is gone"]
        stack.callback(os.close, home)
        problems: list[str] = []
        incomplete: list[UplinkState] = []
        for entry in [entry for entry in reversed(record.entries) if name in (None, entry.uplink.name)]:
            try:
                state, found = netns.run_in(home, partial(_restore_entry, entry, {} if gaps is None else gaps))
            except (OSError, NetlinkError) as error:  # it stays in the journal, and the others have their turn
                problems.append(f"{entry.uplink.name}: cannot be restored yet: {error}; run `pyvpp restore` again")
                continue
            if found:
                problems.append(found)
            elif state is not None:
                incomplete.append(state)
            netns.release_kept(Path(entry.netns_path))  # before it is forgotten: whoever is killed here begins anew
            record.entries.remove(entry)
            if record.entries:
                with contextlib.suppress(OperatorError):
                    journal.write(record)
            else:
                journal.remove()
        for state in incomplete:  # routes that go over several uplinks wait for the last one
            problems += netns.run_in(home, partial(_add_routes, state))
        return problems


def _sweep(journal: Journal) -> list[str]:
    """Nothing is taken over: take away what a take-over left that was killed before it wrote the journal."""
    journal.forget_unfinished()
    problems = []
    for path in journal.directory.glob(f"{netns.KEPT_PREFIX}*"):
        if inside := netns.uplink_inside(path) if netns.is_kept(path) else "":
            problems.append(f"{path}: {inside} is in there, and no journal says where it belongs")
        else:
            netns.release_kept(path)
    return problems


def _add_routes(state: UplinkState) -> list[str]:
    with IPRoute() as ip:
        return [f"{state.name}: {failure}" for failure in apply.apply_routes(ip, state)]


def _restore_entry(entry: Entry, gaps: dict[str, float]) -> tuple[UplinkState | None, str]:
    """Restore one uplink: its state if something is missing yet, and what went wrong."""
    with IPRoute() as ip, contextlib.ExitStack() as stack:
        tap = _find_tap(ip, entry)
        state = _as_changed_on_the_tap(ip, entry, tap)
        members = multicast.find_members(entry.tap_ifindex, state.groups)
        stack.callback(multicast.close, members)
        exchange = Exchange(Path(entry.netns_path), state.name, int(tap["index"]) if tap is not None else None)
        stack.callback(exchange.close)
        sysctls = apply.unlike_default(state) if exchange.nic_comes else None
        began = time.monotonic()
        exchange.run()
        ifindex = _find_nic(ip, state)
        if ifindex is None:
            return None, f"{state.name}: the interface is gone, it cannot be restored"
        apply.prepare_link(ip, ifindex, state.name, state, with_mac=False, sysctls=sysctls)
        wait = 3.0 if not state.kind else 1.0
        failures = apply.apply_state(ip, ifindex, state, wait=wait, best_effort=True)
        gaps[state.name] = 1000 * (time.monotonic() - began)
        if state.gro is not None:
            with contextlib.suppress(OSError):
                ethtool.switch(state.name, Offload.GRO, state.gro)
        failures += apply.settle_state(ip, ifindex, state, wait=wait, best_effort=True)
        failures += multicast.join_again(members, entry.tap_ifindex, ifindex)
    return (state if failures else None), ""


def _find_tap(ip: Any, entry: Entry) -> Any | None:
    """The TAP that stands in for the NIC, if it is still there. If both are of one kind their indexes differ."""
    link = capture.find_link(ip, entry.uplink.name)
    info = link.get_attr("IFLA_LINKINFO") if link is not None else None
    if link is None or info is None or info.get_attr("IFLA_INFO_KIND") != "tun":
        return None
    return link if entry.uplink.kind != "tun" or link["index"] == entry.tap_ifindex else None


def _as_changed_on_the_tap(ip: Any, entry: Entry, tap: Any | None) -> UplinkState:
    """What the host changed on the TAP meanwhile is what the NIC gets."""
    state = entry.uplink
    if tap is None or not entry.taken or not tap["flags"] & capture.IFF_UP:
        return state
    ifindex, names = int(tap["index"]), capture.interface_names(ip)
    addresses = capture.read_addresses(ip, ifindex)
    return msgspec.structs.replace(
        state,
        addresses=addresses,
        nexthops=read_nexthops(names, state.name),
        routes=read_routes(names, state.name, frozenset(address.address for address in addresses)),
        neighbors=read_neighbors(ifindex),
        groups=multicast.read_groups(state.name),
    )


def _find_nic(ip: Any, state: UplinkState) -> int | None:
    """The NIC's index in this namespace, under its own name."""
    with contextlib.suppress(OSError):
        return socket.if_nametoindex(state.name)
    # Linux itself moved a physical NIC out of a dying namespace, under another name if its own was taken.
    for link in ip.get_links():
        info = link.get_attr("IFLA_LINKINFO")
        kind = info.get_attr("IFLA_INFO_KIND") if info else None
        if link.get_attr("IFLA_ADDRESS") == state.mac and (kind or "") == state.kind:
            if link["flags"] & capture.IFF_UP:
                ip.link("set", index=link["index"], flags=0, change=capture.IFF_UP)
            ip.link("set", index=link["index"], ifname=state.name)
            return int(link["index"])
    return None
