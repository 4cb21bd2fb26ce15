# SPDX-License-Identifier: Apache-2.0
"""ip4-local-end-of-arc: hand a packet that passed all features of the arc ip4-local to its protocol.

Where no feature is enabled, ip4-local does this itself.
"""

from enum import IntEnum

from pyvpp.jit import jit
from pyvpp.node import NodeCounter, Severity, node, set_error
from pyvpp.trace import TraceRecord
from pyvpp.trace_format import format_ip4
from pyvpp.typing import U8, U16, U32, U64, Records
from pyvpp_nodes.integers import int64
from pyvpp_nodes.ip4.header import PROTOCOL


class Next(IntEnum):
    PUNT = 0


class Counter(NodeCounter):
    UNKNOWN_PROTOCOL = 0, "unknown ip protocol", Severity.INFO


def format_trace(record: TraceRecord) -> list[str]:
    return format_ip4(record.data)


@node(name="ip4-local-end-of-arc", next={Next.PUNT: "ip4-punt"}, counters=Counter, trace=format_trace)
@jit
def ip4_local_end_of_arc(
    heap: U8, meta: Records, frame: U32, nexts: U16, counters: U64, error_base: int, ip4_local_protocols: U16
) -> None:
    for i, b in enumerate(frame):
        m = meta[b]
        taker = int64(ip4_local_protocols[heap[int64(m.cur) + PROTOCOL]])
        nexts[i] = taker
        if taker == 0:
            nexts[i] = set_error(m, counters, error_base, Counter.UNKNOWN_PROTOCOL, int64(Next.PUNT))
