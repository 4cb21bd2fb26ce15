# SPDX-License-Identifier: Apache-2.0
from pyvpp.testing import Packet, run_kernel
from pyvpp_nodes.ip6.glean import Counter, Next, ip6_glean
from tests.graph_nodes.forwarding import ip6


def test_each_is_dropped_by_name():
    result = run_kernel(ip6_glean, [Packet(ip6(hops=hops)) for hops in range(1, 6)], error_base=20)
    assert result.nexts == [Next.DROP] * 5
    assert [int(m["error"]) for m in result.meta] == [20 + Counter.UNKNOWN] * 5
    assert result.counters[Counter.UNKNOWN] == 5
