# SPDX-License-Identifier: Apache-2.0
"""Network namespaces: run a function in one, keep one alive by a bind mount, find one by its identity.

A thread changes its namespace alone, so everything here that enters one does so in a thread of its own and never moves
the caller.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import functools
import itertools
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

KEPT_PREFIX = "netns-"  # of the files in a runtime directory on which namespaces are kept, one an uplink
CLONE_NEWNET = 0x40000000
_MS_BIND = 0x1000
_MNT_DETACH = 2
_NS_GET_NSTYPE = 0xB703
_OWN = "/proc/thread-self/ns/net"

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def open_current() -> int:
    """The calling thread's network namespace as a file descriptor."""
    return os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)


def identity(namespace: int | str | Path | None = None) -> tuple[int, int]:
    """Device and inode number of a namespace (the caller's own by default): equal if and only if it is the same one."""
    status = os.stat(_OWN if namespace is None else namespace)
    return status.st_dev, status.st_ino


def run_in_new_thread(function: Callable[[], T]) -> T:
    """Run a function in a thread of its own and hand back what it returned or raised."""
    result: list[T] = []
    failure: list[BaseException] = []

    def body() -> None:
        try:
            result.append(function())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=body, name="netns", daemon=True)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return result[0]


def run_in(namespace: int | None, function: Callable[[], T]) -> T:
    """Run a function inside a namespace; what it opens (sockets, devices) stays there and is usable by everyone.

    None is the caller's, yet it runs in a thread of its own: pyroute2 runs no event loop in a thread that has one.
    """

    def body() -> T:
        if namespace is not None:
            _check(_libc.setns(namespace, CLONE_NEWNET), "setns")
        return function()

    return run_in_new_thread(body)


@functools.cache
def nameless() -> int:
    """A namespace of this process, empty: where devices are made that belong somewhere else. As a file descriptor."""

    def body() -> int:
        _check(_libc.unshare(CLONE_NEWNET), "unshare")
        return open_current()

    return run_in_new_thread(body)


def create_kept(path: Path) -> int:
    """Make a namespace that lives as long as its bind mount on `path`, and return it as a file descriptor."""

    def body() -> int:
        _check(_libc.unshare(CLONE_NEWNET), "unshare")
        path.touch(mode=0o600)
        _check(_libc.mount(_OWN.encode(), os.fsencode(path), None, _MS_BIND, None), f"mount on {path}")
        return open_current()

    return run_in_new_thread(body)


def is_namespace(descriptor: int) -> bool:
    """Whether a file descriptor is a network namespace's."""
    try:
        return fcntl.ioctl(descriptor, _NS_GET_NSTYPE) == CLONE_NEWNET
    except OSError:
        return False


def is_kept(path: Path) -> bool:
    """Whether a namespace is mounted on the path (and not just an empty file left)."""
    try:
        return os.stat(path).st_dev == os.stat(_OWN).st_dev
    except OSError:
        return False


def uplink_inside(path: Path) -> str:
    """The uplink for which a kept namespace was made, if it is in there; Linux may have devices of its own there."""
    wanted = path.name.removeprefix(KEPT_PREFIX)
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        names = run_in(descriptor, lambda: [name for _, name in socket.if_nameindex()])
    finally:
        os.close(descriptor)
    return wanted if wanted in names else ""


def release_kept(path: Path) -> None:
    """Undo `create_kept`: the namespace goes when nobody else holds it. Fine on a path where nothing is mounted."""
    while _libc.umount2(os.fsencode(path), _MNT_DETACH) == 0:
        pass
    if (number := ctypes.get_errno()) not in (errno.EINVAL, errno.ENOENT):
        raise OSError(number, f"umount of {path}: {os.strerror(number)}")
    path.unlink(missing_ok=True)


def find(wanted: tuple[int, int]) -> int | None:
    """Open the namespace with this identity: the caller's, one that `ip netns` names, or some process's."""
    named, of_processes = Path("/run/netns").glob("*"), Path("/proc").glob("[0-9]*/ns/net")
    for candidate in itertools.chain([Path(_OWN)], named, of_processes):
        try:
            descriptor = os.open(candidate, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            continue
        if identity(descriptor) == wanted:
            return descriptor
        os.close(descriptor)
    return None
