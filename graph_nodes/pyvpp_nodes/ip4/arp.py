# SPDX-License-Identifier: Apache-2.0
"""ip4-arp: ask for the MAC address of a next hop that is not known yet.

The packet itself is not kept: it ends in ip4-drop, like in VPP, and the sender tries again. One request per next hop
and millisecond at most. The request's source is our address in the prefix that holds the next hop, or the interface's
first one. When the answer came while the packet was on its way here, it goes straight on to ip4-rewrite.
"""

from enum import IntEnum

from numba import uint64

from pyvpp.jit import inline, jit
from pyvpp.node import NodeCounter, Severity, node
from pyvpp.trace import TraceRecord
from pyvpp.trace_format import format_ip4
from pyvpp.typing import U8, U16, U32, U64, Records
from pyvpp_nodes.arp.packet import send_request
from pyvpp_nodes.fib.tables import Kind
from pyvpp_nodes.fib.trie.lookup import fib_lookup
from pyvpp_nodes.integers import int64
from pyvpp_nodes.ip4.throttle import throttled

ARP_WINDOW = 1_000_000
ADJACENCY_ARP, ADJACENCY_GLEAN, ADJACENCY_REWRITE = int(Kind.ARP), int(Kind.GLEAN), int(Kind.REWRITE)


class Next(IntEnum):
    DROP = 0
    REWRITE = 1


class Counter(NodeCounter):
    THROTTLED = 0, "ARP requests throttled"
    RESOLVED = 1, "ARP requests resolved", Severity.INFO
    NO_BUFFERS = 2, "ARP requests out of buffer"
    REQUEST_SENT = 3, "ARP requests sent", Severity.INFO
    NON_ARP_ADJ = 4, "ARPs to non-ARP adjacencies"
    NO_SOURCE_ADDRESS = 5, "no source address for ARP request"


@inline
def source_for(
    sw_if_index: int,
    target: int,
    interfaces: Records,
    ip4_fib_roots: U32,
    ip4_fib_nodes: U32,
    load_balances: Records,
    adjacencies: Records,
    ip4_interface_address: U32,
) -> int:
    route = fib_lookup(ip4_fib_roots, ip4_fib_nodes, int64(interfaces[sw_if_index].fib_index), target)
    balance = load_balances[route]
    if balance.n_buckets == 1:
        adjacency = adjacencies[balance.adj]
        if adjacency.kind == ADJACENCY_GLEAN and adjacency.sw_if_index == sw_if_index and adjacency.source != 0:
            return int64(adjacency.source)
    return int64(ip4_interface_address[sw_if_index])


def format_trace(record: TraceRecord) -> list[str]:
    return format_ip4(record.data)


@node(name="ip4-arp", next={Next.DROP: "ip4-drop", Next.REWRITE: "ip4-rewrite"}, counters=Counter, trace=format_trace)
@jit
def ip4_arp(
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
    ip4_fib_roots: U32,
    ip4_fib_nodes: U32,
    load_balances: Records,
    adjacencies: Records,
    ip4_interface_address: U32,
    arp_throttle: U64,
) -> None:
    for i, b in enumerate(frame):
        m = meta[b]
        adjacency = adjacencies[m.adj]
        sw_if_index = int64(adjacency.sw_if_index)
        target = int64(adjacency.address)
        kind = int64(adjacency.kind)
        nexts[i] = Next.DROP
        if kind == ADJACENCY_REWRITE:
            counters[Counter.RESOLVED] += uint64(1)
            nexts[i] = Next.REWRITE
            continue
        if kind != ADJACENCY_ARP:
            outcome = Counter.NON_ARP_ADJ
        elif throttled(arp_throttle, now, ARP_WINDOW, target, sw_if_index):
            outcome = Counter.THROTTLED
        else:
            source = source_for(
                sw_if_index,
                target,
                interfaces,
                ip4_fib_roots,
                ip4_fib_nodes,
                load_balances,
                adjacencies,
                ip4_interface_address,
            )
            if source == 0:
                outcome = Counter.NO_SOURCE_ADDRESS
            elif send_request(heap, meta, pool, emit, interfaces, sw_if_index, source, target):
                outcome = Counter.REQUEST_SENT
            else:
                outcome = Counter.NO_BUFFERS
        counters[outcome] += uint64(1)
        m.error = error_base + outcome
