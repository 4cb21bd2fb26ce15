# SPDX-License-Identifier: Apache-2.0
"""Kernels of IPv6 beside their references."""

from bench.harness import Case, bench_kernel, bench_reference  # noqa: F401  (pytest collects them here)
from tests.graph_nodes.forwarding import ip6, udp
from tests.graph_nodes.icmp6 import test_error
from tests.graph_nodes.ip6 import test_input, test_lookup, test_rewrite

PACKET = ip6(udp(bytes(22)), destination="2001:db8:1:2::2")

CASES = (
    Case("ip6-input", "ip6", lambda: test_input.reference(PACKET)),
    Case("ip6-lookup", "ip6", lambda: test_lookup.reference(PACKET)),
    Case("ip6-rewrite", "ip6", lambda: test_rewrite.reference(PACKET, test_rewrite.ETHERNET, 0)),
    Case("ip6-icmp-error", "hop-limit-expired", lambda: test_error.reference(PACKET, test_error.EXPIRED, 1)),
)
