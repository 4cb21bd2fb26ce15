# SPDX-License-Identifier: Apache-2.0
"""ip4-rewrite: age a packet by one hop and put the neighbor's link-layer header in front of it.

RFC 1812 5.3.1. Packets of our own (LOCALLY_ORIGINATED) keep their TTL. The adjacency's MTU limits the IP packet, of a
GSO packet each segment it will become. A packet that may not go on is left as it was: an expired one and one too big
with DF set go to ip4-icmp-error (RFC 1191 tells the sender the MTU), one too big without DF to ip4-frag. Starts the
arc ip4-output of the interface it leaves by.
"""

from enum import IntEnum

from numba import uint64

from pyvpp.buffers import LOCALLY_ORIGINATED
from pyvpp.features import enter_arc
from pyvpp.jit import jit
from pyvpp.node import NodeCounter, node
from pyvpp.trace import TraceRecord
from pyvpp.trace_format import format_hex
from pyvpp.typing import U8, U16, U32, U64, Records
from pyvpp_nodes.icmp.message import FRAGMENTATION_NEEDED, TIME_EXCEEDED, TTL_IN_TRANSIT, UNREACHABLE, ask_for_error
from pyvpp_nodes.integers import int64
from pyvpp_nodes.ip4.forward import EXPIRED, FORWARD, TOO_BIG, prepend, verdict
from pyvpp_nodes.ip4.header import decrement_ttl


class Next(IntEnum):
    DROP = 0
    ICMP_ERROR = 1
    FRAG = 2


class Counter(NodeCounter):
    TIME_EXPIRED = 0, "ip4 ttl <= 1"
    MTU_EXCEEDED = 1, "ip4 MTU exceeded and DF set"


def format_trace(record: TraceRecord) -> list[str]:
    return [
        f"tx_sw_if_index {record.tx} dpo-idx {record.adj} flow hash: 0x{record.flow_hash:08x}",
        *format_hex(record.data),
    ]


@node(
    name="ip4-rewrite",
    next={Next.DROP: "ip4-drop", Next.ICMP_ERROR: "ip4-icmp-error", Next.FRAG: "ip4-frag"},
    counters=Counter,
    trace=format_trace,
)
@jit
def ip4_rewrite(
    heap: U8,
    meta: Records,
    frame: U32,
    nexts: U16,
    counters: U64,
    error_base: int,
    adjacencies: Records,
    feature_chains: U16,
    ip4_output_arc: U32,
) -> None:
    for i, b in enumerate(frame):
        m = meta[b]
        ip = int64(m.cur)
        adjacency = adjacencies[m.adj]
        decision = verdict(heap, m, ip, int64(adjacency.mtu))
        if decision == FORWARD:
            if m.flags & LOCALLY_ORIGINATED == 0:
                decrement_ttl(heap, ip)
            tx = int64(adjacency.sw_if_index)
            prepend(heap, m, adjacency)
            m.l3 = ip
            m.tx = tx
            arc = int64(ip4_output_arc[tx])
            nexts[i] = enter_arc(feature_chains, m, arc) if arc else int64(adjacency.next)
        elif decision == EXPIRED:
            counters[Counter.TIME_EXPIRED] += uint64(1)
            m.error = error_base + Counter.TIME_EXPIRED
            ask_for_error(m, TIME_EXCEEDED, TTL_IN_TRANSIT, 0)
            nexts[i] = Next.ICMP_ERROR
        elif decision == TOO_BIG:
            counters[Counter.MTU_EXCEEDED] += uint64(1)
            m.error = error_base + Counter.MTU_EXCEEDED
            ask_for_error(m, UNREACHABLE, FRAGMENTATION_NEEDED, int64(adjacency.mtu))
            nexts[i] = Next.ICMP_ERROR
        else:
            nexts[i] = Next.FRAG
