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
from pyvpp.jit import inline, jit
from pyvpp.node import NodeCounter, Severity, node, set_error
from pyvpp.trace import TraceRecord
from pyvpp.trace_format import ip4_text
from pyvpp.typing import U8, U16, U32, U64, Record, Records
from pyvpp.wire import be16, be32, u8
from pyvpp_nodes.integers import int64
from pyvpp_nodes.ip4.header import (
    DESTINATION,
    HEADER_BYTES,
    IP_IN_IP,
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


NONE = -1


@inline
def decapsulate(m: Record, tunnel: int, inner: int, n: int) -> None:
    """The inner packet, n bytes at inner, has just arrived on the tunnel; what was known of the outer one is void."""
    keep = 0xFFFFFFFF ^ (L2_VALID | CSUM_VALID | FLOW_HASH)
    if int64(m.csum_start) < inner:
        keep ^= CSUM_PARTIAL
        m.gso_type = 0
    m.flags = m.flags & keep
    m.cur = inner
    m.l3 = inner
    m.len = n
    m.rx = tunnel


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
    key_source, key_destination = -1, -1  # of the last packet: the next is often alike
    tunnel = int64(NO_TUNNEL)
    decapsulated = int64(0)
    for i, b in enumerate(frame):
        m = meta[b]
        outer = int64(m.cur)
        header = header_bytes(heap, outer)
        length = be16(heap, outer + TOTAL_LENGTH)
        fault = NONE
        if is_fragment(heap, outer):
            fault = int64(Counter.FRAGMENTED)
        elif length > int64(m.len) or header < HEADER_BYTES or length < header + HEADER_BYTES:
            fault = int64(Counter.TRUNCATED)
        elif u8(heap, outer + PROTOCOL) != IP_IN_IP:
            fault = int64(Counter.BAD_PROTOCOL)
        else:
            source, destination = be32(heap, outer + SOURCE), be32(heap, outer + DESTINATION)
            if source != key_source or destination != key_destination:
                tunnel = int64(find_tunnel(ipip_keys, destination, source, 0, 0))
                key_source, key_destination = source, destination
            if tunnel == NO_TUNNEL:
                fault = int64(Counter.NO_TUNNEL)
            elif interfaces[uint64(tunnel)].flags & ADMIN_UP == 0:
                fault = int64(Counter.DOWN)
        if fault != NONE:
            nexts[i] = set_error(m, counters, error_base, fault, int64(Next.DROP))
            continue
        decapsulated += 1
        decapsulate(m, tunnel, outer + header, length - header)
        counter = interface_rx[uint64(tunnel)]
        counter.packets += uint64(1)
        counter.bytes += uint64(length - header)
        nexts[i] = Next.IP4
    counters[Counter.DECAPSULATED] += uint64(decapsulated)
