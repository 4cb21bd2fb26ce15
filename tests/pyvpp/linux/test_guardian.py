# SPDX-License-Identifier: Apache-2.0
"""What the guardian makes of what it hears, and of a process that hangs with something unconfirmed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from pyvpp.linux import guardian
from pyvpp.linux.guardian import Guardian


@pytest.fixture
def ward() -> Iterator[subprocess.Popen[bytes]]:
    """A process that would never end."""
    process = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def ends() -> Iterator[tuple[int, Guardian]]:
    reading, writing = os.pipe()
    yield reading, Guardian(0, writing)
    os.close(reading)
    os.close(writing)


def test_what_is_not_confirmed_ends(
    ward: subprocess.Popen[bytes], ends: tuple[int, Guardian], capfd: pytest.CaptureFixture[str]
) -> None:
    """Some seconds later: the process has its chance to do it by itself. One that is stopped has none."""
    os.kill(ward.pid, signal.SIGSTOP)
    pipe, handle = ends
    vigil = guardian._Vigil(pipe, ward.pid, armed=True)
    handle.unconfirmed(time.monotonic() - guardian.PATIENCE)
    assert not vigil.nothing_to_restore()
    assert ward.wait() == -signal.SIGKILL
    assert "not confirmed in time" in capfd.readouterr().err


def test_what_is_confirmed_stays(ward: subprocess.Popen[bytes], ends: tuple[int, Guardian]) -> None:
    pipe, handle = ends
    vigil = guardian._Vigil(pipe, ward.pid, armed=True)
    handle.unconfirmed(time.monotonic() - guardian.PATIENCE)
    handle.confirmed()
    handle._say(b"d")
    assert vigil.nothing_to_restore()
    assert ward.poll() is None


@pytest.mark.parametrize("armed", [False, True])
def test_a_process_that_dies_before_it_is_armed_leaves_nothing_to_do(
    ward: subprocess.Popen[bytes], ends: tuple[int, Guardian], armed: bool
) -> None:
    pipe, handle = ends
    vigil = guardian._Vigil(pipe, ward.pid, armed=False)
    if armed:
        handle.arm()
        handle.unconfirmed(time.monotonic() + 1000)
    ward.kill()
    assert vigil.nothing_to_restore() is not armed
