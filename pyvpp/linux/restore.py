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
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from pyvpp.errors import OperatorError
from pyvpp.linux import apply, capture, ethtool, multicast, neighbors, netns, other_sockets
from pyvpp.linux.at_once import AtOnce
from pyvpp.linux.capture import UplinkState
from pyvpp.linux.ethtool import Offload
from pyvpp.linux.exchange import Exchange
from pyvpp.linux.follow import as_changed, find_tap, kind_of
from pyvpp.linux.journal import Entry, Journal, Record, holds_lock, lock_runtime_dir
from pyvpp.linux.plan import Step, run, told
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
        try:
            record = journal.read()
        except OperatorError as error:
            return _rescue(journal, error)
        if record is None:
            return _sweep(journal)
        home = netns.find(record.netns)
        if home is None:
            journal.remove()
            return ["the network namespace the uplinks came from is gone"]
        stack.callback(os.close, home)
        return _Restoring(journal, record, home).run(name, gaps)


class _Restoring:
    """Restoring what a record says. What is through is taken out of it, so another can go on when this is killed."""

    def __init__(self, journal: Journal, record: Record, home: int) -> None:
        self._journal, self._record, self._home = journal, record, home

    def run(self, name: str | None, gaps: dict[str, float] | None) -> list[str]:
        """All, or the one of this name; what could not be brought back."""
        problems: list[str] = []
        incomplete: list[tuple[Entry, UplinkState]] = []
        for entry in [entry for entry in reversed(self._record.entries) if name in (None, entry.uplink.name)]:
            giving = GiveBack(entry, gaps, self._write)
            try:
                failures = netns.run_in(self._home, giving.run)
            except (OSError, NetlinkError) as error:  # it stays in the journal, and the others have their turn
                problems.append(f"{entry.uplink.name}: cannot be restored yet: {error}; run `pyvpp restore` again")
                continue
            except GoneError:
                problems.append(f"{entry.uplink.name}: the interface is gone, it cannot be restored")
                failures = []
            netns.release_kept(Path(entry.netns_path))  # before it is forgotten: whoever is killed here begins anew
            if failures:
                incomplete.append((entry, giving.state))
            else:
                self._forget(entry)
        for entry, state in incomplete:  # above all routes over several uplinks, which wait for the last one
            problems += netns.run_in(self._home, partial(_complete, state))
            self._forget(entry)
        return problems

    def _write(self) -> None:
        with contextlib.suppress(OperatorError):  # what it says is enough to restore from
            self._journal.write(self._record)

    def _forget(self, entry: Entry) -> None:
        self._record.entries.remove(entry)
        if self._record.entries:
            self._write()
        else:
            self._journal.remove()


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


def _rescue(journal: Journal, error: OperatorError) -> list[str]:
    """A journal that cannot be read: the NICs at least come into this namespace, up. It is set aside."""
    problems = []
    for path in journal.directory.glob(f"{netns.KEPT_PREFIX}*"):
        if not netns.is_kept(path) or not (name := netns.uplink_inside(path)):
            continue
        try:
            netns.run_in(None, partial(_bring_home, path, name))
        except (OSError, NetlinkError) as refused:
            problems.append(f"{name}: cannot be restored yet: {refused}; run `pyvpp restore` again")
            continue
        problems.append(f"{name}: is back, without addresses and routes; configure it again")
    if not any("yet" in problem for problem in problems):
        journal.set_aside()
        problems += _sweep(journal)
    return [str(error), *problems]


def _bring_home(path: Path, name: str) -> None:
    with IPRoute() as ip, contextlib.ExitStack() as stack:
        link = capture.find_link(ip, name)
        exchange = Exchange(path, name, int(link["index"]) if link is not None and kind_of(link) == "tun" else None)
        stack.callback(exchange.close)
        exchange.run()
        ip.link("set", index=socket.if_nametoindex(name), flags=capture.IFF_UP, change=capture.IFF_UP)


def _complete(state: UplinkState) -> list[str]:
    """What was missing, once more; what still is."""
    with IPRoute() as ip:
        try:
            ifindex = socket.if_nametoindex(state.name)
        except OSError:
            return [f"{state.name}: the interface is gone, it cannot be restored"]
        failures = apply.apply_state(ip, ifindex, state, wait=0, best_effort=True)
        vlans = Vlans(state.vlans)
        failures += vlans.make(ip, ifindex, wait=0, best_effort=True)
        failures += apply.settle_state(ip, ifindex, state, wait=0, best_effort=True)
        failures += vlans.settle(ip, wait=0, best_effort=True)
        return [f"{state.name}: {failure}" for failure in failures]


class GiveBack:
    """Giving one uplink back, step by step; the same for a plan, which only tells them, and for `restore`."""

    def __init__(
        self, entry: Entry, gaps: dict[str, float] | None = None, write: Callable[[], None] = lambda: None
    ) -> None:
        """`write` puts the entry into the journal, when it says more than there was."""
        self._entry, self._gaps, self._write = entry, {} if gaps is None else gaps, write
        self.state = entry.uplink  # `look` adds what the host changed on the TAP
        self._ip: Any
        self._exchange: Exchange
        self._members: list[multicast.Member] = []
        self._vlans = Vlans(self.state.vlans)
        self._packet_sockets: list[other_sockets.PacketSocket] = []
        self._sysctls: dict[str, str] | None = None
        self._at_once: AtOnce | None = None
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

    def run(self) -> list[str]:
        """What is missing yet. Raises OSError, NetlinkError: run it again; GoneError."""
        with IPRoute() as self._ip, contextlib.ExitStack() as stack:
            self._look(stack)
            return run(self.steps())

    def _look(self, stack: contextlib.ExitStack) -> None:
        """All that can be known beforehand."""
        entry = self._entry
        tap = find_tap(self._ip, entry)
        self.state = as_changed(self._ip, entry, tap)
        if self.state != entry.uplink:  # the TAP will be gone, and whoever is killed then would have lost it
            entry.uplink = self.state
            self._write()
        self._members = multicast.find_members(entry.tap_ifindex, self.state.groups)
        stack.callback(multicast.close, self._members)
        orphans = self.state.packet_sockets
        self._packet_sockets = other_sockets.find_packet_sockets(entry.tap_ifindex, orphans)
        stack.callback(other_sockets.close, self._packet_sockets)
        self._vlans = Vlans(self.state.vlans)
        self._vlans.remember()
        stack.callback(self._vlans.close)
        index = int(tap["index"]) if tap is not None else None
        self._exchange = Exchange(Path(entry.netns_path), self.state.name, index)
        stack.callback(self._exchange.close)
        if self._exchange.nic_comes:
            self._sysctls = apply.unlike_default(self.state)
            names = capture.interface_names(self._ip)
            self._at_once = AtOnce(self.state, self._exchange.nic_ifindex, names, self._sysctls)
            stack.callback(self._at_once.close)

    def _swap(self) -> None:
        self._exchange.prepare()
        self._began = time.monotonic()
        self._exchange.run()
        ifindex = _find_nic(self._ip, self.state)
        if ifindex is None:
            raise GoneError
        self._ifindex = ifindex

    def _prepare(self) -> None:
        if self._at_once is not None and self._ifindex == self._at_once.ifindex:
            if self._at_once.run():
                self._tell_gap()
        apply.prepare_link(
            self._ip, self._ifindex, self.state.name, self.state, with_mac=False, sysctls=self._sysctls
        )  # fmt: skip

    def _apply(self) -> list[str]:
        failures = apply.apply_state(self._ip, self._ifindex, self.state, wait=self._wait, best_effort=True)
        self._tell_gap()
        return failures

    def _make_vlans(self) -> list[str]:
        return self._vlans.make(self._ip, self._ifindex, wait=self._wait, best_effort=True)

    def _settle_vlans(self) -> list[str]:
        return self._vlans.settle(self._ip, wait=self._wait, best_effort=True)

    def _tell_gap(self) -> None:
        """Packets flow; what was told before stands."""
        self._gaps.setdefault(self.state.name, 1000 * (time.monotonic() - self._began))

    def _settle(self) -> list[str]:
        if self.state.gro is not None:
            with contextlib.suppress(OSError):
                ethtool.switch(self.state.name, Offload.GRO, self.state.gro)
        failures = apply.settle_state(self._ip, self._ifindex, self.state, wait=self._wait, best_effort=True)
        neighbors.forget_unanswered(self._ifindex)
        return failures

    def _bind_again(self) -> list[str]:
        return other_sockets.bind_again(self._packet_sockets, self.state.name)

    def _join_again(self) -> list[str]:
        return multicast.join_again(self._members, self._entry.tap_ifindex, self._ifindex)


class GoneError(Exception):
    """The NIC is nowhere."""


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
