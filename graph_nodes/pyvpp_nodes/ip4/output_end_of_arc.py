# SPDX-License-Identifier: Apache-2.0
"""ip4-output-end-of-arc: let a packet that passed all features of the arc ip4-output leave.

By its adjacency: to the interface's output node, or to tunnel-output. Where no feature is enabled, ip4-rewrite and
ip4-midchain do this themselves.
"""

from enum import IntEnum

from pyvpp.features import FeatureArc
from pyvpp.jit import jit
from pyvpp.node import node
from pyvpp.trace import TraceRecord
from pyvpp.trace_format import format_hex
from pyvpp.typing import U16, U32, Records
from pyvpp_nodes.fib.tables import Kind

ARC = FeatureArc("ip4-output", last="ip4-output-end-of-arc")
ADJACENCY_MIDCHAIN = int(Kind.MIDCHAIN)


class Next(IntEnum):
    TUNNEL_OUTPUT = 0


def format_trace(record: TraceRecord) -> list[str]:
    return format_hex(record.data)


@node(name="ip4-output-end-of-arc", next={Next.TUNNEL_OUTPUT: "tunnel-output"}, trace=format_trace)
@jit
def ip4_output_end_of_arc(meta: Records, frame: U32, nexts: U16, adjacencies: Records) -> None:
    for i, b in enumerate(frame):
        adjacency = adjacencies[meta[b].adj]
        if adjacency.kind == ADJACENCY_MIDCHAIN:
            nexts[i] = Next.TUNNEL_OUTPUT
        else:
            nexts[i] = adjacency.next
