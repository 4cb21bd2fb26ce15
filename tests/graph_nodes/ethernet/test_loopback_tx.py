# SPDX-License-Identifier: Apache-2.0
from hypothesis import given
from hypothesis import strategies as st

from pyvpp.buffers import CSUM_PARTIAL, FLOW_HASH, L2_VALID, LOCALLY_ORIGINATED
from pyvpp.testing import Packet, run_kernel
from pyvpp_nodes.ethernet.loopback_tx import Counter, Next, loopback_tx
from tests.graph_nodes.forwarding import frames

FLAGS = [0, CSUM_PARTIAL, L2_VALID | FLOW_HASH, CSUM_PARTIAL | LOCALLY_ORIGINATED]


@given(frames(st.tuples(st.binary(min_size=14, max_size=90), st.sampled_from(FLAGS))))
def test_mixed_frames(cases):
    packets = [Packet(data, rx=1, adj=9, feature=4, flags=flags) for data, flags in cases]
    result = run_kernel(loopback_tx, packets, instance=3)
    assert result.nexts == [Next.INPUT] * len(cases)
    assert result.packets == [data for data, _ in cases]
    for (_, flags), m in zip(cases, result.meta, strict=True):
        assert (int(m["rx"]), int(m["adj"]), int(m["feature"]), int(m["flags"])) == (3, 0, 0, flags & CSUM_PARTIAL)
    received = result.tables["interface_rx"][3]
    assert (received["packets"], received["bytes"]) == (len(cases), sum(len(data) for data, _ in cases))
    assert result.counters[Counter.LOOPED] == len(cases)
