# SPDX-License-Identifier: Apache-2.0
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pyvpp.testing import Packet, run_kernel
from pyvpp_nodes.ip4.drop import Counter, Next, ip4_drop
from tests.graph_nodes.forwarding import frames, ip4


@given(frames(st.sampled_from([0, 0, 7, 300])))
def test_counts_what_nobody_has_counted(errors):
    result = run_kernel(ip4_drop, [Packet(ip4(), error=error) for error in errors])
    assert result.nexts == [Next.DROP] * len(errors)
    assert result.counters[Counter.DROP] == errors.count(0)
    kept = [int(m["error"]) for m in result.meta]
    assert all(now == before or before == 0 for now, before in zip(kept, errors, strict=True))


def test_the_drop_arc_begins_here():
    arc = np.zeros(16, np.uint32)
    arc[2] = 1
    tables = {"ip4_drop_arc": arc, "feature_chains": np.full(16, 0x8055, np.uint16)}
    assert run_kernel(ip4_drop, [Packet(ip4(), rx=1), Packet(ip4(), rx=2)], tables).nexts == [Next.DROP, 0x8055]
