# SPDX-License-Identifier: Apache-2.0
"""Where gso-ip4 sends what it makes; how it cuts is in test_segment.py."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pyvpp.node import FREE
from pyvpp.testing import run_kernel
from pyvpp_nodes.fib.tables import ADJACENCY, Kind
from pyvpp_nodes.gso.gso_ip4 import Counter, Next, gso_ip4
from tests.graph_nodes.forwarding import frames
from tests.graph_nodes.gso.test_segment import gso_packet, on_the_wire, sent_by_linux, tcp

ADJACENCIES = np.zeros(8, ADJACENCY)
ADJACENCIES["kind"] = list(Kind)[:8]


@given(frames(st.tuples(st.integers(1, 900), st.integers(0, 7), st.sampled_from([0, 300, 301]))))
def test_mixed_frames(cases):
    packets = [gso_packet(tcp(n), 0, size, 1, adj=adj) for n, adj, size in cases]
    result = run_kernel(gso_ip4, packets, {"adjacencies": ADJACENCIES}, error_base=40)
    expected = []
    for (n, adj, size), next_, m in zip(cases, result.nexts, result.meta, strict=True):
        if size == 0:
            assert (next_, int(m["error"])) == (Next.DROP, 40 + Counter.MALFORMED)
            continue
        assert next_ == FREE
        to = Next.MIDCHAIN if ADJACENCIES["kind"][adj] == Kind.MIDCHAIN else Next.VXLAN_ENCAP
        expected += [(segment, to) for segment in sent_by_linux(tcp(n), 0, size)]
    assert on_the_wire(result) == expected
    malformed = sum(size == 0 for _, _, size in cases)
    assert list(result.counters) == [len(cases) - malformed, malformed, 0, len(result.emitted)]


def test_a_whole_vector_of_large_packets():
    """As many pieces as 256 packets of 64 KiB become: here from smaller ones, in smaller pieces."""
    packets = [gso_packet(tcp(46 * 20), 0, 20, 1, adj=int(Kind.MIDCHAIN)) for _ in range(256)]
    result = run_kernel(gso_ip4, packets, {"adjacencies": ADJACENCIES}, buffers=256 * 46)
    assert list(result.counters) == [256, 0, 0, 256 * 46]
    assert len(result.emitted) == 256 * 46
