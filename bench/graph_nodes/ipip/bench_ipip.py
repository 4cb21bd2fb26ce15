# SPDX-License-Identifier: Apache-2.0
"""Kernels of IPIP beside their references; the encapsulation is ip4-midchain's."""

from bench.harness import Case, bench_kernel, bench_reference  # noqa: F401  (pytest collects them here)
from tests.graph_nodes.forwarding import ip4, udp
from tests.graph_nodes.ipip import test_ipip4_input
from tests.graph_nodes.ipip.test_ipip4_input import LOCAL, REMOTE

TUNNELLED = ip4(ip4(udp(bytes(22))), source=REMOTE, destination=LOCAL, protocol=4)

CASES = (Case("ipip4-input", "ipip-decap", lambda: test_ipip4_input.reference(TUNNELLED)),)
