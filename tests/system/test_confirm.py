# SPDX-License-Identifier: Apache-2.0
"""`--confirm`: what nobody confirms does not stay, whatever dies, and does not come back."""

from __future__ import annotations

import signal
from pathlib import Path

from pyvpp.confirm import UNCONFIRMED
from tests.system.conftest import Pair
from tests.system.process import PATIENCE, Pyvpp, eventually, ping, running
from tests.system.test_pod_death import links
from tests.system.test_restart import pod_command, stopped
from tests.system.test_takeover import assert_same, configure_richly

POD = "10.80.1.2"
LONG = "600"  # seconds that no test waits for


def left_behind(pyvpp: Pyvpp) -> list[str]:
    return sorted(path.name for path in pyvpp.runtime_dir.iterdir() if path.name != "pyvpp.lock")


def refused(sandbox: Pair, *options: str | Path) -> None:
    """The same start once more: a service manager that restarts comes to nothing."""
    pyvpp = Pyvpp(sandbox, sandbox.host, *options)
    _, errors = pyvpp.process.communicate(timeout=PATIENCE)
    assert pyvpp.process.returncode == UNCONFIRMED
    assert errors.startswith("pyvpp: the same start ended before it was confirmed, so nothing is taken over")


def test_what_is_not_confirmed_is_given_back(sandbox: Pair) -> None:
    """With --keep too: a pod that was made in the meantime goes with the rest."""
    configure_richly(sandbox.host)
    pod = sandbox.namespace("pod")
    before = sandbox.host.snapshot()
    pyvpp = Pyvpp(sandbox, sandbox.host, "--uplink", "eth0", "--keep", "--confirm", "15")
    pyvpp.wait_until_ready()
    pyvpp.ctl(pod_command(pod, POD))
    (row,) = pyvpp.data("show uplink")
    assert 0 < row["confirm_within_s"] < 15
    assert "not confirmed yet" in pyvpp.ctl("show confirm")
    _, errors = pyvpp.process.communicate(timeout=2 * PATIENCE)
    assert pyvpp.process.returncode == UNCONFIRMED
    assert errors.endswith("pyvpp: not confirmed in time; nothing is taken over any more\n")
    assert_same(before, sandbox)
    assert "eth0" not in links(pod)
    assert left_behind(pyvpp) == []


def test_what_is_confirmed_stays_and_is_back_after_a_crash(sandbox: Pair) -> None:
    options = ("--uplink", "eth0", "--confirm", LONG)
    pod = sandbox.namespace("pod")
    before = sandbox.host.snapshot()
    pyvpp = Pyvpp(sandbox, sandbox.host, *options)
    pyvpp.wait_until_ready()
    pyvpp.ctl(pod_command(pod, POD))
    assert "state.json" not in left_behind(pyvpp)
    left = pyvpp.data("show confirm")["seconds_left"]
    assert "goes on in place of" in pyvpp.ctl("upgrade")
    assert 0 < pyvpp.data("show confirm")["seconds_left"] < left, "the time goes on"
    assert "state.json" not in left_behind(pyvpp)
    assert pyvpp.ctl("confirm").startswith("confirmed, with ")
    assert pyvpp.ctl("confirm") == "nothing waits to be confirmed"
    assert pyvpp.data("show uplink")[0]["confirm_within_s"] is None
    assert "state.json" in left_behind(pyvpp)
    stopped(pyvpp, signal.SIGKILL)
    eventually(lambda: not (pyvpp.runtime_dir / "journal.json").exists(), "Linux has its NIC back")
    with running(sandbox, sandbox.host, *options) as pyvpp:
        assert pyvpp.data("show confirm") == {"seconds_left": None}
        assert pyvpp.data("show configuration") == [pod_command(pod, POD)]
        assert ping(sandbox.peer, "10.77.0.1")
    assert_same(before, sandbox)
    assert left_behind(pyvpp) == [], "and a stop ends it"


def test_killed_while_unconfirmed(sandbox: Pair) -> None:
    """What was before comes back, what was not confirmed does not; what starts again and again is refused."""
    options = ("--uplink", "eth0", "--keep", "--confirm", LONG)
    pods = [sandbox.namespace(f"pod{number}") for number in range(2)]
    before = sandbox.host.snapshot()
    pyvpp = Pyvpp(sandbox, sandbox.host, "--uplink", "eth0", "--keep")
    pyvpp.wait_until_ready()
    pyvpp.ctl(pod_command(pods[0], POD))
    stopped(pyvpp, signal.SIGTERM)
    pyvpp = Pyvpp(sandbox, sandbox.host, *options)
    pyvpp.wait_until_ready()
    pyvpp.ctl(pod_command(pods[1], "10.80.1.3"))
    stopped(pyvpp, signal.SIGKILL)
    eventually(lambda: not (pyvpp.runtime_dir / "journal.json").exists(), "the guardian's restore")
    assert_same(before, sandbox)
    assert "eth0" in links(pods[0]) and "eth0" not in links(pods[1])
    refused(sandbox, *options)
    assert_same(before, sandbox)
    with running(sandbox, sandbox.host, *options) as pyvpp:
        assert pyvpp.data("show configuration") == [pod_command(pods[0], POD)]
    assert_same(before, sandbox)


def test_a_successor_lapses_as_well(sandbox: Pair) -> None:
    """The process that was started ends with the status of the one that goes on."""
    before = sandbox.host.snapshot()
    pyvpp = Pyvpp(sandbox, sandbox.host, "--uplink", "eth0", "--confirm", "30")
    pyvpp.wait_until_ready()
    pyvpp.ctl("upgrade")
    pyvpp.process.communicate(timeout=3 * PATIENCE)
    assert pyvpp.process.returncode == UNCONFIRMED
    assert_same(before, sandbox)
    assert left_behind(pyvpp) == []


def test_one_that_hangs_is_ended_by_its_guardian(sandbox: Pair) -> None:
    before = sandbox.host.snapshot()
    options = ("--uplink", "eth0", "--confirm", "6")
    pyvpp = Pyvpp(sandbox, sandbox.host, *options)
    eventually(lambda: (pyvpp.runtime_dir / "confirm.json").exists(), "the take-over begins", 60)
    eventually(lambda: "tun" in sandbox.host.ip("-d", "link", "show", "eth0", check=False), "it is taken over")
    pyvpp.process.send_signal(signal.SIGSTOP)
    _, errors = pyvpp.process.communicate(timeout=2 * PATIENCE)
    assert pyvpp.process.returncode == -signal.SIGKILL
    assert "pyvpp guardian: not confirmed in time, and pyvpp does not end: killed" in errors
    eventually(lambda: not (pyvpp.runtime_dir / "journal.json").exists(), "the guardian's restore")
    assert_same(before, sandbox)
    refused(sandbox, *options)
