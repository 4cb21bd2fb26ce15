# SPDX-License-Identifier: Apache-2.0
"""ip6-null: routes that lead nowhere and say so: ICMPv6 no route to destination, or administratively prohibited.

`ip route add ... via unreachable | prohibit`; VPP's null DPO.
"""

from enum import IntEnum

from numba import uint64

from pyvpp.jit import jit
from pyvpp.node import NodeCounter, Severity, node
from pyvpp.trace import TraceRecord
from pyvpp.trace_format import format_ip6
from pyvpp.typing import U16, U32, U64, Records
from pyvpp_nodes.fib.tables import Kind
from pyvpp_nodes.icmp.message import ask_for_error
from pyvpp_nodes.icmp6.message import ADMIN_PROHIBITED, NO_ROUTE, UNREACHABLE

ADJACENCY_PROHIBIT = int(Kind.PROHIBIT)


class Next(IntEnum):
    ICMP_ERROR = 0


class Counter(NodeCounter):
    UNREACHABLE = 0, "ip6 route unreachable", Severity.INFO
    PROHIBITED = 1, "ip6 route prohibited", Severity.INFO


def format_trace(record: TraceRecord) -> list[str]:
    return format_ip6(record.data)


@node(name="ip6-null", next={Next.ICMP_ERROR: "ip6-icmp-error"}, counters=Counter, trace=format_trace)
@jit
def ip6_null(meta: Records, frame: U32, nexts: U16, counters: U64, error_base: int, adjacencies: Records) -> None:
    for i, b in enumerate(frame):
        m = meta[b]
        prohibited = adjacencies[m.adj].kind == ADJACENCY_PROHIBIT
        reason = Counter.PROHIBITED if prohibited else Counter.UNREACHABLE
        counters[reason] += uint64(1)
        m.error = error_base + reason
        ask_for_error(m, UNREACHABLE, ADMIN_PROHIBITED if prohibited else NO_ROUTE, 0)
        nexts[i] = Next.ICMP_ERROR
