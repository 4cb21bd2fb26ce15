# SPDX-License-Identifier: Apache-2.0
"""The guardian: a small process that gives Linux its uplinks back when pyvpp dies in any way.

It holds the reading end of a pipe. pyvpp writes one byte when it has restored everything itself; end of file, or the
end of the process, without that byte means that pyvpp was killed. The guardian of a process that is about to take
another's place has nothing to guard yet: until it is armed, by a byte too, it ends without a word. It ignores the
signals that stop pyvpp, lives in a session of its own, and imports all it needs at the start, while the disk still
answers.

It knows until when the take-over has to be confirmed (`pyvpp.confirm`), and kills a pyvpp that has neither been
confirmed nor given back some seconds after that: one that hangs.

`python -m pyvpp.linux.guardian --runtime-dir DIR --hooks DIR --fd N --pid PID --armed yes|no`.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import struct
import sys
import time

from pyvpp.options import DEFAULT_HOOKS

_DONE, _ARMED, _CONFIRMED, _UNCONFIRMED = b"d", b"a", b"c", b"u"
_UNTIL = struct.Struct("=d")  # follows _UNCONFIRMED: seconds of the monotonic clock
_LOCK_WAIT = 10.0
PATIENCE = 10.0  # seconds that pyvpp has to give back by itself what was not confirmed


class Guardian:
    """The dataplane's handle on its guardian process."""

    def __init__(self, process: int, pipe: int) -> None:
        self.pid = process
        self._pipe = pipe

    def arm(self) -> None:
        """From now on there is something to give back."""
        self._say(_ARMED)

    def unconfirmed(self, until: float) -> None:
        """By then, on the monotonic clock, we are to be confirmed or gone."""
        self._say(_UNCONFIRMED + _UNTIL.pack(until))

    def confirmed(self) -> None:
        """We may stay."""
        self._say(_CONFIRMED)

    def _say(self, words: bytes) -> None:
        with contextlib.suppress(OSError):  # it is gone already
            os.write(self._pipe, words)

    def done(self, timeout: float = 5.0) -> None:
        """Everything is restored: send the guardian home and wait for it."""
        if self._pipe < 0:
            return
        self._say(_DONE)
        os.close(self._pipe)
        self._pipe = -1
        try:
            watch = os.pidfd_open(self.pid)
        except OSError:
            return
        try:
            if select.select([watch], [], [], timeout)[0]:
                os.waitpid(self.pid, 0)
        except ChildProcessError:
            pass
        finally:
            os.close(watch)


def start_guardian(runtime_dir: str | os.PathLike[str], hooks: str = DEFAULT_HOOKS, *, armed: bool = True) -> Guardian:
    """Start the guardian of this process. To be called early: a young process is quickly copied."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    here = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    path = os.pathsep.join(entry for entry in (here, os.environ.get("PYTHONPATH", "")) if entry)
    child = 3
    command = [sys.executable, "-m", "pyvpp.linux.guardian", "--runtime-dir", os.path.abspath(runtime_dir)]
    command += ["--hooks", os.path.abspath(hooks)]
    command += ["--fd", str(child), "--pid", str(os.getpid()), "--armed", "yes" if armed else "no"]
    actions = [(os.POSIX_SPAWN_DUP2, reading, child)] if reading != child else []
    if reading == child:
        os.set_inheritable(reading, True)
    pid = os.posix_spawn(
        sys.executable,
        command,
        {**os.environ, "PYTHONPATH": path},
        file_actions=[*actions, (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0), (os.POSIX_SPAWN_DUP2, 2, 1)],
        setsid=True,
        setsigmask=[],
    )
    os.close(reading)
    return Guardian(pid, writing)


class _Vigil:
    """Waits for the dataplane to say that it is done, or to be gone."""

    def __init__(self, pipe: int, parent: int, armed: bool) -> None:
        self._pipe, self._armed = pipe, armed
        self._until: float | None = None
        self._poller = select.poll()
        self._poller.register(pipe, select.POLLIN | select.POLLHUP)
        self._process = -1
        with contextlib.suppress(OSError):  # gone already: the pipe tells the rest
            self._process = os.pidfd_open(parent)
            self._poller.register(self._process, select.POLLIN)

    def nothing_to_restore(self) -> bool:
        """Returns when it is over."""
        while True:
            wait = None if self._until is None else 1000 * max(0.0, self._until + PATIENCE - time.monotonic())
            ready = {descriptor for descriptor, _ in self._poller.poll(wait)}
            if self._pipe in ready:
                if (word := self._heard()) not in (_ARMED, _CONFIRMED, _UNCONFIRMED):
                    return word == _DONE or not self._armed
            elif self._process in ready:
                # The process is gone; a child that it forked may still hold the pipe. Its last words may be in there.
                os.set_blocking(self._pipe, False)
                with contextlib.suppress(BlockingIOError):
                    while (word := self._heard()) in (_ARMED, _CONFIRMED, _UNCONFIRMED):
                        pass
                    return word == _DONE or not self._armed
                return not self._armed
            elif wait is not None:
                self._end_it()

    def _heard(self) -> bytes:
        """The next word; empty when there will be none."""
        word = os.read(self._pipe, 1)
        if word == _ARMED:
            self._armed = True
        elif word == _CONFIRMED:
            self._until = None
        elif word == _UNCONFIRMED:
            (self._until,) = _UNTIL.unpack(os.read(self._pipe, _UNTIL.size))  # it was written at once
        return word

    def _end_it(self) -> None:
        self._until = None
        print("pyvpp guardian: not confirmed in time, and pyvpp does not end: killed", file=sys.stderr, flush=True)
        with contextlib.suppress(OSError):
            signal.pidfd_send_signal(self._process, signal.SIGKILL)


def main(arguments: list[str]) -> int:
    """Wait and, if it must be, restore."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    options = dict(zip(arguments[::2], arguments[1::2], strict=False))
    pipe, runtime_dir = int(options["--fd"]), options["--runtime-dir"]
    os.set_inheritable(pipe, False)
    os.chdir("/")
    try:
        with open("/proc/self/oom_score_adj", "w") as score:
            score.write("-1000")
    except OSError:
        pass
    from pyvpp.errors import OperatorError
    from pyvpp.linux.hooks import Hooks
    from pyvpp.linux.restore_hooked import restore_hooked

    if _Vigil(pipe, int(options["--pid"]), options["--armed"] == "yes").nothing_to_restore():
        return 0
    try:
        problems, failures = restore_hooked(
            runtime_dir, Hooks(options["--hooks"]), "crash", wait_for_lock=_LOCK_WAIT
        )  # fmt: skip
    except OperatorError as error:
        problems, failures = [str(error)], []
    for problem in (*problems, *failures):
        print(f"pyvpp guardian: {problem}", file=sys.stderr, flush=True)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
