# SPDX-License-Identifier: Apache-2.0
"""Hooks: an operator's programs that run before and after an uplink is taken over and given back.

All executables of a directory, in the order of their names, each with the event as its argument and facts in its
environment. One that takes too long is killed, with what it started; the time of BUDGET is for all of them together,
and for all uplinks of which the event is.
Whatever they do, packets do not wait for them: `before-take-over` runs while Linux still has the NIC, the two in the
middle while pyvpp has it, `after-restore` when Linux has it again. A directory or program that others than root could
change is not run.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import stat
import threading
import time
from pathlib import Path
from typing import NamedTuple

from pyvpp.linux.capture import UplinkState

log = logging.getLogger(__name__)

BEFORE_TAKE_OVER, AFTER_TAKE_OVER = "before-take-over", "after-take-over"
BEFORE_RESTORE, AFTER_RESTORE = "before-restore", "after-restore"
EVENTS = (BEFORE_TAKE_OVER, AFTER_TAKE_OVER, BEFORE_RESTORE, AFTER_RESTORE)
# Seconds. Giving back must not wait long: the guardian's patience and a unit's TimeoutStopSec= are behind it.
BUDGET = {BEFORE_TAKE_OVER: 20.0, AFTER_TAKE_OVER: 20.0, BEFORE_RESTORE: 5.0, AFTER_RESTORE: 15.0}
_MOST_OUTPUT = 1 << 14  # bytes; what a hook prints beyond is lost
_LEFT_OVERS = ("~", ".bak", ".dpkg-dist", ".dpkg-old", ".dpkg-new", ".rpmsave", ".rpmnew", ".rpmorig")
_PASSED_ON = ("PATH", "HOME", "LANG", "TZ")
_TO_DEFAULT = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGQUIT)


class Found(NamedTuple):
    """Hooks that are run, in their order, and what is not run, with the reason."""

    hooks: list[Path]
    refused: list[str]


class Hooks:
    """The hooks of a directory."""

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory)
        self._running = 0  # the process group of the one that runs
        self._hurried = False
        self._guard = threading.Lock()

    def find(self) -> Found:
        """Those there are at this moment; what is not executable is none."""
        hooks: list[Path] = []
        refused: list[str] = []
        try:
            names = sorted(os.listdir(self.directory))
        except FileNotFoundError:
            return Found([], [])
        except OSError as error:
            return Found([], [f"{self.directory}: {error.strerror}"])
        for name in names:
            path = self.directory / name
            if name.startswith(".") or name.endswith(_LEFT_OVERS) or not os.access(path, os.X_OK) or path.is_dir():
                continue
            reason = why_not(path)
            if reason:
                refused.append(f"{path} is not run: {reason}")
            else:
                hooks.append(path)
        return Found(hooks, refused)

    def run(self, event: str, *uplinks: dict[str, str]) -> list[str]:
        """Runs them all, for each uplink by the facts about it; what failed, a line each. One that is not run for its
        owner's sake has not failed."""
        deadline = time.monotonic() + BUDGET[event]
        return [failure for facts in uplinks for failure in self._run_all(event, facts, deadline)]

    def _run_all(self, event: str, facts: dict[str, str], deadline: float) -> list[str]:
        found = self.find()
        for refused in found.refused:
            log.warning("hook %s", refused)
        environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        environment |= {f"PYVPP_{name.upper()}": value for name, value in {"event": event, **facts}.items()}
        failures = []
        for hook in found.hooks:
            ended, output = self._run(hook, event, environment, deadline)
            for line in output:
                log.log(logging.WARNING if ended else logging.INFO, "hook %s %s: %s", hook.name, event, line)
            if ended:
                failures.append(f"hook {hook} {event}: {ended}")
        return failures

    def hurry(self) -> None:
        """Kills the one that runs; those after it, of this event, are not run."""
        with self._guard:
            self._hurried = True
            if self._running:
                os.killpg(self._running, signal.SIGKILL)

    def _run(self, hook: Path, event: str, environment: dict[str, str], deadline: float) -> tuple[str, list[str]]:
        """How it failed, empty when it did not, and what it printed."""
        if time.monotonic() >= deadline or self._hurried:
            return "not run, there is no time left", []
        reading, writing = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(reading, False)
        output = bytearray()
        try:
            with self._guard:
                process = _start(hook, event, environment, writing)
                self._running = process
        except OSError as error:
            os.close(reading)
            return str(error.strerror), []
        finally:
            os.close(writing)
        try:
            ended = self._wait(process, reading, output, deadline)
        finally:
            os.close(reading)
        return ended, output.decode(errors="replace").splitlines()

    def _wait(self, process: int, reading: int, output: bytearray, deadline: float) -> str:
        watch = os.pidfd_open(process)
        poller = select.poll()
        poller.register(watch, select.POLLIN)
        poller.register(reading, select.POLLIN)
        late = False
        try:
            while True:
                left = deadline - time.monotonic()
                ready = {descriptor for descriptor, _ in poller.poll(max(0.0, 1000 * left))}
                if reading in ready and not _drain(reading, output):
                    poller.unregister(reading)
                if watch in ready:
                    _drain(reading, output)
                    break
                if left <= 0:
                    late = True
                    os.killpg(process, signal.SIGKILL)
                    select.select([watch], [], [], 1.0)  # not one that hangs in the kernel
                    break
        finally:
            with self._guard:
                self._running = 0
                _, status = os.waitpid(process, os.WNOHANG)
            os.close(watch)
        if late:
            return "killed, it took too long"
        code = os.waitstatus_to_exitcode(status)
        return f"status {code}" if code > 0 else f"killed by signal {-code}" if code else ""


def _start(hook: Path, event: str, environment: dict[str, str], output: int) -> int:
    """In a session of its own, without the signals that we ignore; it may be killed when memory runs out."""
    process = os.posix_spawn(
        hook,
        [str(hook), event],
        environment,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, output, 1),
            (os.POSIX_SPAWN_DUP2, output, 2),
        ],
        setsid=True,
        setsigmask=[],
        setsigdef=_TO_DEFAULT,
    )
    with contextlib.suppress(OSError):
        Path(f"/proc/{process}/oom_score_adj").write_text("0")
    return process


def _drain(reading: int, output: bytearray) -> bool:
    """Takes what is there; whether there may be more later."""
    try:
        while part := os.read(reading, 1 << 16):
            output += part[: _MOST_OUTPUT - len(output)]
    except BlockingIOError:
        return True
    return False


def why_not(path: Path) -> str:
    """Why a hook is not run, empty when it is: nobody but root may change it, nor what is on the way to it."""
    try:
        real = path.resolve(strict=True)
        if not stat.S_ISREG(real.stat().st_mode):
            return "it is no file"
        for each in (real, *real.parents, *path.absolute().parents):
            status = each.stat()
            sticky = stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX
            if status.st_uid not in (0, os.geteuid()):
                return f"{each} belongs to user {status.st_uid}"
            if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not sticky:
                return f"others may write to {each}"
    except OSError as error:
        return str(error.strerror)
    return ""


def facts_of(state: UplinkState, runtime_dir: str | Path, **more: str) -> dict[str, str]:
    """What a hook is told of an uplink: PYVPP_UPLINK and so on."""
    return {
        "uplink": state.name,
        "tap": state.name,
        "ifindex": str(state.ifindex),
        "mac": state.mac,
        "mtu": str(state.mtu),
        "addresses": " ".join(str(address.interface) for address in state.addresses),
        "runtime_dir": str(Path(runtime_dir).absolute()),
        **more,
    }
