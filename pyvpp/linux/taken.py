# SPDX-License-Identifier: Apache-2.0
"""An uplink that is taken over: what the dataplane has of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import msgspec

from pyvpp.linux.capture import UplinkState


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
