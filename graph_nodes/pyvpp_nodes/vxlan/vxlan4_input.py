# SPDX-License-Identifier: Apache-2.0
"""vxlan4-input: take the outer headers off a packet that came through a VXLAN tunnel (RFC 7348).

ip4-udp-lookup sends the tunnels' UDP ports here, with `m.l3` at the outer IPv4 header and `m.l4` at the UDP header.
The tunnel is the one with these outer addresses, this VNI and this port. The frame inside goes on as if the tunnel's
interface had received it: to ethernet-input, or for an `l3` tunnel, whose packets are bare IP, to ip4-input, or to
where the tunnel's decap-next says. A partial checksum or segmentation left to do on the inner packet stays as it is.

Dropped and counted: flags other than 0x08, no such tunnel (a reserved byte behind the VNI that is not zero counts as
another VNI), packets shorter than they say or without an inner header, several outer packets in one that a sender on
this machine left to a device to segment, and tunnels that are down.
"""

from enum import IntEnum

from numba import uint64

from pyvpp.interface import ADMIN_UP
from pyvpp.jit import jit
from pyvpp.node import NodeCounter, Severity, node, set_error
from pyvpp.trace import TraceRecord
from pyvpp.typing import U8, U16, U32, U64, Records
from pyvpp.wire import be16, be32, u8
from pyvpp_nodes.integers import int64
from pyvpp_nodes.ip4.header import DESTINATION, SOURCE
from pyvpp_nodes.ipip.ipip4_input import decapsulate
from pyvpp_nodes.ipip.tunnel_table import NO_TUNNEL, find_tunnel
from pyvpp_nodes.vxlan.header import FLAGS_VALID_VNI, UDP_BYTES, VXLAN_BYTES


class Next(IntEnum):
    DROP = 0


class Counter(NodeCounter):
    DECAPSULATED = 0, "good packets decapsulated", Severity.INFO
    NO_SUCH_TUNNEL = 1, "no such tunnel packets"
    BAD_FLAGS = 2, "packets with bad flags field in vxlan header"
    TRUNCATED = 3, "truncated packet"
    DOWN = 4, "tunnel interface is down"
    SEVERAL = 5, "several outer packets in one, yet to be segmented"


NONE = -1


def format_trace(record: TraceRecord) -> list[str]:
    outer = record.data
    vxlan = outer[4 * (outer[0] & 15) + UDP_BYTES :]
    vni = int.from_bytes(vxlan[4:7], "big")
    return [f"VXLAN decap from {record.rx_name} vni {vni} next {record.next} error {record.error}"]


@node(name="vxlan4-input", next={Next.DROP: "error-drop"}, counters=Counter, trace=format_trace)
@jit
def vxlan4_input(
    heap: U8,
    meta: Records,
    frame: U32,
    nexts: U16,
    counters: U64,
    error_base: int,
    vxlan_keys: U32,
    vxlan_tunnels: Records,
    interfaces: Records,
    interface_rx: Records,
) -> None:
    key_source, key_destination, key_number, key_port = -1, -1, -1, -1  # of the last packet: the next is often alike
    tunnel = int64(NO_TUNNEL)
    decapsulated = int64(0)
    for i, b in enumerate(frame):
        m = meta[b]
        outer = int64(m.l3)
        udp = int64(m.l4)
        vxlan = udp + UDP_BYTES
        inner = vxlan + VXLAN_BYTES
        end = udp + be16(heap, udp + 4)
        fault = NONE
        if end > int64(m.cur) + int64(m.len) or end <= inner:
            fault = int64(Counter.TRUNCATED)
        elif m.gso_type and int64(m.csum_start) < inner:
            fault = int64(Counter.SEVERAL)
        elif u8(heap, vxlan) != FLAGS_VALID_VNI:
            fault = int64(Counter.BAD_FLAGS)
        else:
            source, destination = be32(heap, outer + SOURCE), be32(heap, outer + DESTINATION)
            number, port = be32(heap, vxlan + 4), be16(heap, udp + 2)
            if source != key_source or destination != key_destination or number != key_number or port != key_port:
                tunnel = int64(find_tunnel(vxlan_keys, destination, source, number, port))
                key_source, key_destination, key_number, key_port = source, destination, number, port
            if tunnel == NO_TUNNEL:
                fault = int64(Counter.NO_SUCH_TUNNEL)
            elif interfaces[uint64(tunnel)].flags & ADMIN_UP == 0:
                fault = int64(Counter.DOWN)
        if fault != NONE:
            nexts[i] = set_error(m, counters, error_base, fault, int64(Next.DROP))
            continue
        decapsulated += 1
        decapsulate(m, tunnel, inner, end - inner)
        counter = interface_rx[uint64(tunnel)]
        counter.packets += uint64(1)
        counter.bytes += uint64(end - inner)
        nexts[i] = vxlan_tunnels[uint64(tunnel)].decap_next
    counters[Counter.DECAPSULATED] += uint64(decapsulated)
