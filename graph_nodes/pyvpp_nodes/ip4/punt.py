# SPDX-License-Identifier: Apache-2.0
"""ip4-punt: give a packet to the host, by its TAP.

The frame it came in is restored where there is one, addressed to the TAP if it was to us; a packet that came without
(from a tunnel or a pod's TUN) gets an Ethernet header. Without a TAP the packet ends in error-punt.
"""

from enum import IntEnum

from numba import uint64

from pyvpp.buffers import L2_VALID
from pyvpp.interface import P2P
from pyvpp.jit import inline, jit
from pyvpp.node import NodeCounter, Severity, node, set_error
from pyvpp.trace import TraceRecord
from pyvpp.trace_format import format_packet
from pyvpp.typing import U8, U16, U32, U64, Record, Records
from pyvpp.wire import u8
from pyvpp_nodes.ethernet.header import ETHERNET_IP4, HEADER_BYTES, put_ethernet, put_mac
from pyvpp_nodes.integers import int64

PUNT_MAC = 0x02FE00000001
"""Where packets seem to come from that had no Ethernet header."""


class Next(IntEnum):
    ERROR_PUNT = 0


class Counter(NodeCounter):
    TO_HOST = 0, "packets to the host", Severity.INFO
    NO_HOST = 1, "no interface to the host"


@inline
def restore_frame(heap: U8, m: Record, mac: int) -> None:
    """The frame as it came; what was for our MAC address is for the TAP's."""
    l2 = int64(m.l2)
    m.len = int64(m.len) + int64(m.cur) - l2
    m.cur = l2
    if u8(heap, l2) & 1 == 0:
        put_mac(heap, l2, mac)


@inline
def add_frame(heap: U8, m: Record, mac: int) -> None:
    start = int64(m.cur) - HEADER_BYTES
    put_ethernet(heap, start, mac, PUNT_MAC, ETHERNET_IP4)
    m.l2 = start
    m.cur = start
    m.len = int64(m.len) + HEADER_BYTES
    m.flags = m.flags | L2_VALID


def format_trace(record: TraceRecord) -> list[str]:
    packet = format_packet(record.data, ethernet=record.next != "error-punt")
    return [f"  fib:{record.fib_index} adj:{record.adj} flow:0x{record.flow_hash:08x}", *packet]


@node(name="ip4-punt", next={Next.ERROR_PUNT: "error-punt"}, counters=Counter, trace=format_trace)
@jit
def ip4_punt(
    heap: U8,
    meta: Records,
    frame: U32,
    nexts: U16,
    counters: U64,
    error_base: int,
    interfaces: Records,
    interface_punts: U64,
    punt_tx: U32,
) -> None:
    tap = int64(punt_tx[0])
    mac = int64(interfaces[tap].mac)
    for i, b in enumerate(frame):
        m = meta[b]
        rx = int64(m.rx)
        if tap == 0:
            nexts[i] = set_error(m, counters, error_base, Counter.NO_HOST, int64(Next.ERROR_PUNT))
            continue
        counters[Counter.TO_HOST] += uint64(1)
        interface_punts[rx] += uint64(1)
        if m.flags & L2_VALID and int64(m.l2) < int64(m.cur) and interfaces[rx].flags & P2P == 0:
            restore_frame(heap, m, mac)
        else:
            add_frame(heap, m, mac)
        m.tx = tap
        nexts[i] = interfaces[tap].output_next
