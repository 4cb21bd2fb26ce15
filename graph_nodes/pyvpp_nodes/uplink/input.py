# SPDX-License-Identifier: Apache-2.0
"""uplink-input: pass what the wire brings to the host unchanged, and keep what pyvpp owns.

A frame for the uplink's MAC address that carries IPv4 goes to ip4-input when its destination is a pod's or lies behind
a tunnel, or when it is a tunnel's outer packet for an address of the uplink. ARP replies are copied to arp-input, which
waits for answers to its own requests. Everything else, broadcast, multicast, IPv6 and any other ethertype, leaves by
the partner TAP as it came, Ethernet header included; a frame never returns to the wire.
"""

from enum import IntEnum

from numba import uint32, uint64

from pyvpp.buffers import HEADROOM, NO_BUFFER, emit_to, give_back, slot_start, take_small
from pyvpp.device.receive import set_received
from pyvpp.jit import jit
from pyvpp.node import NodeCounter, Severity, node
from pyvpp.trace import TraceRecord
from pyvpp.trace_format import format_ethernet_header
from pyvpp.typing import U8, U16, U32, U64, Records
from pyvpp.wire import be16, be32, copy
from pyvpp_nodes.uplink.owner import ETHERNET_HEADER, is_ours

IP4, ARP = 0x0800, 0x0806
ARP_OPCODE, ARP_REPLY, ARP_BYTES = 20, 2, 42
MAX_ARP = 128


class Next(IntEnum):
    IP4 = 0
    ARP = 1


class Counter(NodeCounter):
    TO_HOST = 0, "passed to the host", Severity.INFO
    OURS = 1, "taken by pyvpp", Severity.INFO
    ARP_COPIED = 2, "ARP replies copied", Severity.INFO
    NO_BUFFERS = 3, "no buffer to copy an ARP reply"


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
        if ethertype == ARP and ARP_BYTES <= length <= MAX_ARP and be16(heap, at + ARP_OPCODE) == ARP_REPLY:
            b = take_small(pool)
            if b == NO_BUFFER:
                counters[Counter.NO_BUFFERS] += uint64(1)
            else:
                start = slot_start(b) + HEADROOM
                copy(heap, start, at, length)
                c = meta[b]
                set_received(c, int(m.rx), start, length, int(m.flags))
                c.cur = start + ETHERNET_HEADER
                c.len = length - ETHERNET_HEADER
                c.trace = m.trace
                if emit_to(emit, b, Next.ARP):
                    counters[Counter.ARP_COPIED] += uint64(1)
                else:
                    give_back(pool, b)
        m.tx = interface.peer
        nexts[i] = interfaces[interface.peer].output_next
        counters[Counter.TO_HOST] += uint64(1)
