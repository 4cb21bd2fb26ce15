# SPDX-License-Identifier: Apache-2.0
from types import SimpleNamespace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pyvpp.node import TO_NODE
from pyvpp.tables import Tables
from pyvpp.testing import Packet, run_kernel
from pyvpp_nodes.ethernet.interface_output_arc_end import Counter, Next, interface_output_arc_end
from pyvpp_nodes.ethernet.tables import INTERFACE_TX_NEXT, follow_interfaces
from tests.graph_nodes.forwarding import frames

TX_NEXT = np.zeros(16, np.uint16)
TX_NEXT[[1, 2]] = 0x8033, 0x8044


@given(frames(st.sampled_from([1, 2, 3])))
def test_by_the_interface_it_leaves_by(interfaces):
    packets = [Packet(bytes(60 + tx), tx=tx) for tx in interfaces]
    result = run_kernel(interface_output_arc_end, packets, {"interface_tx_next": TX_NEXT})
    assert result.nexts == [int(TX_NEXT[tx]) or Next.DROP for tx in interfaces]
    assert result.counters[Counter.DELETED] == interfaces.count(3)
    sent = result.tables["interface_tx"]
    leaving = [interfaces.count(tx) for tx in (1, 2)]
    assert sent["packets"].tolist()[:4] == [0, *leaving, 0]
    assert sent["bytes"].tolist()[:4] == [0, leaving[0] * 61, leaving[1] * 62, 0]


def test_the_table_follows_the_interfaces():
    handlers = {}
    engine = SimpleNamespace(tables=Tables([INTERFACE_TX_NEXT]), events=SimpleNamespace(on=handlers.__setitem__))
    follow_interfaces(engine)
    ethernet, without_nodes = SimpleNamespace(sw_if_index=3, tx=70), SimpleNamespace(sw_if_index=0, tx=0)
    handlers["interface-created"](ethernet)
    handlers["interface-created"](without_nodes)
    assert engine.tables["interface_tx_next"].array[:4].tolist() == [0, 0, 0, TO_NODE | 70]
    handlers["interface-deleted"](ethernet)
    assert engine.tables["interface_tx_next"].array[:4].tolist() == [0, 0, 0, 0]
