# SPDX-License-Identifier: Apache-2.0
"""ip6-input: verify the IPv6 header and start the arc ip6-unicast.

RFC 8200, 3, in this order: room for a header, version, payload length, hop limit; then the addresses (RFC 4291).
The first fault names the drop. A packet whose hop limit is 0 goes to ip6-icmp-error. Dropped, since no router may
pass them on: multicast, for which there are no routes; ::, ::1 and multicast as a source; link-local addresses, which
neighbor discovery will want to see first. Extension headers are left to those who own the packet.

What is behind the payload (Ethernet padding) is cut off: no node after this one sees it. Leaves `m.l3` at the header.
"""

from enum import IntEnum

from numba import uint64

from pyvpp.features import FeatureArc, enter_arc
from pyvpp.jit import inline, jit, outline, rare_case
from pyvpp.node import NodeCounter, node, set_error
from pyvpp.trace import TraceRecord
from pyvpp.trace_format import format_ip6
from pyvpp.typing import U8, U16, U32, U64, Record, Records
from pyvpp.wire import be16, u8
from pyvpp_nodes.icmp.message import ask_for_error
from pyvpp_nodes.icmp6.message import HOP_LIMIT_IN_TRANSIT, TIME_EXCEEDED
from pyvpp_nodes.integers import int64
from pyvpp_nodes.ip6.header import (
    DESTINATION,
    HEADER_BYTES,
    HOP_LIMIT,
    LINK_LOCAL,
    PAYLOAD_LENGTH,
    SOURCE,
    is_link_local,
    is_multicast,
    is_unspecified_or_loopback,
)

ARC = FeatureArc("ip6-unicast", last="ip6-lookup")


class Next(IntEnum):
    DROP = 0
    LOOKUP = 1
    ICMP_ERROR = 2
    IP6_DROP = 3


class Counter(NodeCounter):
    TOO_SHORT = 0, "ip6 length < 40 bytes"
    BAD_LENGTH = 1, "ip6 length > l2 length"
    VERSION = 2, "ip6 version != 6"
    TIME_EXPIRED = 3, "ip6 ttl <= 1"
    MULTICAST = 4, "ip6 multicast not routed"
    MARTIAN = 5, "ip6 martian address"
    LINK_LOCAL = 6, "ip6 link-local not routed"


NONE = -1


@inline
def is_plain(heap: U8, ip: int, length: int) -> bool:
    """Nearly every packet: without a fault, between addresses whose first 16 bits are neither 0 nor from fe80 on."""
    return bool(
        u8(heap, ip) >> 4 == 6
        and HEADER_BYTES + be16(heap, ip + PAYLOAD_LENGTH) <= length
        and u8(heap, ip + HOP_LIMIT) != 0
        and 0 < be16(heap, ip + SOURCE) < LINK_LOCAL
        and 0 < be16(heap, ip + DESTINATION) < LINK_LOCAL
    )


@inline
def fault_of_addresses(heap: U8, source: int, destination: int) -> int:
    if is_multicast(heap, destination):
        return Counter.MULTICAST
    if is_multicast(heap, source) or is_unspecified_or_loopback(heap, source):
        return Counter.MARTIAN
    if is_unspecified_or_loopback(heap, destination):
        return Counter.MARTIAN
    if is_link_local(heap, source) or is_link_local(heap, destination):
        return Counter.LINK_LOCAL
    return NONE


@inline
def fault_of(heap: U8, ip: int, length: int) -> int:
    if length < HEADER_BYTES:
        return Counter.TOO_SHORT
    if u8(heap, ip) >> 4 != 6:
        return Counter.VERSION
    if HEADER_BYTES + be16(heap, ip + PAYLOAD_LENGTH) > length:
        return Counter.BAD_LENGTH
    if u8(heap, ip + HOP_LIMIT) == 0:
        return Counter.TIME_EXPIRED
    return fault_of_addresses(heap, ip + SOURCE, ip + DESTINATION)


@outline
def fault_next(heap: U8, m: Record, ip: int, counters: U64, error_base: int) -> int:
    """Names what is wrong with a packet that is not plain and answers where it goes; NONE if nothing is."""
    rare_case()
    fault = fault_of(heap, ip, int64(m.len))
    if fault == NONE:
        return NONE
    next_ = int64(Next.DROP)
    if fault >= Counter.TIME_EXPIRED:
        m.len = HEADER_BYTES + be16(heap, ip + PAYLOAD_LENGTH)
        m.l3 = ip
        next_ = int64(Next.IP6_DROP)
    if fault == Counter.TIME_EXPIRED:
        ask_for_error(m, TIME_EXCEEDED, HOP_LIMIT_IN_TRANSIT, 0)
        next_ = int64(Next.ICMP_ERROR)
    return set_error(m, counters, error_base, fault, next_)


def format_trace(record: TraceRecord) -> list[str]:
    return format_ip6(record.data)


@node(
    name="ip6-input",
    next={
        Next.DROP: "error-drop",
        Next.LOOKUP: "ip6-lookup",
        Next.ICMP_ERROR: "ip6-icmp-error",
        Next.IP6_DROP: "ip6-drop",
    },
    counters=Counter,
    trace=format_trace,
)
@jit
def ip6_input(
    heap: U8,
    meta: Records,
    frame: U32,
    nexts: U16,
    counters: U64,
    error_base: int,
    interface_ip6: U64,
    feature_chains: U16,
    ip6_unicast_arc: U32,
) -> None:
    expected = int64(meta[frame[0]].rx)  # packets of an interface come one after another
    arc_of_expected = int64(ip6_unicast_arc[uint64(expected)])
    received = int64(0)
    for i, b in enumerate(frame):
        m = meta[b]
        ip = int64(m.cur)
        arc = arc_of_expected
        if m.rx == expected:
            received += 1
        else:
            arc = int64(ip6_unicast_arc[m.rx])
            interface_ip6[m.rx] += uint64(1)
        if not is_plain(heap, ip, int64(m.len)):
            refused = fault_next(heap, m, ip, counters, error_base)
            if refused != NONE:
                nexts[i] = refused
                continue
        m.len = HEADER_BYTES + be16(heap, ip + PAYLOAD_LENGTH)
        m.l3 = ip
        nexts[i] = enter_arc(feature_chains, m, arc) if arc else int64(Next.LOOKUP)
    interface_ip6[uint64(expected)] += uint64(received)
