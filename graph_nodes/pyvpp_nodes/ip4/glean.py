# SPDX-License-Identifier: Apache-2.0
"""ip4-glean: ask for the MAC address of a destination on a connected subnet that nobody has sent to yet.

Like ip4-arp, but who is asked for is the packet's destination, and our address is that of the connected prefix. The
packet ends in ip4-drop; the answer makes a neighbor, and with it a route of its own for the next packet.
"""

from enum import IntEnum

from pyvpp.jit import jit
from pyvpp.node import NodeCounter, Severity, node, set_error
from pyvpp.trace import TraceRecord
from pyvpp.trace_format import format_ip4
from pyvpp.typing import U8, U16, U32, U64, Records
from pyvpp.wire import be32
from pyvpp_nodes.arp.packet import send_request
from pyvpp_nodes.integers import int64
from pyvpp_nodes.ip4.header import DESTINATION
from pyvpp_nodes.ip4.throttle import throttled

ARP_WINDOW = 1_000_000


class Next(IntEnum):
    DROP = 0


class Counter(NodeCounter):
    THROTTLED = 0, "ARP requests throttled"
    NO_BUFFERS = 1, "ARP requests out of buffer"
    REQUEST_SENT = 2, "ARP requests sent", Severity.INFO
    NO_SOURCE_ADDRESS = 3, "no source address for ARP request"


def format_trace(record: TraceRecord) -> list[str]:
    return format_ip4(record.data)


@node(name="ip4-glean", next={Next.DROP: "ip4-drop"}, counters=Counter, trace=format_trace)
@jit
def ip4_glean(
    heap: U8,
    meta: Records,
    frame: U32,
    nexts: U16,
    counters: U64,
    pool: U32,
    emit: U32,
    error_base: int,
    now: int,
    interfaces: Records,
    adjacencies: Records,
    ip4_interface_address: U32,
    arp_throttle: U64,
) -> None:
    for i, b in enumerate(frame):
        m = meta[b]
        adjacency = adjacencies[m.adj]
        sw_if_index = int64(adjacency.sw_if_index)
        target = be32(heap, int64(m.cur) + DESTINATION)
        source = int64(adjacency.source)
        if source == 0:
            source = int64(ip4_interface_address[sw_if_index])
        if source == 0:
            outcome = Counter.NO_SOURCE_ADDRESS
        elif throttled(arp_throttle, now, ARP_WINDOW, target, sw_if_index):
            outcome = Counter.THROTTLED
        elif send_request(heap, meta, pool, emit, interfaces, sw_if_index, source, target):
            outcome = Counter.REQUEST_SENT
        else:
            outcome = Counter.NO_BUFFERS
        nexts[i] = set_error(m, counters, error_base, outcome, int64(Next.DROP))
