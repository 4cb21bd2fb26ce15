# SPDX-License-Identifier: Apache-2.0
"""TAP and TUN: an interface of Linux whose other end is ours, a file descriptor.

A TAP carries Ethernet frames and stands in for an uplink on the host; a TUN carries IP packets and is what a pod
gets. Both carry virtio_net_hdr, so that 64 KiB packets and unfinished checksums pass unchanged: one system call a
packet is affordable when the packet is 64 KiB. The descriptor goes on working wherever the caller or the interface
moves afterwards.

With several queues there are as many descriptors. Linux spreads what it sends by a hash of the flow, and gives a flow's
packets to the queue that wrote the last one of the same flow before, so both directions meet on one worker
(tun_flow_update, tun_automq_select_queue).

A descriptor keeps the namespace alive in which /dev/net/tun was opened (tun_chr_open), so a device for another
namespace, a pod's, is made elsewhere and moved there. When a pod's namespace goes, its device goes with it; from then
on reads and writes answer EBADFD and the descriptor is always ready.

Measured: 0.9 microseconds to read 60 bytes, 1.3 to write them, 7 and 4 for 64 KiB; IFF_NAPI costs more per write,
io_uring gains nothing on reads.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import socket
import struct
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv4Interface
from typing import Any, TypeVar

from pyvpp.errors import OperatorError
from pyvpp.inheritance import TapQueues
from pyvpp.interface import OFFLOAD_CSUM, OFFLOAD_CSUM_ANYWHERE, OFFLOAD_TSO4, OFFLOAD_TSO6, OFFLOAD_USO
from pyvpp.linux import netns, tap_link
from pyvpp.tables import LINE_PAIR, Table, interface_table, record_dtype

T = TypeVar("T")

log = logging.getLogger(__name__)

TAP_RX_QUEUE = record_dtype(
    [
        ("fd", "<i4"),
        ("open", "u1"),  # 0: no queue, or a device that is gone
        ("layer3", "u1"),  # 1: a TUN, packets begin with the IP header
        ("pad", "<u2"),
        ("sw_if_index", "<u4"),
        ("epoll_fd", "<i4"),  # of the worker that reads it; a device that is gone is taken out
        ("pad2", "u1", (LINE_PAIR - 16,)),  # the next row is another worker's
    ]
)
TAP_TX_QUEUE = record_dtype([("fd", "<i4")])  # -1: this interface is none of ours
TAP_RX_QUEUES = Table("tap_rx_queues", TAP_RX_QUEUE, 64)
TAP_TX_QUEUES = interface_table("tap_tx_queues", TAP_TX_QUEUE, per_worker=True)

_TUNSETIFF = 0x400454CA
_TUNSETPERSIST = 0x400454CB
_TUNSETOFFLOAD = 0x400454D0
_TUNGETIFF = 0x800454D2
_TUNSETCARRIER = 0x400454E2
_TUNGETDEVNETNS = 0x54E3
_IFF_TUN = 0x0001
_IFF_TAP = 0x0002
_IFF_NO_PI = 0x1000
_IFF_VNET_HDR = 0x4000
_IFF_MULTI_QUEUE = 0x0100
_IFF_PERSIST = 0x0800

QUEUE_PACKETS = 4096
"""What a worker that was not scheduled for a while finds without a loss, as many as in a packet socket's ring. Linux
gives a TAP or TUN 500 and, unlike with a NIC, stops nobody who sends more."""

CSUM, TSO4, TSO6, TSO_ECN, USO4, USO6 = 1, 2, 4, 8, 0x20, 0x40
# What we accept from Linux, best first: older kernels know no UDP segmentation and answer EINVAL to the whole.
OFFLOADS = (CSUM | TSO4 | TSO6 | TSO_ECN | USO4 | USO6, CSUM | TSO4 | TSO6 | TSO_ECN, CSUM, 0)


class Tap:
    """An open TAP or TUN, one file descriptor for each of its `queues`.

    `namespace` is a network namespace as a file descriptor (None: the caller's), where the interface is to be. `fds`
    adopts descriptors somebody else opened and configured; then nothing is made. Raises OperatorError when the name
    is taken, OSError when Linux refuses otherwise.
    """

    def __init__(
        self,
        name: str,
        *,
        layer3: bool = False,
        namespace: int | None = None,
        fds: Sequence[int] = (),
        queues: int = 1,
        persistent: bool = False,
    ) -> None:
        try:
            self.fds = list(fds) or _create(name, layer3, namespace, queues)
        except OSError as error:
            if error.errno in (errno.EBUSY, errno.EEXIST):
                raise OperatorError(f"interface {name} exists already: choose another name") from error
            if error.errno == errno.EINVAL:  # so Linux says of any other interface, and of what cannot be a name
                raise OperatorError(f"interface {name} exists already or is no name for one") from error
            raise
        for fd in self.fds:
            os.set_blocking(fd, False)
        self.name, flags = self._identity()
        self.layer3 = bool(flags & _IFF_TUN)
        self.offloads = self._set_offloads()
        self.home = ""  # the namespace of its other end, in the operator's words; empty: the caller's
        self.netns = (0, 0)  # and which that is
        self.pins = False  # whether the descriptors keep that namespace alive
        self.persistent = bool(flags & _IFF_PERSIST)
        if persistent:
            self.set_persistent(True)

    @property
    def fd(self) -> int:
        """The first queue's descriptor, which stands for the device."""
        return self.fds[0]

    @property
    def offload(self) -> int:
        """OFFLOAD_*: Linux takes from us what it may leave to us, it learned both at once."""
        uso = OFFLOAD_USO if self.offloads & USO4 else 0
        return OFFLOAD_CSUM | OFFLOAD_CSUM_ANYWHERE | OFFLOAD_TSO4 | OFFLOAD_TSO6 | uso

    def _inside(self, function: Callable[[], T]) -> T:
        """Runs a function in the namespace where the interface is now. Raises OSError (EBADFD) when it is gone."""
        namespace = fcntl.ioctl(self.fd, _TUNGETDEVNETNS)
        try:
            return netns.run_in(namespace, function)
        finally:
            os.close(namespace)

    def _identity(self) -> tuple[str, int]:
        """Name and flags by the descriptor itself: it may be an adopted one, the interface may have been renamed."""
        name, flags = struct.unpack_from("16sH", fcntl.ioctl(self.fd, _TUNGETIFF, bytes(40)))
        if not flags & _IFF_VNET_HDR or not flags & _IFF_NO_PI:
            raise ValueError(f"file descriptor {self.fd} is a TAP or TUN without IFF_VNET_HDR and IFF_NO_PI")
        return name.split(b"\0", 1)[0].decode(), flags

    def _set_offloads(self) -> int:
        """What Linux may leave to us; the device's, whichever queue is asked."""
        for offloads in OFFLOADS:
            with contextlib.suppress(OSError):
                fcntl.ioctl(self.fd, _TUNSETOFFLOAD, offloads)
                return offloads
        return 0

    def alive(self) -> bool:
        """Whether the Linux interface is still there; its namespace may have taken it along."""
        try:
            fcntl.ioctl(self.fd, _TUNGETIFF, bytes(40))
        except OSError:
            return False
        return True

    def attach_rx(self, row: Any, queue: int, sw_if_index: int) -> None:
        """Describes a queue in a row of `tap_rx_queues`; its reader writes `epoll_fd`."""
        row.fd = self.fds[queue]
        row.layer3 = self.layer3
        row.sw_if_index = sw_if_index
        row.epoll_fd = -1
        row.open = 1

    def attach_tx(self, row: Any, worker: int) -> None:
        """Describes in a row of `tap_tx_queues` where a worker writes: into its own queue, or into one of fewer."""
        row.fd = self.fds[worker % len(self.fds)]

    def poll_fds(self, queue: int = 0) -> tuple[int, ...]:
        """Readable when Linux has sent a packet."""
        return (self.fds[queue],)

    def configure(
        self, *, mac: bytes | None = None, mtu: int | None = None, up: bool | None = None, queue: int | None = None
    ) -> None:
        """Sets what is given of the Linux end; `queue`: how many packets wait for us before any is lost."""
        self._inside(lambda: tap_link.set_link(self.name, mac=mac, mtu=mtu, up=up, queue=queue))

    def add_pod_address(self, address: IPv4Address) -> None:
        """The address as a /32 and everything else by this interface, which is all that a pod needs."""
        self._inside(lambda: tap_link.add_pod_address(self.name, address))

    def add_address(self, address: IPv4Interface) -> None:
        """An address of the Linux end. Raises OSError."""
        self._inside(lambda: tap_link.add_address(self.name, address))

    def mac(self) -> bytes:
        return self._inside(lambda: tap_link.mac(self.name))

    def mtu(self) -> int:
        return self._inside(lambda: tap_link.mtu(self.name))

    def set_carrier(self, up: bool) -> None:
        """What the other side sees as the cable."""
        fcntl.ioctl(self.fd, _TUNSETCARRIER, struct.pack("i", up))

    def set_persistent(self, persistent: bool) -> None:
        """A persistent interface outlives the descriptor, with its addresses and routes."""
        fcntl.ioctl(self.fd, _TUNSETPERSIST, int(persistent))
        self.persistent = persistent

    def estate(self) -> TapQueues:
        """What another process needs to go on with it."""
        return TapQueues(self.fds, self.home, self.netns, self.pins)

    def release_namespace(self) -> None:
        """Lets a namespace go that nothing but our descriptors keeps: those of a device that is gone take their place.

        A pod's namespace has a name, or a process; once it has not, the pod is dead.
        """
        if not self.pins or _is_called(self.home, self.netns):
            return
        with contextlib.suppress(OSError):
            self.set_persistent(False)
        dead = _dead()
        for fd in self.fds:
            os.dup2(dead, fd, inheritable=False)
        os.close(dead)
        self.pins = self.persistent = False

    def close(self) -> None:
        """Gives the descriptors back; Linux removes the interface unless it is persistent."""
        for fd in self.fds:
            os.close(fd)

    def delete(self) -> None:
        """Closes the device and sees to it that the interface goes with it."""
        with contextlib.suppress(OSError):  # the interface is gone already
            self.set_persistent(False)
        self.close()


def reattach(name: str, namespace: int, *, layer3: bool, queues: int) -> Tap | None:
    """A persistent device that somebody left in a namespace, with all that is configured there; None: there is none.

    Its descriptors keep the namespace alive, see `release_namespace`. One that was made for one queue and is to have
    several, or the other way round, is removed. Raises OSError.
    """

    def attach() -> list[int]:
        if name not in [each for _, each in socket.if_nameindex()]:
            return []
        try:
            return _open(name, layer3, queues)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            log.warning("%s was made for another number of queues: connections through it end", name)
            tap_link.remove(name)
            return []

    fds = netns.run_in(namespace, attach)
    if not fds:
        return None
    device = Tap(name, fds=fds)
    device.pins = True
    return device


def _is_called(namespace: str, identity: tuple[int, int]) -> bool:
    """Whether an operator's word for a namespace still means this one."""
    try:
        return not namespace or netns.identity(namespace_path(namespace)) == identity
    except OSError:
        return False


def _dead() -> int:
    """A descriptor of a device that is no more: whoever reads or writes is told so (EBADFD)."""

    def make() -> int:
        (fd,) = _open("gone", True, 1)
        tap_link.remove("gone")
        return fd

    return netns.run_in(netns.nameless(), make)


def set_up_pod(tun: Tap, address: IPv4Address, mtu: int) -> None:
    """A pod's end of a TUN: up, addressed, its default route. Raises OSError; what is there already stays."""
    tun.configure(mtu=mtu, up=True, queue=QUEUE_PACKETS)
    tun.add_pod_address(address)


def namespace_path(namespace: str | int) -> str:
    """Where a namespace is found that `ip netns` names, that of a process, or one given by its path."""
    if isinstance(namespace, int) or namespace.isdecimal():
        return f"/proc/{namespace}/ns/net"
    return namespace if "/" in namespace else f"/run/netns/{namespace}"


def open_namespace(namespace: str | int) -> int:
    """A namespace that `ip netns` names, a path to one, or that of a process, as a file descriptor."""
    path = namespace_path(namespace)
    expected = "give a name of `ip netns`, a path or a pid"
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise OperatorError(f"no network namespace {namespace} ({error.strerror}): {expected}") from error
    if not netns.is_namespace(descriptor):
        os.close(descriptor)
        raise OperatorError(f"{namespace} is no network namespace: {expected}")
    return descriptor


def _create(name: str, layer3: bool, namespace: int | None, queues: int) -> list[int]:
    if namespace is None:
        return _open(name, layer3, queues)
    return netns.run_in(netns.nameless(), lambda: _open_and_move(name, layer3, namespace, queues))


def _open_and_move(name: str, layer3: bool, namespace: int, queues: int) -> list[int]:
    fds = _open(name, layer3, queues)
    try:
        tap_link.move(name, namespace)
    except BaseException:
        for fd in fds:
            os.close(fd)
        raise
    return fds


def _open(name: str, layer3: bool, queues: int) -> list[int]:
    flags = (_IFF_TUN if layer3 else _IFF_TAP) | _IFF_NO_PI | _IFF_VNET_HDR | (_IFF_MULTI_QUEUE if queues > 1 else 0)
    fds: list[int] = []
    try:
        for _ in range(queues):
            fds.append(os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC))
            fcntl.ioctl(fds[-1], _TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
    except OSError:
        for fd in fds:
            os.close(fd)
        raise
    return fds
