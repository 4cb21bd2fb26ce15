# SPDX-License-Identifier: Apache-2.0
"""ip4-icmp-input: ICMP messages to ourselves; echo requests are answered, everything else is the host's.

A node that is entered in `icmp_types` takes the messages of a type, as VPP's ip4_icmp_register_type has it: echo
replies are the plugin ping's. The host has the sockets that errors are for. A message shorter than its header is
dropped.
"""

from enum import IntEnum

from pyvpp.jit import jit
from pyvpp.node import NodeCounter, Severity, node, set_error
from pyvpp.trace import TraceRecord
from pyvpp.trace_format import format_ip4
from pyvpp.typing import U8, U16, U32, U64, Records
from pyvpp.wire import u8
from pyvpp_nodes.icmp.message import ECHO_REQUEST
from pyvpp_nodes.icmp.message import HEADER_BYTES as ICMP_BYTES
from pyvpp_nodes.integers import int64
from pyvpp_nodes.ip4.header import header_bytes


class Next(IntEnum):
    DROP = 0
    PUNT = 1
    ECHO_REQUEST = 2


class Counter(NodeCounter):
    UNKNOWN_TYPE = 0, "unknown type", Severity.INFO
    LENGTH_TOO_SMALL_FOR_TYPE = 1, "length too small for type"


def format_trace(record: TraceRecord) -> list[str]:
    return format_ip4(record.data)


@node(
    name="ip4-icmp-input",
    next={
        Next.DROP: "ip4-drop",
        Next.PUNT: "ip4-punt",
        Next.ECHO_REQUEST: "ip4-icmp-echo-request",
    },
    counters=Counter,
    trace=format_trace,
)
@jit
def ip4_icmp_input(
    heap: U8, meta: Records, frame: U32, nexts: U16, counters: U64, error_base: int, icmp_types: U16
) -> None:
    for i, b in enumerate(frame):
        m = meta[b]
        ip = int64(m.cur)
        header = header_bytes(heap, ip)
        taker = int64(icmp_types[u8(heap, ip + header)])
        if int64(m.len) < header + ICMP_BYTES:
            nexts[i] = set_error(m, counters, error_base, Counter.LENGTH_TOO_SMALL_FOR_TYPE, int64(Next.DROP))
        elif u8(heap, ip + header) == ECHO_REQUEST:
            nexts[i] = Next.ECHO_REQUEST
        elif taker:
            nexts[i] = taker
        else:
            nexts[i] = set_error(m, counters, error_base, Counter.UNKNOWN_TYPE, int64(Next.PUNT))
