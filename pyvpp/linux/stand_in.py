# SPDX-License-Identifier: Apache-2.0
"""The TAP that stands in for a NIC: opened, and prepared beside the NIC once, to see that it can be."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
from typing import Any

from pyvpp.linux import apply, capture
from pyvpp.linux.capture import UplinkState

_TUNSETIFF = 0x400454CA
_TUNSETIFINDEX = 0x400454DA
_TUNSETOFFLOAD = 0x400454D0
_IFF_TAP, _IFF_NO_PI, _IFF_VNET_HDR, _IFF_MULTI_QUEUE = 0x2, 0x1000, 0x4000, 0x100
# checksum 1, TSO over IPv4 2, IPv6 4, with ECN 8, UDP segmentation over IPv4 0x20, IPv6 0x40: from all to none
_OFFLOADS = (0x6F, 0x0F, 0x07, 0x01, 0x00)


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


def close_tap(descriptors: list[int]) -> None:
    while descriptors:
        os.close(descriptors.pop())


def rehearse(ip: Any, name: str, queues: int, state: UplinkState) -> dict[str, str]:
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
        close_tap(descriptors)
