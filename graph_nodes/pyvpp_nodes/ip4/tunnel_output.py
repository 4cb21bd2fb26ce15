# SPDX-License-Identifier: Apache-2.0
"""tunnel-output: count a packet out of its tunnel interface and follow the route to the tunnel's other end.

The tunnel's adjacency is stacked on that of the outer packet, or on a load balance where there are several; both
change as the routes of the underlay do.
"""

from enum import IntEnum

from numba import uint64

from pyvpp.jit import jit
from pyvpp.node import node
from pyvpp.trace import TraceRecord
from pyvpp.trace_format import format_ip4
from pyvpp.typing import U16, U32, Records


class Next(IntEnum):
    DROP = 0


def format_trace(record: TraceRecord) -> list[str]:
    return [f"stacked on dpo-idx {record.adj}", *format_ip4(record.data)]


@node(name="tunnel-output", next={Next.DROP: "ip4-drop"}, trace=format_trace)
@jit
def tunnel_output(meta: Records, frame: U32, nexts: U16, adjacencies: Records, interface_tx: Records) -> None:
    for i, b in enumerate(frame):
        m = meta[b]
        adjacency = adjacencies[m.adj]
        counter = interface_tx[adjacency.sw_if_index]
        counter.packets += uint64(1)
        counter.bytes += uint64(m.len)
        m.adj = adjacency.adj
        nexts[i] = adjacency.stacked_next
