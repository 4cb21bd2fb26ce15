# SPDX-License-Identifier: Apache-2.0
"""Take an uplink over: the NIC goes into a namespace of pyvpp's own, a TAP with the same name and all takes its place.

The order keeps the time without an interface short and the state restorable at every moment: a TAP is made beside the
NIC, to see that it can be; the journal goes to disk; and only then the NIC moves, and a TAP with its name, index and
MAC address gets the addresses and routes. With the index sockets stay bound to the device, link-local connections open
and groups joined. Whatever fails on the way, everything is put back before the error goes on.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Sized
from functools import partial
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from pyvpp.errors import OperatorError
from pyvpp.linux import apply, capture, multicast, netns, other_sockets, programs
from pyvpp.linux.capture import UplinkState
from pyvpp.linux.journal import VERSION, Entry, Journal, Record, boot_id, holds_lock, lock_runtime_dir
from pyvpp.linux.nic_namespace import bring_nic_up, make_namespace
from pyvpp.linux.plan import Step, run, told
from pyvpp.linux.restore import restore
from pyvpp.linux.stand_in import close_tap, open_tap, rehearse
from pyvpp.linux.taken import TakenUplink
from pyvpp.linux.vlans import Vlans


def _hold_marker(name: str) -> socket.socket:
    marker = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        marker.bind(capture.HOOK_NAME.format(name=name))
        marker.listen()
    except OSError:
        marker.close()
        raise OperatorError(f"uplink {name}: another pyvpp is taking it over at this moment") from None
    return marker


def _counted(packet_sockets: Sized) -> tuple[str, ...]:
    return (f"{len(packet_sockets)} of them",) if packet_sockets else ()


class TakeOver:
    """Taking one uplink over, step by step. Nothing has happened when this is made: a plan tells the steps, `run` runs
    them.

    `gro`: whether the NIC is to coalesce what it receives, where its driver can, while it is ours. `prepare` is called
    with the namespace before the NIC moves there; `prepared` says what it makes.
    """

    def __init__(
        self,
        state: UplinkState,
        runtime_dir: str | Path,
        queues: int = 1,
        *,
        gro: bool = True,
        prepare: Callable[[int], Any] | None = None,
        prepared: str = "",
    ) -> None:
        self.state, self._queues, self._gro = state, queues, gro
        self._prepare, self._prepared = prepare, prepared
        self._journal = Journal(runtime_dir)
        path = self._journal.directory / f"{netns.KEPT_PREFIX}{state.name}"
        # Sockets bound to the device, or that joined a group on it, know its index: the TAP takes it over.
        self.entry = Entry(state, str(path), 0 if state.kind == "tun" else state.ifindex)
        self._record: Record
        self._ip: Any
        self._undo: contextlib.ExitStack
        self._members: list[multicast.Member] = []
        self._vlans = Vlans(state.vlans)
        self._packet_sockets: list[other_sockets.PacketSocket] = []
        self._sysctls: dict[str, str] = {}
        self._device: Any = None
        self._namespace = self._nic_ifindex = -1
        self._descriptors: list[int] = []
        self._offload = 0
        self._left_at = 0.0

    def steps(self) -> tuple[Step, ...]:
        """What is done until packets can flow."""
        state, name = self.state, self.state.name
        index = f"index {self.entry.tap_ifindex}" if self.entry.tap_ifindex else "an index of its own"
        gro = f", GRO {'on' if self._gro else 'off'}" if state.gro not in (None, self._gro) else ""
        packet_sockets = _counted(other_sockets.packet_sockets(state.ifindex))
        held = tuple(str(number) for number in state.filter_programs)
        while_down = apply.link_parts(state, with_mac=True)
        return (
            Step("create", f"network namespace, kept on {self.entry.netns_path}", self._make_namespace),
            Step("create", "a TAP, prepared as the real one will be, and remove it", self._rehearse_tap),
            Step("copy", "sockets that have joined groups on it", self._find_members, state.groups, True),
            Step("copy", "packet sockets on it", self._find_packet_sockets, packet_sockets, True),
            Step("copy", "sockets on its VLANs", self._find_sockets_of_vlans, self._vlans.told, True),
            Step("hold", "BPF programs of its filters, by that namespace", self._hold_programs, held, True),
            Step("open", self._prepared or "nothing yet", self._call_prepare),
            Step("write", f"journal {self._journal.path}, to restore from", self._write_journal),
            Step("remove", f"VLANs on {name}, to be made on the TAP", self._vlans.remove, self._vlans.told, True),
            Step("move", f"{name} into that namespace: from here on nobody handles its packets", self._move_nic),
            Step("create", f"TAP {name}, {index}, queues: {self._queues}", self._make_tap),
            Step("set", f"on the TAP {name}, while it is down", self._prepare_tap, while_down),
            Step("set", f"on {name} in that namespace: up, MTU {state.mtu}{gro}", self._bring_nic_up),
            Step("set", f"on the TAP {name}", self._apply, told(apply.flow_parts(None, 0, state))),
            Step("create", f"VLANs on the TAP {name}", self._make_vlans, self._vlans.told, True),
        )

    def late_steps(self) -> tuple[Step, ...]:
        """What is done when packets flow."""
        name = self.state.name
        packet_sockets = _counted(self._packet_sockets or other_sockets.packet_sockets(self.state.ifindex))
        return (
            Step("set", f"on the TAP {name}", self._settle_state, told(apply.late_parts(None, 0, self.state))),
            Step("set", "on the VLANs", self._settle_vlans, self._vlans.told, True),
            Step("bind", f"those packet sockets to the TAP {name}", self._bind_again, packet_sockets, True),
            Step("join", "groups again by those sockets", self._join_again, self.state.groups, True),
            Step("write", f"journal {self._journal.path}: taken over", self._write_journal_again),
        )

    def run(self, *, settled: bool = True) -> TakenUplink:
        """On any failure Linux is as it was; an OperatorError says why. Unless `settled` the caller calls `settle`."""
        state, directory = self.state, self._journal.directory
        if not holds_lock(directory):
            lock_runtime_dir(directory)
        self._record = self._journal.read() or Record(VERSION, boot_id(), os.getpid(), netns.identity(), [])
        if any(entry.uplink.name == state.name for entry in self._record.entries):
            raise OperatorError(
                f"uplink {state.name}: the journal {self._journal.path} says it is taken over; "
                "run `pyvpp restore` first"
            )
        with contextlib.ExitStack() as self._undo:
            marker = self._undo.enter_context(_hold_marker(state.name))
            try:
                warnings = capture.losses(state)
                with IPRoute() as self._ip:
                    warnings += run(self.steps())
                if settled:
                    warnings += self.settle()
            except (OSError, NetlinkError) as error:
                raise OperatorError(
                    f"uplink {state.name}: cannot be taken over: {error}; Linux is left as it was"
                ) from error
            self._undo.pop_all()
        return TakenUplink(
            state=state,
            tap_fds=self._descriptors,
            tap_offload=self._offload,
            tap_ifindex=self.entry.tap_ifindex,
            nic_name=state.name,
            nic_ifindex=self._nic_ifindex,
            netns=self._namespace,
            hook=marker,
            warnings=warnings,
            device=self._device,
            left_at=self._left_at,
            settle=self.settle,
        )

    def settle(self) -> list[str]:
        """Runs the late steps; what could not be done. Raises OperatorError; then the caller restores."""
        try:
            with IPRoute() as self._ip:
                return run(self.late_steps())
        except (OSError, NetlinkError) as error:
            raise OperatorError(f"uplink {self.state.name}: cannot be taken over: {error}") from error

    def _make_namespace(self) -> None:
        path = Path(self.entry.netns_path)
        self._namespace = make_namespace(path)
        self._undo.callback(netns.release_kept, path)
        self._undo.callback(os.close, self._namespace)

    def _rehearse_tap(self) -> None:
        temporary = f"pv-{os.getpid()}-{self.state.ifindex}"[:15]
        self._sysctls = rehearse(self._ip, temporary, self._queues, self.state)

    def _find_members(self) -> None:
        self._members = multicast.find_members(self.state.ifindex, self.state.groups)
        self._undo.callback(multicast.close, self._members)

    def _find_packet_sockets(self) -> None:
        self._packet_sockets = other_sockets.find_packet_sockets(self.state.ifindex)
        self._undo.callback(other_sockets.close, self._packet_sockets)

    def _find_sockets_of_vlans(self) -> None:
        self._vlans.remember()
        self._undo.callback(self._vlans.close)

    def _make_vlans(self) -> list[str]:
        return self._vlans.make(self._ip, self.entry.tap_ifindex, wait=1.0)

    def _settle_vlans(self) -> list[str]:
        failures = self._vlans.settle(self._ip, wait=1.0)
        self._vlans.close()
        return failures

    def _bind_again(self) -> list[str]:
        failures = other_sockets.bind_again(self._packet_sockets, self.state.name)
        other_sockets.close(self._packet_sockets)
        return failures

    def _hold_programs(self) -> list[str]:
        numbers = self.state.filter_programs
        return netns.run_in(self._namespace, partial(programs.hold, numbers)) if numbers else []

    def _call_prepare(self) -> None:
        self._device = self._prepare(self._namespace) if self._prepare else None
        if self._device is not None:
            self._undo.callback(self._device.close)

    def _write_journal(self) -> None:
        self._record.entries.append(self.entry)
        self._journal.write(self._record)
        self._undo.callback(restore, self._journal.directory, self.state.name)

    def _move_nic(self) -> None:
        self._left_at = time.monotonic()
        self._ip.link("set", index=self.state.ifindex, net_ns_fd=self._namespace)

    def _make_tap(self) -> None:
        wanted = self.entry.tap_ifindex
        self._descriptors, self._offload = open_tap(self.state.name, self._queues, wanted)
        self._undo.callback(close_tap, self._descriptors)
        self.entry.tap_ifindex = socket.if_nametoindex(self.state.name)
        if self.entry.tap_ifindex != wanted:
            self._journal.write(self._record)

    def _prepare_tap(self) -> None:
        apply.prepare_link(
            self._ip, self.entry.tap_ifindex, self.state.name, self.state, with_mac=True, sysctls=self._sysctls
        )

    def _bring_nic_up(self) -> None:
        bring_up = partial(bring_nic_up, self.state.name, self.state, self._gro)
        self._nic_ifindex = netns.run_in(self._namespace, bring_up)

    def _apply(self) -> list[str]:
        return apply.apply_state(self._ip, self.entry.tap_ifindex, self.state, wait=1.0)

    def _settle_state(self) -> list[str]:
        return apply.settle_state(self._ip, self.entry.tap_ifindex, self.state, wait=1.0)

    def _join_again(self) -> list[str]:
        failures = multicast.join_again(self._members, self.state.ifindex, self.entry.tap_ifindex)
        failures += multicast.unreached(self.state.groups, self._members)
        multicast.close(self._members)
        return failures

    def _write_journal_again(self) -> None:
        self.entry.taken = True
        with contextlib.suppress(OperatorError):  # the first record is enough to restore from
            self._journal.write(self._record)


def take_over(state: UplinkState, runtime_dir: str | Path) -> TakenUplink:
    """Take over the uplink that `inspect_uplink` read, with everything as usual. Raises as `TakeOver.run`.

    The runtime directory is locked by the caller (`lock_runtime_dir`) for as long as it runs.
    """
    return TakeOver(state, runtime_dir).run()
