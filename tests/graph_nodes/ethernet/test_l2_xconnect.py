# SPDX-License-Identifier: Apache-2.0
from hypothesis import given
from hypothesis import strategies as st

from pyvpp.interface import DELETED, L2
from pyvpp.testing import Packet, run_kernel
from pyvpp_nodes.ethernet.l2_xconnect import Counter, Next, l2_xconnect
from tests.graph_nodes.forwarding import UP, frames, interface_table, output_of

INTERFACES = interface_table(
    {
        1: {"flags": UP | L2, "peer": 2},
        2: {"flags": UP | L2, "peer": 1},
        3: {"flags": UP | L2, "peer": 4},
        4: {"flags": L2 | DELETED, "peer": 3},
        5: {"flags": UP | L2, "peer": 6},
        6: {"flags": UP},
    }
)
PEERS = {1: 2, 2: 1}


@given(frames(st.tuples(st.binary(min_size=14, max_size=90), st.sampled_from([1, 2, 3, 5]))))
def test_out_of_the_peer_unchanged(received):
    result = run_kernel(l2_xconnect, [Packet(data, rx=rx) for data, rx in received], {"interfaces": INTERFACES})
    assert result.packets == [data for data, _ in received]
    for (_, rx), next_, m in zip(received, result.nexts, result.meta, strict=True):
        if rx in PEERS:
            assert (next_, int(m["tx"])) == (output_of(PEERS[rx]), PEERS[rx])
        else:
            assert next_ == Next.DROP
    assert result.counters[Counter.NO_PEER] == sum(rx not in PEERS for _, rx in received)
