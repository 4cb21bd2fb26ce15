# SPDX-License-Identifier: Apache-2.0
"""Kernels of Ethernet beside their references."""

from bench.harness import Case, bench_kernel, bench_reference  # noqa: F401  (pytest collects them here)
from tests.graph_nodes.ethernet import test_input
from tests.graph_nodes.forwarding import ethernet, interface_table, ip4, udp

FRAME = ethernet(ip4(udp(bytes(22))))
INTERFACES = interface_table()
COUNTER = {"packets": 0, "bytes": 0}


def output() -> int:
    """interface-output: up or not, and the counters."""
    if not int(INTERFACES["flags"][1]) & 1:
        return 0
    COUNTER["packets"] += 1
    COUNTER["bytes"] += len(FRAME)
    return 1


def xconnect() -> int:
    """l2-xconnect: the peer's output node."""
    peer = int(INTERFACES["peer"][1])
    return int(INTERFACES["output_next"][peer])


CASES = (
    Case("ethernet-input", "ip4", lambda: test_input.reference(FRAME, 1)),
    Case("interface-output", "ip4", output),
    Case("l2-xconnect", "l2-xconnect", xconnect),
)
