# SPDX-License-Identifier: Apache-2.0
"""Rounds of taking over and giving back: a random configuration, somebody killed at a random moment, and Linux as before.

`make rounds` plays PYVPP_ROUNDS=500 of them; `make test` a handful. PYVPP_SEED=N plays the same ones again (the seed is
printed, beside the figures), PYVPP_ROUND=N of these only the N-th. A round is `pyvpp` itself with its guardian, on one
uplink or two. Who dies, and when, is drawn: the dataplane while it takes over, while it runs, while it gives back; the
guardian with it, before it, or while it restores; `pyvpp restore` half way, twice over; or nobody. In the end whoever
an operator has runs once more, `pyvpp restore` or the next start.
"""

from __future__ import annotations

import os
import random
import signal
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.system.conftest import Pair, differences, wait_for_addresses
from tests.system.fatal.sitecustomize import DATAPLANE, GIVING, GUARDIAN, RESTORE, SETTLING, TAKING, guardians
from tests.system.process import eventually, ping
from tests.system.summary import report
from tests.system.test_capture import as_ordinary, configurations, configure
from tests.system.warm import Process, Server, served

ROUNDS = int(os.environ.get("PYVPP_ROUNDS", "4"))
SEED = int(os.environ.get("PYVPP_SEED", "1" if os.environ.get("CI") == "true" else time.time_ns() % 100_000))
ONLY = int(os.environ.get("PYVPP_ROUND", "0"))
pytestmark = [pytest.mark.slow, pytest.mark.timeout(60 + 30 * ROUNDS)]

CALLS = {TAKING: 9000, SETTLING: 2500, GIVING: 7000}  # about as many as there are
WHILE_RUNNING = 0.3  # seconds at most
MOMENTS = ("taking over", "settling", "running", "giving back", "nobody dies")


class Round:
    """One pair of namespaces from its begin to its end."""

    def __init__(self, server: Server, pair: Pair, chance: random.Random) -> None:
        self.server, self.pair, self.chance = server, pair, chance
        self.uplinks = ["eth0", "eth1"] if chance.random() < 0.25 else ["eth0"]
        self.moment = chance.choice(MOMENTS)
        self.with_guardian = chance.random() < 0.4
        self.story: list[str] = []

    def tell(self, *words: object) -> None:
        self.story.append(" ".join(map(str, words)))

    def prepare(self, configuration: tuple[list[str], list[str], list[str]]) -> None:
        host = self.pair.host
        configure(host, *configuration)
        if len(self.uplinks) == 2:
            self.pair.join(host, "eth1", self.pair.peer, "eth1")
            for line in (
                "addr add 10.88.0.1/24 dev eth1",
                "addr add 2001:db8:88::1/64 dev eth1 nodad",
                "route add 10.89.0.0/16 nexthop via 10.77.0.2 dev eth0 nexthop via 10.88.0.2 dev eth1 weight 2",
                "-6 route add 2001:db8:89::/48 nexthop via 2001:db8:77::2 dev eth0 nexthop via 2001:db8:88::2 dev eth1",
            ):
                host.ip(*line.split(), check=False)
        wait_for_addresses(host)

    def view(self) -> dict[str, Any]:
        seen = as_ordinary(self.pair.host.snapshot())
        if len(self.uplinks) == 2:  # equal things of both: those of the one restored last stand last
            for kind in ("link", "addr", "route", "route6"):
                seen[kind].sort(key=str)
        return seen

    def call(self, phase: str) -> int:
        return self.chance.randrange(1, CALLS[phase])

    def play(self) -> None:
        """Until nobody lives any more that was started here."""
        points = []
        along = (GUARDIAN,) if self.with_guardian else ()
        phases = {"taking over": TAKING, "settling": SETTLING, "giving back": GIVING}
        if (phase := phases.get(self.moment)) is not None:
            points.append(":".join((DATAPLANE, phase, str(self.call(phase)), *along)))
        if self.chance.random() < 0.5:
            points.append(f"{GUARDIAN}:{GIVING}:{self.call(GIVING)}")
        self.tell(self.moment, *self.uplinks, *points)
        options = [word for name in self.uplinks for word in ("--uplink", name)]
        process = self.start("pyvpp", " ".join(points), *options)
        eventually(lambda: process.is_over() or "pyvpp: ready\n" in process.said, "ready")
        if not process.is_over():
            self.end(process)
        assert process.wait() in (0, -signal.SIGKILL), process.said
        eventually(lambda: not guardians(str(self.pair.runtime_dir)), "the guardian's end")

    def start(self, what: str, points: str, *words: str) -> Process:
        runtime_dir = self.pair.runtime_dir
        words = (*words, "--runtime-dir", str(runtime_dir))
        return self.server.start(self.pair.host, self.pair.directory / f"{what}.out", runtime_dir, points, *words)

    def end(self, process: Process) -> None:
        """What becomes of a pyvpp that runs."""
        time.sleep(self.chance.random() * WHILE_RUNNING)
        if self.moment != "running":
            os.kill(process.pid, signal.SIGTERM)
            return
        victims = [process.pid, *(guardians(str(self.pair.runtime_dir)) if self.with_guardian else [])]
        self.chance.shuffle(victims)
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
            self.tell("killed", "dataplane" if pid == process.pid else "guardian")
            if self.chance.random() < 0.5:
                time.sleep(self.chance.random() * 0.03)

    def finish(self) -> None:
        """What an operator does, which may be killed too."""
        for _ in range(self.chance.randrange(3)):
            self.restore(f"{RESTORE}:{GIVING}:{self.call(GIVING)}")
        if self.chance.random() < 0.2:
            self.tell("the next start")
            self.moment = "nobody dies"
            self.with_guardian = False
            self.play()
        status, said = self.restore("")
        assert (status, said) == (0, "")

    def restore(self, points: str) -> tuple[int, str]:
        self.tell("restore", points)
        process = self.start("restore", points, "restore")
        return process.wait(), process.said


def round_trip(
    server: Server, pair: Pair, chance: random.Random, configuration: tuple[list[str], list[str], list[str]]
) -> str:
    """Its moment. Raises AssertionError with the story."""
    each = Round(server, pair, chance)
    moment = each.moment
    try:
        each.prepare(configuration)
        before = each.view()
        each.play()
        each.finish()
        found = differences(before, each.view())
        assert not found, "\n".join(found)
        left = {path.name for path in pair.runtime_dir.iterdir()}
        assert left <= {"pyvpp.lock", "state.json", "cli.sock"}, left
        eventually(lambda: ping(pair.peer, "10.77.0.1"), "reached")
    except Exception as error:
        said = [path.read_text() for path in sorted(pair.directory.glob("*.out"))]
        raise AssertionError("\n".join((*each.story, *map(str, configuration), *said, repr(error)))) from error
    return moment


@pytest.mark.usefixtures("compiled")
def test_linux_is_as_before_every_time(capsys: pytest.CaptureFixture[str]) -> None:
    moments: Counter[str] = Counter()
    failures: list[str] = []
    number = 0

    @seed(SEED)
    @settings(
        max_examples=ROUNDS,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(configuration=configurations())
    def play(configuration: tuple[list[str], list[str], list[str]]) -> None:
        nonlocal number
        number += 1
        if ONLY not in (0, number):
            return
        with tempfile.TemporaryDirectory() as directory, Pair(Path(directory)).as_joined() as pair:
            try:
                moments[round_trip(server, pair, random.Random(f"{SEED}/{number}"), configuration)] += 1
            except AssertionError as error:
                failures.append(f"round {number} of seed {SEED}: {error}")
                with capsys.disabled():
                    print(failures[-1], flush=True)

    began = time.monotonic()
    with served() as server:
        play()
    lasted = time.monotonic() - began
    told = ", ".join(f"{many} {moment}" for moment, many in sorted(moments.items()))
    report("Rounds", f"{number} of seed {SEED} in {lasted:.0f} s, {len(failures)} failed; killed while: {told}")
    assert not failures, "\n\n".join(failures)
