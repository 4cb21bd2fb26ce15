# SPDX-License-Identifier: Apache-2.0
"""Processes that die at an exact point: the n-th call that code of pyvpp.linux makes or receives while it takes over or
gives back, so that it can be repeated.

Python imports this before anything else in every process whose PYTHONPATH names this folder: guardians, above all.
PYVPP_FATAL has words like `guardian:give-back:812`, or `dataplane:take-over:77:guardian`, which kills the guardian of the
same runtime directory (PYVPP_FATAL_DIR) at the same moment. What is said of a call that never comes does not happen.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

DATAPLANE, GUARDIAN, RESTORE = "dataplane", "guardian", "restore"
TAKING, SETTLING, GIVING = "take-over", "settle", "give-back"


def role() -> str:
    """What this process is, empty if none of ours."""
    if "pyvpp.linux.guardian" in sys.orig_argv:
        return GUARDIAN
    if "pyvpp.main" not in sys.orig_argv:
        return ""
    return RESTORE if RESTORE in sys.orig_argv else DATAPLANE


def guardians(runtime_dir: str) -> list[int]:
    """The guardians of a runtime directory."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"pyvpp.linux.guardian" in words and runtime_dir.encode() in words:
            found.append(int(path.name))
    return found


def _die(runtime_dir: str, along: list[str]) -> None:
    for pid in guardians(runtime_dir) if GUARDIAN in along else []:
        os.kill(pid, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


def _counted(function: Callable[..., Any], at: int, along: list[str], runtime_dir: str) -> Callable[..., Any]:
    """The function, in which the process dies at a call."""

    def wrapper(*arguments: Any, **options: Any) -> Any:
        calls = 0

        def count(frame: Any, event: str, argument: Any) -> None:
            nonlocal calls
            if event in ("call", "c_call", "c_return") and "/pyvpp/linux/" in frame.f_code.co_filename:
                calls += 1
                if calls == at:
                    _die(runtime_dir, along)

        threading.setprofile(count)
        sys.setprofile(count)
        try:
            return function(*arguments, **options)
        finally:
            sys.setprofile(None)
            threading.setprofile(None)
            if log := os.environ.get("PYVPP_FATAL_LOG"):
                with open(log, "a") as file:
                    file.write(f"{calls}\n")

    return wrapper


def arm(mine: str, plan: str, runtime_dir: str) -> None:
    """Has this process, whose role is given, die as the plan says."""
    for word in plan.split():
        who, phase, at, *along = word.split(":")
        if who != mine:
            continue
        from pyvpp.linux import restore, takeover

        if phase == GIVING:
            restore.restore = takeover.restore = _counted(restore.restore, int(at), along, runtime_dir)
        else:
            name = "run" if phase == TAKING else "settle"
            function = getattr(takeover.TakeOver, name)
            setattr(takeover.TakeOver, name, _counted(function, int(at), along, runtime_dir))


if "PYVPP_FATAL" in os.environ and role():
    arm(role(), os.environ["PYVPP_FATAL"], os.environ["PYVPP_FATAL_DIR"])
