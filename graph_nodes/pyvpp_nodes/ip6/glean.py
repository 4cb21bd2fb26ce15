# SPDX-License-Identifier: Apache-2.0
"""ip6-glean: packets to an address on a connected subnet that is no known neighbor's.

Neighbor discovery (RFC 4861) is not there yet: they are dropped and counted. A neighbor that `set ip neighbor` adds
has a route of its own and does not come here.
"""

from enum import IntEnum

from numba import uint64

from pyvpp.jit import jit
from pyvpp.node import NodeCounter, node
from pyvpp.trace import TraceRecord
from pyvpp.trace_format import format_ip6
from pyvpp.typing import U16, U32, U64, Records


class Next(IntEnum):
    DROP = 0


class Counter(NodeCounter):
    UNKNOWN = 0, "ip6 neighbor not known"


def format_trace(record: TraceRecord) -> list[str]:
    return format_ip6(record.data)


@node(name="ip6-glean", next={Next.DROP: "ip6-drop"}, counters=Counter, trace=format_trace)
@jit
def ip6_glean(meta: Records, frame: U32, nexts: U16, counters: U64, error_base: int) -> None:
    for i, b in enumerate(frame):
        counters[Counter.UNKNOWN] += uint64(1)
        meta[b].error = error_base + Counter.UNKNOWN
        nexts[i] = Next.DROP
