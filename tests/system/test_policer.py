# SPDX-License-Identifier: Apache-2.0
"""Datagrams between two kernels through a policer: what arrives is the burst and what its rate allows, no more."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable

from tests.system.conftest import Sandbox
from tests.system.process import ping
from tests.system.router import LEFT, RIGHT, SERVER, Router, listening

SIZE, HEADERS = 1000, 28
RATE, BURST = 1000, 50 * (SIZE + HEADERS)
"""kbit/s, bytes."""
WAIT = 0.3
"""Seconds after which nothing is under way any more."""


def test_what_a_rate_lets_pass(make_sandbox: Callable[[], Sandbox]) -> None:
    with Router(make_sandbox()).running() as router, listening(router.server, SERVER, 9, socket.SOCK_DGRAM) as server:
        assert ping(router.client, SERVER) == 1  # Linux would lose datagrams while it asks for the router
        router.pyvpp.ctl(f"policer add name slow cir {RATE} cb {BURST}")
        for command in (f"policer input name slow {LEFT}", f"policer output name slow {RIGHT}"):
            client = router.client.inside(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            with client:
                router.pyvpp.ctl("policer reset name slow")
                began = time.monotonic()
                router.pyvpp.ctl(command)
                for _ in range(400):
                    client.sendto(bytes(SIZE), (SERVER, 9))
                arrived = 0
                server.settimeout(WAIT)
                with contextlib.suppress(TimeoutError):
                    while server.recv(2000):
                        arrived += 1
                allowed = BURST + RATE * 125 * (time.monotonic() - began)
                assert 50 <= arrived <= allowed / (SIZE + HEADERS)
                (row,) = router.pyvpp.data("show policer")
                assert row["conform"]["packets"] == arrived
                assert row["conform"]["packets"] + row["violate"]["packets"] == 400
                router.pyvpp.ctl(command.replace(" name", " unapply name"))
