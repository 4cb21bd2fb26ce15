# SPDX-License-Identifier: Apache-2.0
"""What the figures were taken on: processor, cycle counter, memory pages, versions, and who else was working."""

import os
import platform
import re
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pyvpp import __version__
from pyvpp.buffers import Heap
from pyvpp.worker import clock_rate

BUSY = 0.25  # processors taken by others, from which the reader is warned
SMALL_BUFFERS = 16384
TICKS = os.sysconf("SC_CLK_TCK")
USER, NICE, SYSTEM, IDLE, IOWAIT, IRQ, SOFTIRQ, STEAL = range(8)  # of the first line of /proc/stat


def machine(hugepages: str = "auto") -> dict[str, Any]:
    """The machine, as JSON; with the pages that a heap gets there."""
    heap = Heap(SMALL_BUFFERS, hugepages)
    heap.close()
    return {
        "cpu": cpu_model(),
        "cpus": os.cpu_count(),
        "tsc_mhz": round(clock_rate() * 1000, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "numba": version_of("numba"),
        "numpy": version_of("numpy"),
        "pyvpp": __version__,
        "pages": heap.pages,
    }


def cpu_model() -> str:
    found = re.search(r"^model name\s*:\s*(.*)$", text_of("/proc/cpuinfo"), re.MULTILINE)
    return found[1] if found else platform.machine()


def version_of(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def text_of(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def resident_bytes(pid: int | str = "self") -> int:
    """A process's resident memory; 0 where Linux does not say."""
    found = re.search(r"^VmRSS:\s*(\d+) kB", text_of(f"/proc/{pid}/status"), re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def own_seconds() -> float:
    """Processor time of this process and of the children it waited for."""
    return sum(os.times()[:4])


class Neighbours:
    """How much of the machine others take, from now on until `shares` is asked."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._own = own_seconds()
        self._before = self._ticks()

    @staticmethod
    def _ticks() -> list[int]:
        return [int(word) for word in text_of("/proc/stat").partition("\n")[0].split()[1:9]] or [0] * 8

    def shares(self) -> dict[str, float]:
        """The load average, and in processors on average: what other processes took, what the hypervisor withheld."""
        seconds = max(time.monotonic() - self._began, 1 / TICKS)
        spent = [(now - then) / TICKS / seconds for now, then in zip(self._ticks(), self._before, strict=True)]
        busy = sum(spent[kind] for kind in (USER, NICE, SYSTEM, IRQ, SOFTIRQ))
        own = (own_seconds() - self._own) / seconds
        return {
            "load": round(os.getloadavg()[0], 2),
            "others_busy": round(max(busy - own, 0.0), 2),
            "stolen": round(spent[STEAL], 3),
        }


def free_processors(shares: dict[str, float]) -> float:
    """How many of the processors we may use others left to us, on average."""
    return round(max(len(os.sched_getaffinity(0)) - shares["others_busy"] - shares["stolen"], 0.0), 2)


def warning(shares: dict[str, Any]) -> str:
    """A line for the reader when the machine was not ours alone; empty when it was."""
    others, stolen = shares.get("others_busy", 0.0), shares.get("stolen", 0.0)
    if others < BUSY and stolen < BUSY / 5:
        return ""
    return (
        f"the machine was busy: others took {others:.1f} processors and the hypervisor {stolen:.2f} meanwhile, so "
        "figures may be up to twice too high; the least of several runs is given"
    )
