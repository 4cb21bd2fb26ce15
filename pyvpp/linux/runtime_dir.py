# SPDX-License-Identifier: Apache-2.0
"""The runtime directory: ours alone, but for a group that may use the sockets in it."""

from __future__ import annotations

import grp
import os
import stat
from pathlib import Path

from pyvpp.errors import OperatorError

MODE = 0o750
UMASK = 0o027  # of whatever pyvpp writes: nothing is for the world


def provide(runtime_dir: str | Path, group: str | None) -> None:
    """Makes the directory, and gives it to a group, by name or number. To be called while we may do that.

    With the setgid bit everything made in it is the group's too, by whichever process; what it may not read has a mode
    that says so. Raises OperatorError, also when somebody else could put files there, or take ours away.
    """
    directory = Path(runtime_dir).absolute()
    try:
        directory.mkdir(mode=MODE, parents=True, exist_ok=True)
        status = check(directory)
        if group is not None:
            wanted = (group_number(group), stat.S_ISGID | MODE)
            # One that goes on in place of another finds it so, and could not make it so any more.
            if (status.st_gid, stat.S_IMODE(status.st_mode)) != wanted:
                os.chown(directory, -1, wanted[0])
                directory.chmod(wanted[1])
    except PermissionError as error:
        said = f"--group {group}" if group is not None and directory.exists() else f"runtime directory {directory}"
        raise OperatorError(f"{said}: {error.strerror} (another group needs CAP_CHOWN and CAP_FSETID)") from None
    except OSError as error:
        raise OperatorError(
            f"runtime directory {directory}: {error.strerror}; name another with --runtime-dir"
        ) from None


def check(directory: Path) -> os.stat_result:
    """Its status. Raises OperatorError when it is not ours alone to write in; OSError when it is none we can see."""
    status = directory.stat()
    if status.st_uid != os.geteuid():
        raise OperatorError(f"runtime directory {directory}: belongs to user {status.st_uid} (expected {os.geteuid()})")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        mode = stat.S_IMODE(status.st_mode)
        raise OperatorError(f"runtime directory {directory}: others may write in it (mode {mode:o}, expected {MODE:o})")
    return status


def group_number(name: str) -> int:
    """Raises OperatorError when there is no such group."""
    if name.isdecimal():
        return int(name)
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise OperatorError(f"--group {name}: no such group") from None
