# SPDX-License-Identifier: Apache-2.0
from hypothesis import given
from hypothesis import strategies as st

from pyvpp.buffers import FLOW_HASH
from pyvpp.testing import Packet, run_kernel
from pyvpp_nodes.fib.tables import Kind
from pyvpp_nodes.ip4.load_balance import ip4_load_balance
from tests.graph_nodes.forwarding import Fib, frames, ip4, node_of, udp
from tests.graph_nodes.ip4.test_flow_hash import flow

FIB = Fib()
PATHS = [FIB.adjacency(Kind.REWRITE, 1), FIB.adjacency(Kind.MIDCHAIN, 2)]
ONE, TWO = FIB.balance(PATHS[0]), FIB.balance(*PATHS)
KINDS = [Kind.REWRITE, Kind.MIDCHAIN]
PACKETS = st.tuples(
    st.integers(0, 0xFFFF).map(lambda port: ip4(udp(source_port=port))),
    st.sampled_from([ONE, TWO]),
    st.one_of(st.none(), st.integers(0, 2**32 - 1)),
)


@given(frames(PACKETS))
def test_the_hash_without_its_lowest_bit(received):
    packets = [
        Packet(data, adj=balance) if known is None else Packet(data, adj=balance, flags=FLOW_HASH, flow_hash=known)
        for data, balance, known in received
    ]
    result = run_kernel(ip4_load_balance, packets, FIB.tables)
    for (data, balance, known), next_, m in zip(received, result.nexts, result.meta, strict=True):
        choice = 0 if balance == ONE else ((flow(data) if known is None else known >> 1) & 1)
        assert (next_, int(m["adj"])) == (node_of(KINDS[choice]), PATHS[choice])
    assert result.packets == [data for data, _, _ in received]
