# SPDX-License-Identifier: Apache-2.0
"""The journal of a take-over, and the lock of a runtime directory.

The journal is on disk, synced, before anything moves; whoever restores (pyvpp itself, its guardian, `pyvpp restore`)
needs nothing else.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from pathlib import Path

import msgspec

from pyvpp.errors import OperatorError
from pyvpp.linux.capture import UplinkState
from pyvpp.linux.keeper import LOCK_NAME

JOURNAL_NAME = "journal.json"
VERSION = 2
_PASSING = 10.0  # seconds


class Entry(msgspec.Struct):
    """One uplink that is being, or has been, taken over."""

    uplink: UplinkState
    netns_path: str
    tap_ifindex: int
    taken: bool = False


class Record(msgspec.Struct):
    """The journal's content."""

    version: int
    boot_id: str
    pid: int
    netns: tuple[int, int]
    entries: list[Entry]


def boot_id() -> str:
    """Names this boot of the machine: namespaces and TAPs of another one are gone."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


class RuntimeLock:
    """The exclusive right to a runtime directory, held while the object is open.

    It belongs to the open file: a process that is given the descriptor has the right, too, and keeps it.
    """

    def __init__(self, directory: Path, descriptor: int) -> None:
        self.directory = directory
        self._descriptor = descriptor

    @property
    def descriptor(self) -> int:
        return self._descriptor

    def sign(self) -> None:
        """Leave this process' number in the file, for whoever finds it locked."""
        with contextlib.suppress(OSError):  # a full disk shows when the journal is written
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def close(self) -> None:
        """Give the directory up."""
        with _locks_guard:
            if _locks.get(self.directory) is self:
                del _locks[self.directory]
                os.close(self._descriptor)

    def __enter__(self) -> RuntimeLock:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


_locks: dict[Path, RuntimeLock] = {}
_locks_guard = threading.Lock()


def _is_passing(holder: str) -> bool:
    """Whether a process is about to end: it is on its way out, or restores after another that was killed."""
    try:
        words = Path("/proc", holder, "cmdline").read_bytes().split(b"\0")
    except OSError:
        return True
    return words == [b""] or b"pyvpp.linux.guardian" in words or b"restore" in words


def lock_runtime_dir(runtime_dir: str | Path, wait: float = 0) -> RuntimeLock:
    """Take the runtime directory for this process (making it if need be), or say which process has it.

    Waits so many seconds, and for whoever restores in it or is about to end.
    """
    directory = Path(runtime_dir).absolute()
    with _locks_guard:
        if directory in _locks:
            raise OperatorError(f"runtime directory {directory}: this process uses it already")
        try:
            directory.mkdir(mode=0o750, parents=True, exist_ok=True)
            descriptor = os.open(directory / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        except OSError as error:
            raise OperatorError(
                f"runtime directory {directory}: {error.strerror}; name another with --runtime-dir"
            ) from None
        began = time.monotonic()
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
                if time.monotonic() - began < max(wait, _PASSING if _is_passing(holder) else 0):
                    time.sleep(0.02)
                    continue
                os.close(descriptor)
                raise _in_use(directory, holder) from None
        lock = _locks[directory] = RuntimeLock(directory, descriptor)
        lock.sign()
    return lock


def lock_of(runtime_dir: str | Path) -> RuntimeLock:
    """The lock of a runtime directory that this process has. Raises KeyError when it has none."""
    return _locks[Path(runtime_dir).absolute()]


def adopt_lock(runtime_dir: str | Path, descriptor: int) -> RuntimeLock:
    """The right to a runtime directory that another process gave us with the descriptor of its lock."""
    directory = Path(runtime_dir).absolute()
    with _locks_guard:
        lock = _locks[directory] = RuntimeLock(directory, descriptor)
    return lock


def holder_of(runtime_dir: str | Path) -> str:
    """The process that has a runtime directory, empty when none has. Nothing is made or changed."""
    try:
        descriptor = os.open(Path(runtime_dir) / LOCK_NAME, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
    finally:
        os.close(descriptor)
    return ""


def check_unused(runtime_dir: str | Path) -> None:
    """Raises the OperatorError of `lock_runtime_dir` when a process has the runtime directory; changes nothing."""
    if holder := holder_of(runtime_dir):
        raise _in_use(Path(runtime_dir).absolute(), holder)


def _in_use(directory: Path, holder: str) -> OperatorError:
    return OperatorError(
        f"runtime directory {directory}: in use by the pyvpp with process id {holder}; "
        f"stop it or name another with --runtime-dir"
    )


def pending(runtime_dir: str | Path) -> list[str]:
    """Uplinks that a journal of this boot says are taken over. Raises OperatorError when it cannot be read."""
    record = Journal(runtime_dir).look()
    return [entry.uplink.name for entry in record.entries] if record is not None else []


def holds_lock(runtime_dir: str | Path) -> bool:
    """Whether this process has the runtime directory already."""
    return Path(runtime_dir).absolute() in _locks


class Journal:
    """The file in the runtime directory that says what is taken over. Not there = nothing is."""

    def __init__(self, runtime_dir: str | Path) -> None:
        self.directory = Path(runtime_dir).absolute()
        self.path = self.directory / JOURNAL_NAME
        self._unfinished = self.path.with_suffix(".new")

    def read(self) -> Record | None:
        """The record, or None without one. One of an earlier boot is worth nothing and is removed."""
        record = self.look()
        if record is None and self.path.exists():
            self.remove()
        return record

    def look(self) -> Record | None:
        """The record, or None without one of this boot; nothing is changed. Raises OperatorError: it cannot be read."""
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return None
        try:
            record = msgspec.json.decode(content, type=Record)
        except msgspec.MsgspecError as error:
            raise OperatorError(
                f"journal {self.path}: cannot be read ({error}), it is set aside by `pyvpp restore`"
            ) from None
        return record if record.boot_id == boot_id() else None

    def write(self, record: Record) -> None:
        """Put the record on disk, wholly or not at all."""
        temporary = self._unfinished
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                content = memoryview(msgspec.json.encode(record))
                while content:
                    content = content[os.write(descriptor, content) :]
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            temporary.rename(self.path)
            self._sync_directory()
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise OperatorError(
                f"journal {self.path}: {error.strerror}; without it a crash would lose the uplink's state, so nothing "
                f"was taken over. Make room or name another --runtime-dir"
            ) from None

    def remove(self) -> None:
        """Forget it all."""
        self.forget_unfinished()
        self.path.unlink(missing_ok=True)
        self._sync_directory()

    def set_aside(self) -> None:
        """Out of the way, for whoever wants to look at it."""
        self.path.rename(self.path.with_suffix(".bad"))
        self._sync_directory()

    def forget_unfinished(self) -> None:
        """Remove a record whose writer was killed."""
        self._unfinished.unlink(missing_ok=True)

    def _sync_directory(self) -> None:
        descriptor = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
