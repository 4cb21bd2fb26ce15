# SPDX-License-Identifier: Apache-2.0
"""ip4-local: packets for an address of our own; verify them and hand them to their protocol.

The TCP or UDP checksum must be right, unless a device has verified it or the sender left it to hardware, and UDP may
do without one. The source must be reachable (unless the packet is a broadcast to everybody) and none of our own
addresses. Fragments go to the host, which can put them together; without one (`punt_tx`) they are dropped. Starts the
arc ip4-local, whose end is ip4-local-end-of-arc; a protocol nobody has registered goes to the host.

Leaves `m.cur` and `m.l3` at the IP header, `m.l4` behind it.
"""

from enum import IntEnum

from numba import uint64

from pyvpp.buffers import CSUM_PARTIAL, CSUM_VALID
from pyvpp.features import FeatureArc, enter_arc
from pyvpp.interface import HOST
from pyvpp.jit import inline, jit, outline, rare_case
from pyvpp.node import NodeCounter, Severity, node, set_error
from pyvpp.trace import TraceRecord
from pyvpp.trace_format import format_ip4
from pyvpp.typing import U8, U16, U32, U64, Record, Records
from pyvpp.wire import be16, be32, u8
from pyvpp_nodes.fib.tables import LB_RECEIVE, Kind
from pyvpp_nodes.fib.trie.lookup import fib_lookup
from pyvpp_nodes.integers import int64
from pyvpp_nodes.ip4.header import DESTINATION, PROTOCOL, SOURCE, TCP, UDP, header_bytes, is_fragment, l4_sum

ADJACENCY_DROP = int(Kind.DROP)
TCP_BYTES, UDP_BYTES = 20, 8
EVERYBODY = 0xFFFFFFFF


ARC = FeatureArc("ip4-local", last="ip4-local-end-of-arc")


class Next(IntEnum):
    DROP = 0
    PUNT = 1


class Counter(NodeCounter):
    TCP_CHECKSUM = 0, "bad tcp checksum"
    UDP_CHECKSUM = 1, "bad udp checksum"
    UDP_LENGTH = 2, "inconsistent udp/ip lengths"
    FRAGMENT = 3, "ip4 fragments to us: no reassembly"
    SPOOFED_LOCAL_PACKETS = 4, "ip4 spoofed local-address packet drops"
    SRC_LOOKUP_MISS = 5, "ip4 source lookup miss"
    UNKNOWN_PROTOCOL = 6, "unknown ip protocol", Severity.INFO


NONE = -1


@outline
def is_intact(heap: U8, ip: int, l4: int, n: int, protocol: int) -> bool:
    """Whether the checksum is right; tunnels leave it out, and what else comes here is little."""
    rare_case()
    return l4_sum(heap, ip, l4, n, protocol) == 0xFFFF


@inline
def l4_fault(heap: U8, m: Record, ip: int, protocol: int) -> int:
    """What is wrong with the UDP or TCP header, or its checksum where neither device nor sender has vouched for it."""
    header = header_bytes(heap, ip)
    l4 = ip + header
    n = int64(m.len) - header
    unverified = m.flags & (CSUM_PARTIAL | CSUM_VALID) == 0
    if protocol == UDP:
        if n < UDP_BYTES:
            return Counter.UDP_LENGTH
        length = be16(heap, l4 + 4)
        if length < UDP_BYTES or length > n:
            return Counter.UDP_LENGTH
        if unverified and be16(heap, l4 + 6) != 0 and not is_intact(heap, ip, l4, length, UDP):
            return Counter.UDP_CHECKSUM
    elif n < TCP_BYTES or (unverified and not is_intact(heap, ip, l4, n, TCP)):
        return Counter.TCP_CHECKSUM
    return NONE


@inline
def source_fault(
    fib_index: int,
    source: int,
    ip4_fib_roots: U32,
    ip4_fib_nodes: U32,
    load_balances: Records,
    adjacencies: Records,
) -> int:
    """What is wrong with a source address: it is our own, or no route leads back to it."""
    balance = load_balances[fib_lookup(ip4_fib_roots, ip4_fib_nodes, fib_index, source)]
    if balance.flags & LB_RECEIVE:
        return Counter.SPOOFED_LOCAL_PACKETS
    if balance.n_buckets == 1 and adjacencies[balance.adj].kind == ADJACENCY_DROP:
        return Counter.SRC_LOOKUP_MISS
    return NONE


def format_trace(record: TraceRecord) -> list[str]:
    return [f"  fib:{record.fib_index} adj:{record.adj} flow:0x{record.flow_hash:08x}", *format_ip4(record.data)]


@node(
    name="ip4-local",
    next={Next.DROP: "ip4-drop", Next.PUNT: "ip4-punt"},
    counters=Counter,
    trace=format_trace,
)
@jit
def ip4_local(
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
    adjacencies: Records,
    ip4_local_protocols: U16,
    punt_tx: U32,
    feature_chains: U16,
    ip4_local_arc: U32,
) -> None:
    checked_source, checked_fib, checked_fault = -1, -1, NONE  # the last source: packets of a flow follow each other
    for i, b in enumerate(frame):
        m = meta[b]
        ip = int64(m.cur)
        interface = interfaces[m.rx]
        protocol = u8(heap, ip + PROTOCOL)
        fragment = is_fragment(heap, ip)
        fault = l4_fault(heap, m, ip, protocol) if protocol in (UDP, TCP) and not fragment else NONE
        if fault == NONE and interface.flags & HOST == 0:  # the host may use its own addresses
            source, fib_index = be32(heap, ip + SOURCE), int64(interface.fib_index)
            if source != checked_source or fib_index != checked_fib:
                checked_fault = source_fault(
                    fib_index, source, ip4_fib_roots, ip4_fib_nodes, load_balances, adjacencies
                )
                checked_source, checked_fib = source, fib_index
            fault = checked_fault
            if fault == Counter.SRC_LOOKUP_MISS and be32(heap, ip + DESTINATION) == EVERYBODY:
                fault = NONE
        if fault == NONE and fragment:
            if punt_tx[0] != 0:
                nexts[i] = Next.PUNT
                continue
            fault = Counter.FRAGMENT
        if fault != NONE:
            nexts[i] = set_error(m, counters, error_base, fault, int64(Next.DROP))
            continue
        m.l3 = ip
        m.l4 = ip + header_bytes(heap, ip)
        arc = int64(ip4_local_arc[m.rx])
        taker = int64(ip4_local_protocols[uint64(protocol)])
        if arc:
            nexts[i] = enter_arc(feature_chains, m, arc)
        elif taker:
            nexts[i] = taker
        else:
            nexts[i] = set_error(m, counters, error_base, Counter.UNKNOWN_PROTOCOL, int64(Next.PUNT))
