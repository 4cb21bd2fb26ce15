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
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from pyvpp.errors import OperatorError
from pyvpp.linux import apply, capture, ethtool, multicast, netns
from pyvpp.linux.capture import UplinkState
from pyvpp.linux.ethtool import Offload
from pyvpp.linux.journal import VERSION, Entry, Journal, Record, boot_id, holds_lock, lock_runtime_dir
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


def take_over(
    state: UplinkState,
    runtime_dir: str | Path,
    queues: int = 1,
    *,
    gro: bool = True,
    prepare: Callable[[int], Any] | None = None,
    settled: bool = True,
) -> TakenUplink:
    """Take over the uplink that `inspect_uplink` read. On any failure Linux is as it was; an OperatorError says why.

    `gro`: whether the NIC is to coalesce what it receives, where its driver can, while it is ours. `prepare` is called
    with the namespace before the NIC moves there. Unless `settled` the caller calls `settle` when packets flow.

    The runtime directory is locked by the caller (`lock_runtime_dir`) for as long as it runs.
    """
    directory = Path(runtime_dir).absolute()
    if not holds_lock(directory):
        lock_runtime_dir(directory)
    journal = Journal(directory)
    record = journal.read() or Record(VERSION, boot_id(), os.getpid(), netns.identity(), [])
    if any(entry.uplink.name == state.name for entry in record.entries):
        raise OperatorError(
            f"uplink {state.name}: the journal {journal.path} says it is taken over; run `pyvpp restore` first"
        )
    path = directory / f"{netns.KEPT_PREFIX}{state.name}"
    temporary = f"pv-{os.getpid()}-{state.ifindex}"[:15]
    with contextlib.ExitStack() as undo:
        marker = undo.enter_context(_hold_marker(state.name))
        try:
            namespace = _make_namespace(path)
            undo.callback(netns.release_kept, path)
            undo.callback(os.close, namespace)
            with IPRoute() as ip:
                sysctls = _rehearse(ip, temporary, queues, state)
                # Sockets bound to the device, or that joined a group on it, know its index: the TAP takes it over.
                ifindex = 0 if state.kind == "tun" else state.ifindex
                entry = Entry(state, str(path), ifindex)
                record.entries.append(entry)
                members = multicast.find_members(state.ifindex, state.groups)
                undo.callback(multicast.close, members)
                device = prepare(namespace) if prepare else None
                if device is not None:
                    undo.callback(device.close)
                journal.write(record)
                undo.callback(restore, directory, state.name)
                left_at = time.monotonic()
                ip.link("set", index=state.ifindex, net_ns_fd=namespace)
                descriptors, offload = open_tap(state.name, queues, ifindex)
                undo.callback(_close_tap, descriptors)
                entry.tap_ifindex = int(capture.find_link(ip, state.name)["index"])  # type: ignore[index]
                if entry.tap_ifindex != ifindex:
                    journal.write(record)
                apply.prepare_link(ip, entry.tap_ifindex, state.name, state, with_mac=True, sysctls=sysctls)
                nic_ifindex = netns.run_in(namespace, lambda: _bring_nic_up(state.name, state, gro))
                warnings = apply.apply_state(ip, entry.tap_ifindex, state, wait=1.0)

            def settle() -> list[str]:
                try:
                    with IPRoute() as ip:
                        failures = apply.settle_state(ip, entry.tap_ifindex, state, wait=1.0)
                except (OSError, NetlinkError) as error:
                    raise OperatorError(f"uplink {state.name}: cannot be taken over: {error}") from error
                failures += multicast.join_again(members, state.ifindex, entry.tap_ifindex)
                failures += multicast.unreached(state.groups, members)
                multicast.close(members)
                entry.taken = True
                with contextlib.suppress(OperatorError):  # the first record is enough to restore from
                    journal.write(record)
                return failures

            if settled:
                warnings += settle()
        except (OSError, NetlinkError) as error:
            raise OperatorError(
                f"uplink {state.name}: cannot be taken over: {error}; Linux is left as it was"
            ) from error
        undo.pop_all()
    return TakenUplink(
        state=state,
        tap_fds=descriptors,
        tap_offload=offload,
        tap_ifindex=entry.tap_ifindex,
        nic_name=state.name,
        nic_ifindex=nic_ifindex,
        netns=namespace,
        hook=marker,
        warnings=warnings,
        device=device,
        left_at=left_at,
        settle=settle,
    )
