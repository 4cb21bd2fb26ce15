# SPDX-License-Identifier: Apache-2.0
"""ip6-discover-neighbor: packets to a next hop whose MAC address is not known.

Neighbor discovery (RFC 4861) is not there yet: neighbors are what `set ip neighbor` says, and what goes to another is
dropped and counted. A packet whose neighbor became known while it was on its way goes straight on to ip6-rewrite.
"""

from enum import IntEnum

from numba import uint64

from pyvpp.jit import jit
from pyvpp.node import NodeCounter, Severity, node, set_error
from pyvpp.trace import TraceRecord
from pyvpp.trace_format import format_ip6
from pyvpp.typing import U16, U32, U64, Records
from pyvpp_nodes.fib.tables import Kind
from pyvpp_nodes.integers import int64

ADJACENCY_REWRITE = int(Kind.REWRITE)


class Next(IntEnum):
    DROP = 0
    REWRITE = 1


class Counter(NodeCounter):
    UNKNOWN = 0, "ip6 neighbor not known"
    RESOLVED = 1, "ip6 neighbors resolved", Severity.INFO


def format_trace(record: TraceRecord) -> list[str]:
    return format_ip6(record.data)


@node(
    name="ip6-discover-neighbor",
    next={Next.DROP: "ip6-drop", Next.REWRITE: "ip6-rewrite"},
    counters=Counter,
    trace=format_trace,
)
@jit
def ip6_discover_neighbor(
    meta: Records, frame: U32, nexts: U16, counters: U64, error_base: int, adjacencies: Records
) -> None:
    for i, b in enumerate(frame):
        m = meta[b]
        if adjacencies[m.adj].kind == ADJACENCY_REWRITE:
            counters[Counter.RESOLVED] += uint64(1)
            nexts[i] = Next.REWRITE
        else:
            nexts[i] = set_error(m, counters, error_base, Counter.UNKNOWN, int64(Next.DROP))
