# SPDX-License-Identifier: Apache-2.0
"""What a process hands over to its successor, and what they say to each other meanwhile (`pyvpp.upgrade`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from pyvpp.configuration import Entry
from pyvpp.device.af_packet import AfPacket
from pyvpp.inheritance import Device, Loan, Memory
from pyvpp.keepsakes import Kept
from pyvpp.linux.capture import UplinkState

if TYPE_CHECKING:
    from pyvpp.engine import Engine

FORMAT = 2  # of what is handed over
WARM, BUILT, GOING, FAILED = "warm", "built", "going", "failed"
WARM_SECONDS, BUILT_SECONDS, SWITCH_SECONDS = 600.0, 60.0, 2.0


class Said(msgspec.Struct):
    """A step the successor has reached; with FAILED, why there will be no other."""

    step: str
    text: str = ""
    format: int = FORMAT


class HandedUplink(msgspec.Struct):
    """A taken uplink, its descriptors as they were sent."""

    state: UplinkState
    tap_fds: list[int]
    tap_offload: int
    tap_ifindex: int
    nic_name: str
    nic_ifindex: int
    netns: int
    marker: int
    driver_reason: str


class Estate(msgspec.Struct):
    """All that a successor gets: `extras` is what plugins add of their own at the event "hand-over"."""

    process: int
    lock: int
    uplinks: list[HandedUplink]
    devices: dict[str, Device]
    entries: list[Entry]
    extras: dict[str, Any]
    unconfirmed_until: float | None = None  # by the monotonic clock
    memory: Memory | None = None  # of all packets, where it is a file


class Rings(msgspec.Struct):
    """Where reading and writing goes on in the rings of an AF_PACKET interface: of each receive queue, each worker."""

    rx: list[int]
    tx: list[int]


class Switch(msgspec.Struct):
    """The last word of the old process. `since` is when it took its last packet, by the monotonic clock, and `loans`
    the buffers that Linux has, by AF_XDP interface.

    `kept` is what plugins keep of their tables; then a descriptor comes along.
    """

    rings: dict[str, Rings]
    since: float
    loans: dict[str, Loan] = {}
    kept: list[Kept] = []


class Numbers:
    """Descriptors on their way: each is sent as its place among all."""

    def __init__(self) -> None:
        self.descriptors: list[int] = []

    def __call__(self, descriptor: int) -> int:
        self.descriptors.append(descriptor)
        return len(self.descriptors) - 1


def ring_rows(engine: Engine) -> list[tuple[str, list[Any], list[Any]]]:
    """The rows of all AF_PACKET interfaces: of the receive queues in their order, and of the workers."""
    rx, tx = engine.tables["af_packet_rx_queues"].array, engine.tables["af_packet_tx_queues"].arrays
    found = []
    for interface in engine.interfaces:
        if isinstance(interface.device, AfPacket):
            by_fd = {int(rx["fd"][at]): rx[at] for at in np.flatnonzero(rx["sw_if_index"] == interface.sw_if_index)}
            found.append((interface, by_fd, [array[interface.sw_if_index] for array in tx]))
    return [
        (interface.name, [by_fd[queue.heard.fileno()] for queue in interface.device.rx_queues], workers)
        for interface, by_fd, workers in found
    ]
