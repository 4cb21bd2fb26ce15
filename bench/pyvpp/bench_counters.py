# SPDX-License-Identifier: Apache-2.0
"""Counters: what a node's cost a call, and what a reader pays who adds up the workers'."""

from typing import Any

import numpy as np

from bench.harness import a_piece, timed
from pyvpp import dispatch as d
from pyvpp.bench.native import count_calls
from pyvpp.interface import INTERFACE_RX
from pyvpp.tables import TableInstance

CALLS = 100_000
READS = 100
WORKERS = 4


def bench_node_counters(benchmark: Any) -> None:
    """Seconds a call: the cycle counter, calls, vectors, clocks, the most clocks."""
    rows: Any = np.zeros(1, d.NODE_ROW)
    timed(benchmark, a_piece(lambda: count_calls(rows, 0, CALLS), CALLS))
    assert rows[0]["calls"] % CALLS == 0 and rows[0]["calls"]


def bench_node_counters_in_python(benchmark: Any) -> None:
    """The same, as a reference, without the cycle counter."""
    row = {"calls": 0, "vectors": 0, "clocks": 0, "max_clocks": 0}

    def count() -> None:
        for spent in range(CALLS):
            row["calls"] += 1
            row["vectors"] += 1
            row["clocks"] += spent
            row["max_clocks"] = max(row["max_clocks"], spent)

    timed(benchmark, a_piece(count, CALLS), rounds=5)


def bench_sum_of_interface_counters(benchmark: Any) -> None:
    """Seconds a read of all interfaces' counters, four workers' taken together."""
    table = TableInstance(INTERFACE_RX, WORKERS)
    for array in table.arrays:
        array["packets"] = 1

    def read() -> None:
        for _ in range(READS):
            assert table.sum()["packets"][7] == WORKERS

    timed(benchmark, a_piece(read, READS))
