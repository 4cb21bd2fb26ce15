# SPDX-License-Identifier: Apache-2.0
"""The keeper: what becomes of a pyvpp that another process has replaced, where somebody waits for its process id.

A shell, a container's runtime or a supervisor knows the process it started and takes its end for the end of pyvpp. So
that process becomes this small one: it waits for the pyvpp that goes on, and for those that go on after it, passes
signals to it, and ends as the last one does. A service manager that was told another process id needs none.

`python -m pyvpp.linux.keeper --runtime-dir DIR --pid PID`, by execve(2), with all signals blocked.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from pathlib import Path

LOCK_NAME = "pyvpp.lock"  # in a runtime directory, signed by the process that has it
_PR_SET_CHILD_SUBREAPER = 36
PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
REPLACED = 75  # the exit status of one that another process has replaced
KEPT = "PYVPP_KEEPER"  # in the environment of those who have one


def is_kept() -> bool:
    """Whether this process has a keeper, its parent."""
    return os.environ.get(KEPT) == str(os.getppid())


def die_with_keeper(loop: asyncio.AbstractEventLoop) -> None:
    """Whoever kills the process that is known means us, and has our guardian restore."""
    if KEPT not in os.environ:
        return
    with contextlib.suppress(OSError):
        keeper = os.pidfd_open(int(os.environ[KEPT]))
        loop.add_reader(keeper, lambda: os.kill(os.getpid(), signal.SIGKILL))


def pass_signals_on(loop: asyncio.AbstractEventLoop, process: int) -> None:
    """From now on signals are meant for the process that goes on."""

    def pass_on(number: int, frame: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, number)

    for number in PASSED_ON:
        loop.remove_signal_handler(number)  # which the loop would do at its end
        signal.signal(number, pass_on)


def become_keeper(runtime_dir: str, process: int) -> None:
    """Never returns."""
    signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)
    here = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(entry for entry in (here, os.environ.get("PYTHONPATH", "")) if entry)
    command = [sys.executable, "-m", "pyvpp.linux.keeper", "--runtime-dir", runtime_dir, "--pid", str(process)]
    os.execve(sys.executable, command, {**os.environ, "PYTHONPATH": path})


def _signed(runtime_dir: str) -> int:
    """The process that has the runtime directory. Imports nothing: a signal may come while something is imported."""
    return int(Path(runtime_dir, LOCK_NAME).read_text())


def _parent(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def main(arguments: list[str]) -> int:
    """Wait for the last one; its exit status, 128 and the signal's number when it was killed."""
    options = dict(zip(arguments[::2], arguments[1::2], strict=False))
    runtime_dir, current = options["--runtime-dir"], int(options["--pid"])
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    def pass_on(number: int, frame: object) -> None:
        """To the one that has the runtime directory; one that it replaced may have some moments left."""
        with contextlib.suppress(OSError, ValueError):
            signed = _signed(runtime_dir)
            os.kill(signed if _parent(signed) in (os.getpid(), current) else current, number)

    for number in PASSED_ON:
        signal.signal(number, pass_on)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
    last = 0
    while True:  # until nobody is left: guardians, whose parents are gone, are ours as well
        try:
            process, status = os.wait()
        except ChildProcessError:
            return last
        if process != current:
            continue
        last = os.waitstatus_to_exitcode(status)
        last = 128 - last if last < 0 else last
        if last == REPLACED:
            current = _signed(runtime_dir)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
