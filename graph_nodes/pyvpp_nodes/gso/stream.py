# SPDX-License-Identifier: Apache-2.0
"""Which TCP packets follow each other so closely that they can be one: the rules of Linux' GRO.

They are those of net/ipv4/tcp_offload.c, af_inet.c and net/ipv6/ip6_offload.c: two packets are joined when segmenting
the large one gives them back. So everything in the headers is equal but lengths, checksums, IPv4 ids (one more each, or
all alike where DF makes them meaningless, RFC 6864), sequence numbers and, on the last one, PSH and FIN. All payloads
are as long as the first, the last may be shorter. A checksum that is wrong, in IPv4 or TCP, keeps its packet out: the
large packet's are new, nobody behind would notice.
"""

import numpy as np
from numba import uint32

from pyvpp.buffers import CSUM_PARTIAL, CSUM_VALID
from pyvpp.checksum import fold, sum_bytes
from pyvpp.jit import inline
from pyvpp.tables import record_dtype
from pyvpp.typing import U8, Record, Records
from pyvpp.wire import be16, be32, le16, le32, le64, u8
from pyvpp_nodes.gso.checksum import pseudo_header_sum
from pyvpp_nodes.gso.segment import (
    DESTINATION_OPTIONS,
    FIN_PSH,
    FRAGMENT_HEADER,
    HOP_BY_HOP,
    IP6_NEXT_HEADER,
    ROUTING,
    TCP_CHECKSUM,
    TCP_FLAGS,
    TCP_SEQUENCE,
)
from pyvpp_nodes.integers import int64
from pyvpp_nodes.ip4.header import (
    DONT_FRAGMENT,
    FRAGMENT,
    FRAGMENT_OFFSET,
    HEADER_BYTES,
    ID,
    MORE_FRAGMENTS,
    PLAIN,
    PROTOCOL,
    SOURCE,
    TCP,
    TOTAL_LENGTH,
    TTL,
    header_bytes,
    is_right,
    sum20,
)

GRO_FLOW = record_dtype(
    [
        ("ip", np.int64),  # heap offsets of the first packet's headers
        ("l4", np.int64),
        ("buffer", np.uint32),  # 0: no flow
        ("position", np.uint32),  # of the first packet in the frame
        ("sequence", np.uint32),  # what the next packet begins with
        ("payload", np.uint32),  # bytes of the first packet's
        ("count", np.uint32),  # packets joined
        ("fixed_id", np.uint32),
        ("tx", np.uint32),
        ("pad", np.uint32),
    ]
)
TCP_BYTES, TCP_ACKNOWLEDGMENT, TCP_DATA_OFFSET, TCP_URGENT = 20, 8, 12, 18
SYN_RST_URG_CWR = 0x02 | 0x04 | 0x20 | 0x80
IP6_BYTES, IP6_PAYLOAD_LENGTH, IP6_SOURCE = 40, 4, 8
MOST = 0xFFFF
"""Bytes an IP packet may have."""

OTHER, UNCLEAR = 0, -1


@inline
def tcp_header(heap: U8, ip: int, end: int) -> int:
    """Where the TCP header is; OTHER: this is no TCP; UNCLEAR: this may belong to any flow (fragments, extensions)."""
    if end - ip < HEADER_BYTES:
        return OTHER
    if u8(heap, ip) >> 4 == 4:
        if u8(heap, ip + PROTOCOL) != TCP:
            return OTHER
        l4 = ip + header_bytes(heap, ip)
        plain = be16(heap, ip + FRAGMENT) & (MORE_FRAGMENTS | FRAGMENT_OFFSET) == 0 and l4 >= ip + HEADER_BYTES
        return l4 if plain and l4 + TCP_BYTES <= end else UNCLEAR
    if u8(heap, ip) >> 4 != 6 or end - ip < IP6_BYTES:
        return OTHER
    protocol = u8(heap, ip + IP6_NEXT_HEADER)
    if protocol == TCP:
        return ip + IP6_BYTES if ip + IP6_BYTES + TCP_BYTES <= end else UNCLEAR
    extended = protocol in (HOP_BY_HOP, ROUTING, FRAGMENT_HEADER, DESTINATION_OPTIONS)
    return UNCLEAR if extended else OTHER


@inline
def same_addresses(heap: U8, ip: int, other: int) -> bool:
    if u8(heap, ip) >> 4 == 4:
        return bool(u8(heap, other) >> 4 == 4 and le64(heap, ip + SOURCE) == le64(heap, other + SOURCE))
    if u8(heap, other) >> 4 != 6:
        return False
    for at in range(IP6_SOURCE, IP6_BYTES, 8):
        if le64(heap, ip + at) != le64(heap, other + at):
            return False
    return True


@inline
def payload_of(heap: U8, l4: int) -> int:
    return l4 + int64(u8(heap, l4 + TCP_DATA_OFFSET) >> 4 << 2)


@inline
def is_joinable(heap: U8, m: Record, ip: int, l4: int) -> bool:
    """Whether a TCP packet can be part of a larger one: it has payload, and no more headers or bytes than are usual."""
    end = int64(m.cur) + int64(m.len)
    if m.gso_type != 0 or m.ref != 1 or u8(heap, l4 + TCP_FLAGS) & SYN_RST_URG_CWR:
        return False
    if u8(heap, ip) >> 4 == 4:
        if u8(heap, ip) != PLAIN or be16(heap, ip + TOTAL_LENGTH) != end - ip:
            return False
    elif be16(heap, ip + IP6_PAYLOAD_LENGTH) != end - ip - IP6_BYTES:
        return False
    if m.flags & CSUM_PARTIAL and (m.csum_start != l4 or m.csum_offset != TCP_CHECKSUM):
        return False
    return l4 + TCP_BYTES <= payload_of(heap, l4) < end


@inline
def is_verified(heap: U8, m: Record, ip: int, l4: int) -> bool:
    """Whether the checksums are right; a partial one is Linux' own, or a device's that is to send it."""
    if u8(heap, ip) >> 4 == 4 and not is_right(sum20(heap, ip)):
        return False
    if m.flags & (CSUM_PARTIAL | CSUM_VALID):
        return True
    n = int64(m.cur) + int64(m.len) - l4
    return fold(pseudo_header_sum(heap, ip, n, TCP) + sum_bytes(heap, l4, n)) == 0xFFFF


@inline
def same_link_header(heap: U8, start: int, other: int, n: int) -> bool:
    """Of n bytes: 0, or 14 of Ethernet."""
    return n == 0 or (le64(heap, start) == le64(heap, other) and le64(heap, start + n - 8) == le64(heap, other + n - 8))


@inline
def id_continues(heap: U8, flow: Record, ip: int) -> bool:
    """As Linux: the second packet decides whether the ids count or, with DF, stand still."""
    ahead = (be16(heap, ip + ID) - be16(heap, int64(flow.ip) + ID)) & 0xFFFF
    if flow.count == 1 and ahead == 0 and be16(heap, ip + FRAGMENT) & DONT_FRAGMENT:
        flow.fixed_id = uint32(1)
    return bool(ahead == (0 if flow.fixed_id else flow.count))


@inline
def same_ip_header(heap: U8, flow: Record, ip: int) -> bool:
    """But for addresses, which are known to be equal, lengths, the IPv4 checksum and id."""
    first = int64(flow.ip)
    if u8(heap, ip) >> 4 == 6:
        hops = le16(heap, ip + IP6_NEXT_HEADER) == le16(heap, first + IP6_NEXT_HEADER)
        return bool(hops and le32(heap, ip) == le32(heap, first))
    return bool(
        le16(heap, ip) == le16(heap, first)
        and le16(heap, ip + FRAGMENT) == le16(heap, first + FRAGMENT)
        and u8(heap, ip + TTL) == u8(heap, first + TTL)
        and id_continues(heap, flow, ip)
    )


@inline
def same_tcp_header(heap: U8, flow: Record, l4: int) -> bool:
    """But for ports, which are known to be equal, sequence number, checksum, PSH and FIN: window and options too."""
    first = int64(flow.l4)
    if be32(heap, l4 + TCP_ACKNOWLEDGMENT) != be32(heap, first + TCP_ACKNOWLEDGMENT):
        return False
    if (be32(heap, l4 + TCP_DATA_OFFSET) ^ be32(heap, first + TCP_DATA_OFFSET)) & ~(FIN_PSH << 16):
        return False
    if le16(heap, l4 + TCP_URGENT) != le16(heap, first + TCP_URGENT):
        return False
    for at in range(TCP_BYTES, payload_of(heap, l4) - l4, 4):
        if le32(heap, l4 + at) != le32(heap, first + at):
            return False
    return bool(be32(heap, l4 + TCP_SEQUENCE) == int64(flow.sequence))


@inline
def continues(heap: U8, meta: Records, flow: Record, m: Record, ip: int, l4: int) -> bool:
    """Whether a joinable packet of the flow is what comes next, and there is room for it."""
    first = meta[flow.buffer]
    n = int64(m.cur) + int64(m.len) - payload_of(heap, l4)
    return bool(
        n <= flow.payload
        and int64(first.cur) + int64(first.len) + n - int64(flow.ip) <= MOST
        and ip - int64(m.cur) == int64(flow.ip) - int64(first.cur)
        and same_link_header(heap, int64(m.cur), int64(first.cur), ip - int64(m.cur))
        and same_ip_header(heap, flow, ip)
        and same_tcp_header(heap, flow, l4)
    )


@inline
def may_grow(heap: U8, flow: Record, l4: int, n: int) -> bool:
    """Whether a packet of n bytes of payload lets another one follow it in the same large packet."""
    return bool(n == flow.payload and u8(heap, l4 + TCP_FLAGS) & FIN_PSH == 0)
