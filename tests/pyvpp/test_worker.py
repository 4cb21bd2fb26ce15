# SPDX-License-Identifier: Apache-2.0
from types import SimpleNamespace

import pytest

from pyvpp import clock, worker


class Machine:
    """A processor of 3 GHz on which the first look at the cycle counter takes a second: it has to be compiled."""

    def __init__(self) -> None:
        self.ns = 0
        self.compiled = False

    def read_cycles(self) -> int:
        if not self.compiled:
            self.compiled = True
            self.ns += 1_000_000_000
        return 3 * self.ns

    def sleep(self, seconds: float) -> None:
        self.ns += int(seconds * 1e9)


def test_the_clock_rate_is_not_that_of_a_compiler(monkeypatch: pytest.MonkeyPatch):
    machine = Machine()
    monkeypatch.setattr(clock, "read_cycles", machine.read_cycles)
    monkeypatch.setattr(worker, "time", SimpleNamespace(perf_counter_ns=lambda: machine.ns, sleep=machine.sleep))
    assert worker.clock_rate() == 3
