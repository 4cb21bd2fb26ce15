# SPDX-License-Identifier: Apache-2.0
"""ip6-output-end-of-arc: let a packet that passed all features of the arc ip6-output leave.

To the output node of its adjacency's interface. Where no feature is enabled, ip6-rewrite does this itself.
"""

from pyvpp.features import FeatureArc
from pyvpp.jit import jit
from pyvpp.node import node
from pyvpp.trace import TraceRecord
from pyvpp.trace_format import format_hex
from pyvpp.typing import U16, U32, Records

ARC = FeatureArc("ip6-output", last="ip6-output-end-of-arc")


def format_trace(record: TraceRecord) -> list[str]:
    return format_hex(record.data)


@node(name="ip6-output-end-of-arc", next={}, trace=format_trace)
@jit
def ip6_output_end_of_arc(meta: Records, frame: U32, nexts: U16, adjacencies: Records) -> None:
    for i, b in enumerate(frame):
        nexts[i] = adjacencies[meta[b].adj].next
