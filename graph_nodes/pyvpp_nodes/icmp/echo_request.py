# SPDX-License-Identifier: Apache-2.0
"""ip4-icmp-echo-request: answer a ping.

RFC 792: the addresses change places, the type becomes that of a reply, everything behind it stays. The ICMP checksum
is patched and not computed, so that damage done before us stays visible to the sender. TTL 64, another fragment id.
"""

from enum import IntEnum

from numba import uint64

from pyvpp.buffers import CSUM_PARTIAL, CSUM_VALID, FLOW_HASH, LOCALLY_ORIGINATED
from pyvpp.jit import jit
from pyvpp.node import NodeCounter, Severity, node
from pyvpp.trace import TraceRecord
from pyvpp.trace_format import format_ip4
from pyvpp.typing import U8, U16, U32, U64, Records
from pyvpp.wire import be16, be32, put_be16, put_be32
from pyvpp_nodes.icmp.message import ECHO_REPLY
from pyvpp_nodes.integers import int64
from pyvpp_nodes.ip4.header import DESTINATION, ID, SOURCE, TTL, header_bytes, patched, put_checksum

REPLY_TTL = 64
KEPT_FLAGS = 0xFFFFFFFF ^ (CSUM_PARTIAL | CSUM_VALID | FLOW_HASH)


class Next(IntEnum):
    LOOKUP = 0


class Counter(NodeCounter):
    ECHO_REPLIES_SENT = 0, "echo replies sent", Severity.INFO


def format_trace(record: TraceRecord) -> list[str]:
    return format_ip4(record.data)


@node(name="ip4-icmp-echo-request", next={Next.LOOKUP: "ip4-lookup"}, counters=Counter, trace=format_trace)
@jit
def ip4_icmp_echo_request(heap: U8, meta: Records, frame: U32, nexts: U16, counters: U64, now: int) -> None:
    for i, b in enumerate(frame):
        m = meta[b]
        ip = int64(m.cur)
        icmp = ip + header_bytes(heap, ip)
        source = be32(heap, ip + SOURCE)
        put_be32(heap, ip + SOURCE, be32(heap, ip + DESTINATION))
        put_be32(heap, ip + DESTINATION, source)
        put_be16(heap, ip + ID, ((int64(now) >> 10) + i) & 0xFFFF)
        heap[ip + TTL] = REPLY_TTL
        put_checksum(heap, ip, icmp - ip)
        word = be16(heap, icmp)
        reply = ECHO_REPLY << 8 | word & 0xFF
        put_be16(heap, icmp, reply)
        put_be16(heap, icmp + 2, patched(be16(heap, icmp + 2), word, reply))
        m.flags = m.flags & KEPT_FLAGS | LOCALLY_ORIGINATED
        counters[Counter.ECHO_REPLIES_SENT] += uint64(1)
        nexts[i] = Next.LOOKUP
