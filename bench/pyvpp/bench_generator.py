# SPDX-License-Identifier: Apache-2.0
"""The packet generator's kernels, which every path's figure contains, beside what they would be in Python."""

from bench.harness import Case, bench_kernel, bench_reference  # noqa: F401  (pytest collects them here)
from pyvpp.bench.scenario import IN_MAC

PACKETS = [IN_MAC + bytes(58) for _ in range(256)]
HEAP = bytearray(256 * 64)


def copied() -> None:
    """pg-input: a packet into a buffer."""
    HEAP[64:128] = PACKETS[1]


CASES = (
    Case("pg-input", "ip4", copied),
    Case("pg-tx", "ip4", lambda: None),
    Case("error-drop", "no-route", lambda: None),
)
