# SPDX-License-Identifier: Apache-2.0
"""host-input: pass what the host sends to the wire unchanged, and route what goes to pods and tunnels.

Frames of the TAP that stands in for an uplink. IPv4 to a destination that pyvpp owns goes to ip4-input whatever the
destination MAC address is: the host sends it to its gateway. Everything else leaves by the uplink as it came: same MAC
addresses, same TTL, any ethertype, tagged or not. In a VLAN that pyvpp shares with the host the same is done behind the
tag; the other VLANs are the host's.
"""

from enum import IntEnum

from numba import uint32, uint64

from pyvpp.jit import jit
from pyvpp.node import NodeCounter, Severity, node
from pyvpp.trace import TraceRecord
from pyvpp.trace_format import format_ethernet_header
from pyvpp.typing import U8, U16, U32, U64, Records
from pyvpp.wire import be16, be32, u8
from pyvpp_nodes.ethernet.header import is_vlan
from pyvpp_nodes.fib.tables import LB_PASS_THROUGH
from pyvpp_nodes.fib.trie.lookup import fib_lookup
from pyvpp_nodes.uplink.owner import ETHERNET_HEADER, MIN_IP4, TAGGED_HEADER, owner_of_tag

IP4 = 0x0800
MULTICAST_BIT = 1


class Next(IntEnum):
    IP4 = 0


class Counter(NodeCounter):
    TO_WIRE = 0, "passed to the wire", Severity.INFO
    OURS = 1, "routed by pyvpp", Severity.INFO


def trace(record: TraceRecord) -> list[str]:
    return [f"{record.rx_name} to {record.next}", *format_ethernet_header(record.data)]


@node(name="host-input", next={Next.IP4: "ip4-input"}, counters=Counter, trace=trace)
@jit
def host_input(
    heap: U8,
    meta: Records,
    frame: U32,
    nexts: U16,
    counters: U64,
    interfaces: Records,
    interface_vlans: Records,
    sub_interfaces: U32,
    ip4_fib_roots: U32,
    ip4_fib_nodes: U32,
    load_balances: Records,
) -> None:
    for i in range(len(frame)):
        m = meta[frame[i]]
        at, length = int(m.cur), int(m.len)
        interface = interfaces[m.rx]
        header = ETHERNET_HEADER
        ethertype = be16(heap, at + 12) if length >= ETHERNET_HEADER + MIN_IP4 else 0
        if is_vlan(ethertype) and length >= TAGGED_HEADER + MIN_IP4:
            if owner_of_tag(heap, at, int(interface.peer), interfaces, interface_vlans, sub_interfaces) >= 0:
                header, ethertype = TAGGED_HEADER, be16(heap, at + 16)
        if ethertype == IP4 and not u8(heap, at) & MULTICAST_BIT:
            ip = at + header
            lb = fib_lookup(ip4_fib_roots, ip4_fib_nodes, int(interface.fib_index), be32(heap, ip + 16))
            if not int(load_balances[lb].flags) & LB_PASS_THROUGH:
                m.cur = ip
                m.l3 = uint32(ip)
                m.len = uint32(length - header)
                counters[Counter.OURS] += uint64(1)
                nexts[i] = Next.IP4
                continue
        m.tx = interface.peer
        nexts[i] = interfaces[interface.peer].output_next
        counters[Counter.TO_WIRE] += uint64(1)
