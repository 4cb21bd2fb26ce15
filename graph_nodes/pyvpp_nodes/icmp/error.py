# SPDX-License-Identifier: Apache-2.0
"""ip4-icmp-error: turn a packet that cannot go on into the ICMP message that tells its sender.

Which message: see pyvpp_nodes.icmp.message. The packet, cut so that the whole has 576 bytes at most (RFC 1812
4.3.2.3), gets an ICMP and an IP header in front: TTL 255, to its source, from the first address of the interface it
came in on, else of that interface's partner, else of the host's uplink. Then ip4-lookup.

To the host, whose addresses ours are, it comes from the packet's destination: no host believes a message that claims
to be from itself (RFC 1812 5.3.8 calls its source martian), and TCP of the host would never learn a tunnel's MTU.

No message, and the packet dropped, if it was (RFC 1812 4.3.2.7) an ICMP error itself, a fragment other than the
first, sent to a multicast or broadcast address, by link layer or IP, or from an address that is no single host's.
Senders are limited: one message per source and destination, of 512 kinds, in 10 microseconds, as in VPP.
"""

from enum import IntEnum

from numba import uint64

from pyvpp.buffers import L2_VALID, LOCALLY_ORIGINATED, TRACED
from pyvpp.checksum import fold, sum_bytes
from pyvpp.interface import HOST
from pyvpp.jit import inline, jit
from pyvpp.node import NodeCounter, Severity, node
from pyvpp.trace import TraceRecord
from pyvpp.trace_format import format_ip4
from pyvpp.typing import U8, U16, U32, U64, Record, Records
from pyvpp.wire import be16, be32, put_be16, put_be32, put_le16, u8
from pyvpp_nodes.icmp.message import ECHO_REPLY, ECHO_REQUEST, PARAMETER_PROBLEM, TIME_EXCEEDED
from pyvpp_nodes.icmp.message import HEADER_BYTES as ICMP_BYTES
from pyvpp_nodes.integers import int64
from pyvpp_nodes.ip4.header import (
    DESTINATION,
    FRAGMENT,
    FRAGMENT_OFFSET,
    HEADER_BYTES,
    ICMP,
    PROTOCOL,
    SOURCE,
    header_bytes,
    put_header,
)
from pyvpp_nodes.ip4.throttle import throttled

LARGEST = 576
ICMP_WINDOW = 10_000
ERROR_TTL = 255
FIRST_QUERY, LAST_QUERY = 13, 18  # timestamp, information and mask requests and replies


class Next(IntEnum):
    DROP = 0
    LOOKUP = 1


class Counter(NodeCounter):
    DEST_UNREACH_SENT = 0, "destination unreachable response sent", Severity.INFO
    TTL_EXPIRE_SENT = 1, "hop limit exceeded response sent", Severity.INFO
    PARAM_PROBLEM_SENT = 2, "parameter problem response sent", Severity.INFO
    DROP = 3, "error message dropped"
    THROTTLED = 4, "error messages throttled"
    NO_SOURCE_ADDRESS = 5, "no source address for error message"


@inline
def is_icmp_error(icmp_type: int) -> bool:
    """What is not a query or its answer is an error: unknown types count as errors."""
    query = icmp_type in (ECHO_REQUEST, ECHO_REPLY, 9, 10)
    return not (query or (icmp_type >= FIRST_QUERY and icmp_type <= LAST_QUERY))


@inline
def names_no_host(address: int) -> bool:
    """0/8, 127/8, multicast, class E and the broadcast address."""
    first = address >> 24
    return first == 0 or first == 127 or first >= 224


@inline
def may_answer(heap: U8, m: Record, ip: int) -> bool:
    if m.flags & L2_VALID and int64(m.l2) < ip and u8(heap, m.l2) & 1:
        return False
    if be16(heap, ip + FRAGMENT) & FRAGMENT_OFFSET:
        return False
    if names_no_host(be32(heap, ip + SOURCE)) or be32(heap, ip + DESTINATION) >> 28 >= 0xE:
        return False
    if u8(heap, ip + PROTOCOL) != ICMP:
        return True
    header = header_bytes(heap, ip)
    return int64(m.len) > header and not is_icmp_error(u8(heap, ip + header))


@inline
def source_for(heap: U8, ip: int, rx: int, interfaces: Records, punt_tx: U32, ip4_interface_address: U32) -> int:
    """The first address of the interface, its partner, or the host's uplink; 0 is none. For the host see above."""
    source = be32(heap, ip + DESTINATION) if interfaces[rx].flags & HOST else int64(ip4_interface_address[rx])
    if source == 0:
        source = int64(ip4_interface_address[interfaces[rx].peer])
    if source == 0:
        source = int64(ip4_interface_address[interfaces[punt_tx[0]].peer])
    return source


@inline
def build(heap: U8, m: Record, ip: int, source: int) -> None:
    """The 28 bytes in front of the packet; what lay there, its Ethernet header, is gone."""
    wanted = int64(m.flow_hash)
    quoted = min(int64(m.len), LARGEST - HEADER_BYTES - ICMP_BYTES)
    icmp = ip - ICMP_BYTES
    start = icmp - HEADER_BYTES
    destination = be32(heap, ip + SOURCE)
    put_be16(heap, icmp, wanted >> 16)
    put_be16(heap, icmp + 2, 0)
    put_be32(heap, icmp + 4, wanted & 0xFFFF)
    put_le16(heap, icmp + 2, fold(sum_bytes(heap, icmp, ICMP_BYTES + quoted)) ^ 0xFFFF)
    put_header(heap, start, HEADER_BYTES + ICMP_BYTES + quoted, ERROR_TTL, ICMP, source, destination)
    m.cur = start
    m.len = HEADER_BYTES + ICMP_BYTES + quoted
    m.l3 = start
    m.l4 = icmp
    m.flags = m.flags & TRACED | LOCALLY_ORIGINATED
    m.flow_hash = 0
    m.gso_type = 0
    m.gso_size = 0
    m.error = 0


@inline
def counter_of(icmp_type: int) -> int:
    if icmp_type == TIME_EXCEEDED:
        return Counter.TTL_EXPIRE_SENT
    if icmp_type == PARAMETER_PROBLEM:
        return Counter.PARAM_PROBLEM_SENT
    return Counter.DEST_UNREACH_SENT


def format_trace(record: TraceRecord) -> list[str]:
    return format_ip4(record.data)


@node(
    name="ip4-icmp-error",
    next={Next.DROP: "ip4-drop", Next.LOOKUP: "ip4-lookup"},
    counters=Counter,
    trace=format_trace,
)
@jit
def ip4_icmp_error(
    heap: U8,
    meta: Records,
    frame: U32,
    nexts: U16,
    counters: U64,
    now: int,
    interfaces: Records,
    punt_tx: U32,
    ip4_interface_address: U32,
    icmp_throttle: U64,
) -> None:
    for i, b in enumerate(frame):
        m = meta[b]
        ip = int64(m.cur)
        source = source_for(heap, ip, int64(m.rx), interfaces, punt_tx, ip4_interface_address)
        nexts[i] = Next.DROP
        if not may_answer(heap, m, ip):
            outcome: int = Counter.DROP
        elif source == 0:
            outcome = Counter.NO_SOURCE_ADDRESS
        elif throttled(icmp_throttle, now, ICMP_WINDOW, be32(heap, ip + DESTINATION), be32(heap, ip + SOURCE)):
            outcome = Counter.THROTTLED
        else:
            outcome = counter_of(int64(m.flow_hash) >> 24)
            build(heap, m, ip, source)
            nexts[i] = Next.LOOKUP
        counters[outcome] += uint64(1)
