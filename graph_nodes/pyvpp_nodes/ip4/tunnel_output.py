# SPDX-License-Identifier: Apache-2.0
"""tunnel-output: count a packet out of its tunnel interface and follow the route to the tunnel's other end.

The tunnel's adjacency is stacked on that of the outer packet, or on a load balance where there are several; both
change as the routes of the underlay do.
"""

from enum import IntEnum

from pyvpp.jit import inline, jit
from pyvpp.node import node
from pyvpp.trace import TraceRecord
from pyvpp.trace_format import format_ip4
from pyvpp.typing import U16, U32, Record, Records
from pyvpp_nodes.fib.forwarding import count_on
from pyvpp_nodes.integers import int64


class Next(IntEnum):
    DROP = 0


def format_trace(record: TraceRecord) -> list[str]:
    return [f"stacked on dpo-idx {record.adj}", *format_ip4(record.data)]


@inline
def leave_tunnel(m: Record, adjacency: Record, interface_tx: Records) -> int:
    """Counts a packet out of its tunnel; leaves the outer adjacency in it, and answers its next."""
    count_on(interface_tx, int64(adjacency.sw_if_index), 1, int64(m.len))
    m.adj = adjacency.adj
    return int64(adjacency.stacked_next)


@node(name="tunnel-output", next={Next.DROP: "ip4-drop"}, trace=format_trace)
@jit
def tunnel_output(meta: Records, frame: U32, nexts: U16, adjacencies: Records, interface_tx: Records) -> None:
    for i, b in enumerate(frame):
        m = meta[b]
        nexts[i] = leave_tunnel(m, adjacencies[m.adj], interface_tx)
