# SPDX-License-Identifier: Apache-2.0
from hypothesis import given
from hypothesis import strategies as st

from pyvpp.testing import Packet, run_kernel
from pyvpp_nodes.fib.tables import Kind
from pyvpp_nodes.ip4.output_end_of_arc import Next, ip4_output_end_of_arc
from tests.graph_nodes.forwarding import Fib, frames, output_of

FIB = Fib()
NEXTS = {
    FIB.adjacency(Kind.REWRITE, 1): output_of(1),
    FIB.adjacency(Kind.REWRITE, 2): output_of(2),
    FIB.adjacency(Kind.MIDCHAIN, 3, bytes(20)): Next.TUNNEL_OUTPUT,
}


@given(frames(st.sampled_from(list(NEXTS))))
def test_leaves_by_its_adjacency(adjacencies):
    result = run_kernel(ip4_output_end_of_arc, [Packet(b"abc", adj=a) for a in adjacencies], FIB.tables)
    assert result.nexts == [NEXTS[a] for a in adjacencies]
    assert result.packets == [b"abc"] * len(adjacencies)
