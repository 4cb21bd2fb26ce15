# SPDX-License-Identifier: Apache-2.0
"""Kernels of mss-clamp beside their reference."""

from bench.harness import Case, bench_kernel, bench_reference  # noqa: F401  (pytest collects them here)
from pyvpp_mss_clamp.bench import ASKED, MOST, syn
from tests.graph_nodes.forwarding import ip4, ip6
from tests.plugins.pyvpp_mss_clamp.segments import reference

SYN = syn(ASKED, bytes(4), bytes(4), 1024, b"")
PACKET, PACKET6 = ip4(SYN, protocol=6), ip6(SYN, protocol=6)

CASES = (
    Case("tcp-mss-clamping-ip4-in", "mss-clamp", lambda: reference(PACKET, MOST, False)),
    Case("tcp-mss-clamping-ip4-out", "mss-clamp-output", lambda: reference(PACKET, MOST, False)),
    Case("tcp-mss-clamping-ip6-in", "mss-clamp-6", lambda: reference(PACKET6, MOST, False)),
    Case("tcp-mss-clamping-ip6-out", "mss-clamp-output-6", lambda: reference(PACKET6, MOST, False)),
)
