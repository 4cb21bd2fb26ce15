# SPDX-License-Identifier: Apache-2.0
"""Kernels of policer beside the RFCs' meter."""

from itertools import count

from bench.harness import Case, bench_kernel, bench_reference  # noqa: F401  (pytest collects them here)
from pyvpp_policer.meter import Kind
from tests.plugins.pyvpp_policer.model import Meter

METER = Meter(Kind.TWO_RATES_2698, 90_000_000, 1_000_000_000, 100_000_000, 1_000_000_000)
NOW = count(0, 1000)

CASES = (
    Case("policer-input", "policer", lambda: METER.colour(next(NOW), 50)),
    Case("policer-output", "policer-output", lambda: METER.colour(next(NOW), 50)),
)
