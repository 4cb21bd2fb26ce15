# SPDX-License-Identifier: Apache-2.0
"""ipip4-input: take the outer header off a packet that came through an IPIP tunnel (RFC 2003).

ip4-local has verified the outer header and sends protocol 4 here, with `m.cur` at the outer header. The tunnel is the
one between the outer addresses. The packet goes on to ip4-input as if the tunnel's interface had received it; bytes
behind the outer packet (Ethernet padding) are cut off. What a device or sender left to do on the inner packet
(partial checksum, segmentation) stays as it is.

Dropped and counted: fragments of the outer packet (ip4-local reassembles none), packets too short for an inner header
or for what their outer header says, inner protocols other than IPv4, addresses between which there is no tunnel, and
tunnels that are down.
"""

from enum import IntEnum

from numba import uint64

from pyvpp.buffers import CSUM_PARTIAL, CSUM_VALID, FLOW_HASH, L2_VALID
from pyvpp.interface import ADMIN_UP
from pyvpp.jit import inline, jit, outline, rare_case
from pyvpp.node import NodeCounter, Severity, node, set_error
from pyvpp.trace import TraceRecord
from pyvpp.trace_format import ip4_text
from pyvpp.typing import U8, U16, U32, U64, Record, Records
from pyvpp.wire import be16, be32, le64, u8
from pyvpp_nodes.fib.forwarding import count_on
from pyvpp_nodes.integers import int64
from pyvpp_nodes.ip4.header import (
    DESTINATION,
    HEADER_BYTES,
    IP_IN_IP,
    PLAIN,
    PROTOCOL,
    SOURCE,
    TOTAL_LENGTH,
    header_bytes,
    is_fragment,
)
from pyvpp_nodes.ipip.tunnel_table import NO_TUNNEL, find_tunnel


class Next(IntEnum):
    DROP = 0
    IP4 = 1


class Counter(NodeCounter):
    DECAPSULATED = 0, "packets decapsulated", Severity.INFO
    BAD_PROTOCOL = 1, "bad protocol"
    NO_TUNNEL = 2, "no tunnel"
    FRAGMENTED = 3, "fragmented outer packet"
    TRUNCATED = 4, "truncated packet"
    DOWN = 5, "tunnel interface is down"


WITHOUT_OUTER_STATE = 0xFFFFFFFF ^ (L2_VALID | CSUM_VALID | FLOW_HASH)


@inline
def decapsulate(m: Record, tunnel: int, inner: int, n: int) -> None:
    """The inner packet, n bytes at inner, has just arrived on the tunnel; what was known of the outer one is void."""
    m.flags = m.flags & WITHOUT_OUTER_STATE
    if m.flags & CSUM_PARTIAL and int64(m.csum_start) < inner:
        m.flags = m.flags ^ CSUM_PARTIAL
        m.gso_type = 0
    m.cur = inner
    m.l3 = inner
    m.len = n
    m.rx = tunnel


@inline
def tunnel_of(heap: U8, m: Record, ipip_keys: U32, interfaces: Records) -> int:
    """The tunnel that a packet came through, or the complement of what is wrong with it."""
    outer = int64(m.cur)
    header, length = header_bytes(heap, outer), be16(heap, outer + TOTAL_LENGTH)
    if is_fragment(heap, outer):
        return ~int64(Counter.FRAGMENTED)
    if length > int64(m.len) or header < HEADER_BYTES or length < header + HEADER_BYTES:
        return ~int64(Counter.TRUNCATED)
    if u8(heap, outer + PROTOCOL) != IP_IN_IP:
        return ~int64(Counter.BAD_PROTOCOL)
    source, destination = be32(heap, outer + SOURCE), be32(heap, outer + DESTINATION)
    tunnel = int64(find_tunnel(ipip_keys, destination, source, 0, 0))
    if tunnel == NO_TUNNEL:
        return ~int64(Counter.NO_TUNNEL)
    if interfaces[uint64(tunnel)].flags & ADMIN_UP == 0:
        return ~int64(Counter.DOWN)
    return tunnel


@inline
def tunnel_to_expect(heap: U8, meta: Records, frame: U32, ipip_keys: U32, interfaces: Records) -> int:
    """The tunnel of a frame's first and last packet, where it is one and nothing is wrong with the first; else -1."""
    first, last = meta[frame[0]], meta[frame[len(frame) - 1]]
    if le64(heap, int64(first.cur) + SOURCE) != le64(heap, int64(last.cur) + SOURCE):
        return -1
    return max(tunnel_of(heap, first, ipip_keys, interfaces), -1)


@outline
def receive(
    heap: U8,
    m: Record,
    counters: U64,
    error_base: int,
    ipip_keys: U32,
    interfaces: Records,
    interface_rx: Records,
) -> int:
    """The next of any packet."""
    rare_case()
    tunnel = tunnel_of(heap, m, ipip_keys, interfaces)
    if tunnel < 0:
        return set_error(m, counters, error_base, ~tunnel, int64(Next.DROP))
    outer = int64(m.cur)
    header = header_bytes(heap, outer)
    n = be16(heap, outer + TOTAL_LENGTH) - header
    decapsulate(m, tunnel, outer + header, n)
    count_on(interface_rx, tunnel, 1, n)
    counters[Counter.DECAPSULATED] += uint64(1)
    return int64(Next.IP4)


def format_trace(record: TraceRecord) -> list[str]:
    outer = record.data
    text = f"IPIP: tunnel {record.rx} len {int.from_bytes(outer[2:4], 'big')}"
    return [f"{text} src {ip4_text(outer[12:16])} dst {ip4_text(outer[16:20])}"]


@node(
    name="ipip4-input",
    next={Next.DROP: "error-drop", Next.IP4: "ip4-input"},
    counters=Counter,
    trace=format_trace,
)
@jit
def ipip4_input(
    heap: U8,
    meta: Records,
    frame: U32,
    nexts: U16,
    counters: U64,
    error_base: int,
    ipip_keys: U32,
    interfaces: Records,
    interface_rx: Records,
) -> None:
    expected = tunnel_to_expect(heap, meta, frame, ipip_keys, interfaces)
    addresses = le64(heap, int64(meta[frame[0]].cur) + SOURCE)
    packets, size = int64(0), int64(0)
    for i, b in enumerate(frame):
        m = meta[b]
        outer = int64(m.cur)
        length = be16(heap, outer + TOTAL_LENGTH)
        if (
            expected >= 0
            and le64(heap, outer + SOURCE) == addresses
            and u8(heap, outer) == PLAIN
            and u8(heap, outer + PROTOCOL) == IP_IN_IP
            and not is_fragment(heap, outer)
            and 2 * HEADER_BYTES <= length <= int64(m.len)
        ):
            packets += 1
            size += length - HEADER_BYTES
            decapsulate(m, expected, outer + HEADER_BYTES, length - HEADER_BYTES)
            nexts[i] = Next.IP4
        else:
            nexts[i] = receive(heap, m, counters, error_base, ipip_keys, interfaces, interface_rx)
    if packets:
        count_on(interface_rx, expected, packets, size)
        counters[Counter.DECAPSULATED] += uint64(packets)
