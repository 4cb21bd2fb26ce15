# SPDX-License-Identifier: Apache-2.0
from hypothesis import given
from hypothesis import strategies as st

from pyvpp.testing import Packet, run_kernel
from pyvpp_nodes.fib.tables import Kind
from pyvpp_nodes.ip6.discover_neighbor import Counter, Next, ip6_discover_neighbor
from tests.graph_nodes.forwarding import Fib, frames, ip6

FIB = Fib(bits=128)
UNKNOWN, KNOWN = FIB.adjacency(Kind.ARP, 1), FIB.adjacency(Kind.REWRITE, 1, bytes(14))


@given(frames(st.sampled_from([UNKNOWN, KNOWN])))
def test_only_a_neighbor_that_became_known_is_reached(adjacencies):
    packets = [Packet(ip6(), adj=adjacency) for adjacency in adjacencies]
    result = run_kernel(ip6_discover_neighbor, packets, FIB.tables, error_base=30)
    known = [adjacency == KNOWN for adjacency in adjacencies]
    assert result.nexts == [Next.REWRITE if each else Next.DROP for each in known]
    assert [int(m["error"]) for m in result.meta] == [0 if each else 30 + Counter.UNKNOWN for each in known]
    assert int(result.counters[Counter.RESOLVED]) == sum(known)
    assert int(result.counters[Counter.UNKNOWN]) == len(known) - sum(known)
