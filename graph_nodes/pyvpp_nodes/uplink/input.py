# SPDX-License-Identifier: Apache-2.0
"""uplink-input: pass what the wire brings to the host unchanged, and keep what pyvpp owns.

A frame for the uplink's MAC address that carries IPv4 goes to ip4-input when its destination is a pod's or lies behind
a tunnel, or when it is a tunnel's outer packet for an address of the uplink. ARP that tells where a neighbor is goes to
arp-input as a copy: replies, announcements, and who asks for an address of ours. Without the last two a neighbor whose
MAC address changed, a virtual router that moved, would be lost to tunnels for ever. Everything else, broadcast,
multicast, IPv6 and any other ethertype, leaves by the partner TAP as it came, Ethernet header included; a frame never
returns to the wire.

So do frames of a VLAN that is nobody's here. One with a sub-interface of its own is that one's, by ethernet-input. What
is shared with the host (a sub-interface with the flag UPLINK, and VLAN id 0, which only tells a priority) is looked at
behind its tag like a frame without one, and passed with it.
"""

from enum import IntEnum

from numba import uint32, uint64

from pyvpp.buffers import HEADROOM, L2_VALID, NO_BUFFER, TRACED, emit_to, give_back, slot_start, take_small
from pyvpp.device.receive import set_received
from pyvpp.jit import inline, jit
from pyvpp.node import NodeCounter, Severity, node
from pyvpp.trace import TraceRecord
from pyvpp.trace_format import format_ethernet_header
from pyvpp.typing import U8, U16, U32, U64, Record, Records
from pyvpp.wire import be16, be32, copy
from pyvpp_nodes.ethernet.header import is_vlan
from pyvpp_nodes.uplink.owner import (
    ETHERNET_HEADER,
    NOBODY,
    OWN_SUB_INTERFACE,
    TAGGED_HEADER,
    is_ours,
    owner_of_tag,
    tells_of_neighbor,
)

IP4, ARP = 0x0800, 0x0806
ARP_BYTES, MAX_ARP = 28, 128
KEPT_FLAGS = TRACED | L2_VALID


class Next(IntEnum):
    IP4 = 0
    ARP = 1
    ETHERNET = 2


class Counter(NodeCounter):
    TO_HOST = 0, "passed to the host", Severity.INFO
    OURS = 1, "taken by pyvpp", Severity.INFO
    ARP_COPIED = 2, "ARP packets copied", Severity.INFO
    NO_BUFFERS = 3, "no buffer to copy an ARP packet"
    SUB_INTERFACE = 4, "to a subinterface of pyvpp's own", Severity.INFO


@inline
def copy_for_arp(heap: U8, meta: Records, m: Record, rx: int, header: int, pool: U32, emit: U32) -> int:
    """Sends a copy of a frame to arp-input, behind its header and as received by `rx`: ARP_COPIED or NO_BUFFERS."""
    b = take_small(pool)
    if b == NO_BUFFER:
        return Counter.NO_BUFFERS.value
    at, length = int(m.cur), int(m.len)
    start = slot_start(b) + HEADROOM
    copy(heap, start, at, length)
    c = meta[b]
    set_received(c, rx, start, length, int(m.flags) & KEPT_FLAGS)
    c.cur = start + header
    c.l3 = start + header
    c.len = length - header
    c.trace = m.trace
    if emit_to(emit, b, Next.ARP):
        return Counter.ARP_COPIED.value
    give_back(pool, b)
    return Counter.NO_BUFFERS.value


def trace(record: TraceRecord) -> list[str]:
    return [f"{record.rx_name} to {record.next}", *format_ethernet_header(record.data)]


@node(
    name="uplink-input",
    next={Next.IP4: "ip4-input", Next.ARP: "arp-input", Next.ETHERNET: "ethernet-input"},
    counters=Counter,
    trace=trace,
)
@jit
def uplink_input(
    heap: U8,
    meta: Records,
    frame: U32,
    nexts: U16,
    counters: U64,
    pool: U32,
    emit: U32,
    interfaces: Records,
    interface_rx: Records,
    interface_vlans: Records,
    sub_interfaces: U32,
    ip4_fib_roots: U32,
    ip4_fib_nodes: U32,
    load_balances: Records,
    ip4_local_protocols: U16,
    udp_ports: U16,
) -> None:
    for i in range(len(frame)):
        m = meta[frame[i]]
        at, length = int(m.cur), int(m.len)
        interface = interfaces[m.rx]
        rx, peer, header = int(m.rx), interface.peer, ETHERNET_HEADER
        ethertype = be16(heap, at + 12) if length >= ETHERNET_HEADER else 0
        if is_vlan(ethertype) and length >= TAGGED_HEADER:
            owner = owner_of_tag(heap, at, rx, interfaces, interface_vlans, sub_interfaces)
            if owner == OWN_SUB_INTERFACE:
                counters[Counter.SUB_INTERFACE] += uint64(1)
                nexts[i] = Next.ETHERNET
                continue
            if owner != NOBODY:
                header = TAGGED_HEADER
                ethertype = be16(heap, at + 16)
                if owner != rx:
                    rx = owner
                    interface = interfaces[rx]
                    interface_rx[rx].packets += uint64(1)
                    interface_rx[rx].bytes += uint64(length)
        mine = (be32(heap, at) << 16 | be16(heap, at + 4)) == int(interface.mac)
        if mine and ethertype == IP4 and is_ours(
            heap, at + header, length - header, int(interface.fib_index), ip4_fib_roots, ip4_fib_nodes, load_balances,
            ip4_local_protocols, udp_ports,
        ):  # fmt: skip
            m.rx = uint32(rx)
            m.cur = at + header
            m.l3 = uint32(at + header)
            m.len = uint32(length - header)
            counters[Counter.OURS] += uint64(1)
            nexts[i] = Next.IP4
            continue
        if (
            ethertype == ARP
            and header + ARP_BYTES <= length <= MAX_ARP
            and tells_of_neighbor(
                heap, at + header, int(interface.fib_index), ip4_fib_roots, ip4_fib_nodes, load_balances
            )
        ):
            counters[copy_for_arp(heap, meta, m, rx, header, pool, emit)] += uint64(1)
        m.tx = peer
        nexts[i] = interfaces[peer].output_next
        counters[Counter.TO_HOST] += uint64(1)
