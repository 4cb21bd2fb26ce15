# SPDX-License-Identifier: Apache-2.0
"""ip6-icmp-error: turn a packet that cannot go on into the ICMPv6 message that tells its sender.

Which message: see pyvpp_nodes.icmp6.message. The packet, cut so that the whole has 1280 bytes at most, gets an ICMPv6
and an IPv6 header in front (RFC 4443, 3): hop limit 255, to its source, from the first address of the interface it
came in on, else of that interface's partner. Then ip6-lookup.

No message, and the packet dropped, if it was (RFC 4443, 2.4 e) an ICMPv6 error or redirect itself, sent to a
multicast address, by link layer or IP (unless it is too big: path MTU discovery works for multicast), or from an
address that is no single host's. Behind extension headers nobody looks for the error: the quoted packet's next header
alone tells. Senders are limited: one message per source and destination, of 512 kinds, in 10 microseconds, as in VPP.
"""

from enum import IntEnum

from numba import uint64

from pyvpp.buffers import L2_VALID, LOCALLY_ORIGINATED, TRACED
from pyvpp.checksum import fold, sum_bytes
from pyvpp.jit import inline, jit
from pyvpp.node import NodeCounter, Severity, node
from pyvpp.trace import TraceRecord
from pyvpp.trace_format import format_ip6
from pyvpp.typing import U8, U16, U32, U64, Record, Records
from pyvpp.wire import be64, put_be16, put_be32, put_le16, u8
from pyvpp_nodes.icmp6.message import (
    FIRST_INFORMATIONAL,
    PACKET_TOO_BIG,
    PARAMETER_PROBLEM,
    REDIRECT,
    TIME_EXCEEDED,
)
from pyvpp_nodes.icmp6.message import HEADER_BYTES as ICMP_BYTES
from pyvpp_nodes.integers import int64
from pyvpp_nodes.ip4.throttle import throttled
from pyvpp_nodes.ip6.flow_hash import folded
from pyvpp_nodes.ip6.header import (
    DESTINATION,
    HEADER_BYTES,
    ICMP6,
    NEXT_HEADER,
    SOURCE,
    is_multicast,
    is_unspecified_or_loopback,
    put_address,
    put_first_words,
)

LARGEST = 1280  # the least MTU of IPv6
ICMP_WINDOW = 10_000
ERROR_HOP_LIMIT = 255


class Next(IntEnum):
    DROP = 0
    LOOKUP = 1


class Counter(NodeCounter):
    DEST_UNREACH_SENT = 0, "destination unreachable response sent", Severity.INFO
    PACKET_TOO_BIG_SENT = 1, "packet too big response sent", Severity.INFO
    TTL_EXPIRE_SENT = 2, "hop limit exceeded response sent", Severity.INFO
    PARAM_PROBLEM_SENT = 3, "parameter problem response sent", Severity.INFO
    DROP = 4, "error message dropped"
    THROTTLED = 5, "error messages throttled"
    NO_SOURCE_ADDRESS = 6, "no source address for error message"


@inline
def to_many(heap: U8, m: Record, ip: int) -> bool:
    """Was the packet sent to a group, by IP or link layer?"""
    return is_multicast(heap, ip + DESTINATION) or (
        m.flags & L2_VALID != 0 and int64(m.l2) < ip and u8(heap, m.l2) & 1 == 1
    )


@inline
def may_answer(heap: U8, m: Record, ip: int, icmp_type: int) -> bool:
    if icmp_type != PACKET_TOO_BIG and to_many(heap, m, ip):
        return False
    if is_multicast(heap, ip + SOURCE) or is_unspecified_or_loopback(heap, ip + SOURCE):
        return False
    if u8(heap, ip + NEXT_HEADER) != ICMP6:
        return True
    offending = u8(heap, ip + HEADER_BYTES)
    return int64(m.len) > HEADER_BYTES and offending >= FIRST_INFORMATIONAL and offending != REDIRECT


@inline
def source_for(rx: int, interfaces: Records, ip6_interface_address: Records) -> int:
    """Whose address the message comes from: the interface, its partner, or 0 when neither has one."""
    peer = int64(interfaces[rx].peer)
    for sw_if_index in (rx, peer):
        own = ip6_interface_address[sw_if_index]
        if own.high != uint64(0) or own.low != uint64(0):
            return sw_if_index
    return 0


@inline
def build(heap: U8, m: Record, ip: int, source: Record) -> None:
    """The 48 bytes in front of the packet; what lay there, its Ethernet header, is gone."""
    wanted = int64(m.flow_hash)
    icmp = ip - ICMP_BYTES
    start = icmp - HEADER_BYTES
    length = ICMP_BYTES + min(int64(m.len), LARGEST - HEADER_BYTES - ICMP_BYTES)
    put_be16(heap, icmp, wanted >> 16)
    put_be16(heap, icmp + 2, 0)
    put_be32(heap, icmp + 4, wanted & 0xFFFF)
    put_first_words(heap, start, length, ICMP6, ERROR_HOP_LIMIT)
    put_address(heap, start + DESTINATION, be64(heap, ip + SOURCE), be64(heap, ip + SOURCE + 8))
    put_address(heap, start + SOURCE, source.high, source.low)
    # RFC 8200, 8.1: both addresses, length and next header stand for the pseudo header
    pseudo = (length & 0xFF) << 8 | length >> 8
    total = sum_bytes(heap, start + SOURCE, HEADER_BYTES - SOURCE + length) + pseudo + (ICMP6 << 8)
    put_le16(heap, icmp + 2, fold(total) ^ 0xFFFF)
    m.cur = start
    m.len = HEADER_BYTES + length
    m.l3 = start
    m.l4 = icmp
    m.flags = m.flags & TRACED | LOCALLY_ORIGINATED
    m.flow_hash = 0
    m.gso_type = 0
    m.gso_size = 0
    m.error = 0


@inline
def counter_of(icmp_type: int) -> int:
    if icmp_type == PACKET_TOO_BIG:
        return Counter.PACKET_TOO_BIG_SENT
    if icmp_type == TIME_EXCEEDED:
        return Counter.TTL_EXPIRE_SENT
    if icmp_type == PARAMETER_PROBLEM:
        return Counter.PARAM_PROBLEM_SENT
    return Counter.DEST_UNREACH_SENT


def format_trace(record: TraceRecord) -> list[str]:
    return format_ip6(record.data)


@node(
    name="ip6-icmp-error",
    next={Next.DROP: "ip6-drop", Next.LOOKUP: "ip6-lookup"},
    counters=Counter,
    trace=format_trace,
)
@jit
def ip6_icmp_error(
    heap: U8,
    meta: Records,
    frame: U32,
    nexts: U16,
    counters: U64,
    now: int,
    interfaces: Records,
    ip6_interface_address: Records,
    icmp6_throttle: U64,
) -> None:
    for i, b in enumerate(frame):
        m = meta[b]
        ip = int64(m.cur)
        wanted = int64(m.flow_hash) >> 24
        source = source_for(int64(m.rx), interfaces, ip6_interface_address)
        nexts[i] = Next.DROP
        if not may_answer(heap, m, ip, wanted):
            outcome: int = Counter.DROP
        elif source == 0:
            outcome = Counter.NO_SOURCE_ADDRESS
        elif throttled(icmp6_throttle, now, ICMP_WINDOW, folded(heap, ip + DESTINATION), folded(heap, ip + SOURCE)):
            outcome = Counter.THROTTLED
        else:
            outcome = counter_of(wanted)
            build(heap, m, ip, ip6_interface_address[source])
            nexts[i] = Next.LOOKUP
        counters[outcome] += uint64(1)
