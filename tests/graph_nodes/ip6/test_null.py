# SPDX-License-Identifier: Apache-2.0
from hypothesis import given
from hypothesis import strategies as st

from pyvpp.buffers import FLOW_HASH
from pyvpp.testing import Packet, run_kernel
from pyvpp_nodes.fib.tables import Kind
from pyvpp_nodes.ip6.null import Counter, Next, ip6_null
from tests.graph_nodes.forwarding import Fib, frames, ip6

FIB = Fib(bits=128)
ADJACENCIES = {Kind.UNREACHABLE: FIB.adjacency(Kind.UNREACHABLE), Kind.PROHIBIT: FIB.adjacency(Kind.PROHIBIT)}
CODES = {Kind.UNREACHABLE: 0, Kind.PROHIBIT: 1}


@given(frames(st.sampled_from(list(ADJACENCIES))))
def test_which_error(kinds):
    result = run_kernel(ip6_null, [Packet(ip6(), adj=ADJACENCIES[kind], flags=FLOW_HASH) for kind in kinds], FIB.tables)
    assert result.nexts == [Next.ICMP_ERROR] * len(kinds)
    assert [int(m["flow_hash"]) for m in result.meta] == [1 << 24 | CODES[kind] << 16 for kind in kinds]
    assert not any(m["flags"] & FLOW_HASH for m in result.meta)
    assert result.counters[Counter.UNREACHABLE] == kinds.count(Kind.UNREACHABLE)
    assert result.counters[Counter.PROHIBITED] == kinds.count(Kind.PROHIBIT)
