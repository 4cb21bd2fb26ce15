# SPDX-License-Identifier: Apache-2.0
"""ip4-input: verify the IPv4 header and start the arc ip4-unicast.

RFC 1812 5.2.2, in this order: room for a header, version, header length, checksum, total length, fragment offset,
TTL. The first fault names the drop, so nothing behind a wrong checksum is believed; VPP lets the last one win. A
packet whose TTL is 0 goes to ip4-icmp-error, one with options to ip4-options. Multicast is dropped: there are no
multicast routes.

What is behind the total length (Ethernet padding) is cut off: no node after this one sees it. Leaves `m.l3` at the
header.
"""

from enum import IntEnum

from numba import uint64

from pyvpp.features import FeatureArc, enter_arc
from pyvpp.jit import inline, jit
from pyvpp.node import NodeCounter, Severity, node
from pyvpp.trace import TraceRecord
from pyvpp.trace_format import format_ip4
from pyvpp.typing import U8, U16, U32, U64, Records
from pyvpp.wire import be16
from pyvpp_nodes.icmp.message import TIME_EXCEEDED, TTL_IN_TRANSIT, ask_for_error
from pyvpp_nodes.integers import int64
from pyvpp_nodes.ip4.header import (
    DESTINATION,
    FRAGMENT,
    FRAGMENT_OFFSET,
    HEADER_BYTES,
    TOTAL_LENGTH,
    TTL,
    sum20,
    sum_header,
)

ARC = FeatureArc("ip4-unicast", last="ip4-lookup")


class Next(IntEnum):
    DROP = 0
    LOOKUP = 1
    OPTIONS = 2
    ICMP_ERROR = 3
    IP4_DROP = 4


class Counter(NodeCounter):
    TOO_SHORT = 0, "ip4 length < 20 bytes"
    BAD_LENGTH = 1, "ip4 length > l2 length"
    BAD_CHECKSUM = 2, "bad ip4 checksum"
    VERSION = 3, "ip4 version != 4"
    OPTIONS = 4, "ip4 options present", Severity.INFO
    FRAGMENT_OFFSET_ONE = 5, "ip4 fragment offset == 1"
    TIME_EXPIRED = 6, "ip4 ttl <= 1"
    HDR_TOO_SHORT = 7, "ip4 IHL < 5"
    MULTICAST = 8, "ip4 multicast not routed"


NONE = -1
PLAIN = 0x45
"""Version 4, no options: the first byte of nearly every packet."""


@inline
def fault_of(heap: U8, ip: int, length: int) -> int:
    first = int64(heap[ip])
    total = be16(heap, ip + TOTAL_LENGTH)
    header = (first & 15) << 2
    if length < HEADER_BYTES:
        return Counter.TOO_SHORT
    if first >> 4 != 4:
        return Counter.VERSION
    if header < HEADER_BYTES:
        return Counter.HDR_TOO_SHORT
    if header > length:
        return Counter.BAD_LENGTH
    if (sum20(heap, ip) if first == PLAIN else sum_header(heap, ip, header)) != 0xFFFF:
        return Counter.BAD_CHECKSUM
    if total < HEADER_BYTES:
        return Counter.TOO_SHORT
    if total < header or total > length:
        return Counter.BAD_LENGTH
    if be16(heap, ip + FRAGMENT) & FRAGMENT_OFFSET == 1:
        return Counter.FRAGMENT_OFFSET_ONE
    if heap[ip + TTL] == 0:
        return Counter.TIME_EXPIRED
    return NONE


def format_trace(record: TraceRecord) -> list[str]:
    return format_ip4(record.data)


@node(
    name="ip4-input",
    next={
        Next.DROP: "error-drop",
        Next.LOOKUP: "ip4-lookup",
        Next.OPTIONS: "ip4-options",
        Next.ICMP_ERROR: "ip4-icmp-error",
        Next.IP4_DROP: "ip4-drop",
    },
    counters=Counter,
    trace=format_trace,
)
@jit
def ip4_input(
    heap: U8,
    meta: Records,
    frame: U32,
    nexts: U16,
    counters: U64,
    error_base: int,
    interface_ip4: U64,
    feature_chains: U16,
    ip4_unicast_arc: U32,
) -> None:
    for i, b in enumerate(frame):
        m = meta[b]
        ip = int64(m.cur)
        rx = int64(m.rx)
        interface_ip4[rx] += uint64(1)
        fault = fault_of(heap, ip, int64(m.len))
        if fault == NONE:
            m.len = be16(heap, ip + TOTAL_LENGTH)
            m.l3 = ip
            if int64(heap[ip]) != PLAIN:
                counters[Counter.OPTIONS] += uint64(1)
                nexts[i] = Next.OPTIONS
                continue
            if int64(heap[ip + DESTINATION]) >> 4 != 0xE:
                arc = int64(ip4_unicast_arc[rx])
                nexts[i] = enter_arc(feature_chains, m, arc) if arc else int64(Next.LOOKUP)
                continue
            fault = Counter.MULTICAST
        counters[fault] += uint64(1)
        m.error = error_base + fault
        nexts[i] = Next.DROP
        if fault == Counter.TIME_EXPIRED:
            m.len = be16(heap, ip + TOTAL_LENGTH)
            m.l3 = ip
            ask_for_error(m, TIME_EXCEEDED, TTL_IN_TRANSIT, 0)
            nexts[i] = Next.ICMP_ERROR
        elif fault == Counter.MULTICAST:
            nexts[i] = Next.IP4_DROP
