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
from pyvpp.linux import apply, capture, ethtool, multicast, netns, other_sockets
from pyvpp.linux.capture import UplinkState
from pyvpp.linux.ethtool import Offload
from pyvpp.linux.exchange import Exchange
from pyvpp.linux.journal import Entry, Journal, holds_lock, lock_runtime_dir
from pyvpp.linux.neighbors import read_neighbors
from pyvpp.linux.nexthops import read_nexthops
from pyvpp.linux.plan import Step, run, told
from pyvpp.linux.routes import read_routes
from pyvpp.linux.vlans import Vlans


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
                state, found = netns.run_in(home, GiveBack(entry, gaps).run)
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


class GiveBack:
    """Giving one uplink back, step by step; the same for a plan, which only tells them, and for `restore`."""

    def __init__(self, entry: Entry, gaps: dict[str, float] | None = None) -> None:
        self._entry, self._gaps = entry, {} if gaps is None else gaps
        self.state = entry.uplink  # `look` adds what the host changed on the TAP
        self._ip: Any
        self._exchange: Exchange
        self._members: list[multicast.Member] = []
        self._vlans = Vlans(self.state.vlans)
        self._packet_sockets: list[other_sockets.PacketSocket] = []
        self._sysctls: dict[str, str] | None = None
        self._ifindex = -1
        self._began = 0.0
        self._wait = 1.0 if self.state.kind else 3.0

    def steps(self) -> tuple[Step, ...]:
        """What is done, after `look`."""
        state, name = self.state, self.state.name
        gro = () if state.gro is None else (f"GRO: {'on' if state.gro else 'off'}",)
        return (
            Step("move", f"{name} from {self._entry.netns_path} to the place of its TAP, which is removed", self._swap),
            Step("set", f"on {name}, while it is down", self._prepare, apply.link_parts(state, with_mac=False)),
            Step("set", f"on {name}", self._apply, told(apply.flow_parts(None, 0, state))),
            Step("create", f"VLANs on {name}", self._make_vlans, self._vlans.told, True),
            Step("set", f"on {name}, when packets flow", self._settle, (*gro, *told(apply.late_parts(None, 0, state)))),
            Step("set", "on the VLANs", self._settle_vlans, self._vlans.told, True),
            Step("bind", f"packet sockets that were on the TAP to {name}", self._bind_again),
            Step("join", "groups again by the sockets that have joined them", self._join_again, state.groups, True),
        )

    def run(self) -> tuple[UplinkState | None, str]:
        """Its state if something is missing yet, and what went wrong. Raises OSError, NetlinkError: run it again."""
        with IPRoute() as self._ip, contextlib.ExitStack() as stack:
            self._look(stack)
            try:
                failures = run(self.steps())
            except _GoneError:
                return None, f"{self.state.name}: the interface is gone, it cannot be restored"
        return (self.state if failures else None), ""

    def _look(self, stack: contextlib.ExitStack) -> None:
        """All that can be known beforehand."""
        entry = self._entry
        tap = _find_tap(self._ip, entry)
        self.state = _as_changed_on_the_tap(self._ip, entry, tap)
        self._members = multicast.find_members(entry.tap_ifindex, self.state.groups)
        stack.callback(multicast.close, self._members)
        self._packet_sockets = other_sockets.find_packet_sockets(entry.tap_ifindex)
        stack.callback(other_sockets.close, self._packet_sockets)
        self._vlans = Vlans(self.state.vlans)
        self._vlans.remember()
        stack.callback(self._vlans.close)
        index = int(tap["index"]) if tap is not None else None
        self._exchange = Exchange(Path(entry.netns_path), self.state.name, index)
        stack.callback(self._exchange.close)
        self._sysctls = apply.unlike_default(self.state) if self._exchange.nic_comes else None

    def _swap(self) -> None:
        self._began = time.monotonic()
        self._exchange.run()
        ifindex = _find_nic(self._ip, self.state)
        if ifindex is None:
            raise _GoneError
        self._ifindex = ifindex

    def _prepare(self) -> None:
        apply.prepare_link(
            self._ip, self._ifindex, self.state.name, self.state, with_mac=False, sysctls=self._sysctls
        )  # fmt: skip

    def _apply(self) -> list[str]:
        failures = apply.apply_state(self._ip, self._ifindex, self.state, wait=self._wait, best_effort=True)
        self._gaps[self.state.name] = 1000 * (time.monotonic() - self._began)
        return failures

    def _make_vlans(self) -> list[str]:
        return self._vlans.make(self._ip, self._ifindex, wait=self._wait, best_effort=True)

    def _settle_vlans(self) -> list[str]:
        return self._vlans.settle(self._ip, wait=self._wait, best_effort=True)

    def _settle(self) -> list[str]:
        if self.state.gro is not None:
            with contextlib.suppress(OSError):
                ethtool.switch(self.state.name, Offload.GRO, self.state.gro)
        return apply.settle_state(self._ip, self._ifindex, self.state, wait=self._wait, best_effort=True)

    def _bind_again(self) -> list[str]:
        return other_sockets.bind_again(self._packet_sockets, self.state.name)

    def _join_again(self) -> list[str]:
        return multicast.join_again(self._members, self._entry.tap_ifindex, self._ifindex)


class _GoneError(Exception):
    """The NIC is nowhere."""


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
        vlans=capture.read_vlans(ip, ifindex),
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
