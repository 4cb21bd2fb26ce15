# SPDX-License-Identifier: Apache-2.0
"""arp-proxy: answer requests for addresses of others that we lead to.

The interface must have proxy ARP enabled and the address lie in a configured range of its table: `set interface
proxy-arp`, `set arp proxy`. Anything else is dropped as arp-reply would have.
"""

from enum import IntEnum

from numba import uint64

from pyvpp.jit import inline, jit
from pyvpp.node import NodeCounter, Severity, node, set_error
from pyvpp.trace import TraceRecord
from pyvpp.trace_format import format_arp_or_frame
from pyvpp.typing import U8, U16, U32, U64, Records
from pyvpp.wire import be32
from pyvpp_nodes.arp.packet import ARP_BYTES, ETHERNET_BYTES, SENDER, SENDER_MAC, TARGET, mac_at, put_reply, set_sent
from pyvpp_nodes.integers import int64


class Next(IntEnum):
    DROP = 0


class Counter(NodeCounter):
    PROXY_ARP_REPLIES_SENT = 0, "Proxy ARP replies sent", Severity.INFO
    L3_DST_ADDRESS_NOT_LOCAL = 1, "IP4 destination address not local to subnet"


@inline
def in_a_range(arp_proxy: Records, fib_index: int, address: int) -> bool:
    for k in range(len(arp_proxy)):
        entry = arp_proxy[k]
        if entry.used and entry.fib_index == fib_index and int64(entry.low) <= address and address <= int64(entry.high):
            return True
    return False


def format_trace(record: TraceRecord) -> list[str]:
    return format_arp_or_frame(record.data)


@node(name="arp-proxy", next={Next.DROP: "error-drop"}, counters=Counter, trace=format_trace)
@jit
def arp_proxy_node(
    heap: U8,
    meta: Records,
    frame: U32,
    nexts: U16,
    counters: U64,
    error_base: int,
    interfaces: Records,
    arp_proxy: Records,
    arp_proxy_interfaces: U32,
) -> None:
    for i, b in enumerate(frame):
        m = meta[b]
        arp = int64(m.cur)
        rx = int64(m.rx)
        interface = interfaces[rx]
        target = be32(heap, arp + TARGET)
        if arp_proxy_interfaces[rx] == 0 or not in_a_range(arp_proxy, int64(interface.fib_index), target):
            nexts[i] = set_error(m, counters, error_base, Counter.L3_DST_ADDRESS_NOT_LOCAL, int64(Next.DROP))
            continue
        start = arp - ETHERNET_BYTES
        put_reply(heap, start, int64(interface.mac), target, mac_at(heap, arp + SENDER_MAC), be32(heap, arp + SENDER))
        set_sent(m, rx, start, ETHERNET_BYTES + ARP_BYTES, m.flags)
        counters[Counter.PROXY_ARP_REPLIES_SENT] += uint64(1)
        nexts[i] = interface.output_next
