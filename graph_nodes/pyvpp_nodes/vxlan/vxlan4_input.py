# SPDX-License-Identifier: Apache-2.0
"""vxlan4-input: take the outer headers off a packet that came through a VXLAN tunnel (RFC 7348).

ip4-udp-lookup sends the tunnels' UDP ports here, with `m.l3` at the outer IPv4 header and `m.l4` at the UDP header.
The tunnel is the one with these outer addresses, this VNI and this port. The frame inside goes on as if the tunnel's
interface had received it: to ethernet-input, or for an `l3` tunnel, whose packets are bare IP, to ip4-input, or to
where the tunnel's decap-next says. A partial checksum or segmentation left to do on the inner packet stays as it is.

Dropped and counted: flags other than 0x08, no such tunnel (a reserved byte behind the VNI that is not zero counts as
another VNI), packets shorter than they say or without an inner header, and tunnels that are down.

Several outer packets in one, which their sender left to a device to segment, go to gso-udp4-input first, and what comes
behind them in a frame as well.
"""

from enum import IntEnum
from typing import Any

from numba import uint64

from pyvpp.interface import ADMIN_UP
from pyvpp.jit import inline, jit, outline, rare_case
from pyvpp.node import NodeCounter, Severity, node, set_error
from pyvpp.trace import TraceRecord
from pyvpp.typing import U8, U16, U32, U64, Record, Records
from pyvpp.wire import be16, be32, le16, le64, u8
from pyvpp_nodes.fib.forwarding import count_on
from pyvpp_nodes.integers import int64
from pyvpp_nodes.ip4.header import DESTINATION, SOURCE
from pyvpp_nodes.ipip.ipip4_input import decapsulate
from pyvpp_nodes.ipip.tunnel_table import NO_TUNNEL, find_tunnel
from pyvpp_nodes.vxlan.header import FLAGS_VALID_VNI, UDP_BYTES, VXLAN_BYTES


class Next(IntEnum):
    DROP = 0
    GSO = 1


class Counter(NodeCounter):
    DECAPSULATED = 0, "good packets decapsulated", Severity.INFO
    NO_SUCH_TUNNEL = 1, "no such tunnel packets"
    BAD_FLAGS = 2, "packets with bad flags field in vxlan header"
    TRUNCATED = 3, "truncated packet"
    DOWN = 4, "tunnel interface is down"


FLAGS_AND_VNI = uint64(0xFFFFFFFF_000000FF)
"""Of the VXLAN header as le64 loads it: the flags, and the VNI with the byte behind it."""


@inline
def payload_bytes(heap: U8, udp: int) -> int:
    """Bytes behind the VXLAN header, as the UDP header says."""
    return int64(be16(heap, udp + 4)) - UDP_BYTES - VXLAN_BYTES


@inline
def is_within(m: Record, inner: int, n: int) -> bool:
    return 0 < n <= int64(m.cur) + int64(m.len) - inner


@inline
def key_of(heap: U8, m: Record) -> tuple[Any, Any, int]:
    """What tells the tunnel, as loaded: both addresses; the flags, VNI and the byte behind it; the UDP port."""
    udp = int64(m.l4)
    header = le64(heap, udp + UDP_BYTES) & FLAGS_AND_VNI
    return le64(heap, int64(m.l3) + SOURCE), header, le16(heap, udp + 2)


@inline
def tunnel_of(heap: U8, m: Record, vxlan_keys: U32, interfaces: Records) -> int:
    """The tunnel that a packet came through, or the complement of what is wrong with it."""
    outer, udp = int64(m.l3), int64(m.l4)
    inner = udp + UDP_BYTES + VXLAN_BYTES
    if not is_within(m, inner, payload_bytes(heap, udp)):
        return ~int64(Counter.TRUNCATED)
    if u8(heap, udp + UDP_BYTES) != FLAGS_VALID_VNI:
        return ~int64(Counter.BAD_FLAGS)
    source, destination = be32(heap, outer + SOURCE), be32(heap, outer + DESTINATION)
    number, port = be32(heap, udp + UDP_BYTES + 4), be16(heap, udp + 2)
    tunnel = int64(find_tunnel(vxlan_keys, destination, source, number, port))
    if tunnel == NO_TUNNEL:
        return ~int64(Counter.NO_SUCH_TUNNEL)
    if interfaces[uint64(tunnel)].flags & ADMIN_UP == 0:
        return ~int64(Counter.DOWN)
    return tunnel


@inline
def tunnel_to_expect(heap: U8, meta: Records, frame: U32, vxlan_keys: U32, interfaces: Records) -> int:
    """The tunnel of a frame's first and last packet, where it is one and nothing is wrong with the first; else -1."""
    first, last = meta[frame[0]], meta[frame[len(frame) - 1]]
    if key_of(heap, first) != key_of(heap, last):
        return -1
    return max(tunnel_of(heap, first, vxlan_keys, interfaces), -1)


@outline
def receive(
    heap: U8,
    m: Record,
    counters: U64,
    error_base: int,
    vxlan_keys: U32,
    vxlan_tunnels: Records,
    interfaces: Records,
    interface_rx: Records,
) -> int:
    """The next of any packet."""
    rare_case()
    if m.gso_type and int64(m.csum_start) < int64(m.l4) + UDP_BYTES + VXLAN_BYTES:
        return int64(Next.GSO)
    tunnel = tunnel_of(heap, m, vxlan_keys, interfaces)
    if tunnel < 0:
        return set_error(m, counters, error_base, ~tunnel, int64(Next.DROP))
    udp = int64(m.l4)
    n = payload_bytes(heap, udp)
    decapsulate(m, tunnel, udp + UDP_BYTES + VXLAN_BYTES, n)
    count_on(interface_rx, tunnel, 1, n)
    counters[Counter.DECAPSULATED] += uint64(1)
    return int64(vxlan_tunnels[uint64(tunnel)].decap_next)


def format_trace(record: TraceRecord) -> list[str]:
    outer = record.data
    vxlan = outer[4 * (outer[0] & 15) + UDP_BYTES :]
    vni = int.from_bytes(vxlan[4:7], "big")
    return [f"VXLAN decap from {record.rx_name} vni {vni} next {record.next} error {record.error}"]


@node(
    name="vxlan4-input",
    next={Next.DROP: "error-drop", Next.GSO: "gso-udp4-input"},
    counters=Counter,
    trace=format_trace,
)
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
    expected = tunnel_to_expect(heap, meta, frame, vxlan_keys, interfaces)
    addresses, header, port = key_of(heap, meta[frame[0]])
    decap_next = vxlan_tunnels[uint64(max(expected, 0))].decap_next
    packets, size = int64(0), int64(0)
    done = len(frame)
    for i, b in enumerate(frame):
        m = meta[b]
        udp = int64(m.l4)
        inner = udp + UDP_BYTES + VXLAN_BYTES
        n = payload_bytes(heap, udp)
        if (
            expected >= 0
            and le64(heap, int64(m.l3) + SOURCE) == addresses
            and le64(heap, udp + UDP_BYTES) & FLAGS_AND_VNI == header
            and le16(heap, udp + 2) == port
            and is_within(m, inner, n)
            and m.gso_type == 0
        ):
            packets += 1
            size += n
            decapsulate(m, expected, inner, n)
            nexts[i] = decap_next
        else:
            nexts[i] = receive(
                heap, m, counters, error_base, vxlan_keys, vxlan_tunnels, interfaces, interface_rx
            )  # fmt: skip
            if nexts[i] == Next.GSO:
                done = i + 1
                break
    for i in range(done, len(frame)):  # several in one will come back one by one, and nothing overtakes them
        nexts[i] = Next.GSO
    if packets:
        count_on(interface_rx, expected, packets, size)
        counters[Counter.DECAPSULATED] += uint64(packets)
