# SPDX-License-Identifier: Apache-2.0
"""arp-reply: answer those who ask for an address of ours on this interface, and learn from everybody who speaks to
us.

The sender must be on the link (our connected subnet, or a neighbor already) and none of ourselves, and must give the
MAC address its frame came from; VRRP's virtual routers (RFC 5798) are excused. Learned, by the node arp-learn, are:
the sender of a reply to us, the sender of a request to us whose MAC address is news, and a neighbor we have that
announces itself. Requests for others go to arp-proxy.

An uplink's addresses are the host's, which answers for itself: what comes here is a copy to learn from, and no reply
is sent.
"""

from enum import IntEnum

from numba import uint64

from pyvpp.buffers import HEADROOM, L2_VALID, NO_BUFFER, emit_to, give_back, slot_start, take_small
from pyvpp.interface import HOST, UPLINK
from pyvpp.jit import inline, jit
from pyvpp.node import NodeCounter, Severity, node, set_error
from pyvpp.trace import TraceRecord
from pyvpp.trace_format import format_arp_or_frame
from pyvpp.typing import U8, U16, U32, U64, Record, Records
from pyvpp.wire import be16, be32
from pyvpp_nodes.arp.packet import (
    ARP_BYTES,
    ETHERNET_BYTES,
    OPCODE,
    REPLY,
    REQUEST,
    SENDER,
    SENDER_MAC,
    TARGET,
    mac_at,
    put_reply,
    set_sent,
)
from pyvpp_nodes.ethernet.header import SOURCE
from pyvpp_nodes.fib.tables import LB_RECEIVE, Kind
from pyvpp_nodes.fib.trie.lookup import fib_lookup
from pyvpp_nodes.integers import int64

ADJACENCY_ARP, ADJACENCY_GLEAN, ADJACENCY_REWRITE = int(Kind.ARP), int(Kind.GLEAN), int(Kind.REWRITE)
VRRP_MAC = 0x00005E0001
"""The first five bytes of a virtual router's MAC address; the sixth is its number."""


class Next(IntEnum):
    DROP = 0
    LEARN = 1
    PROXY = 2


class Counter(NodeCounter):
    REPLIES_SENT = 0, "ARP replies sent", Severity.INFO
    REPLIES_RECEIVED = 1, "ARP replies received", Severity.INFO
    L3_SRC_ADDRESS_LEARNED = 2, "ARP request IP4 source address learned", Severity.INFO
    GRATUITOUS_ARP = 3, "ARP probe or announcement learned", Severity.INFO
    L3_SRC_ADDRESS_IS_LOCAL = 4, "IP4 source address matches local interface"
    L3_SRC_ADDRESS_NOT_LOCAL = 5, "IP4 source address not local to subnet"
    L3_DST_ADDRESS_NOT_LOCAL = 6, "IP4 destination address not local to subnet"
    L2_ADDRESS_MISMATCH = 7, "ARP hw addr does not match L2 frame src addr"
    OPCODE_NOT_REQUEST = 8, "ARP opcode not request or reply"
    NO_BUFFERS = 9, "no buffer for an ARP reply besides the request to learn from", Severity.WARNING
    LEFT_TO_HOST = 10, "ARP requests left to the host to answer", Severity.INFO


UNKNOWN, ON_LINK, NEIGHBOR = 0, 1, 2
NONE = -1


@inline
def on_link(balance: Record, adjacencies: Records, sw_if_index: int, address: int) -> int:
    """Is the route to an address that of a connected subnet or of a neighbor on this interface?"""
    if balance.n_buckets != 1:
        return UNKNOWN
    adjacency = adjacencies[balance.adj]
    if adjacency.sw_if_index != sw_if_index:
        return UNKNOWN
    kind = int64(adjacency.kind)
    if kind == ADJACENCY_GLEAN:
        return ON_LINK
    if kind in (ADJACENCY_REWRITE, ADJACENCY_ARP) and int64(adjacency.address) == address:
        return NEIGHBOR if kind == ADJACENCY_REWRITE else ON_LINK
    return UNKNOWN


@inline
def is_news(heap: U8, arp: int, adjacency: Record) -> bool:
    """Does the neighbor's adjacency have another MAC address than the packet's sender?"""
    for k in range(6):
        if heap[arp + SENDER_MAC + k] != adjacency.rewrite[k]:
            return True
    return False


@inline
def fault_of(heap: U8, m: Record, arp: int, sender_flags: int, link: int) -> int:
    opcode = be16(heap, arp + OPCODE)
    if opcode != REQUEST and opcode != REPLY:
        return Counter.OPCODE_NOT_REQUEST
    if sender_flags & LB_RECEIVE:
        return Counter.L3_SRC_ADDRESS_IS_LOCAL
    if link == UNKNOWN:
        return Counter.L3_SRC_ADDRESS_NOT_LOCAL
    if m.flags & L2_VALID:
        ethernet_source = mac_at(heap, int64(m.l2) + SOURCE)
        if ethernet_source != mac_at(heap, arp + SENDER_MAC) and ethernet_source >> 8 != VRRP_MAC:
            return Counter.L2_ADDRESS_MISMATCH
    return NONE


@inline
def answer(heap: U8, m: Record, arp: int, frame: int, sw_if_index: int, mac: int, flags: int) -> None:
    """Writes the reply to the request at `arp` as a frame at `frame`, which may overlap it, and describes it in m."""
    asked, asker_mac, asker = be32(heap, arp + TARGET), mac_at(heap, arp + SENDER_MAC), be32(heap, arp + SENDER)
    put_reply(heap, frame, mac, asked, asker_mac, asker)
    set_sent(m, sw_if_index, frame, ETHERNET_BYTES + ARP_BYTES, flags)


def format_trace(record: TraceRecord) -> list[str]:
    return format_arp_or_frame(record.data)


@node(
    name="arp-reply",
    next={Next.DROP: "error-drop", Next.LEARN: "arp-learn", Next.PROXY: "arp-proxy"},
    counters=Counter,
    trace=format_trace,
)
@jit
def arp_reply(
    heap: U8,
    meta: Records,
    frame: U32,
    nexts: U16,
    counters: U64,
    pool: U32,
    emit: U32,
    error_base: int,
    interfaces: Records,
    ip4_fib_roots: U32,
    ip4_fib_nodes: U32,
    load_balances: Records,
    adjacencies: Records,
) -> None:
    for i, b in enumerate(frame):
        m = meta[b]
        arp = int64(m.cur)
        rx = int64(m.rx)
        interface = interfaces[rx]
        fib_index = int64(interface.fib_index)
        of_host = interface.flags & (UPLINK | HOST) != 0
        sender, target = be32(heap, arp + SENDER), be32(heap, arp + TARGET)
        from_route = load_balances[fib_lookup(ip4_fib_roots, ip4_fib_nodes, fib_index, sender)]
        to_route = load_balances[fib_lookup(ip4_fib_roots, ip4_fib_nodes, fib_index, target)]
        link = on_link(from_route, adjacencies, rx, sender)
        fault = fault_of(heap, m, arp, int64(from_route.flags), link)
        to_us = to_route.flags & LB_RECEIVE != 0 and adjacencies[to_route.adj].sw_if_index == rx
        request = be16(heap, arp + OPCODE) == REQUEST
        if fault == NONE and not to_us:
            if link == NEIGHBOR and sender == target:
                counters[Counter.GRATUITOUS_ARP] += uint64(1)
                nexts[i] = Next.LEARN
                continue
            if request and not of_host and sender != target:
                nexts[i] = Next.PROXY
                continue
            fault = Counter.L3_DST_ADDRESS_NOT_LOCAL
        if fault != NONE:
            nexts[i] = set_error(m, counters, error_base, fault, int64(Next.DROP))
            continue
        if not request:
            counters[Counter.REPLIES_RECEIVED] += uint64(1)
            nexts[i] = Next.LEARN
            continue
        learn = link != NEIGHBOR or is_news(heap, arp, adjacencies[from_route.adj])
        mac = int64(interface.mac)
        leave = int64(interface.output_next)
        if of_host:
            counters[Counter.LEFT_TO_HOST] += uint64(1)
            nexts[i] = Next.LEARN
        elif learn:
            other = take_small(pool)
            if other != NO_BUFFER:
                answer(heap, meta[other], arp, slot_start(other) + HEADROOM, rx, mac, 0)
                nexts[i] = Next.LEARN
                if emit_to(emit, other, leave):
                    counters[Counter.REPLIES_SENT] += uint64(1)
                else:
                    counters[Counter.NO_BUFFERS] += uint64(1)
                    give_back(pool, other)
            else:
                counters[Counter.NO_BUFFERS] += uint64(1)
                learn = False
        if learn:
            counters[Counter.L3_SRC_ADDRESS_LEARNED] += uint64(1)
        if not of_host and not learn:
            answer(heap, m, arp, arp - ETHERNET_BYTES, rx, mac, m.flags)
            counters[Counter.REPLIES_SENT] += uint64(1)
            nexts[i] = leave
