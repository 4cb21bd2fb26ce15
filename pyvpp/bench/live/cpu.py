# SPDX-License-Identifier: Apache-2.0
"""Processor time: of the pyvpp processes, by the nanosecond, and of everything that the traffic made busy.

Linux forwards in soft interrupts, which belong to no process: their time is only in the sum over the machine. So the
second figure is what the machine was busy, less what processes took that have nothing to do with the lab. It has the
resolution of Linux's ticks (10 ms) and the noise of whoever else is working.
"""

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pyvpp.bench.machine import IRQ, NICE, SOFTIRQ, SYSTEM, TICKS, USER, text_of

KERNEL_THREADS = 2  # parent of them all


@dataclass(frozen=True)
class CpuTime:
    """Processors, on average over the time measured."""

    pyvpp: float
    lab: float


def process_ns(pid: int) -> int:
    """What all threads of a process have run, ns; 0 when it is gone."""
    total = 0
    for task in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        words = text_of(str(task)).split()
        total += int(words[0]) if words else 0
    return total


def busy_seconds(stat: str) -> float:
    """From /proc/stat: what all processors were busy."""
    ticks = [int(word) for word in stat.partition("\n")[0].split()[1:9]]
    return sum(ticks[kind] for kind in (USER, NICE, SYSTEM, IRQ, SOFTIRQ)) / TICKS


def process_seconds(stat: str) -> tuple[int, int, float]:
    """From /proc/PID/stat (proc(5)): the parent, the session and the time it has run; its name may contain anything."""
    words = stat.rpartition(")")[2].split()
    return int(words[1]), int(words[3]), (int(words[11]) + int(words[12])) / TICKS


class Meter:
    """Measures between `begin` and `end`. `pyvpps`: process numbers; `sessions`: those of everything in the lab."""

    def __init__(self, pyvpps: Iterable[int], sessions: Iterable[int]) -> None:
        self._pyvpps = tuple(pyvpps)
        self._sessions = frozenset(sessions)

    def begin(self) -> None:
        self._then = time.monotonic()
        self._before = self._read()

    def end(self) -> CpuTime:
        ours, busy, others = self._read()
        seconds = time.monotonic() - self._then
        ours_then, busy_then, others_then = self._before
        elsewhere = sum(spent - others_then.get(pid, spent) for pid, spent in others.items())
        return CpuTime((ours - ours_then) / 1e9 / seconds, max(busy - busy_then - elsewhere, 0.0) / seconds)

    def _read(self) -> tuple[int, float, dict[int, float]]:
        """pyvpp's ns, the machine's busy seconds, and those of each process that is not the lab's."""
        others: dict[int, float] = {}
        for name in os.listdir("/proc"):
            if not name.isdecimal() or not (stat := text_of(f"/proc/{name}/stat")):
                continue
            parent, session, spent = process_seconds(stat)
            if parent != KERNEL_THREADS and session not in self._sessions and int(name) != os.getpid():
                others[int(name)] = spent
        return sum(map(process_ns, self._pyvpps)), busy_seconds(text_of("/proc/stat")), others
