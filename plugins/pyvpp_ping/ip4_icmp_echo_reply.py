# SPDX-License-Identifier: Apache-2.0
"""ip4-icmp-echo-reply: take the answers to pings of ours, by their identifier; all others are the host's.

RFC 792. ip4-icmp-input sends echo replies here, whose ICMP header is whole. What it is an answer to and whether it
came twice is found out by ping-reply, on the main thread; when it came is noted here.
"""

from enum import IntEnum

from numba import uint64

from pyvpp.jit import jit
from pyvpp.node import NodeCounter, Severity, node
from pyvpp.trace import TraceRecord
from pyvpp.trace_format import format_ip4
from pyvpp.typing import I64, U8, U16, U32, U64, Records
from pyvpp.wire import be16
from pyvpp_nodes.integers import int64
from pyvpp_nodes.ip4.header import header_bytes

IDENTIFIER = 4  # in the ICMP header


class Next(IntEnum):
    PUNT = 0
    REPLY = 1


class Counter(NodeCounter):
    REPLIES = 0, "echo replies to pings of ours", Severity.INFO
    UNKNOWN_ID = 1, "unknown id", Severity.INFO


def format_trace(record: TraceRecord) -> list[str]:
    return format_ip4(record.data)


@node(
    name="ip4-icmp-echo-reply",
    next={Next.PUNT: "ip4-punt", Next.REPLY: "ping-reply"},
    counters=Counter,
    trace=format_trace,
)
@jit
def ip4_icmp_echo_reply(
    heap: U8, meta: Records, frame: U32, nexts: U16, counters: U64, now: int, pings: Records, ping_received: I64
) -> None:
    for i, b in enumerate(frame):
        ip = int64(meta[b].cur)
        if pings[be16(heap, ip + header_bytes(heap, ip) + IDENTIFIER)].version == 4:
            counters[Counter.REPLIES] += uint64(1)
            ping_received[b] = now
            nexts[i] = Next.REPLY
        else:
            counters[Counter.UNKNOWN_ID] += uint64(1)
            nexts[i] = Next.PUNT
