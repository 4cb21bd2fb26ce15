# SPDX-License-Identifier: Apache-2.0
"""What a service manager is told, by systemd's protocol: one datagram to the socket it names (sd_notify(3))."""

import contextlib
import os
import select
import socket

PATIENCE = 5.0


def is_managed() -> bool:
    """Whether there is a service manager, which we can tell the process id that counts."""
    return bool(os.environ.get("NOTIFY_SOCKET"))


def notify(state: str, *, wait: bool = False) -> None:
    """Send `READY=1`, `STOPPING=1`, `WATCHDOG=1`, `STATUS=...`; nothing happens where nobody asks.

    `wait` until the manager has read it, some seconds at most: it does not know who sent it when we are gone by then.
    """
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.settimeout(PATIENCE if wait else 0)  # a manager that does not read must not stop us
        s.connect("\0" + address[1:] if address.startswith("@") else address)
        s.send(state.encode())
        if wait:
            _wait_until_read(s)


def _wait_until_read(manager: socket.socket) -> None:
    """sd_notify_barrier(3): the manager closes the end of a pipe that comes with the message when it gets there."""
    ours, theirs = os.pipe2(os.O_CLOEXEC)
    try:
        try:
            socket.send_fds(manager, [b"BARRIER=1"], [theirs])
        finally:
            os.close(theirs)
        poller = select.poll()
        poller.register(ours, 0)  # the hang-up is told in any case
        poller.poll(1000 * PATIENCE)
    finally:
        os.close(ours)
