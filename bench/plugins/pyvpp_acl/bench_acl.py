# SPDX-License-Identifier: Apache-2.0
"""Kernels of acl beside what lists mean: rows are looked through from the first on. And lists being compiled."""

from functools import cache
from typing import Any

import pytest

from bench.harness import Case, a_piece, bench_kernel, bench_reference, timed  # noqa: F401  (pytest collects them here)
from pyvpp_acl import bench
from pyvpp_acl.compile import compile_lists
from pyvpp_acl.rules import UDP, Row, Sets, rows_of
from pyvpp_acl.synthetic import FLAVOURS, flows_of, realistic
from tests.plugins.pyvpp_acl.model import Seen, linear

SESSIONS: dict[Seen, int] = {}


@cache
def rows(n: int, version: int = 4) -> list[Row]:
    made = bench.rules(n) if version == 4 else realistic("fw", n, 6)
    return rows_of(list(enumerate(made)), Sets(), version)


@cache
def seen(n: int, version: int = 4) -> Seen:
    source, destination, *ports = (bench.flows(n, 16) if version == 4 else flows_of("fw", n, 16, 6))[1]
    return Seen(source, destination, UDP, *ports)


def goes_on() -> None:
    """One more packet of a session."""
    SESSIONS[seen(10)] = SESSIONS.get(seen(10), 0) + 1


CASES = (
    Case("acl-plugin-in-ip4-fa", "acl-10", lambda: linear(rows(10), seen(10))),
    Case("acl-plugin-in-ip4-fa", "acl-1k", lambda: linear(rows(1000), seen(1000))),
    Case("acl-plugin-in-ip4-fa", "acl-10k", lambda: linear(rows(10000), seen(10000))),
    Case("acl-plugin-in-ip4-fa", "acl-sessions", goes_on),
    Case("acl-plugin-out-ip4-fa", "acl-output", lambda: linear(rows(1000), seen(1000))),
    Case("acl-plugin-in-ip6-fa", "acl-6", lambda: linear(rows(1000, 6), seen(1000, 6))),
    Case("acl-plugin-out-ip6-fa", "acl-output-6", lambda: linear(rows(1000, 6), seen(1000, 6))),
)


@pytest.mark.parametrize("flavour", sorted(FLAVOURS))
def bench_compile(flavour: str, benchmark: Any) -> None:
    """Seconds a list of 10,000 rules."""
    found = rows_of(list(enumerate(realistic(flavour, 10000))), Sets(), 4)
    timed(benchmark, a_piece(lambda: compile_lists([(found, 4)]), 1), rounds=3)
