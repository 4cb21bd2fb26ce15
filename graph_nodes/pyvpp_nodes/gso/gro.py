# SPDX-License-Identifier: Apache-2.0
"""gro: coalesce the TCP packets of a frame before Linux gets them, so that it handles one where many were received.

A feature of the arc interface-output, on for TAPs, TUNs and NICs unless `--gro` says otherwise, and switched by `set
interface feature gro`: one write and one walk through Linux' stack for up to 64 KiB instead of 1500 bytes, and Linux
or the NIC cuts them where they leave. What a packet must be to be joined to the one before says
`pyvpp_nodes.gso.stream`.

Only packets that are in one frame are joined: none ever waits for another. Everything else passes as it came.
"""

from numba import uint32, uint64

from pyvpp.features import Feature, next_feature
from pyvpp.interface import P2P
from pyvpp.jit import inline, jit
from pyvpp.node import FREE, NodeCounter, Severity, node
from pyvpp.trace import TraceRecord
from pyvpp.trace_format import format_packet
from pyvpp.typing import U8, U16, U32, U64, Records
from pyvpp.wire import be16
from pyvpp_nodes.ethernet.header import ETHERNET_IP4, ETHERNET_IP6, HEADER_BYTES, TYPE
from pyvpp_nodes.gso.coalesce import find_flow, join, open_flow
from pyvpp_nodes.gso.stream import OTHER, UNCLEAR, is_joinable, may_grow, payload_of, tcp_header
from pyvpp_nodes.integers import int64


class Counter(NodeCounter):
    COALESCED = 0, "packets coalesced", Severity.INFO


@inline
def ip_header(heap: U8, cur: int, n: int, ethernet: bool) -> int:
    """Where the IP header of a packet is; its end when it has none."""
    if not ethernet:
        return cur
    if n < HEADER_BYTES or be16(heap, cur + TYPE) not in (ETHERNET_IP4, ETHERNET_IP6):
        return cur + n
    return cur + HEADER_BYTES


@inline
def forget_flows(gro_flows: Records) -> None:
    for k in range(len(gro_flows)):
        gro_flows[k].buffer = uint32(0)


def format_trace(record: TraceRecord) -> list[str]:
    size = f"gso-size {record.meta.gso_size} " if record.meta.gso_type else ""
    return [f"{record.tx_name} {size}length {record.meta.len}", *format_packet(record.data, ethernet=not record.tx_p2p)]


@node(name="gro", counters=Counter, features=(Feature("interface-output"),), trace=format_trace)
@jit
def gro(
    heap: U8,
    meta: Records,
    frame: U32,
    nexts: U16,
    counters: U64,
    pool: U32,
    interfaces: Records,
    feature_chains: U16,
    gro_flows: Records,
) -> None:
    forget_flows(gro_flows)
    opened = 0
    for i in range(len(frame)):
        b = int64(frame[i])
        m = meta[b]
        nexts[i] = next_feature(feature_chains, m)
        cur, n = int64(m.cur), int64(m.len)
        ip = ip_header(heap, cur, n, interfaces[m.tx].flags & P2P == 0)
        l4 = tcp_header(heap, ip, cur + n)
        if l4 == OTHER:
            continue
        if l4 == UNCLEAR:
            forget_flows(gro_flows)
            continue
        joinable = is_joinable(heap, m, ip, l4)
        k = find_flow(heap, gro_flows, int64(m.tx), ip, l4)
        joined = joinable and k >= 0 and join(heap, meta, gro_flows[k], b, ip, l4, frame, pool)
        if joined:
            nexts[i] = FREE
            counters[Counter.COALESCED] += uint64(1)
        elif joinable:
            if k < 0:
                k = opened % len(gro_flows)
                opened += 1
            open_flow(heap, gro_flows[k], m, b, i, ip, l4)
        if k >= 0 and (not joinable or not may_grow(heap, gro_flows[k], l4, cur + n - payload_of(heap, l4))):
            gro_flows[k].buffer = uint32(0)
