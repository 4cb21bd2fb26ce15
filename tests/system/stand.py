# SPDX-License-Identifier: Apache-2.0
"""A pyvpp with one uplink or two, a stream of a packet a millisecond both ways over each family, and what a fault did."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyvpp.cli.client import Client
from tests.system.conftest import Namespace, Pair, differences
from tests.system.fatal.sitecustomize import guardians
from tests.system.probe import Probe
from tests.system.process import eventually
from tests.system.summary import tabulate
from tests.system.warm import Process, Server

ADDRESSES = {4: ("10.77.0.1", "10.77.0.2"), 6: ("2001:db8:77::1", "2001:db8:77::2")}
AROUND = 0.2  # seconds of the stream before and after
HEAD = ("fault", "uplinks", "IPv4 lost", "ms without", "IPv6 lost", "ms without", "Linux afterwards")
TITLE = "Faults: packets lost of one a millisecond each way, the longest time without one, what Linux has afterwards"


def configure(pair: Pair, uplinks: int) -> None:
    """What has to be there again. The second uplink's cable lies beside the first's."""
    host = pair.host
    for line in (
        "link set eth0 alias uplink",
        "addr add 10.77.0.9/24 label eth0:x dev eth0",
        "addr add 2001:db8:77::9/64 dev eth0 nodad noprefixroute",
        "route add default via 10.77.0.2 metric 100",
        "route add 198.51.100.0/24 via 10.77.0.2 table 100",
        "-6 route add default via 2001:db8:77::2 metric 300",
        "neigh add 10.77.0.50 lladdr 02:00:00:00:00:50 dev eth0 nud permanent",
    ):
        host.ip(*line.split())
    if uplinks == 2:
        pair.join(host, "eth1", pair.peer, "eth1")
        for namespace, last in ((host, 1), (pair.peer, 2)):
            namespace.ip("addr", "add", f"10.88.0.{last}/24", "dev", "eth1")
            namespace.ip("addr", "add", f"2001:db8:88::{last}/64", "dev", "eth1", "nodad")
        host.ip("route", "add", "10.89.0.0/16", "nexthop", "via", "10.77.0.2", "nexthop", "via", "10.88.0.2")
        over = ("nexthop", "via", "2001:db8:77::2", "nexthop", "via", "2001:db8:88::2")
        host.ip("-6", "route", "add", "2001:db8:89::/48", *over)
        show = f"ip -n {host.name} -6 addr show"
        host.run("timeout", "8", "sh", "-c", f"while {show} | grep -q ' tentative'; do sleep .05; done")


@dataclass
class Stand:
    """What a row of the matrix works with. `moment` is when the fault was: of what came before nothing counts."""

    pair: Pair
    process: Process
    uplinks: int
    before: dict[str, Any]
    moment: float = 0.0

    @property
    def runtime_dir(self) -> Path:
        return self.pair.runtime_dir

    @property
    def server(self) -> Server:
        return self.process.server

    def ip(self, line: str) -> None:
        self.pair.host.ip(*line.split())

    def kill(self, *pids: int) -> None:
        """SIGKILL, to all at once."""
        self.now()
        for pid in pids:
            os.kill(pid, signal.SIGKILL)

    def now(self) -> None:
        """This is the moment of the fault."""
        self.moment = time.monotonic()

    @property
    def guardian(self) -> int:
        (pid,) = guardians(str(self.runtime_dir))
        return pid

    def terminate(self) -> None:
        """An orderly end."""
        os.kill(self.process.pid, signal.SIGTERM)
        assert self.process.wait() == 0, self.process.said

    def until_restored(self) -> None:
        """By whoever does it."""
        eventually(lambda: not (self.runtime_dir / "journal.json").exists(), "the journal is gone")
        eventually(lambda: not guardians(str(self.runtime_dir)), "the guardian is through")

    def restore(self) -> tuple[int, str]:
        """`pyvpp restore`: its status, and what it said."""
        return self.run("restore")

    def run(self, *words: str) -> tuple[int, str]:
        """Another command, until it ends."""
        process = self.start(*words)
        return process.wait(), process.said

    def start(self, *words: str) -> Process:
        words = (*words, "--runtime-dir", str(self.runtime_dir))
        output = self.pair.directory / f"{time.monotonic_ns()}.out"
        return self.server.start(self.pair.host, output, self.runtime_dir, "", *words)

    def start_again(self) -> None:
        """The next pyvpp, until it is ready."""
        self.process = self.start(*uplink_options(self.uplinks))
        self.until_ready()

    def until_ready(self) -> None:
        eventually(lambda: "pyvpp: ready\n" in self.process.said or self.process.is_over(), "ready", 60)
        assert not self.process.is_over(), self.process.said

    def ctl(self, line: str) -> str:
        """What a command printed; it must succeed."""
        with contextlib.closing(Client(self.runtime_dir / "cli.sock")) as client:
            response = client.command(line, False)
        assert response["status"] == 0, response["error"]
        return str(response["output"])

    def until_reached(self) -> None:
        """By both families."""
        for host, _ in ADDRESSES.values():
            eventually(lambda host=host: is_reached(self.pair.peer, host), f"{host} is reached")  # type: ignore[misc]

    def changes(self) -> list[str]:
        """In what Linux differs from what it was before pyvpp came."""
        return differences(self.before, view(self.pair, self.uplinks))


def is_reached(source: Namespace, address: str) -> bool:
    """Whether a host refuses a connection."""
    try:
        source.inside(lambda: socket.create_connection((address, 9), timeout=1)).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return True


def view(pair: Pair, uplinks: int) -> dict[str, Any]:
    """Equal things of two uplinks stand in the order in which those came back."""
    seen = pair.host.snapshot()
    if uplinks == 2:
        for kind in ("link", "addr", "route", "route6"):
            seen[kind].sort(key=str)
    return seen


def uplink_options(uplinks: int) -> list[str]:
    return [word for number in range(uplinks) for word in ("--uplink", f"eth{number}")]


@contextlib.contextmanager
def standing(pair: Pair, server: Server, uplinks: int, *options: str) -> Iterator[Stand]:
    """A pyvpp that is ready. In the end it is gone."""
    configure(pair, uplinks)
    before = view(pair, uplinks)
    words = (*uplink_options(uplinks), "--runtime-dir", str(pair.runtime_dir), *options)
    stand = Stand(
        pair, server.start(pair.host, pair.directory / "pyvpp.out", pair.runtime_dir, "", *words), uplinks, before
    )
    stand.until_ready()
    yield stand


@contextlib.contextmanager
def measured(stand: Stand, fault: str) -> Iterator[list[str]]:
    """A row of the table: the stream runs while the block does. The block puts into the list what Linux has in the end."""
    pair = stand.pair
    probes = {
        family: (Probe(pair, pair.host, *addresses), Probe(pair, pair.peer, *reversed(addresses)))
        for family, addresses in ADDRESSES.items()
    }
    time.sleep(AROUND)
    stand.now()
    outcome: list[str] = []
    yield outcome
    stand.until_reached()
    time.sleep(AROUND)
    end = time.monotonic()
    figures: list[str] = []
    for both in probes.values():
        for probe in both:
            probe.stop()
        ways = [probe.interruption(stand.moment, end) for probe in both]
        figures += [str(sum(way.lost for way in ways)), f"{max(way.milliseconds for way in ways):.0f}"]
    tabulate(TITLE, HEAD, (fault, str(stand.uplinks), *figures, *outcome))
