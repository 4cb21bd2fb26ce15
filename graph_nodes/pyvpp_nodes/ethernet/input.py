# SPDX-License-Identifier: Apache-2.0
"""ethernet-input: look at the Ethernet header and hand each frame to the protocol it carries.

A tagged frame is its sub-interface's from here on (`m.rx`), which counts it. A VLAN tag with id 0 (a priority tag,
IEEE 802.1Q) is skipped. On an interface with an address of its own a unicast frame must be for its MAC address. Frames
of a cross-connected interface go on unseen.

Dropped and counted: frames shorter than their header, of an interface or sub-interface that is down, for another MAC,
with an unknown tag or type. Leaves `m.l2` at the Ethernet header, `m.cur` behind it and its tags.
"""

from enum import IntEnum

from numba import uint64

from pyvpp.buffers import L2_VALID
from pyvpp.interface import ADMIN_UP, L2
from pyvpp.jit import inline, jit, outline, rare_case
from pyvpp.node import NodeCounter, node, set_error
from pyvpp.trace import TraceRecord
from pyvpp.trace_format import format_ethernet_header
from pyvpp.typing import I64, U8, U16, U32, U64, Record, Records
from pyvpp.wire import be16, be64, u8
from pyvpp_nodes.ethernet.header import ETHERNET_ARP, ETHERNET_IP4, ETHERNET_IP6, HEADER_BYTES, TYPE, is_vlan
from pyvpp_nodes.ethernet.plain import IP4_AS_LOADED, IP6_AS_LOADED, is_plain
from pyvpp_nodes.ethernet.vlan import TAG_BYTES, VLAN_ID, sub_interface_of
from pyvpp_nodes.integers import int64
from pyvpp_nodes.ip4.fused import take_common_way


class Next(IntEnum):
    DROP = 0
    IP4 = 1
    ARP = 2
    L2 = 3
    IP6 = 4


class Counter(NodeCounter):
    BAD_LLC_LENGTH = 0, "llc length > packet length"
    UNKNOWN_TYPE = 1, "unknown ethernet type"
    UNKNOWN_VLAN = 2, "unknown vlan"
    L3_MAC_MISMATCH = 3, "l3 mac mismatch"
    DOWN = 4, "interface is down"
    TOO_SHORT = 5, "frame shorter than its header"
    SUB_INTERFACE_DOWN = 6, "subinterface down"


NONE = -1


@inline
def strip_header(m: Record, ethernet: int, length: int) -> None:
    """Leaves the packet behind a header without tags."""
    m.l2 = ethernet
    m.cur = ethernet + HEADER_BYTES
    m.len = length - HEADER_BYTES
    m.flags = m.flags | L2_VALID


@inline
def next_of_type(ethertype: int) -> int:
    if ethertype == ETHERNET_IP4:
        return Next.IP4
    if ethertype == ETHERNET_IP6:
        return Next.IP6
    return Next.ARP if ethertype == ETHERNET_ARP else Next.DROP


@inline
def fault_of_type(ethertype: int, payload: int) -> int:
    """Below 1536 the type is the length of an LLC frame (IEEE 802.3)."""
    if ethertype < 0x600 and ethertype > payload:
        return Counter.BAD_LLC_LENGTH
    return Counter.UNKNOWN_TYPE


@inline
def is_for(heap: U8, ethernet: int, interface: Record) -> bool:
    """Whether a frame is for this interface: broadcast, multicast, or its MAC address."""
    return bool(u8(heap, ethernet) & 1 or be64(heap, ethernet) >> uint64(16) == interface.mac)


@inline
def enter_sub_interface(
    m: Record, tag: int, interfaces: Records, interface_rx: Records, interface_vlans: Records, sub_interfaces: U32
) -> int:
    """Makes a frame with this tag the sub-interface's; NONE, or what is wrong with it."""
    if tag & VLAN_ID == 0:
        return NONE
    found = sub_interface_of(interface_vlans, sub_interfaces, int64(m.rx), tag)
    if found == 0:
        return int64(Counter.UNKNOWN_VLAN)
    m.rx = found
    if interfaces[uint64(found)].flags & ADMIN_UP == 0:
        return int64(Counter.SUB_INTERFACE_DOWN)
    interface_rx[uint64(found)].packets += uint64(1)
    interface_rx[uint64(found)].bytes += uint64(m.len)
    return NONE


@outline
def look_closely(
    heap: U8,
    m: Record,
    ethernet: int,
    interfaces: Records,
    interface_rx: Records,
    interface_vlans: Records,
    sub_interfaces: U32,
    counters: U64,
    error_base: int,
) -> int:
    """The next of a frame that is not plain IPv4 or IPv6."""
    rare_case()
    length = int64(m.len)
    header = HEADER_BYTES
    ethertype = be16(heap, ethernet + TYPE)
    fault = NONE
    if interfaces[m.rx].flags & ADMIN_UP == 0:
        fault = int64(Counter.DOWN)
    elif length < HEADER_BYTES:
        fault = int64(Counter.TOO_SHORT)
    while fault == NONE and is_vlan(ethertype):
        if length < header + TAG_BYTES:
            fault = int64(Counter.TOO_SHORT)
        else:
            tag = ethertype << 16 | be16(heap, ethernet + header)
            fault = enter_sub_interface(m, tag, interfaces, interface_rx, interface_vlans, sub_interfaces)
            ethertype = be16(heap, ethernet + header + 2)
            header += TAG_BYTES
    if fault == NONE and not is_for(heap, ethernet, interfaces[m.rx]):
        fault = int64(Counter.L3_MAC_MISMATCH)
    next_ = next_of_type(ethertype)
    if fault == NONE and next_ == Next.DROP:
        fault = fault_of_type(ethertype, length - header)
    if fault != NONE:
        return set_error(m, counters, error_base, fault, int64(Next.DROP))
    m.l2 = ethernet
    m.cur = ethernet + header
    m.len = length - header
    m.flags = m.flags | L2_VALID
    return next_


def format_trace(record: TraceRecord) -> list[str]:
    return format_ethernet_header(record.data)


@node(
    name="ethernet-input",
    next={
        Next.DROP: "error-drop",
        Next.IP4: "ip4-input",
        Next.ARP: "arp-input",
        Next.L2: "l2-xconnect",
        Next.IP6: "ip6-input",
    },
    counters=Counter,
    trace=format_trace,
)
@jit
def ethernet_input(
    heap: U8,
    meta: Records,
    frame: U32,
    nexts: U16,
    counters: U64,
    error_base: int,
    interfaces: Records,
    interface_rx: Records,
    interface_vlans: Records,
    sub_interfaces: U32,
    ip4_fib_roots: U32,
    ip4_fib_nodes: U32,
    load_balances: Records,
    lb_buckets: Records,
    route_counters: Records,
    adjacencies: Records,
    interface_ip4: U64,
    ip4_unicast_arc: U32,
    ip4_output_arc: U32,
    node_by_node: U32,
    ip4_long_way: I64,
    now: int,
) -> None:
    taken = take_common_way(
        heap, meta, frame, nexts, HEADER_BYTES, interfaces, ip4_fib_roots, ip4_fib_nodes, load_balances, lb_buckets,
        route_counters, adjacencies, interface_ip4, ip4_unicast_arc, ip4_output_arc, node_by_node, ip4_long_way, now,
    )  # fmt: skip
    if taken == len(frame):
        return
    frame, nexts = frame[taken:], nexts[taken:]
    for i, b in enumerate(frame):
        m = meta[b]
        interface = interfaces[m.rx]
        ethernet = int64(m.cur)
        length = int64(m.len)
        if is_plain(heap, ethernet, length, interface, IP4_AS_LOADED):
            nexts[i] = Next.IP4
            strip_header(m, ethernet, length)
        elif interface.flags & (ADMIN_UP | L2) == ADMIN_UP | L2 and length >= HEADER_BYTES:
            nexts[i] = Next.L2
        elif is_plain(heap, ethernet, length, interface, IP6_AS_LOADED):
            nexts[i] = Next.IP6
            strip_header(m, ethernet, length)
        else:
            nexts[i] = look_closely(
                heap, m, ethernet, interfaces, interface_rx, interface_vlans, sub_interfaces, counters, error_base
            )  # fmt: skip
