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
from pyvpp.jit import inline, jit, outline, rare_case
from pyvpp.node import NodeCounter, Severity, node, set_error
from pyvpp.trace import TraceRecord
from pyvpp.trace_format import format_ip4
from pyvpp.typing import I64, U8, U16, U32, U64, Record, Records
from pyvpp.wire import be16, u8
from pyvpp_nodes.icmp.message import TIME_EXCEEDED, TTL_IN_TRANSIT, ask_for_error
from pyvpp_nodes.integers import int64
from pyvpp_nodes.ip4.fused import take_common_way
from pyvpp_nodes.ip4.header import (
    FRAGMENT,
    FRAGMENT_OFFSET,
    HEADER_BYTES,
    PLAIN,
    TOTAL_LENGTH,
    TTL,
    sum20,
    sum_header,
)
from pyvpp_nodes.ip4.plain import is_plain

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


@inline
def fault_of(heap: U8, ip: int, length: int) -> int:
    first = u8(heap, ip)
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


@outline
def look_closely(heap: U8, m: Record, ip: int, counters: U64, error_base: int) -> int:
    """The next of a packet that is not plain."""
    rare_case()
    fault = fault_of(heap, ip, int64(m.len))
    if fault == NONE or fault == Counter.TIME_EXPIRED:
        m.len = be16(heap, ip + TOTAL_LENGTH)
        m.l3 = ip
    if fault == NONE and u8(heap, ip) != PLAIN:
        counters[Counter.OPTIONS] += uint64(1)
        return int64(Next.OPTIONS)
    next_ = int64(Next.DROP)
    if fault == NONE:
        fault = int64(Counter.MULTICAST)
        next_ = int64(Next.IP4_DROP)
    elif fault == Counter.TIME_EXPIRED:
        ask_for_error(m, TIME_EXCEEDED, TTL_IN_TRANSIT, 0)
        next_ = int64(Next.ICMP_ERROR)
    return set_error(m, counters, error_base, fault, next_)


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
    interfaces: Records,
    ip4_fib_roots: U32,
    ip4_fib_nodes: U32,
    load_balances: Records,
    lb_buckets: Records,
    route_counters: Records,
    adjacencies: Records,
    interface_ip4: U64,
    feature_chains: U16,
    ip4_unicast_arc: U32,
    ip4_output_arc: U32,
    node_by_node: U32,
    ip4_long_way: I64,
    now: int,
) -> None:
    taken = take_common_way(
        heap, meta, frame, nexts, 0, interfaces, ip4_fib_roots, ip4_fib_nodes, load_balances, lb_buckets,
        route_counters, adjacencies, interface_ip4, ip4_unicast_arc, ip4_output_arc, node_by_node, ip4_long_way, now,
    )  # fmt: skip
    if taken == len(frame):
        return
    frame, nexts = frame[taken:], nexts[taken:]
    expected = int64(meta[frame[0]].rx)  # packets of an interface come one after another
    arc_of_expected = int64(ip4_unicast_arc[uint64(expected)])
    received = int64(0)
    for i, b in enumerate(frame):
        m = meta[b]
        ip = int64(m.cur)
        arc = arc_of_expected
        if m.rx == expected:
            received += 1
        else:
            arc = int64(ip4_unicast_arc[m.rx])
            interface_ip4[m.rx] += uint64(1)
        if is_plain(heap, ip, int64(m.len)):
            m.len = be16(heap, ip + TOTAL_LENGTH)
            m.l3 = ip
            nexts[i] = enter_arc(feature_chains, m, arc) if arc else int64(Next.LOOKUP)
        else:
            nexts[i] = look_closely(heap, m, ip, counters, error_base)
    interface_ip4[uint64(expected)] += uint64(received)
