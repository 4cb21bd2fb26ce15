# SPDX-License-Identifier: Apache-2.0
"""ip6-drop: where IPv6 packets end that a route, or the lack of one, drops; start of the arc ip6-drop.

Another node that sends a packet here has named and counted the reason; what a route sent here is counted by this one.
"""

from enum import IntEnum

from numba import uint64

from pyvpp.features import FeatureArc, enter_arc
from pyvpp.jit import jit
from pyvpp.node import NodeCounter, node
from pyvpp.trace import TraceRecord
from pyvpp.trace_format import format_ip6
from pyvpp.typing import U16, U32, U64, Records
from pyvpp_nodes.integers import int64
from pyvpp_nodes.ip6.traced import fib_index_of

ARC = FeatureArc("ip6-drop", last="error-drop")


class Next(IntEnum):
    DROP = 0


class Counter(NodeCounter):
    DROP = 0, "ip6 drop"


def format_trace(record: TraceRecord) -> list[str]:
    return [f"  fib:{fib_index_of(record)} adj:{record.adj} flow:0x{record.flow_hash:08x}", *format_ip6(record.data)]


@node(name="ip6-drop", next={Next.DROP: "error-drop"}, counters=Counter, trace=format_trace)
@jit
def ip6_drop(
    meta: Records,
    frame: U32,
    nexts: U16,
    counters: U64,
    error_base: int,
    feature_chains: U16,
    ip6_drop_arc: U32,
) -> None:
    for i, b in enumerate(frame):
        m = meta[b]
        if m.error == 0:
            counters[Counter.DROP] += uint64(1)
            m.error = error_base + Counter.DROP
        arc = int64(ip6_drop_arc[m.rx])
        nexts[i] = enter_arc(feature_chains, m, arc) if arc else int64(Next.DROP)
