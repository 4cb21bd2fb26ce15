# SPDX-License-Identifier: Apache-2.0
"""The dispatcher: a round with nothing to do, and what a node more costs a packet besides its own work."""

from collections.abc import Iterator
from typing import Any

import pytest

from bench.harness import ROUNDS, VECTORS, a_piece, declared, timed
from pyvpp.bench import idle_feature
from pyvpp.bench.measure import run_once
from pyvpp.bench.stand import Stand, stand_for
from pyvpp.loader import load

ARC = "ip4-unicast"
EMPTY, BUSY = 20_000, 200  # rounds


@pytest.fixture(scope="module")
def stand() -> Iterator[Stand]:
    declarations = load()
    declarations.add(idle_feature)
    with stand_for(declared()["ip4"], declarations=declarations) as made:
        yield made


def bench_empty_round(stand: Stand, benchmark: Any) -> None:
    """Seconds a round of the loop when no packet arrives."""
    if stand.packets:
        stand.settle()
    timed(benchmark, a_piece(lambda: stand.engine.run(EMPTY), EMPTY))


@pytest.mark.parametrize("vector", VECTORS)
def bench_node_more(stand: Stand, vector: int, benchmark: Any) -> None:
    """Seconds a packet that a feature which does nothing adds: a queue, a call, its counters, a move."""
    packets = declared()["ip4"].packets(stand.engine, count=1024)
    stand.generate(packets, vector)
    features, rate = stand.engine.features, stand.engine.clock_rate

    def best(on: bool) -> float:
        features.enable(ARC, idle_feature.idle_feature.name, stand.pg0.sw_if_index, on)
        return min(run_once(stand, BUSY).clocks for _ in range(5))

    def seconds() -> float:
        return max(best(True) - best(False), 0.0) / rate / 1e9

    timed(benchmark, seconds, ROUNDS // 3)
