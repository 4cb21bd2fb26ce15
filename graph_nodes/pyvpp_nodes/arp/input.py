# SPDX-License-Identifier: Apache-2.0
"""arp-input: check that an ARP packet is one: Ethernet, IPv4, complete, about some address (RFC 826)."""

from enum import IntEnum

from pyvpp.jit import inline, jit
from pyvpp.node import NodeCounter, node, set_error
from pyvpp.trace import TraceRecord
from pyvpp.trace_format import format_arp
from pyvpp.typing import U8, U16, U32, U64, Records
from pyvpp.wire import be16, be32
from pyvpp_nodes.arp.packet import ARP_BYTES, ETHERNET_HARDWARE, HARDWARE, PROTOCOL, SIZES, SIZES_6_4, TARGET
from pyvpp_nodes.ethernet.header import ETHERNET_IP4
from pyvpp_nodes.integers import int64


class Next(IntEnum):
    DROP = 0
    REPLY = 1


class Counter(NodeCounter):
    L2_TYPE_NOT_ETHERNET = 0, "L2 type not ethernet"
    L3_TYPE_NOT_IP4 = 1, "L3 type not IP4"
    L3_DST_ADDRESS_UNSET = 2, "IP4 destination address is unset"
    TOO_SHORT = 3, "ARP packet too short"


NONE = -1


@inline
def fault_of(heap: U8, arp: int, length: int) -> int:
    if length < ARP_BYTES:
        return Counter.TOO_SHORT
    if be16(heap, arp + HARDWARE) != ETHERNET_HARDWARE or be16(heap, arp + SIZES) >> 8 != SIZES_6_4 >> 8:
        return Counter.L2_TYPE_NOT_ETHERNET
    if be16(heap, arp + PROTOCOL) != ETHERNET_IP4 or be16(heap, arp + SIZES) & 0xFF != SIZES_6_4 & 0xFF:
        return Counter.L3_TYPE_NOT_IP4
    if be32(heap, arp + TARGET) == 0:
        return Counter.L3_DST_ADDRESS_UNSET
    return NONE


def format_trace(record: TraceRecord) -> list[str]:
    return format_arp(record.data)


@node(name="arp-input", next={Next.DROP: "error-drop", Next.REPLY: "arp-reply"}, counters=Counter, trace=format_trace)
@jit
def arp_input(heap: U8, meta: Records, frame: U32, nexts: U16, counters: U64, error_base: int) -> None:
    for i, b in enumerate(frame):
        m = meta[b]
        fault = fault_of(heap, int64(m.cur), int64(m.len))
        nexts[i] = Next.REPLY
        if fault != NONE:
            nexts[i] = set_error(m, counters, error_base, fault, int64(Next.DROP))
