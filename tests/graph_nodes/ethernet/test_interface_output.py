# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyvpp.interface import ADMIN_UP, DELETED
from pyvpp.testing import Packet, run_kernel
from pyvpp_nodes.ethernet.interface_output import Counter, Next, interface_output
from tests.graph_nodes.forwarding import UP, frames, interface_table

INTERFACES = interface_table({2: {"flags": UP & ~ADMIN_UP}, 3: {"flags": UP | DELETED}})


@given(frames(st.binary(min_size=1, max_size=200)))
def test_counts_what_leaves(sent):
    result = run_kernel(interface_output, [Packet(data, rx=3) for data in sent], {"interfaces": INTERFACES}, instance=1)
    assert result.nexts == [Next.TX] * len(sent)
    assert result.packets == sent
    assert [int(m["tx"]) for m in result.meta] == [1] * len(sent)
    tx = result.tables["interface_tx"]
    assert (int(tx["packets"][1]), int(tx["bytes"][1])) == (len(sent), sum(map(len, sent)))
    assert not any(result.counters)


@pytest.mark.parametrize(("instance", "counter"), [(2, Counter.DOWN), (3, Counter.DELETED)])
def test_an_interface_that_cannot_send(instance, counter):
    result = run_kernel(interface_output, [Packet(b"abc")] * 3, {"interfaces": INTERFACES}, instance=instance)
    assert result.nexts == [Next.DROP] * 3
    assert result.counters[counter] == 3
    assert sum(result.counters) == 3
    assert not result.tables["interface_tx"]["packets"].any()
    assert len({int(m["error"]) for m in result.meta}) == 1


def test_features_come_first():
    arc = np.zeros(16, np.uint32)
    arc[1] = 4
    chains = np.full(16, 0x8123, np.uint16)
    tables = {"interfaces": INTERFACES, "interface_output_arc": arc, "feature_chains": chains}
    result = run_kernel(interface_output, [Packet(b"abc")], tables, instance=1)
    assert result.nexts == [0x8123]
    assert not result.tables["interface_tx"]["packets"].any()  # the end of the arc counts what is left
