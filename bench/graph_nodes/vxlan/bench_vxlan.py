# SPDX-License-Identifier: Apache-2.0
"""Kernels of VXLAN beside their references."""

import struct

from bench.harness import Case, bench_kernel, bench_reference  # noqa: F401  (pytest collects them here)
from tests.graph_nodes.forwarding import ethernet, ip4, udp
from tests.graph_nodes.vxlan import test_vxlan4_encap, test_vxlan4_input
from tests.graph_nodes.vxlan.tunnels import ETHERNET, LOCAL, REMOTE

INNER = ethernet(ip4(udp(bytes(22))))
HEADER = struct.pack("!II", 8 << 24, 100 << 8)
ARRIVING = ip4(udp(HEADER + INNER, destination_port=4789), source=REMOTE, destination=LOCAL)

CASES = (
    Case("vxlan4-encap", "vxlan-encap", lambda: test_vxlan4_encap.encapsulated(INNER, ETHERNET, 50000)),
    Case("vxlan4-input", "vxlan-decap", lambda: test_vxlan4_input.reference(ARRIVING)),
)
