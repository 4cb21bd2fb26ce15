# SPDX-License-Identifier: Apache-2.0
"""ip4-udp-lookup: hand a UDP datagram to whoever listens on its port.

Nobody: the datagram goes to the host, if there is one (its TAP is in `punt_tx`), else the sender is told so (ICMP
port unreachable, RFC 1122 4.1.3.1). A port whose entry is ip4-punt belongs to the host. Leaves `m.cur` and `m.l3` at
the IP header, `m.l4` at the UDP header.
"""

from enum import IntEnum

from numba import uint64

from pyvpp.jit import jit
from pyvpp.node import NodeCounter, Severity, node, set_error
from pyvpp.trace import TraceRecord
from pyvpp.trace_format import be
from pyvpp.typing import U8, U16, U32, U64, Records
from pyvpp.wire import be16
from pyvpp_nodes.icmp.message import PORT_UNREACHABLE, UNREACHABLE, ask_for_error
from pyvpp_nodes.integers import int64
from pyvpp_nodes.ip4.header import header_bytes

UDP_BYTES = 8


class Next(IntEnum):
    DROP = 0
    ICMP_ERROR = 1
    PUNT = 2


class Counter(NodeCounter):
    LENGTH_ERROR = 0, "Packets with length errors"
    NO_LISTENER = 1, "No listener for dst port", Severity.INFO
    PUNT = 2, "No listener punt", Severity.INFO


def format_trace(record: TraceRecord) -> list[str]:
    udp = record.data[4 * (record.data[0] & 15) :]
    return [f"UDP: src-port {be(udp, 0, 2)} dst-port {be(udp, 2, 2)}"]


@node(
    name="ip4-udp-lookup",
    next={Next.DROP: "ip4-drop", Next.ICMP_ERROR: "ip4-icmp-error", Next.PUNT: "ip4-punt"},
    counters=Counter,
    trace=format_trace,
)
@jit
def ip4_udp_lookup(
    heap: U8, meta: Records, frame: U32, nexts: U16, counters: U64, error_base: int, udp_ports: U16, punt_tx: U32
) -> None:
    for i, b in enumerate(frame):
        m = meta[b]
        ip = int64(m.cur)
        header = header_bytes(heap, ip)
        udp = ip + header
        n = int64(m.len) - header
        length = be16(heap, udp + 4)
        if n < UDP_BYTES or length < UDP_BYTES or length > n:
            nexts[i] = set_error(m, counters, error_base, Counter.LENGTH_ERROR, int64(Next.DROP))
            continue
        m.l3 = ip
        m.l4 = udp
        listener = int64(udp_ports[uint64(be16(heap, udp + 2))])
        nexts[i] = listener
        if listener == 0 and punt_tx[0] != 0:
            nexts[i] = set_error(m, counters, error_base, Counter.PUNT, int64(Next.PUNT))
        elif listener == 0:
            ask_for_error(m, UNREACHABLE, PORT_UNREACHABLE, 0)
            nexts[i] = set_error(m, counters, error_base, Counter.NO_LISTENER, int64(Next.ICMP_ERROR))
