# SPDX-License-Identifier: Apache-2.0
"""`--confirm SECONDS`: what is taken over is given back, unless an operator says in time that it may stay.

The clock starts before the first NIC moves. Whoever is alive when it has run down gives back: this process, which ends
with the status UNCONFIRMED; the guardian some seconds later, when this process does not get to it; the guardian at once
when this process dies. `pyvpp upgrade` hands the time on with everything else.

A record in the runtime directory tells the next start what became of the last one in this boot, so that a service
manager which starts the same command again after a crash neither brings back what nobody confirmed, nor asks again for
what somebody did.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from pyvpp.errors import OperatorError
from pyvpp.linux import netns
from pyvpp.linux.guardian import Guardian
from pyvpp.linux.journal import boot_id
from pyvpp.options import DEFAULT_RUNTIME_DIR

log = logging.getLogger("pyvpp")

UNCONFIRMED = 76  # the exit status; the unit in packaging/ does not restart after it
RECORD_NAME = "confirm.json"
MARKS = (3600, 1800, 600, 300, 120, 60, 30, 10)  # seconds left at which the log says so


class UnconfirmedError(OperatorError):
    """The same start was not confirmed the last time."""

    status = UNCONFIRMED


class Record(msgspec.Struct):
    """What became of the last start with --confirm: the words of its command line, and whether it was confirmed."""

    boot_id: str
    netns: tuple[int, int]
    command: list[str]
    confirmed: bool = False


class Confirmation:
    """Whether what is taken over may stay. Times are in seconds of the monotonic clock."""

    def __init__(
        self,
        runtime_dir: str | Path,
        guardian: Guardian | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = Path(runtime_dir).absolute() / RECORD_NAME
        self._guardian, self._clock = guardian, clock
        self._marks = list(MARKS)
        self.until: float | None = None  # while it waits
        self.lapsed = False
        self.on_confirmed: Callable[[], None] = lambda: None

    @property
    def left(self) -> float | None:
        """Seconds until everything is given back; None when nothing waits to be confirmed."""
        return None if self.until is None else max(0.0, self.until - self._clock())

    @property
    def status(self) -> int:
        """The exit status of a process that was to end."""
        return UNCONFIRMED if self.lapsed else 0

    @property
    def how(self) -> str:
        """What to type."""
        directory = self._path.parent
        elsewhere = "" if directory == Path(DEFAULT_RUNTIME_DIR) else f"--runtime-dir {directory} "
        return f"`pyvppctl {elsewhere}confirm'"

    def check_start(self) -> bool:
        """Whether the very same start was confirmed already, in this boot, and not stopped by anybody since.

        Raises UnconfirmedError, once, when it ended otherwise before it was confirmed.
        """
        record = self._read()
        if record is None or record.command != sys.argv[1:]:
            return False
        if not record.confirmed:
            self.forget()
            raise UnconfirmedError(
                "the same start ended before it was confirmed, so nothing is taken over; start it again to try anew"
            )
        return True

    def begin(self, seconds: float) -> None:
        """From now on it waits. Raises OperatorError when that cannot be written down."""
        try:
            self._write(confirmed=False)
        except OSError as error:
            raise OperatorError(f"{self._path}: {error.strerror}; so nothing was taken over") from error
        self.go_on(self._clock() + seconds, self._guardian)

    def go_on(self, until: float, guardian: Guardian | None) -> None:
        """It waits, as it did in the process before."""
        self.until, self._guardian = until, guardian
        left = self.left or 0.0
        self._marks = [mark for mark in MARKS if mark < left]
        if guardian:
            guardian.unconfirmed(until)

    def confirm(self) -> str:
        """Everything stays; says so, or that nothing waited. Raises OperatorError when it is too late."""
        if self.lapsed:
            raise OperatorError("too late: Linux gets its NIC back already")
        left = self.left
        if left is None:
            return "nothing waits to be confirmed"
        self.until = None
        if self._guardian:
            self._guardian.confirmed()
        try:
            self._write(confirmed=True)
        except OSError as error:
            log.warning("%s: %s; after a crash it has to be confirmed again", self._path, error.strerror)
            self.forget()
        self.on_confirmed()
        log.warning("confirmed, with %.0f s left", left)
        return f"confirmed, with {left:.0f} s left"

    def look(self) -> bool:
        """Once a second: tells the time, and whether there is none left."""
        left = self.left
        if left is None:
            return False
        passed = [mark for mark in self._marks if left <= mark]
        if passed and left:
            self._marks = [mark for mark in self._marks if mark not in passed]
            log.warning("%s", self.told)
        if not left and not self.lapsed:
            log.error("not confirmed in time; Linux gets its NIC back")
            self.lapsed = True
        return self.lapsed

    @property
    def told(self) -> str:
        """A line for who has to do it, empty when nobody has to."""
        left = self.left
        return "" if left is None else f"not confirmed yet: {self.how} within {left:.0f} s, or Linux gets its NIC back"

    def settle(self) -> None:
        """Everything is given back: whoever waits for that need not any more."""
        if self.until is not None and self._guardian:
            self._guardian.confirmed()

    def end(self, *, orderly: bool, kept: bool) -> None:
        """This process ends. A crash, and --keep where it was confirmed, leave the record to the next start."""
        if orderly and not (kept and self.until is None):
            self.forget()

    def forget(self) -> None:
        """The next start asks anew."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)

    def _read(self) -> Record | None:
        """Of this boot and network namespace; what cannot be read counts for nothing."""
        try:
            record = msgspec.json.decode(self._path.read_bytes(), type=Record)
        except (OSError, msgspec.MsgspecError):
            return None
        return record if (record.boot_id, record.netns) == (boot_id(), netns.identity()) else None

    def _write(self, *, confirmed: bool) -> None:
        record = Record(boot_id(), netns.identity(), sys.argv[1:], confirmed)
        unfinished = self._path.with_suffix(".new.json")
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:
            file.write(msgspec.json.encode(record))
        unfinished.rename(self._path)
