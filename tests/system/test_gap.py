# SPDX-License-Identifier: Apache-2.0
"""What becomes of packets while an uplink is taken over and given back, and for how long nobody handles them.

The time is measured, not judged: `pytest -s -m system tests/system/test_gap.py` prints the figures; PYVPP_EXAMPLES=10 takes the median of so many.
"""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import time

import pytest

from tests.system.conftest import Pair
from tests.system.probe import Probe
from tests.system.process import Pyvpp, ping

ROUNDS = int(os.environ.get("PYVPP_EXAMPLES", "1"))
AROUND = 0.5  # seconds before and after that the stream has to run on
WAITING = 20  # packets


EXPERIMENT = bytes.fromhex("ffffffffffff 020000000001 88b5")
# Takes eth0 over as `pyvpp` does, with packets of the host waiting before the graph has its TAP; gives it back, and
# keeps its sockets and workers until told to end.
STEP_BY_STEP = f"""
import socket, sys
from functools import partial
from pyvpp import compile
from pyvpp.device.uplink import AF_PACKET_DRIVER, Choice, add_uplink, let_go, prepare_uplink, settle_uplink
from pyvpp.engine import Engine
from pyvpp.linux.capture import inspect_uplink
from pyvpp.linux.journal import lock_runtime_dir
from pyvpp.linux.restore import restore
from pyvpp.linux.takeover import TakeOver
from pyvpp.loader import load
engine = Engine(load(), workers=1, hugepages="off")
engine.start()
choice = Choice(AF_PACKET_DRIVER)
state = inspect_uplink("eth0")
with lock_runtime_dir(sys.argv[1]):
    prepare = partial(prepare_uplink, engine, state, choice)
    taken = TakeOver(state, sys.argv[1], prepare=prepare).run(settled=False)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as host:
        host.bind(("eth0", 0))
        for number in range({WAITING}):
            host.send({EXPERIMENT!r} + bytes([number]) * 50)
    compile.load_entry = None  # now there is no time for it
    uplink, _ = add_uplink(engine, taken, choice)
    assert settle_uplink(taken, uplink) == [] and uplink.device.alone
    print("taken over", flush=True)
    sys.stdin.readline()
    let_go(engine)
    assert restore(sys.argv[1]) == []
    print("given back", flush=True)
    sys.stdin.readline()
    engine.stop()
    engine.close()
    taken.close()
"""


pytestmark = pytest.mark.usefixtures("compiled")


@pytest.mark.alone
@pytest.mark.parametrize("family", [4, 6])
def test_the_gap_is_measured_by_a_stream_of_a_packet_a_millisecond(
    sandbox: Pair, family: int, capsys: pytest.CaptureFixture[str]
) -> None:
    addresses = ("10.77.0.1", "10.77.0.2") if family == 4 else ("2001:db8:77::1", "2001:db8:77::2")
    found: dict[str, list[tuple[float, int]]] = {}
    for _ in range(ROUNDS):
        inward = Probe(sandbox, sandbox.host, *addresses)
        outward = Probe(sandbox, sandbox.peer, *reversed(addresses))
        moments = [time.monotonic()]
        pyvpp = Pyvpp(sandbox, sandbox.host, "--uplink", "eth0")
        pyvpp.wait_until_ready()
        wait(AROUND)
        (row,) = pyvpp.data("show uplink")
        assert row["name"] == "eth0" and row["taken_over_ms"] > 0
        moments.append(time.monotonic())
        told = pyvpp.stop()
        wait(AROUND)
        moments.append(time.monotonic())
        for probe in (inward, outward):
            probe.stop()
        for what, begin, end in (("take over", *moments[:2]), ("give back", *moments[1:])):
            for way, probe in (("in", inward), ("out", outward)):
                measured = probe.interruption(begin, end)
                found.setdefault(f"{what}, {way}", []).append((measured.milliseconds, measured.lost))
        found.setdefault("take over, told", []).append((row["taken_over_ms"], 0))
        assert "eth0: nobody handled its packets for " in told
    with capsys.disabled():
        print(f"\nIPv{family}: milliseconds without a packet, packets lost (medians of {ROUNDS})")
        for what, figures in found.items():
            times, lost = zip(*figures, strict=True)
            print(
                f"  {what:<16} {statistics.median(times):7.1f}  {statistics.median(lost):5.0f}  (most {max(times):.1f})"
            )


def test_nothing_is_lost_where_it_need_not_be(sandbox: Pair) -> None:
    """What the host sends before the graph has its TAP, the first ARP request above all, waits there and leaves; and
    what arrives once Linux has its NIC back is Linux' own, though our sockets and programs are not closed yet."""
    wire = sandbox.peer.inside(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x88B5)))
    with wire:
        wire.bind(("eth0", 0x88B5))
        wire.settimeout(5)
        process = sandbox.start(
            sandbox.host, sys.executable, "-c", STEP_BY_STEP, sandbox.runtime_dir, stdin=subprocess.PIPE
        )
        assert process.stdin is not None and process.stdout is not None
        assert process.stdout.readline() == "taken over\n", process.communicate()[1]
        assert [wire.recv(100)[14] for _ in range(WAITING)] == list(range(WAITING))
    process.stdin.write("\n")
    process.stdin.flush()
    assert process.stdout.readline() == "given back\n", process.communicate()[1]
    assert ping(sandbox.peer, "10.77.0.1", 3) == 3
    _, errors = process.communicate("\n", timeout=20)
    assert process.returncode == 0, errors


def wait(seconds: float) -> None:
    """Time in which the stream runs: what is measured."""
    time.sleep(seconds)
