# SPDX-License-Identifier: Apache-2.0
"""Kernels of IPv4 beside their references."""

from bench.harness import Case, bench_kernel, bench_reference  # noqa: F401  (pytest collects them here)
from tests.graph_nodes.forwarding import ip4, udp
from tests.graph_nodes.icmp import test_error
from tests.graph_nodes.ip4 import (
    test_flow_hash,
    test_frag,
    test_input,
    test_local,
    test_lookup,
    test_midchain,
    test_rewrite,
    test_udp_lookup,
)

PACKET = ip4(udp(bytes(22)), destination="10.1.2.2")
TO_US = ip4(udp(bytes(22), destination_port=4789), destination="10.1.2.1")
LARGE = ip4(udp(bytes(1458)), destination="10.1.2.2")
EXPIRED = next(iter(test_error.COUNTERS))
PATHS = (1, 2)
SENT = {"packets": 0, "bytes": 0}


def balanced() -> int:
    return PATHS[test_flow_hash.flow(PACKET) % len(PATHS)]


def counted() -> int:
    """tunnel-output: the interface's counters, then the underlay."""
    SENT["packets"] += 1
    SENT["bytes"] += len(PACKET)
    return PATHS[0]


CASES = (
    Case("ip4-input", "ip4", lambda: test_input.reference(PACKET)),
    Case("ip4-lookup", "ip4", lambda: test_lookup.reference(PACKET)),
    Case("ip4-rewrite", "ip4", lambda: test_rewrite.reference(PACKET, test_rewrite.ETHERNET, 0)),
    Case("ip4-midchain", "ipip-encap", lambda: test_midchain.reference(PACKET, 0, 0)),
    Case("tunnel-output", "ipip-encap", counted),
    Case("ip4-load-balance", "tunnel-ecmp", balanced),
    Case("ip4-local", "vxlan-decap", lambda: test_local.reference(TO_US, 0, 1)),
    Case("ip4-udp-lookup", "vxlan-decap", lambda: test_udp_lookup.reference(TO_US)),
    Case("ip4-icmp-error", "ttl-expired", lambda: test_error.reference(PACKET, EXPIRED, 1)),
    Case("ip4-frag", "fragments", lambda: test_frag.reference(LARGE, 576, 1)),
)
