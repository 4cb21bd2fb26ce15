# SPDX-License-Identifier: Apache-2.0
"""Take an uplink over: the NIC goes into a namespace of pyvpp's own, a TAP with the same name and all takes its place.

The order keeps the time without an interface short and the state restorable at every moment: a TAP is made beside the
NIC, to see that it can be; the journal goes to disk; and only then the NIC moves, and a TAP with its name, index and
MAC address gets the addresses and routes. With the index sockets stay bound to the device, link-local connections open
and groups joined. Whatever fails on the way, everything is put back before the error goes on.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import struct
import time
from collections.abc import Callable, Sized
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from pyvpp.errors import OperatorError
from pyvpp.linux import apply, capture, ethtool, multicast, netns, other_sockets, programs
from pyvpp.linux.capture import UplinkState
from pyvpp.linux.ethtool import Offload
from pyvpp.linux.journal import VERSION, Entry, Journal, Record, boot_id, holds_lock, lock_runtime_dir
from pyvpp.linux.plan import Step, run, told
from pyvpp.linux.restore import restore

_TUNSETIFF = 0x400454CA
_TUNSETIFINDEX = 0x400454DA
_TUNSETOFFLOAD = 0x400454D0
_IFF_TAP, _IFF_NO_PI, _IFF_VNET_HDR, _IFF_MULTI_QUEUE = 0x2, 0x1000, 0x4000, 0x100
# checksum 1, TSO over IPv4 2, IPv6 4, with ECN 8, UDP segmentation over IPv4 0x20, IPv6 0x40: from all to none
_OFFLOADS = (0x6F, 0x0F, 0x07, 0x01, 0x00)


class TakenUplink(msgspec.Struct):
    """What the dataplane works with: the NIC inside `netns` and the TAP that stands in for it."""

    state: UplinkState
    tap_fds: list[int]
    tap_offload: int
    tap_ifindex: int
    nic_name: str
    nic_ifindex: int
    netns: int  # file descriptor; run_in(netns, function) opens sockets beside the NIC
    hook: Any = None  # keeps the marker socket open that tells other instances
    warnings: list[str] = []
    device: Any = None  # what `prepare` gave
    taken_over_ms: float = 0.0  # from Linux's last packet to the graph's first
    left_at: float = 0.0  # when Linux handled its last packet, by the monotonic clock
    settle: Callable[[], list[str]] = list  # does what packets need not wait for; gives what could not be done

    @property
    def tap_name(self) -> str:
        """The TAP's name: the one the NIC had."""
        return self.state.name

    def close(self) -> None:
        """Let go of the TAP, the namespace and the marker; to be called once `restore` is done."""
        for descriptor in self.tap_fds:
            os.close(descriptor)
        self.tap_fds.clear()
        if self.netns >= 0:
            os.close(self.netns)
            self.netns = -1
        if self.hook is not None:
            self.hook.close()
            self.hook = None


def open_tap(name: str, queues: int = 1, ifindex: int = 0) -> tuple[list[int], int]:
    """Create a TAP in the caller's namespace: its queues' descriptors and the offloads (TUN_F_ bits) it accepted.

    With an interface index of its own if that is free. Raises OSError.
    """
    flags = _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR | (_IFF_MULTI_QUEUE if queues > 1 else 0)
    request = struct.pack("16sH22x", name.encode(), flags)
    descriptors: list[int] = []
    accepted = 0
    try:
        for queue in range(queues):
            descriptor = os.open(capture.TUN_DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            descriptors.append(descriptor)
            if ifindex and queue == 0:
                fcntl.ioctl(descriptor, _TUNSETIFINDEX, struct.pack("I", ifindex))
            try:
                fcntl.ioctl(descriptor, _TUNSETIFF, request)
            except OSError as error:
                if error.errno != errno.EBUSY or not ifindex or queue:
                    raise
                os.close(descriptors.pop())
                return open_tap(name, queues)
            for accepted in _OFFLOADS:
                with contextlib.suppress(OSError):
                    fcntl.ioctl(descriptor, _TUNSETOFFLOAD, accepted)
                    break
    except BaseException:
        for descriptor in descriptors:
            os.close(descriptor)
        raise
    return descriptors, accepted


def _make_namespace(path: Path) -> int:
    if netns.is_kept(path):
        if left := netns.uplink_inside(path):
            raise OperatorError(f"{path}: {left} is still in there; run `pyvpp restore --runtime-dir {path.parent}`")
        netns.release_kept(path)
    descriptor = netns.create_kept(path)
    netns.run_in(descriptor, _switch_ip6_off)
    return descriptor


def _switch_ip6_off() -> None:
    for which in ("all", "default"):
        with contextlib.suppress(OSError):
            Path(f"/proc/sys/net/ipv6/conf/{which}/disable_ipv6").write_text("1")


def _close_tap(descriptors: list[int]) -> None:
    while descriptors:
        os.close(descriptors.pop())


def _rehearse(ip: Any, name: str, queues: int, state: UplinkState) -> dict[str, str]:
    """Make a TAP and prepare it as the real one will be: what cannot be done shows before the NIC moves.

    Returns the sysctls that a TAP does not have from the start as they are wanted.
    """
    descriptors, _ = open_tap(name, queues)
    try:
        link = capture.find_link(ip, name)
        if link is None:
            raise OSError(errno.ENODEV, f"TAP {name} cannot be found")
        return apply.prepare_link(ip, int(link["index"]), name, state, with_mac=True)
    finally:
        _close_tap(descriptors)


def _bring_nic_up(name: str, state: UplinkState, gro: bool) -> int:
    with IPRoute() as ip:
        link = capture.find_link(ip, name)
        if link is None:
            raise OSError(f"{name} did not arrive in pyvpp's namespace")
        ifindex = int(link["index"])
        if link.get_attr("IFLA_MTU") != state.mtu:
            ip.link("set", index=ifindex, IFLA_MTU=state.mtu)
        ip.link("set", index=ifindex, flags=capture.IFF_UP, change=capture.IFF_UP | capture.IFF_PROMISC)
    if state.gro is not None and state.gro != gro:
        with contextlib.suppress(OSError):  # it is an improvement, no necessity
            ethtool.switch(name, Offload.GRO, gro)
    return ifindex


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
            Step("hold", "BPF programs of its filters, by that namespace", self._hold_programs, held, True),
            Step("open", self._prepared or "nothing yet", self._call_prepare),
            Step("write", f"journal {self._journal.path}, to restore from", self._write_journal),
            Step("move", f"{name} into that namespace: from here on nobody handles its packets", self._move_nic),
            Step("create", f"TAP {name}, {index}, queues: {self._queues}", self._make_tap),
            Step("set", f"on the TAP {name}, while it is down", self._prepare_tap, while_down),
            Step("set", f"on {name} in that namespace: up, MTU {state.mtu}{gro}", self._bring_nic_up),
            Step("set", f"on the TAP {name}", self._apply, told(apply.flow_parts(None, 0, state))),
        )

    def late_steps(self) -> tuple[Step, ...]:
        """What is done when packets flow."""
        name = self.state.name
        packet_sockets = _counted(self._packet_sockets or other_sockets.packet_sockets(self.state.ifindex))
        return (
            Step("set", f"on the TAP {name}", self._settle_state, told(apply.late_parts(None, 0, self.state))),
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
        self._namespace = _make_namespace(path)
        self._undo.callback(netns.release_kept, path)
        self._undo.callback(os.close, self._namespace)

    def _rehearse_tap(self) -> None:
        temporary = f"pv-{os.getpid()}-{self.state.ifindex}"[:15]
        self._sysctls = _rehearse(self._ip, temporary, self._queues, self.state)

    def _find_members(self) -> None:
        self._members = multicast.find_members(self.state.ifindex, self.state.groups)
        self._undo.callback(multicast.close, self._members)

    def _find_packet_sockets(self) -> None:
        self._packet_sockets = other_sockets.find_packet_sockets(self.state.ifindex)
        self._undo.callback(other_sockets.close, self._packet_sockets)

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
        self._undo.callback(_close_tap, self._descriptors)
        self.entry.tap_ifindex = socket.if_nametoindex(self.state.name)
        if self.entry.tap_ifindex != wanted:
            self._journal.write(self._record)

    def _prepare_tap(self) -> None:
        apply.prepare_link(
            self._ip, self.entry.tap_ifindex, self.state.name, self.state, with_mac=True, sysctls=self._sysctls
        )

    def _bring_nic_up(self) -> None:
        bring_up = partial(_bring_nic_up, self.state.name, self.state, self._gro)
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
