# SPDX-License-Identifier: Apache-2.0
"""Hooks of a running pyvpp: when they run, and that neither one that hangs nor one that fails costs the uplink."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.system.conftest import ROOT, Pair, environment
from tests.system.process import PATIENCE, Pyvpp, eventually, pyvpp_command
from tests.system.test_takeover import assert_same, guardian_of

# What Linux has at the moment of the event: is eth0 the TAP?
TELLS = """#!/bin/sh
link=nic; ip -d link show eth0 | grep -q ' tun ' && link=tap
echo "$1 $PYVPP_UPLINK $link $PYVPP_DRIVER $PYVPP_REASON" >> {told}
{then}
"""


@pytest.fixture
def hooks(sandbox: Pair) -> Callable[[str], Path]:
    """Writes the hook of a directory, which notes what it is told and then does something else."""
    directory = sandbox.directory / "hooks.d"
    directory.mkdir(mode=0o755)

    def write(then: str = "") -> Path:
        hook = directory / "10-tells"
        hook.write_text(TELLS.format(told=sandbox.directory / "told", then=then))
        hook.chmod(0o755)
        return directory

    return write


def told(pair: Pair) -> list[str]:
    path = pair.directory / "told"
    return [line.rstrip() for line in path.read_text().splitlines()] if path.exists() else []


def test_each_event_in_its_place(sandbox: Pair, hooks: Callable[[str], Path]) -> None:
    """Not for an upgrade, where Linux sees no change."""
    before = sandbox.host.snapshot()
    pyvpp = Pyvpp(sandbox, sandbox.host, "--uplink", "eth0", "--hooks", hooks(""))
    pyvpp.wait_until_ready()
    taken = ["before-take-over eth0 nic af-packet", "after-take-over eth0 tap af-packet"]
    eventually(lambda: told(sandbox) == taken, "the hooks have run")
    pyvpp.ctl("upgrade")
    pyvpp.stop()
    assert told(sandbox) == [*taken, "before-restore eth0 tap af-packet stop", "after-restore eth0 nic af-packet stop"]
    assert_same(before, sandbox)


def test_one_that_fails_forbids_the_take_over(sandbox: Pair, hooks: Callable[[str], Path]) -> None:
    before = sandbox.host.snapshot()
    directory = hooks('[ "$1" != before-take-over ] || { echo the disk is full; exit 3; }')
    pyvpp = Pyvpp(sandbox, sandbox.host, "--uplink", "eth0", "--hooks", directory)
    _, errors = pyvpp.process.communicate(timeout=PATIENCE)
    assert pyvpp.process.returncode == 1
    assert "hook 10-tells before-take-over: the disk is full" in errors
    assert errors.endswith(
        f"pyvpp: uplink eth0: not taken over: hook {directory}/10-tells before-take-over: status 3; "
        "Linux is left as it was\n"
    )
    assert told(sandbox) == ["before-take-over eth0 nic af-packet", "after-restore eth0 nic af-packet failure"]
    assert_same(before, sandbox)


def test_those_that_fail_or_hang_later_cost_nothing(sandbox: Pair, hooks: Callable[[str], Path]) -> None:
    before = sandbox.host.snapshot()
    directory = hooks('case "$1" in after-take-over|before-restore) sleep 1000 & wait;; after-restore) exit 1;; esac')
    pyvpp = Pyvpp(sandbox, sandbox.host, "--uplink", "eth0", "--hooks", directory)
    pyvpp.wait_until_ready()
    eventually(lambda: len(told(sandbox)) == 2, "it hangs while packets flow")
    pyvpp.process.send_signal(signal.SIGTERM)
    _, errors = pyvpp.process.communicate(timeout=2 * PATIENCE)
    assert pyvpp.process.returncode == 0
    for event, ended in (
        ("after-take-over", "killed by signal 9"), ("before-restore", "killed, it took too long"), ("after-restore", "status 1")
    ):  # fmt: skip
        assert f"hook {directory}/10-tells {event}: {ended}" in errors
    assert_same(before, sandbox)


@pytest.mark.parametrize("by", ["the guardian", "pyvpp restore"])
def test_after_a_crash(sandbox: Pair, hooks: Callable[[str], Path], by: str) -> None:
    before = sandbox.host.snapshot()
    directory = hooks("")
    pyvpp = Pyvpp(sandbox, sandbox.host, "--uplink", "eth0", "--hooks", directory)
    pyvpp.wait_until_ready()
    eventually(lambda: len(told(sandbox)) == 2, "the hooks have run")
    if by == "pyvpp restore":
        os.kill(guardian_of(sandbox), signal.SIGKILL)
    pyvpp.process.kill()
    pyvpp.process.wait()
    if by == "pyvpp restore":
        restore = pyvpp_command("restore", "--runtime-dir", pyvpp.runtime_dir, "--hooks", directory)
        subprocess.run(sandbox.host.command(*restore), env=environment(), check=True, timeout=60, cwd=ROOT)
    eventually(lambda: len(told(sandbox)) == 3, f"the hook that {by} runs")
    assert told(sandbox)[2] == "after-restore eth0 nic  crash"
    assert_same(before, sandbox)
