# SPDX-License-Identifier: Apache-2.0
"""vxlan4-encap: put outer IPv4, UDP and VXLAN headers in front of what leaves by a VXLAN tunnel (RFC 7348).

Every tunnel's output node leads here; the tunnel is that of `m.tx`. `m.cur` is at the inner Ethernet header, in an
`l3` tunnel at the inner IP header. The UDP source port comes from a hash of the inner headers, in the range RFC 7348
recommends (49152 to 65535), so that the underlay spreads flows but keeps each in order; the UDP checksum is zero, the
outer TTL 254 before the first hop. DF is not set. Where the outer packet goes follows the route to the tunnel's other
end; until there is one it is dropped.

Large packets whose segmentation was left to a device go to gso-ip4 or gso-l2-ip4 first. Dropped and counted: what has
no tunnel, is too long, or has been encapsulated so often that its buffer has no room in front.
"""

from enum import IntEnum

from numba import uint64

from pyvpp.buffers import FLOW_HASH, L2_VALID, LOCALLY_ORIGINATED, slot_start
from pyvpp.jit import inline, jit
from pyvpp.node import NodeCounter, Severity, node, set_error
from pyvpp.trace import TraceRecord
from pyvpp.typing import U8, U16, U32, U64, Record, Records
from pyvpp.wire import be16, be32, put_be64, u8
from pyvpp_nodes.ethernet.header import ETHERNET_IP4, HEADER_BYTES, TYPE
from pyvpp_nodes.fib.tables import FLOW_HASH_DEFAULT
from pyvpp_nodes.integers import int64
from pyvpp_nodes.ip4.flow_hash import ip4_flow_hash, mix
from pyvpp_nodes.ip4.forward import LINK_LAYER_ROOM
from pyvpp_nodes.ip4.header import HEADER_BYTES as IP4_BYTES
from pyvpp_nodes.ip4.header import TOTAL_LENGTH, UDP, put_header
from pyvpp_nodes.vxlan.header import FLAGS_VALID_VNI, OUTER_BYTES, UDP_BYTES
from pyvpp_nodes.vxlan.tables import IN_USE, L3

TTL = 254
WITHOUT_INNER_STATE = 0xFFFFFFFF ^ (L2_VALID | LOCALLY_ORIGINATED)


class Next(IntEnum):
    DROP = 0
    GSO_IP4 = 1
    GSO_L2_IP4 = 2


class Counter(NodeCounter):
    ENCAPSULATED = 0, "good packets encapsulated", Severity.INFO
    NO_TUNNEL = 1, "no such tunnel packets"
    TOO_LONG = 2, "packets too long to encapsulate"


NONE = -1


@inline
def inner_hash(heap: U8, inner: int, n: int, l3: bool) -> int:
    """By the IPv4 flow where there is one, else by the MAC addresses and the type; all of a flow's packets alike."""
    ip = inner if l3 else inner + HEADER_BYTES
    is_ip4 = n >= ip - inner + IP4_BYTES and u8(heap, ip) >> 4 == 4
    if is_ip4 and (l3 or be16(heap, inner + TYPE) == ETHERNET_IP4):
        return ip4_flow_hash(heap, ip, FLOW_HASH_DEFAULT)
    if l3 or n < HEADER_BYTES:
        return 0
    return mix(be32(heap, inner), be32(heap, inner + 4), be32(heap, inner + 8) ^ be16(heap, inner + TYPE))


@inline
def without_padding(heap: U8, ip: int, n: int) -> int:
    """Bytes of the IPv4 packet; Ethernet padding behind it stays here."""
    length = be16(heap, ip + TOTAL_LENGTH)
    return length if n >= IP4_BYTES and u8(heap, ip) >> 4 == 4 and IP4_BYTES <= length < n else n


@inline
def put_outer(heap: U8, outer: int, n: int, tunnel: Record, flow: int) -> None:
    """The 36 bytes before an inner frame of n bytes."""
    put_header(heap, outer, OUTER_BYTES + n, TTL, UDP, int64(tunnel.source), int64(tunnel.destination))
    udp = outer + IP4_BYTES
    source_port = 0xC000 | (flow ^ flow >> 16) & 0x3FFF
    ports = source_port << 16 | int64(tunnel.destination_port)
    put_be64(heap, udp, ports << 32 | (OUTER_BYTES - IP4_BYTES + n) << 16)
    put_be64(heap, udp + UDP_BYTES, FLAGS_VALID_VNI << 56 | int64(tunnel.vni) << 8)


def format_trace(record: TraceRecord) -> list[str]:
    data = record.data
    vni = int.from_bytes(data[OUTER_BYTES - 4 : OUTER_BYTES - 1], "big")
    return [f"VXLAN encap to {record.tx_name} vni {vni}"]


@node(
    name="vxlan4-encap",
    next={Next.DROP: "error-drop", Next.GSO_IP4: "gso-ip4", Next.GSO_L2_IP4: "gso-l2-ip4"},
    counters=Counter,
    trace=format_trace,
)
@jit
def vxlan4_encap(
    heap: U8,
    meta: Records,
    frame: U32,
    nexts: U16,
    counters: U64,
    error_base: int,
    vxlan_tunnels: Records,
    load_balances: Records,
    lb_buckets: Records,
) -> None:
    encapsulated = int64(0)
    for i, b in enumerate(frame):
        m = meta[b]
        inner = int64(m.cur)
        n = int64(m.len)
        fault = NONE
        if m.tx >= len(vxlan_tunnels) or vxlan_tunnels[m.tx].flags & IN_USE == 0:
            fault = int64(Counter.NO_TUNNEL)
        elif m.gso_type:
            nexts[i] = Next.GSO_IP4 if vxlan_tunnels[m.tx].flags & L3 else Next.GSO_L2_IP4
            continue
        elif n > 0xFFFF - OUTER_BYTES or inner - OUTER_BYTES - LINK_LAYER_ROOM < slot_start(b):
            fault = int64(Counter.TOO_LONG)
        if fault != NONE:
            nexts[i] = set_error(m, counters, error_base, fault, int64(Next.DROP))
            continue
        encapsulated += 1
        tunnel = vxlan_tunnels[m.tx]
        l3 = tunnel.flags & L3 != 0
        if l3:
            n = without_padding(heap, inner, n)
        flow = inner_hash(heap, inner, n, l3)
        outer = inner - OUTER_BYTES
        put_outer(heap, outer, n, tunnel, flow)
        m.cur = outer
        m.l3 = outer
        m.l4 = outer + IP4_BYTES
        m.len = OUTER_BYTES + n
        m.flow_hash = flow
        m.flags = m.flags & WITHOUT_INNER_STATE | FLOW_HASH
        balance = load_balances[tunnel.load_balance]
        buckets = int64(balance.n_buckets)
        m.adj = balance.adj
        nexts[i] = balance.next
        if buckets > 1:
            bucket = lb_buckets[int64(balance.buckets) + (flow >> 1 & (buckets - 1))]
            m.adj = bucket.adj
            nexts[i] = bucket.next
    counters[Counter.ENCAPSULATED] += uint64(encapsulated)
