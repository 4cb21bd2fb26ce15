# SPDX-License-Identifier: Apache-2.0
"""Cutting one large TCP or UDP packet into the segments its sender meant (what Linux calls GSO).

Each segment begins with a copy of all headers. IP lengths, IPv4 ids and checksums, TCP sequence numbers, UDP lengths
and the TCP or UDP checksum are its own; FIN and PSH stay with the last segment, CWR with the first (RFC 3168, 6.1.2).
Everything else in the metadata is inherited, so the segments continue exactly where the large packet was.
"""

from pyvpp.buffers import (
    CSUM_PARTIAL,
    HEADROOM,
    LARGE_ROOM,
    NO_BUFFER,
    SMALL_ROOM,
    emit_to,
    give_back,
    slot_start,
    take_large,
    take_small,
)
from pyvpp.checksum import WITHOUT_CSUM_PARTIAL
from pyvpp.jit import inline, jit
from pyvpp.typing import U8, U32, Record, Records
from pyvpp.wire import be16, be32, copy, put_be16, put_be32, u8
from pyvpp_nodes.ethernet.header import HEADER_BYTES as ETHERNET_BYTES
from pyvpp_nodes.ethernet.header import is_vlan
from pyvpp_nodes.gso.checksum import put_l4_checksum
from pyvpp_nodes.integers import int64
from pyvpp_nodes.ip4.header import HEADER_BYTES, ID, PROTOCOL, TCP, TOTAL_LENGTH, UDP, header_bytes, put_checksum

TCP4, TCP6, UDP_L4, ECN = 1, 4, 5, 0x80
TCP_SEQUENCE, TCP_FLAGS, TCP_CHECKSUM = 4, 13, 16
FIN_PSH, CWR = 0x09, 0x80
UDP_BYTES, UDP_CHECKSUM = 8, 6
IP6_NEXT_HEADER = 6
HOP_BY_HOP, ROUTING, FRAGMENT_HEADER, DESTINATION_OPTIONS = 0, 43, 44, 60
DONE, MALFORMED, NO_ROOM = 0, 1, 2


@inline
def take_sized(pool: U32, n: int) -> int:
    b = int64(NO_BUFFER)
    if n <= SMALL_ROOM:
        b = take_small(pool)
    if b == NO_BUFFER and n <= LARGE_ROOM:
        b = take_large(pool)
    return b


@inline
def move_metadata(m: Record, part: Record, start: int, n: int) -> None:
    """A piece of m's packet at start, n bytes long: headers lie where they did, offload state is spent."""
    shift = start - int64(m.cur)
    part.cur = start
    part.len = n
    part.flags = m.flags & WITHOUT_CSUM_PARTIAL
    part.l2 = int64(m.l2) + shift
    part.l3 = int64(m.l3) + shift
    part.l4 = int64(m.l4) + shift
    part.rx = m.rx
    part.tx = m.tx
    part.adj = m.adj
    part.flow_hash = m.flow_hash
    part.csum_start = 0
    part.csum_offset = 0
    part.gso_size = 0
    part.gso_type = 0
    part.error = 0
    part.ref = 1
    part.feature = m.feature
    part["trace"] = m["trace"]  # NumPy has a method of that name


@inline
def ip_behind(heap: U8, m: Record) -> int:
    """The IP header of an Ethernet frame, behind at most two VLAN tags."""
    at = int64(m.cur) + ETHERNET_BYTES
    end = int64(m.cur) + int64(m.len)
    for _ in range(2):
        if at + 4 <= end and is_vlan(be16(heap, at - 2)):
            at += 4
    return at


@inline
def l4_of(heap: U8, m: Record, ip: int) -> int:
    """Where TCP or UDP begins: a GSO packet's checksum is partial and says so, behind any IPv6 extension headers."""
    if m.flags & CSUM_PARTIAL:
        return int64(m.csum_start)
    return ip + (header_bytes(heap, ip) if u8(heap, ip) >> 4 == 4 else 40)


@inline
def fix_ip(heap: U8, ip: int, n: int, number: int) -> None:
    """The IP header of segment `number`, n bytes with its header."""
    if u8(heap, ip) >> 4 == 4:
        put_be16(heap, ip + TOTAL_LENGTH, n)
        put_be16(heap, ip + ID, (be16(heap, ip + ID) + number) & 0xFFFF)
        put_checksum(heap, ip, header_bytes(heap, ip))
    else:
        put_be16(heap, ip + 4, n - 40)


@inline
def fix_l4(heap: U8, ip: int, l4: int, n: int, protocol: int, done: int, last: bool) -> None:
    """The TCP or UDP header of a segment of n bytes whose payload begins `done` bytes into the whole."""
    if protocol == TCP:
        put_be32(heap, l4 + TCP_SEQUENCE, (be32(heap, l4 + TCP_SEQUENCE) + done) & 0xFFFFFFFF)
        flags = u8(heap, l4 + TCP_FLAGS)
        if not last:
            flags &= 0xFF ^ FIN_PSH
        if done:
            flags &= 0xFF ^ CWR
        heap[l4 + TCP_FLAGS] = flags
        put_l4_checksum(heap, ip, l4, n, TCP, TCP_CHECKSUM)
    else:
        put_be16(heap, l4 + 4, n)
        put_l4_checksum(heap, ip, l4, n, UDP, UDP_CHECKSUM)


@inline
def is_behind(heap: U8, ip: int, ip_bytes: int, l4: int, protocol: int) -> bool:
    """Whether TCP or UDP at l4 is what this IP header carries, and not something inside a tunnel, whose outer headers
    nobody here would adapt."""
    if u8(heap, ip) >> 4 == 4:
        return bool(l4 == ip + ip_bytes and ip_bytes >= HEADER_BYTES and u8(heap, ip + PROTOCOL) == protocol)
    following = u8(heap, ip + IP6_NEXT_HEADER)
    if l4 == ip + ip_bytes:
        return bool(following == protocol)
    return l4 > ip + ip_bytes and following in (HOP_BY_HOP, ROUTING, DESTINATION_OPTIONS)


@inline
def payload_of(heap: U8, m: Record, ip: int) -> int:
    """Where the payload begins, or 0 when the headers are not those of a GSO packet."""
    kind = int64(m.gso_type) & ~ECN
    end = int64(m.cur) + int64(m.len)
    if m.gso_size == 0 or ip + 20 > end:
        return 0
    version = u8(heap, ip) >> 4
    tcp = TCP4 if version == 4 else TCP6
    if (version != 4 and version != 6) or (kind != tcp and kind != UDP_L4):
        return 0
    ip_bytes = header_bytes(heap, ip) if version == 4 else 40
    l4 = l4_of(heap, m, ip)
    udp = kind == UDP_L4
    if not is_behind(heap, ip, ip_bytes, l4, UDP if udp else TCP) or l4 + (UDP_BYTES if udp else 20) > end:
        return 0
    l4_bytes = UDP_BYTES if udp else (u8(heap, l4 + 12) >> 4) << 2
    if l4_bytes < (UDP_BYTES if udp else 20) or l4 + l4_bytes > end:
        return 0
    return l4 + l4_bytes


@inline
def put_segment(
    heap: U8, new: int, start: int, ip: int, l4: int, payload: int, at: int, n: int, number: int, last: bool, udp: bool
) -> None:
    """Writes at `new` the segment of n bytes of payload at `at`, of a packet with these headers."""
    headers = payload - start
    copy(heap, new, start, headers)
    copy(heap, new + headers, at, n)
    fix_ip(heap, new + ip - start, payload - ip + n, number)
    protocol = UDP if udp else TCP
    fix_l4(heap, new + ip - start, new + l4 - start, payload - l4 + n, protocol, at - payload, last)


@jit
def segment(heap: U8, meta: Records, b: int, ip: int, pool: U32, emit: U32, to: int) -> tuple[int, int]:
    """Sends the segments of packet b, whose IP header is at ip, to the next `to`: how many went, and DONE or why not
    all."""
    m = meta[b]
    payload = payload_of(heap, m, ip)
    if payload == 0:
        return 0, MALFORMED
    start = int64(m.cur)
    end = start + int64(m.len)
    size = int64(m.gso_size)
    headers = payload - start
    l4 = l4_of(heap, m, ip)
    udp = int64(m.gso_type) & ~ECN == UDP_L4
    sent = 0
    at = payload
    while at < end or sent == 0:
        n = min(size, end - at)
        piece = take_sized(pool, headers + n)
        if piece == NO_BUFFER:
            return sent, NO_ROOM
        new = slot_start(piece) + HEADROOM
        put_segment(heap, new, start, ip, l4, payload, at, n, sent, at + n >= end, udp)
        move_metadata(m, meta[piece], new, headers + n)
        if not emit_to(emit, piece, to):
            give_back(pool, piece)
            return sent, NO_ROOM
        sent += 1
        at += n
    return sent, DONE
