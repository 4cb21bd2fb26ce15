# SPDX-License-Identifier: Apache-2.0
"""uplink-input: pass what the wire brings to the host unchanged, and keep what pyvpp owns.

A frame for the uplink's MAC address that carries IPv4 goes to ip4-input when its destination is a pod's or lies behind
a tunnel, or when it is a tunnel's outer packet for an address of the uplink. ARP that tells where a neighbor is goes to
arp-input as a copy: replies, announcements, and who asks for an address of ours. Without the last two a neighbor whose
MAC address changed, a virtual router that moved, would be lost to tunnels for ever. Everything else, broadcast,
multicast, IPv6 and any other ethertype, leaves by the partner TAP as it came, Ethernet header included; a frame never
returns to the wire.
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
from pyvpp_nodes.uplink.owner import ETHERNET_HEADER, is_ours, tells_of_neighbor

IP4, ARP = 0x0800, 0x0806
ARP_BYTES, MAX_ARP = 42, 128
KEPT_FLAGS = TRACED | L2_VALID


class Next(IntEnum):
    IP4 = 0
    ARP = 1


class Counter(NodeCounter):
    TO_HOST = 0, "passed to the host", Severity.INFO
    OURS = 1, "taken by pyvpp", Severity.INFO
    ARP_COPIED = 2, "ARP packets copied", Severity.INFO
    NO_BUFFERS = 3, "no buffer to copy an ARP packet"


@inline
def copy_for_arp(heap: U8, meta: Records, m: Record, pool: U32, emit: U32) -> int:
    """Sends a copy of a frame to arp-input: ARP_COPIED or NO_BUFFERS."""
    b = take_small(pool)
    if b == NO_BUFFER:
        return Counter.NO_BUFFERS.value
    at, length = int(m.cur), int(m.len)
    start = slot_start(b) + HEADROOM
    copy(heap, start, at, length)
    c = meta[b]
    set_received(c, int(m.rx), start, length, int(m.flags) & KEPT_FLAGS)
    c.cur = start + ETHERNET_HEADER
    c.l3 = start + ETHERNET_HEADER
    c.len = length - ETHERNET_HEADER
    c.trace = m.trace
    if emit_to(emit, b, Next.ARP):
        return Counter.ARP_COPIED.value
    give_back(pool, b)
    return Counter.NO_BUFFERS.value


def trace(record: TraceRecord) -> list[str]:
    return [f"{record.rx_name} to {record.next}", *format_ethernet_header(record.data)]


@node(name="uplink-input", next={Next.IP4: "ip4-input", Next.ARP: "arp-input"}, counters=Counter, trace=trace)
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
        ethertype = be16(heap, at + 12) if length >= ETHERNET_HEADER else 0
        mine = (be32(heap, at) << 16 | be16(heap, at + 4)) == int(interface.mac)
        if mine and ethertype == IP4 and is_ours(
            heap, at + ETHERNET_HEADER, length - ETHERNET_HEADER, int(interface.fib_index), ip4_fib_roots,
            ip4_fib_nodes, load_balances, ip4_local_protocols, udp_ports,
        ):  # fmt: skip
            m.cur = at + ETHERNET_HEADER
            m.l3 = uint32(at + ETHERNET_HEADER)
            m.len = uint32(length - ETHERNET_HEADER)
            counters[Counter.OURS] += uint64(1)
            nexts[i] = Next.IP4
            continue
        if (
            ethertype == ARP
            and ARP_BYTES <= length <= MAX_ARP
            and tells_of_neighbor(
                heap, at + ETHERNET_HEADER, int(interface.fib_index), ip4_fib_roots, ip4_fib_nodes, load_balances
            )
        ):
            counters[copy_for_arp(heap, meta, m, pool, emit)] += uint64(1)
        m.tx = interface.peer
        nexts[i] = interfaces[interface.peer].output_next
        counters[Counter.TO_HOST] += uint64(1)
