# SPDX-License-Identifier: Apache-2.0
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pyvpp.testing import Packet, run_kernel
from pyvpp_nodes.fib.tables import Kind
from pyvpp_nodes.ip4.glean import Counter, Next, ip4_glean
from tests.graph_nodes.forwarding import Fib, address, frames, interface_table, ip4, output_of
from tests.graph_nodes.ip4.test_arp import request

FIB = Fib()
PREFIX = FIB.adjacency(Kind.GLEAN, 2, source=address("10.1.2.1"))
SECOND = FIB.adjacency(Kind.GLEAN, 1)
NO_ADDRESS = FIB.adjacency(Kind.GLEAN, 3)
SOURCES = {PREFIX: (2, "10.1.2.1"), SECOND: (1, "10.1.1.1")}
FIRST_ADDRESS = np.zeros(16, np.uint32)
FIRST_ADDRESS[1] = address("10.1.1.1")
CASES = st.tuples(st.sampled_from([PREFIX, SECOND, NO_ADDRESS]), st.sampled_from(["10.1.2.7", "10.1.2.8"]))


@given(frames(CASES))
def test_asks_for_each_destination_once(cases):
    tables = {**FIB.tables, "interfaces": interface_table(), "ip4_interface_address": FIRST_ADDRESS}
    packets = [Packet(ip4(destination=destination), adj=adjacency) for adjacency, destination in cases]
    result = run_kernel(ip4_glean, packets, tables, now=5)
    asked = [case for i, case in enumerate(cases) if case[0] in SOURCES and case not in cases[:i]]
    assert result.emitted == [(request(*SOURCES[a], target), output_of(SOURCES[a][0])) for a, target in asked]
    assert result.nexts == [Next.DROP] * len(cases)
    unsourced = sum(adjacency == NO_ADDRESS for adjacency, _ in cases)
    expected = {Counter.REQUEST_SENT: len(asked), Counter.NO_SOURCE_ADDRESS: unsourced, Counter.NO_BUFFERS: 0}
    expected[Counter.THROTTLED] = len(cases) - len(asked) - unsourced
    assert {counter: result.counters[counter] for counter in Counter} == expected
