# SPDX-License-Identifier: Apache-2.0
from hypothesis import given
from hypothesis import strategies as st

from pyvpp.testing import Packet, run_kernel
from pyvpp_nodes.fib.tables import Kind
from pyvpp_nodes.ip6.output_end_of_arc import ip6_output_end_of_arc
from tests.graph_nodes.forwarding import Fib, frames, output_of

FIB = Fib(bits=128)
NEXTS = {FIB.adjacency(Kind.REWRITE, n): output_of(n) for n in (1, 2, 3)}


@given(frames(st.sampled_from(list(NEXTS))))
def test_leaves_by_its_adjacency(adjacencies):
    result = run_kernel(ip6_output_end_of_arc, [Packet(b"abc", adj=a) for a in adjacencies], FIB.tables)
    assert result.nexts == [NEXTS[a] for a in adjacencies]
    assert result.packets == [b"abc"] * len(adjacencies)
