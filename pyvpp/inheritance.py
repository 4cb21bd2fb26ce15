# SPDX-License-Identifier: Apache-2.0
"""What a process finds when it takes another's place: devices handed over by a living one, devices a dead one left.

A file descriptor in one of these is the number it has in the process that holds the structure; `mapped` gives the same
with the numbers they have on their way from one process to another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

Mapping = Callable[[int], int]


class Ring(msgspec.Struct, frozen=True):
    """A queue of packet sockets; a ring lies in its socket, and whoever has it maps it."""

    receiver: int | None
    transmitter: int
    sender: int
    rx_slots: int
    rx_slot_bytes: int
    tx_slots: int
    packets: int
    drops: int

    def mapped(self, number: Mapping) -> Ring:
        receiver = None if self.receiver is None else number(self.receiver)
        transmitter, sender = number(self.transmitter), number(self.sender)
        return msgspec.structs.replace(self, receiver=receiver, transmitter=transmitter, sender=sender)


class PacketSockets(msgspec.Struct, frozen=True, tag="af-packet"):
    """An AF_PACKET device, and the programs at its interface's ingress and egress."""

    queues: list[Ring]
    options: dict[str, Any]
    fanout: int | None
    ingress: int | None
    egress: int | None
    offload: int

    def mapped(self, number: Mapping) -> PacketSockets:
        ingress = None if self.ingress is None else number(self.ingress)
        egress = None if self.egress is None else number(self.egress)
        queues = [ring.mapped(number) for ring in self.queues]
        return msgspec.structs.replace(self, queues=queues, ingress=ingress, egress=egress)


class XdpSockets(msgspec.Struct, frozen=True, tag="af-xdp"):
    """An AF_XDP device: its sockets by queue, whose umem is the heap, and what keeps its program where it is.

    `sender` is the packet socket beside them, `options` what the operator chose.
    """

    queues: list[int]
    program: list[int]
    sender: int
    egress: int | None
    offload: int
    options: dict[str, Any]
    native: bool
    zero_copy: bool
    tx_metadata: bool
    missed: int

    def mapped(self, number: Mapping) -> XdpSockets:
        return msgspec.structs.replace(
            self,
            queues=[number(fd) for fd in self.queues],
            program=[number(fd) for fd in self.program],
            sender=number(self.sender),
            egress=None if self.egress is None else number(self.egress),
        )


class Loan(msgspec.Struct, frozen=True):
    """What an AF_XDP device has lent to Linux at the moment of the switch.

    `fill` and `tx` are what the rings' producers will be, by queue; `received` the buffers lent to receive into, by
    queue, `sent` those to be sent and `pieces` in how many descriptors each: arrays of 32-bit numbers.
    """

    fill: list[int]
    tx: list[int]
    received: list[bytes]
    sent: bytes
    pieces: bytes


class TapQueues(msgspec.Struct, frozen=True, tag="tap"):
    """A TAP or TUN. `namespace` is where its other end is, in the operator's words, and `netns` which that is."""

    fds: list[int]
    namespace: str
    netns: tuple[int, int]
    pins: bool

    def mapped(self, number: Mapping) -> TapQueues:
        return msgspec.structs.replace(self, fds=[number(fd) for fd in self.fds])


class Memory(msgspec.Struct, frozen=True):
    """The packets' memory: a file, what it is made of, how it is divided into slots (see `layout`), and some buffers
    that are the new process' before all others are."""

    file: int
    pages: str
    slots: list[int]
    buffers: list[int]

    def mapped(self, number: Mapping) -> Memory:
        return msgspec.structs.replace(self, file=number(self.file))


Device = PacketSockets | XdpSockets | TapQueues


class LeftDevice(msgspec.Struct, frozen=True):
    """A persistent TAP or TUN of an interface: its name in Linux, and where it is."""

    interface: str
    name: str
    namespace: str
    netns: tuple[int, int]


class Inheritance:
    """Each is there for whoever makes the interface it belonged to, once."""

    def __init__(self, devices: dict[str, Device] | None = None, left: list[LeftDevice] | None = None) -> None:
        self._devices = devices or {}
        self.left = left or []

    def sockets(self, interface: str) -> PacketSockets | None:
        """What was handed over of an AF_PACKET interface."""
        found = self._devices.get(interface)
        return self._devices.pop(interface) if isinstance(found, PacketSockets) else None  # type: ignore[return-value]

    def xdp_sockets(self, interface: str) -> XdpSockets | None:
        """What was handed over of an AF_XDP interface."""
        found = self._devices.get(interface)
        return self._devices.pop(interface) if isinstance(found, XdpSockets) else None  # type: ignore[return-value]

    def queues(self, interface: str) -> TapQueues | None:
        """What was handed over of a TAP or TUN."""
        found = self._devices.get(interface)
        return self._devices.pop(interface) if isinstance(found, TapQueues) else None  # type: ignore[return-value]

    @property
    def unclaimed(self) -> list[str]:
        """The interfaces whose devices were handed over and that nobody has made."""
        return sorted(self._devices)

    def claim(self, netns: tuple[int, int], name: str) -> bool:
        """Whether somebody left a device of that name in a namespace; from now on it is the caller's."""
        found = [each for each in self.left if each.netns == netns and each.name == name]
        self.left = [each for each in self.left if each not in found]
        return bool(found)
