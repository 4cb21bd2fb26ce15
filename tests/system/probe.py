# SPDX-License-Identifier: Apache-2.0
"""A stream of UDP packets both ways, one a millisecond each, and how long it was interrupted."""

from __future__ import annotations

import itertools
import subprocess
import sys
from dataclasses import dataclass

from tests.system.conftest import Namespace, Sandbox

PORT = 7100
# Sends a packet a millisecond with its number, and notes when those of the other side arrive: one clock for both.
PROBE = """
import select, socket, struct, sys, time
own, other, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
s = socket.socket(socket.AF_INET6 if ":" in own else socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, 33, 1 << 22)  # SO_RCVBUFFORCE
s.bind((own, port))
s.setblocking(False)
arrived = []
print("bound", flush=True)
following = time.monotonic()
number = 0
while not select.select([sys.stdin], [], [], 0)[0]:
    following += 0.001
    try:
        s.sendto(struct.pack("=Qd", number, time.monotonic()), (other, port))
        number += 1
    except OSError:
        pass
    while (left := following - time.monotonic()) > 0:
        select.select([s], [], [], left)
        try:
            while True:
                sent_number, sent = struct.unpack("=Qd", s.recv(100))
                arrived.append((time.monotonic(), sent_number))
        except OSError:
            pass
print(number)
for when, sent_number in arrived:
    print(when, sent_number)
"""


@dataclass(frozen=True)
class Interruption:
    """The longest time without a packet within a period, and what was lost in it."""

    milliseconds: float
    lost: int


class Probe:
    """One side of the stream."""

    def __init__(self, sandbox: Sandbox, namespace: Namespace, own: str, other: str) -> None:
        self._process = sandbox.start(
            namespace, sys.executable, "-c", PROBE, own, other, str(PORT), stdin=subprocess.PIPE
        )
        self._arrivals: list[tuple[float, int]] = []
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "bound\n", self._process.communicate()[1]

    def stop(self) -> None:
        """No more is sent; what arrived can be asked now."""
        output, errors = self._process.communicate("\n", timeout=20)
        assert self._process.returncode == 0, errors
        lines = output.splitlines()[1:]
        self._arrivals = [(float(when), int(number)) for when, number in map(str.split, lines)]

    def interruption(self, begin: float, end: float) -> Interruption:
        """The longest that ended between two moments of the monotonic clock."""
        longest, lost = max(
            (until - since, after - before - 1)
            for (since, before), (until, after) in itertools.pairwise(self._arrivals)
            if begin <= until <= end
        )
        return Interruption(1000 * longest, lost)
