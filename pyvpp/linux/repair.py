# SPDX-License-Identifier: Apache-2.0
"""What `pyvpp doctor --fix` does: only what is safe, can be undone, and needs no decision of the operator.

Each repair says in one line what it has done and how that is undone. What it may not do, or cannot, is an exception.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from pyvpp.errors import OperatorError
from pyvpp.linux import capture
from pyvpp.linux.hooks import Hooks
from pyvpp.linux.journal import pending
from pyvpp.linux.restore_hooked import restore_hooked
from pyvpp.options import DEFAULT_HOOKS

_TUN_NUMBER = os.makedev(10, 200)  # Documentation/admin-guide/devices.txt
_PATIENCE = 20  # seconds for a command
LINK_FILE = Path("/etc/systemd/network/10-pyvpp-tap.link")
LINK_FILE_TEXT = """\
# SPDX-License-Identifier: Apache-2.0
# Written by `pyvpp doctor --fix`: udev leaves a TAP's MAC address and name alone.
[Match]
Driver=tun

[Link]
MACAddressPolicy=none
NamePolicy=
"""


class Repair(NamedTuple):
    """What is said beforehand, and what does it in a runtime directory; that says what was done."""

    says: str
    run: Callable[[Path], str]


def _command(*words: str) -> str:
    """What a command said last when it failed, empty when it worked or is not installed."""
    if shutil.which(words[0]) is None:
        return f"{words[0]}: not installed"
    done = subprocess.run(words, capture_output=True, text=True, timeout=_PATIENCE)
    said = (done.stderr or done.stdout).strip().splitlines()
    return "" if done.returncode == 0 else (said[-1] if said else f"{words[0]}: status {done.returncode}")


def _tun_opens() -> bool:
    try:
        os.close(os.open(capture.TUN_DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def provide_tun(runtime_dir: Path) -> str:
    """Loads the module, and makes the device where nobody did. Raises OperatorError, OSError."""
    refused = _command("modprobe", "tun")
    if _tun_opens():
        return "loaded the kernel's tun module (undo: modprobe -r tun)"
    device = capture.TUN_DEVICE
    if device.exists():
        raise OperatorError(f"{device} is there and does not open ({refused or 'the module is loaded'})")
    device.parent.mkdir(mode=0o755, exist_ok=True)
    os.mknod(device, stat.S_IFCHR | 0o600, _TUN_NUMBER)
    if not _tun_opens():
        device.unlink()
        raise OperatorError(f"no tun in this kernel, or not for us ({refused or 'modprobe found it'})")
    return f"made {device}, for root (undo: rm {device})"


def restore_what_was_left(runtime_dir: Path) -> str:
    """Gives back what an earlier pyvpp took. Raises OperatorError, with what is still missing or in the way."""
    names = pending(runtime_dir)
    problems, failures = restore_hooked(runtime_dir, Hooks(DEFAULT_HOOKS), "crash")
    if problems:
        raise OperatorError("; ".join((*problems, *failures)))
    said = f"gave {', '.join(names)} back to Linux" if names else "took away the namespace, which was empty"
    return "; ".join((said, *failures))


def leave_taps_alone(runtime_dir: Path) -> str:
    """Tells udev. Raises OSError; what is there already is not overwritten."""
    LINK_FILE.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    with LINK_FILE.open("x") as file:
        os.chmod(file.fileno(), 0o644)
        file.write(LINK_FILE_TEXT)
    refused = _command("udevadm", "control", "--reload")
    return f"wrote {LINK_FILE} (undo: rm it)" + (f"; tell udev: {refused}" if refused else "")


def compile_nodes(runtime_dir: Path) -> str:
    """What `pyvpp warmup` does."""
    from pyvpp import cache
    from pyvpp.warmup import warm_up

    warm_up()
    return f"compiled the nodes (undo: rm -r {cache.directory()})"


TUN = Repair("loads the tun module or makes the device", provide_tun)
RESTORE = Repair("restores it", restore_what_was_left)
UDEV = Repair(f"writes {LINK_FILE}", leave_taps_alone)
COMPILE = Repair("compiles them", compile_nodes)
REPAIRS = {repair.says: repair for repair in (TUN, RESTORE, UDEV, COMPILE)}
