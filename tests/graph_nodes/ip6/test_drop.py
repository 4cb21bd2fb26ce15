# SPDX-License-Identifier: Apache-2.0
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pyvpp.testing import Packet, run_kernel
from pyvpp_nodes.ip6.drop import Counter, Next, ip6_drop
from tests.graph_nodes.forwarding import frames, ip6


@given(frames(st.sampled_from([0, 0, 7, 300])))
def test_counts_what_nobody_has_counted(errors):
    result = run_kernel(ip6_drop, [Packet(ip6(), error=error) for error in errors], error_base=40)
    assert result.nexts == [Next.DROP] * len(errors)
    assert result.counters[Counter.DROP] == errors.count(0)
    assert [int(m["error"]) for m in result.meta] == [error or 40 + Counter.DROP for error in errors]


def test_the_drop_arc_begins_here():
    arc = np.zeros(16, np.uint32)
    arc[2] = 1
    tables = {"ip6_drop_arc": arc, "feature_chains": np.full(16, 0x8055, np.uint16)}
    assert run_kernel(ip6_drop, [Packet(ip6(), rx=1), Packet(ip6(), rx=2)], tables).nexts == [Next.DROP, 0x8055]
