# SPDX-License-Identifier: Apache-2.0
"""Capabilities (capabilities(7)): what pyvpp needs, and how it gives the others up for itself and all it starts.

NEEDED is the list that the unit, the container and README.md have too, which a test compares.
"""

from __future__ import annotations

import ctypes
import os
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

_PR_CAPBSET_READ, _PR_CAPBSET_DROP = 23, 24
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
_CAPABILITY_VERSION_3 = 0x20080522
_MOST = 64

_libc = ctypes.CDLL(None, use_errno=True)


class Capability(IntEnum):
    """Those of linux/capability.h that are ours, by their bits."""

    CAP_DAC_OVERRIDE = 1
    CAP_NET_ADMIN = 12
    CAP_NET_RAW = 13
    CAP_IPC_LOCK = 14
    CAP_SYS_PTRACE = 19
    CAP_SYS_ADMIN = 21
    CAP_SYS_RESOURCE = 24


# What each is for.
INDISPENSABLE = {
    Capability.CAP_NET_ADMIN: "links, addresses, routes and TAPs",
    Capability.CAP_NET_RAW: "packet sockets",
    Capability.CAP_SYS_ADMIN: "network namespaces, where the NIC is and pods are, and BPF",
}
HELPFUL = {
    Capability.CAP_SYS_PTRACE: "other processes' sockets on the uplink keep their groups and go on",
    Capability.CAP_DAC_OVERRIDE: "other users' processes' sockets do, too, and captures go to any directory",
    Capability.CAP_IPC_LOCK: "AF_XDP has buffers beyond RLIMIT_MEMLOCK",
    Capability.CAP_SYS_RESOURCE: "the guardian is the last to go when memory runs out",
}
NEEDED = INDISPENSABLE | HELPFUL


class Privileges(NamedTuple):
    """What a process may do: bits by the capabilities' numbers, and whether a program it starts may do more."""

    effective: int
    permitted: int
    inheritable: int
    bounding: int
    ambient: int
    no_new: bool

    def names(self) -> list[str]:
        """Its effective capabilities, lower case as capsh(1) has them; those that are not ours by their number."""
        known = {int(capability): capability.name.lower() for capability in Capability}
        return [known.get(bit, str(bit)) for bit in range(_MOST) if self.effective >> bit & 1]


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Data(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def of(task: Path = Path("/proc/thread-self")) -> Privileges:
    """What a thread may do, the caller's by default. Raises OSError when it is gone."""
    lines = (line.split(":", 1) for line in (task / "status").read_text().splitlines())
    status = {line[0]: line[1].strip() for line in lines if len(line) == 2}
    effective, permitted, inheritable, bounding, ambient = (
        int(status[name], 16) for name in ("CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb")
    )
    return Privileges(effective, permitted, inheritable, bounding, ambient, status["NoNewPrivs"] == "1")


def bits(capabilities: dict[Capability, str]) -> int:
    """As Linux has them."""
    return sum(1 << capability for capability in capabilities)


def missing() -> list[Capability]:
    """Those of NEEDED that this thread has not."""
    effective = of().effective
    return [capability for capability in NEEDED if not effective >> capability & 1]


def reduce(wanted: int = bits(NEEDED)) -> None:
    """Gives up for ever what is not wanted; to be called while there is one thread, since each has its own.

    What this process starts has no more, be it setuid. Without CAP_SETPCAP the bounding set stays as it is, which
    changes nothing for them: no_new_privs sees to it. Raises OSError.
    """
    for bit in range(_MOST):
        if not wanted >> bit & 1 and _libc.prctl(_PR_CAPBSET_READ, bit, 0, 0, 0) == 1:
            _libc.prctl(_PR_CAPBSET_DROP, bit, 0, 0, 0)
    _libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    left = of().permitted & wanted
    halves = [ctypes.c_uint32(left >> shift).value for shift in (0, 32)]
    data = (_Data * 2)(*(_Data(half, half, 0) for half in halves))
    _check(_libc.capset(ctypes.byref(_Header(_CAPABILITY_VERSION_3, 0)), data), "capset")
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
