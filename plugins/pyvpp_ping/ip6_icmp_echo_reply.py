# SPDX-License-Identifier: Apache-2.0
"""ip6-icmp-echo-reply: take the answers to IPv6 pings of ours out of what arrives.

RFC 4443, 4.2. A feature of ip6-unicast on all interfaces, on as long as an IPv6 ping runs, because the graph has no
node yet for what is sent to an IPv6 address of its own. An answer has the identifier of a ping that runs, and goes to
the address which that one comes from; behind extension headers none is looked for. Every other packet goes on along
the arc, unchanged.
"""

from enum import IntEnum

from numba import uint64

from pyvpp.features import Feature, next_feature
from pyvpp.jit import inline, jit
from pyvpp.node import NodeCounter, Severity, node
from pyvpp.trace import TraceRecord
from pyvpp.trace_format import format_ip6
from pyvpp.typing import I64, U8, U16, U32, U64, Record, Records
from pyvpp.wire import be16, u8
from pyvpp_nodes.integers import int64
from pyvpp_nodes.ip6.header import DESTINATION, HEADER_BYTES, ICMP6, NEXT_HEADER, high_half, low_half

ARC = "ip6-unicast"
ECHO_REPLY = 129
ICMP_BYTES, IDENTIFIER = 8, 4


class Next(IntEnum):
    REPLY = 0


class Counter(NodeCounter):
    REPLIES = 0, "echo replies to pings of ours", Severity.INFO


@inline
def is_answer(heap: U8, m: Record, pings: Records) -> bool:
    ip = int64(m.cur)
    icmp = ip + HEADER_BYTES
    if u8(heap, ip + NEXT_HEADER) != ICMP6 or int64(m.len) < HEADER_BYTES + ICMP_BYTES or u8(heap, icmp) != ECHO_REPLY:
        return False
    ping = pings[be16(heap, icmp + IDENTIFIER)]
    return bool(
        ping.version == 6
        and high_half(heap, ip + DESTINATION) == ping.source_high
        and low_half(heap, ip + DESTINATION) == ping.source_low
    )


def format_trace(record: TraceRecord) -> list[str]:
    return format_ip6(record.data)


@node(
    name="ip6-icmp-echo-reply",
    next={Next.REPLY: "ping-reply"},
    counters=Counter,
    features=(Feature(ARC),),
    trace=format_trace,
)
@jit
def ip6_icmp_echo_reply(
    heap: U8, meta: Records, frame: U32, nexts: U16, counters: U64, now: int, feature_chains: U16, pings: Records,
    ping_received: I64,
) -> None:  # fmt: skip
    for i, b in enumerate(frame):
        m = meta[b]
        if is_answer(heap, m, pings):
            counters[Counter.REPLIES] += uint64(1)
            ping_received[b] = now
            nexts[i] = Next.REPLY
        else:
            nexts[i] = next_feature(feature_chains, m)
