# SPDX-License-Identifier: Apache-2.0
"""ip4-midchain: age a packet by one hop and put a tunnel's outer header in front of it.

What ip4-rewrite is to a neighbor, this is to a tunnel: the same checks, against the tunnel's MTU. The outer IPv4
header comes from the adjacency with a length of zero; its length is filled in and its checksum patched (RFC 1624).
Starts the arc ip4-output of the tunnel, whose end is tunnel-output; does what that would do at once where the arc is
empty and the packet is not traced. A packet that went into so many tunnels that its buffer has no room in front is
dropped.

A large packet, whose segmentation was left to a device, goes through an IPIP tunnel whole where the device that the
tunnel's outer packets leave by segments in such tunnels, and as segments, which gso-ip4 makes, elsewhere.
"""

from enum import IntEnum
from typing import Any

from numba import uint64

from pyvpp.buffers import CSUM_PARTIAL, LOCALLY_ORIGINATED, TRACED, is_small_with_room, slot_start
from pyvpp.features import enter_arc
from pyvpp.interface import OFFLOAD_IPIP
from pyvpp.jit import inline, jit, outline, rare_case
from pyvpp.node import node, set_error
from pyvpp.typing import U8, U16, U32, U64, Record, Records
from pyvpp.wire import be16, le32, le64, put_be16, put_le32, put_le64
from pyvpp_nodes.fib.forwarding import NONE, count_on
from pyvpp_nodes.fib.tables import STACKED_STRAIGHT, Kind
from pyvpp_nodes.fib.traced import format_rewritten
from pyvpp_nodes.integers import int64
from pyvpp_nodes.ip4.forward import (
    FORWARD,
    LINK_LAYER_ROOM,
    Counter,
    adjacency_to_expect,
    is_plain,
    largest_packet,
    prepend,
    refuse,
    verdict,
)
from pyvpp_nodes.ip4.forward import Next as Refused
from pyvpp_nodes.ip4.header import (
    CHECKSUM,
    HEADER_BYTES,
    ID,
    IP_IN_IP,
    PROTOCOL,
    SOURCE,
    TOTAL_LENGTH,
    TTL,
    decrement_ttl,
    header_bytes,
    patched,
)
from pyvpp_nodes.ip4.tunnel_output import leave_tunnel

NEIGHBOR = int(Kind.REWRITE)
LONGEST = 0xFFFF
OUTER_ROOM = HEADER_BYTES + LINK_LAYER_ROOM


class Next(IntEnum):
    DROP = Refused.DROP
    ICMP_ERROR = Refused.ICMP_ERROR
    FRAG = Refused.FRAG
    TUNNEL_OUTPUT = 3
    GSO = 4


@inline
def put_outer_header(
    heap: U8, m: Record, ip: int, length: int, first: int, checksum: int, second: Any, addresses: Any
) -> None:
    """An outer IPv4 header alone (IPIP), of which `first` are 4 bytes, `second` 8 and `addresses` 8 as le32 and le64
    load them, and whose checksum is right for a length of zero."""
    outer = ip - HEADER_BYTES
    put_le32(heap, outer, first)
    put_be16(heap, outer + TOTAL_LENGTH, length)
    put_le64(heap, outer + ID, second)
    put_be16(heap, outer + CHECKSUM, patched(checksum, 0, length))
    put_le64(heap, outer + SOURCE, addresses)
    m.cur = outer
    m.l3 = outer
    m.len = length


@inline
def fix_length(heap: U8, outer: int, length: int) -> None:
    """A GSO packet may outgrow the field; its segments get their own lengths."""
    put_be16(
        heap, outer + CHECKSUM, patched(be16(heap, outer + CHECKSUM), be16(heap, outer + TOTAL_LENGTH), length & 0xFFFF)
    )
    put_be16(heap, outer + TOTAL_LENGTH, length & 0xFFFF)


@inline
def stays_whole(heap: U8, m: Record, ip: int, adjacency: Record, adjacencies: Records, interfaces: Records) -> bool:
    """Whether a large packet may be left to the device behind an IPIP tunnel: TCP or UDP right behind its IP header, so
    the tunnel is the only one, and one path to a neighbor, whose MTU the segments do not exceed."""
    if adjacency.flags & STACKED_STRAIGHT == 0 or m.flags & CSUM_PARTIAL == 0:
        return False
    below = adjacencies[uint64(adjacency.adj)]
    return bool(
        adjacency.rewrite_bytes == HEADER_BYTES
        and adjacency.rewrite[PROTOCOL] == IP_IN_IP
        and below.kind == NEIGHBOR
        and interfaces[uint64(below.sw_if_index)].offload & OFFLOAD_IPIP
        and m.csum_start == ip + header_bytes(heap, ip)
        and int64(m.len) + HEADER_BYTES <= LONGEST
        and largest_packet(heap, m, ip, int64(m.csum_start)) + HEADER_BYTES <= int64(below.mtu)
    )


@outline
def forward(
    heap: U8,
    m: Record,
    b: int,
    ip: int,
    adjacencies: Records,
    counters: U64,
    error_base: int,
    interfaces: Records,
    feature_chains: U16,
    ip4_output_arc: U32,
    interface_tx: Records,
    node_by_node: U32,
) -> int:
    """The next of a packet that is not plain, or whose tunnel has more than an IPv4 header."""
    rare_case()
    adjacency = adjacencies[m.adj]
    decision = verdict(heap, m, ip, int64(adjacency.mtu))
    if decision != FORWARD:
        return refuse(m, decision, int64(adjacency.mtu), counters, error_base)
    if m.gso_type and not stays_whole(heap, m, ip, adjacency, adjacencies, interfaces):
        return int64(Next.GSO)  # comes back in segments
    if ip - int64(adjacency.rewrite_bytes) - LINK_LAYER_ROOM < slot_start(b):
        return set_error(m, counters, error_base, Counter.NO_ROOM, int64(Next.DROP))
    if m.flags & LOCALLY_ORIGINATED == 0:
        decrement_ttl(heap, ip)
    outer = prepend(heap, m, adjacency)
    if int64(adjacency.rewrite_bytes) >= HEADER_BYTES:
        fix_length(heap, outer, int64(m.len))
    m.l3 = outer
    m.tx = adjacency.sw_if_index
    arc = int64(ip4_output_arc[m.tx])
    if arc:
        return enter_arc(feature_chains, m, arc)
    return (
        int64(Next.TUNNEL_OUTPUT) if m.flags & TRACED or node_by_node[0] else leave_tunnel(m, adjacency, interface_tx)
    )


@node(
    name="ip4-midchain",
    next={
        Next.DROP: "ip4-drop",
        Next.ICMP_ERROR: "ip4-icmp-error",
        Next.FRAG: "ip4-frag",
        Next.TUNNEL_OUTPUT: "tunnel-output",
        Next.GSO: "gso-ip4",
    },
    counters=Counter,
    trace=format_rewritten,
)
@jit
def ip4_midchain(
    heap: U8,
    meta: Records,
    frame: U32,
    nexts: U16,
    counters: U64,
    error_base: int,
    adjacencies: Records,
    interfaces: Records,
    feature_chains: U16,
    ip4_output_arc: U32,
    interface_tx: Records,
    node_by_node: U32,
) -> None:
    expected = adjacency_to_expect(meta, frame)
    adjacency = adjacencies[uint64(max(expected, 0))]
    tx = adjacency.sw_if_index
    at_once = adjacency.rewrite_bytes == HEADER_BYTES and ip4_output_arc[tx] == 0 and node_by_node[0] == 0
    mtu = int64(adjacency.mtu) if at_once else NONE
    first, second = le32(adjacency.rewrite, 0), le64(adjacency.rewrite, ID)
    checksum, addresses = be16(adjacency.rewrite, CHECKSUM), le64(adjacency.rewrite, SOURCE)
    outer_adj, outer_next = adjacency.adj, adjacency.stacked_next
    packets, size = int64(0), int64(0)
    for i, b in enumerate(frame):
        m = meta[b]
        ip = int64(m.cur)
        n = int64(m.len)
        if (
            m.adj == expected
            and m.flags & TRACED == 0
            and is_small_with_room(int64(b), ip, OUTER_ROOM)
            and is_plain(heap, m, ip + TTL, n, mtu)
        ):
            decrement_ttl(heap, ip)
            put_outer_header(heap, m, ip, n + HEADER_BYTES, first, checksum, second, addresses)
            packets += 1
            size += n + HEADER_BYTES
            m.tx = tx
            m.adj = outer_adj
            nexts[i] = outer_next
        else:
            nexts[i] = forward(
                heap,
                m,
                int64(b),
                ip,
                adjacencies,
                counters,
                error_base,
                interfaces,
                feature_chains,
                ip4_output_arc,
                interface_tx,
                node_by_node,
            )
    if packets:
        count_on(interface_tx, int64(tx), packets, size)
