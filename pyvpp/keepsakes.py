# SPDX-License-Identifier: Apache-2.0
"""What plugins keep of their tables when another process goes on (`pyvpp.upgrade`): arrays by name, in one memory file.

At the event "last-hand-over" workers stand still for good, and whoever subscribed adds what has to be exact, such as
sessions; in the process that goes on "last-take-on" brings the same keepsakes, before its workers begin. Packets wait
meanwhile: what is in use is added, not what there is room for. An array comes back only as what it was: of the same
fields in the same places.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np


class Kept(msgspec.Struct, frozen=True):
    """An array in the memory file: its items' type as text, how many there are, and where they begin."""

    name: str
    type: str
    items: int
    at: int


class Keepsakes:
    """On their way from one process to the other."""

    def __init__(self) -> None:
        self._arrays: dict[str, Any] = {}
        self._listed: dict[str, Kept] = {}
        self._memory: Any = None

    def __bool__(self) -> bool:
        return bool(self._arrays)

    def add(self, name: str, array: Any) -> None:
        """For `take` of this name in the other process; the array is read when all is written."""
        self._arrays[name] = np.ascontiguousarray(array)

    def take(self, name: str, dtype: Any) -> Any:
        """An array of this type, None when there is none or it was of another one. It is there until the event ends."""
        kept = self._listed.get(name)
        if kept is None or kept.type != type_text(dtype):
            return None
        return np.frombuffer(self._memory, dtype, kept.items, kept.at)

    def write(self) -> tuple[list[Kept], int]:
        """All arrays in a memory file: what is in it, and its descriptor, which is the caller's to close."""
        descriptor = os.memfd_create("pyvpp-kept", os.MFD_CLOEXEC)
        listed, at = [], 0
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            for name, array in self._arrays.items():
                listed.append(Kept(name, type_text(array.dtype), len(array), at))
                at += file.write(array.view(np.uint8).data) if len(array) else 0
        return listed, descriptor

    @classmethod
    def read(cls, listed: Sequence[Kept], descriptor: int) -> Keepsakes:
        """What another process has written."""
        found = cls()
        found._listed = {kept.name: kept for kept in listed}
        size = os.fstat(descriptor).st_size
        found._memory = mmap.mmap(descriptor, size, prot=mmap.PROT_READ) if size else b""
        return found


def type_text(dtype: Any) -> str:
    """The same for the same fields in the same places."""
    dtype = np.dtype(dtype)
    return f"{dtype.itemsize} {dtype.descr}"
