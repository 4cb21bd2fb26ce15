# SPDX-License-Identifier: Apache-2.0
"""Real TCP connections through a router that clamps: both kernels believe the smaller size, and data arrives whole."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable

import pytest

from tests.system.conftest import Sandbox
from tests.system.router import LEFT, MTU, RIGHT, SERVER, SERVER6, Router, connected, listening

MOST = 1200
TIMESTAMPS = 12
"""Bytes that Linux's timestamps take of each segment: TCP_MAXSEG says what is left for data."""
DATA = bytes(range(256)) * 400


def sizes(router: Router, address: str, port: int) -> tuple[int, int]:
    """The segment sizes that client and server use, after the client has sent DATA and the server all of it back."""
    with contextlib.ExitStack() as closing:
        listener = closing.enter_context(listening(router.server, address, port))
        client = closing.enter_context(connected(router.client, address, port))
        server = closing.enter_context(listener.accept()[0])
        echoed = threading.Thread(target=echo, args=(server,))
        echoed.start()
        client.sendall(DATA)
        client.shutdown(socket.SHUT_WR)
        assert client.makefile("rb").read() == DATA
        echoed.join()
        return tuple(end.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG) for end in (client, server))


def echo(server: socket.socket) -> None:
    server.settimeout(5)
    while data := server.recv(65536):
        server.sendall(data)
    server.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize("offload", [False, True], ids=["checksums by the ends", "checksums by the device"])
def test_both_ends_believe_the_smaller_size(make_sandbox: Callable[[], Sandbox], offload: bool) -> None:
    with Router(make_sandbox()).running(offload=offload) as router:
        assert sizes(router, SERVER, 5001) == (MTU - 40 - TIMESTAMPS,) * 2
        router.pyvpp.ctl(f"set interface tcp-mss-clamp {LEFT} ip4 enable ip4-mss {MOST} ip6 enable ip6-mss {MOST - 20}")
        assert sizes(router, SERVER, 5002) == (MOST - TIMESTAMPS,) * 2
        assert sizes(router, SERVER6, 5003) == (MOST - 20 - TIMESTAMPS,) * 2
        for node in ("ip4-in", "ip4-out", "ip6-in", "ip6-out"):
            assert router.pyvpp.counter(f"tcp-mss-clamping-{node}", "clamped") == 1

        router.pyvpp.ctl(f"set interface tcp-mss-clamp {LEFT} ip4 disable ip6 disable")
        router.pyvpp.ctl(f"set interface tcp-mss-clamp {RIGHT} ip4 tx ip4-mss {MOST}")
        client, server = sizes(router, SERVER, 5004)
        assert (client, server) == (MTU - 40 - TIMESTAMPS, MOST - TIMESTAMPS)  # the client's SYN alone left by it
        assert router.pyvpp.data(f"show interface tcp-mss-clamp {LEFT}") == []
