# SPDX-License-Identifier: Apache-2.0
from hypothesis import given
from hypothesis import strategies as st

from pyvpp.testing import Packet, run_kernel
from pyvpp_nodes.fib.tables import Kind
from pyvpp_nodes.ip4.tunnel_output import tunnel_output
from tests.graph_nodes.forwarding import Fib, frames, ip4_packets

FIB = Fib()
UNDER = {
    FIB.adjacency(Kind.MIDCHAIN, 3, bytes(20), adj=17, stacked_next=0x8123): (3, 17, 0x8123),
    FIB.adjacency(Kind.MIDCHAIN, 2, bytes(20), adj=1, stacked_next=0x8099): (2, 1, 0x8099),
}


@given(frames(st.tuples(ip4_packets(), st.sampled_from(list(UNDER)))))
def test_counts_and_follows_the_underlay(cases):
    result = run_kernel(tunnel_output, [Packet(data, adj=adjacency) for data, adjacency in cases], FIB.tables)
    assert [(int(m["adj"]), n) for m, n in zip(result.meta, result.nexts, strict=True)] == [
        UNDER[a][1:] for _, a in cases
    ]
    assert result.packets == [data for data, _ in cases]
    tx = result.tables["interface_tx"]
    for sw_if_index in (2, 3):
        mine = [len(data) for data, a in cases if UNDER[a][0] == sw_if_index]
        assert (int(tx["packets"][sw_if_index]), int(tx["bytes"][sw_if_index])) == (len(mine), sum(mine))
