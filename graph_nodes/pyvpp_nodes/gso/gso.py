# SPDX-License-Identifier: Apache-2.0
"""gso: do in software what the device behind an interface does not: segment large packets, finish checksums.

A feature of the arc interface-output. What a device does says `offload` of its interface: nothing at all (the
packet generator), no UDP segmentation (a TUN of an old kernel), or checksums behind the first IP header only, where a
packet that went into a tunnel needs its inner one (a NIC without tx-checksum-ip-generic). Where a device lacks any of
it this node is on from the start; `set interface feature gso` switches it. A device that would not find the checksum of
a large packet is not left to segment it either.

TCP and UDP over IPv4 and IPv6 are segmented, in Ethernet frames behind at most two VLAN tags. A packet that comes
behind a segmented one stays behind its segments.

Dropped and counted: headers that are not those of a GSO packet, and what finds no buffer (its earlier segments are on
their way; TCP sends the rest again).
"""

from enum import IntEnum

from numba import uint64

from pyvpp.buffers import CSUM_PARTIAL, emit_to
from pyvpp.checksum import complete_checksum
from pyvpp.features import Feature, next_feature
from pyvpp.interface import OFFLOAD_CSUM, OFFLOAD_CSUM_ANYWHERE, OFFLOAD_TSO4, OFFLOAD_TSO6, OFFLOAD_USO, P2P
from pyvpp.jit import inline, jit
from pyvpp.node import HELD, NodeCounter, Severity, node
from pyvpp.trace import TraceRecord
from pyvpp.trace_format import format_packet
from pyvpp.typing import U8, U16, U32, U64, Record, Records
from pyvpp.wire import u8
from pyvpp_nodes.gso.outcome import settle
from pyvpp_nodes.gso.segment import ECN, TCP4, TCP6, UDP_L4, ip_behind, segment
from pyvpp_nodes.integers import int64
from pyvpp_nodes.ip4.header import header_bytes


class Next(IntEnum):
    DROP = 0


class Counter(NodeCounter):
    """The first are those that `settle` counts."""

    SEGMENTED = 0, "packets segmented", Severity.INFO
    MALFORMED = 1, "malformed packet"
    MEMORY = 2, "could not allocate buffer"
    SEGMENTS = 3, "segments sent", Severity.INFO
    COMPLETED = 4, "checksums completed", Severity.INFO


@inline
def is_carried(offload: int, gso_type: int) -> bool:
    """Whether the device segments packets of this GSO type."""
    kind = gso_type & ~ECN
    wanted = OFFLOAD_TSO4 if kind == TCP4 else OFFLOAD_TSO6 if kind == TCP6 else OFFLOAD_USO if kind == UDP_L4 else 0
    return offload & wanted != 0


@inline
def is_completed(heap: U8, m: Record, ip: int, offload: int) -> bool:
    """Whether the device finishes the packet's checksum, if there is one to finish."""
    if m.flags & CSUM_PARTIAL == 0 or offload & OFFLOAD_CSUM_ANYWHERE:
        return True
    if offload & OFFLOAD_CSUM == 0:
        return False
    return bool(m.csum_start == ip + (header_bytes(heap, ip) if u8(heap, ip) >> 4 == 4 else 40))


def format_trace(record: TraceRecord) -> list[str]:
    return [f"{record.tx_name} length {record.meta.len}", *format_packet(record.data, ethernet=not record.tx_p2p)]


@node(
    name="gso",
    next={Next.DROP: "error-drop"},
    counters=Counter,
    features=(Feature("interface-output", runs_after=("gro",)),),
    trace=format_trace,
)
@jit
def gso(
    heap: U8,
    meta: Records,
    frame: U32,
    nexts: U16,
    counters: U64,
    pool: U32,
    emit: U32,
    error_base: int,
    interfaces: Records,
    feature_chains: U16,
) -> None:
    for i, b in enumerate(frame):
        m = meta[b]
        to = next_feature(feature_chains, m)
        offload = int64(interfaces[m.tx].offload)
        ip = int64(m.cur) if interfaces[m.tx].flags & P2P else ip_behind(heap, m)
        completed = is_completed(heap, m, ip, offload)
        if m.gso_type and not (completed and is_carried(offload, int64(m.gso_type))):
            sent, result = segment(heap, meta, b, ip, pool, emit, to)
            nexts[i] = settle(m, counters, error_base, sent, result, int64(Next.DROP))
            continue
        if not completed:
            complete_checksum(heap, m)
            counters[Counter.COMPLETED] += uint64(1)
        nexts[i] = HELD if emit[0] != 0 and emit_to(emit, int64(b), to) else to
