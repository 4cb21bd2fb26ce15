# SPDX-License-Identifier: Apache-2.0
"""vxlan4-encap: put outer IPv4, UDP and VXLAN headers in front of what leaves by a VXLAN tunnel (RFC 7348).

Every tunnel's output node leads here; the tunnel is that of `m.tx`. `m.cur` is at the inner Ethernet header, in an
`l3` tunnel at the inner IP header. The UDP source port comes from a hash of the inner headers, in the range RFC 7348
recommends (49152 to 65535), so that the underlay spreads flows but keeps each in order; the UDP checksum is zero, the
outer TTL 254 before the first hop. DF is not set. Where the outer packet goes follows the route to the tunnel's other
end; until there is one it is dropped.

Large packets whose segmentation was left to a device go to gso-ip4 or gso-l2-ip4 first, and so does what comes behind
them in a frame. They come back as trains, all segments in one buffer, which leave as one UDP packet for a device to
segment: the same packets on the wire, but with a UDP checksum.

Dropped and counted: what has no tunnel, is too long, or has been encapsulated so often that its buffer has no room in
front.
"""

from enum import IntEnum

from numba import uint64

from pyvpp.buffers import CSUM_PARTIAL, FLOW_HASH, L2_VALID, LOCALLY_ORIGINATED, is_small_with_room, slot_start
from pyvpp.checksum import fold
from pyvpp.jit import inline, jit, outline, rare_case
from pyvpp.node import NodeCounter, Severity, node, set_error
from pyvpp.trace import TraceRecord
from pyvpp.typing import U8, U16, U32, U64, Record, Records
from pyvpp.wire import be16, be32, le16, le64, put_be64, put_le16, put_le64, u8
from pyvpp_nodes.ethernet.header import ETHERNET_IP4, HEADER_BYTES, TYPE
from pyvpp_nodes.ethernet.plain import IP4_AS_LOADED
from pyvpp_nodes.fib.tables import FLOW_HASH_DEFAULT
from pyvpp_nodes.gso.checksum import pseudo_header_sum
from pyvpp_nodes.gso.segment import UDP_CHECKSUM
from pyvpp_nodes.gso.train import is_train
from pyvpp_nodes.integers import int64
from pyvpp_nodes.ip4.flow_hash import ip4_flow_hash, ip4_flow_hash_of_ports, mix
from pyvpp_nodes.ip4.forward import LINK_LAYER_ROOM
from pyvpp_nodes.ip4.header import HEADER_BYTES as IP4_BYTES
from pyvpp_nodes.ip4.header import (
    PLAIN,
    PROTOCOL,
    TCP,
    TOTAL_LENGTH,
    UDP,
    header_template,
    is_fragment,
    put_header,
    put_header_like,
)
from pyvpp_nodes.vxlan.header import FLAGS_VALID_VNI, OUTER_BYTES, UDP_BYTES, VXLAN_BYTES
from pyvpp_nodes.vxlan.tables import IN_USE, L3

TTL = 254
ROOM = OUTER_BYTES + LINK_LAYER_ROOM
WITHOUT_INNER_STATE = 0xFFFFFFFF ^ (L2_VALID | LOCALLY_ORIGINATED)


class Next(IntEnum):
    DROP = 0
    GSO_IP4 = 1
    GSO_L2_IP4 = 2


class Counter(NodeCounter):
    ENCAPSULATED = 0, "good packets encapsulated", Severity.INFO
    NO_TUNNEL = 1, "no such tunnel packets"
    TOO_LONG = 2, "packets too long to encapsulate"


@inline
def inner_hash(heap: U8, inner: int, n: int, l3: bool) -> int:
    """By the IPv4 flow where there is one, else by the MAC addresses and the type; all of a flow's packets alike."""
    ip = inner if l3 else inner + HEADER_BYTES
    if (
        u8(heap, ip) == PLAIN
        and n >= ip - inner + IP4_BYTES
        and not is_fragment(heap, ip)
        and u8(heap, ip + PROTOCOL) in (TCP, UDP)
        and (l3 or le16(heap, inner + TYPE) == IP4_AS_LOADED)
    ):
        return ip4_flow_hash_of_ports(heap, ip, ip + IP4_BYTES)
    return inner_hash_closely(heap, inner, ip, n, l3)


@outline
def inner_hash_closely(heap: U8, inner: int, ip: int, n: int, l3: bool) -> int:
    rare_case()
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
def put_outer(heap: U8, m: Record, inner: int, n: int, tunnel: Record, flow: int) -> None:
    """The 36 bytes before an inner frame of n bytes; what was known of the inner packet is void."""
    outer = inner - OUTER_BYTES
    put_header(heap, outer, OUTER_BYTES + n, TTL, UDP, int64(tunnel.source), int64(tunnel.destination))
    put_udp_and_vxlan(heap, m, outer, n, int64(tunnel.destination_port), vxlan_header(tunnel), flow)


@inline
def vxlan_header(tunnel: Record) -> int:
    return FLAGS_VALID_VNI << 56 | int64(tunnel.vni) << 8


@inline
def put_udp_and_vxlan(heap: U8, m: Record, outer: int, n: int, port: int, header: int, flow: int) -> None:
    udp = outer + IP4_BYTES
    source_port = 0xC000 | (flow ^ flow >> 16) & 0x3FFF
    put_be64(heap, udp, (source_port << 16 | port) << 32 | (OUTER_BYTES - IP4_BYTES + n) << 16)
    put_be64(heap, udp + UDP_BYTES, header)
    m.cur = outer
    m.l3 = outer
    m.l4 = udp
    m.len = OUTER_BYTES + n
    m.flow_hash = flow
    m.flags = m.flags & WITHOUT_INNER_STATE | FLOW_HASH


@inline
def inner_bytes(heap: U8, m: Record, inner: int, l3: bool) -> int:
    n = int64(m.len)
    return without_padding(heap, inner, n) if l3 else n


@outline
def couple(heap: U8, m: Record, inner: int, n: int) -> None:
    """Puts the VXLAN header before each further segment of a train; outer UDP checksums are left to the device."""
    rare_case()
    outer = int64(m.l3)
    for at in range(inner + int64(m.gso_size), inner + n, int64(m.gso_size)):
        put_le64(heap, at - VXLAN_BYTES, le64(heap, inner - VXLAN_BYTES))
    udp = outer + IP4_BYTES
    put_le16(heap, udp + UDP_CHECKSUM, fold(pseudo_header_sum(heap, outer, OUTER_BYTES - IP4_BYTES + n, UDP)))
    m.flags = m.flags | CSUM_PARTIAL
    m.csum_start = udp
    m.csum_offset = UDP_CHECKSUM


@outline
def encapsulate(
    heap: U8,
    m: Record,
    b: int,
    counters: U64,
    error_base: int,
    vxlan_tunnels: Records,
    load_balances: Records,
    lb_buckets: Records,
    behind: bool,
) -> int:
    """The next of any packet, be it `behind` a large one."""
    rare_case()
    if m.tx >= len(vxlan_tunnels) or vxlan_tunnels[m.tx].flags & IN_USE == 0:
        return set_error(m, counters, error_base, Counter.NO_TUNNEL, int64(Next.DROP))
    tunnel = vxlan_tunnels[m.tx]
    l3 = tunnel.flags & L3 != 0
    train = is_train(m)
    if behind or (m.gso_type and not train):
        return int64(Next.GSO_IP4) if l3 else int64(Next.GSO_L2_IP4)
    inner, n = int64(m.cur), int64(m.len)
    if n > 0xFFFF - OUTER_BYTES or inner - ROOM < slot_start(b):
        return set_error(m, counters, error_base, Counter.TOO_LONG, int64(Next.DROP))
    counters[Counter.ENCAPSULATED] += uint64(1)
    n = inner_bytes(heap, m, inner, l3 and not train)
    flow = inner_hash(heap, inner, n, l3)
    put_outer(heap, m, inner, n, tunnel, flow)
    if train:
        couple(heap, m, inner, n)
    balance = load_balances[tunnel.load_balance]
    buckets = int64(balance.n_buckets)
    if buckets > 1:
        bucket = lb_buckets[int64(balance.buckets) + (flow >> 1 & (buckets - 1))]
        m.adj = bucket.adj
        return int64(bucket.next)
    m.adj = balance.adj
    return int64(balance.next)


@inline
def tunnel_to_expect(meta: Records, frame: U32, vxlan_tunnels: Records, load_balances: Records) -> int:
    """The tunnel of a frame's first and last packet, where it is one whose other end is behind a single path, else -1.

    What is known of it before the loop begins need not be loaded for each packet: 18 clocks instead of 25.
    """
    tunnel = int64(meta[frame[0]].tx)
    if tunnel != int64(meta[frame[len(frame) - 1]].tx) or tunnel >= len(vxlan_tunnels):
        return -1
    record = vxlan_tunnels[uint64(tunnel)]
    return tunnel if record.flags & IN_USE and load_balances[record.load_balance].n_buckets == 1 else -1


@inline
def encapsulate_all(
    heap: U8,
    meta: Records,
    frame: U32,
    nexts: U16,
    counters: U64,
    error_base: int,
    vxlan_tunnels: Records,
    load_balances: Records,
    lb_buckets: Records,
    expected: int,
    l3: bool,
) -> None:
    tunnel = vxlan_tunnels[uint64(max(expected, 0))]
    balance = load_balances[tunnel.load_balance]
    adj, next_ = balance.adj, balance.next
    port, header = int64(tunnel.destination_port), vxlan_header(tunnel)
    template = header_template(TTL, UDP, int64(tunnel.source), int64(tunnel.destination))
    addresses = int64(tunnel.source) << 32 | int64(tunnel.destination)
    encapsulated = int64(0)
    done = len(frame)
    for i, b in enumerate(frame):
        m = meta[b]
        inner = int64(m.cur)
        if m.tx == expected and m.gso_type == 0 and is_small_with_room(int64(b), inner, ROOM):
            n = inner_bytes(heap, m, inner, l3)
            flow = inner_hash(heap, inner, n, l3)
            outer = inner - OUTER_BYTES
            put_header_like(heap, outer, OUTER_BYTES + n, template, addresses)
            put_udp_and_vxlan(heap, m, outer, n, port, header, flow)
            m.adj = adj
            nexts[i] = next_
            encapsulated += 1
        else:
            nexts[i] = encapsulate(
                heap, m, int64(b), counters, error_base, vxlan_tunnels, load_balances, lb_buckets, False
            )  # fmt: skip
            if nexts[i] == Next.GSO_IP4 or nexts[i] == Next.GSO_L2_IP4:
                done = i + 1
                break
    for i in range(done, len(frame)):  # nothing overtakes the segments of a large packet
        nexts[i] = encapsulate(
            heap, meta[frame[i]], int64(frame[i]), counters, error_base, vxlan_tunnels, load_balances, lb_buckets, True
        )  # fmt: skip
    counters[Counter.ENCAPSULATED] += uint64(encapsulated)


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
    expected = tunnel_to_expect(meta, frame, vxlan_tunnels, load_balances)
    if vxlan_tunnels[uint64(max(expected, 0))].flags & L3:  # two loops, each compiled for its kind
        encapsulate_all(
            heap, meta, frame, nexts, counters, error_base, vxlan_tunnels, load_balances, lb_buckets, expected, True
        )  # fmt: skip
    else:
        encapsulate_all(
            heap, meta, frame, nexts, counters, error_base, vxlan_tunnels, load_balances, lb_buckets, expected, False
        )  # fmt: skip
