# SPDX-License-Identifier: Apache-2.0
"""What a service manager is told, by systemd's protocol: one datagram to the socket it names (sd_notify(3))."""

import contextlib
import os
import socket


def notify(state: str) -> None:
    """Send `READY=1`, `STOPPING=1`, `WATCHDOG=1`, `STATUS=...`; nothing happens where nobody asks."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.connect("\0" + address[1:] if address.startswith("@") else address)
        s.send(state.encode())
