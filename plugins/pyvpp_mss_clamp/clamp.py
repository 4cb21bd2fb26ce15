# SPDX-License-Identifier: Apache-2.0
"""The maximum segment size option of TCP (RFC 9293, 3.7.1), found in a SYN and lowered; and the limits by interface."""

import numpy as np
from numba import uint64

from pyvpp.buffers import CSUM_PARTIAL
from pyvpp.jit import inline, outline, rare_case
from pyvpp.node import NodeCounter, Severity
from pyvpp.tables import interface_table, record_dtype
from pyvpp.typing import U8, U64, Record
from pyvpp.wire import be16, put_be16, u8
from pyvpp_nodes.integers import int64
from pyvpp_nodes.ip4.header import FRAGMENT, FRAGMENT_OFFSET, PROTOCOL, TCP, header_bytes, patched
from pyvpp_nodes.ip6.header import HEADER_BYTES as IP6_BYTES
from pyvpp_nodes.ip6.header import NEXT_HEADER

FLAGS, CHECKSUM, OPTIONS = 13, 16, 20
SYN = 0x02
END_OF_OPTIONS, NO_OPERATION, MSS = 0, 1, 2
MSS_BYTES = 4

MSS_CLAMP = interface_table("mss_clamp", record_dtype([("ip4", np.uint16), ("ip6", np.uint16)]))
"""The largest segment size that a SYN may ask for, by sw_if_index."""


class Counter(NodeCounter):
    CLAMPED = 0, "clamped", Severity.INFO
    NO_MSS = 1, "syn without mss option", Severity.INFO


@inline
def swapped(word: int) -> int:
    return (word & 0xFF) << 8 | word >> 8


@outline
def clamp_syn(heap: U8, m: Record, tcp: int, most: int, counters: U64) -> None:
    """Lowers the MSS option of a SYN. Options that are cut off or say they have no length end the search.

    An option may begin at any byte: one that lies across two words of the checksum counts with its bytes swapped.
    A checksum that a device will finish (CSUM_PARTIAL) holds the pseudo header's sum alone, and stays.
    """
    rare_case()
    end = min(tcp + (int64(u8(heap, tcp + 12)) >> 4 << 2), int64(m.cur) + int64(m.len))
    at = tcp + OPTIONS
    while at < end and u8(heap, at) != END_OF_OPTIONS:
        kind = u8(heap, at)
        if kind == NO_OPERATION:
            at += 1
            continue
        n = int64(u8(heap, at + 1)) if at + 1 < end else int64(0)
        if n < 2 or at + n > end:
            break
        if kind != MSS or n != MSS_BYTES:
            at += n
            continue
        old = be16(heap, at + 2)
        if old > most:
            put_be16(heap, at + 2, most)
            if m.flags & CSUM_PARTIAL == 0:
                odd = (at - tcp) & 1
                was, is_ = (swapped(old), swapped(most)) if odd else (old, most)
                put_be16(heap, tcp + CHECKSUM, patched(be16(heap, tcp + CHECKSUM), was, is_))
            counters[Counter.CLAMPED] += uint64(1)
        return
    counters[Counter.NO_MSS] += uint64(1)


@inline
def clamp_ip4(heap: U8, m: Record, ip: int, most: int, counters: U64) -> None:
    """A packet whose IPv4 header is at `ip`. Later fragments have no TCP header."""
    if u8(heap, ip + PROTOCOL) == TCP and be16(heap, ip + FRAGMENT) & FRAGMENT_OFFSET == 0:
        tcp = ip + header_bytes(heap, ip)
        if u8(heap, tcp + FLAGS) & SYN and tcp + OPTIONS <= int64(m.cur) + int64(m.len):
            clamp_syn(heap, m, tcp, most, counters)


@inline
def clamp_ip6(heap: U8, m: Record, ip: int, most: int, counters: U64) -> None:
    """A packet whose IPv6 header is at `ip`, with TCP right behind it."""
    if u8(heap, ip + NEXT_HEADER) == TCP:
        tcp = ip + IP6_BYTES
        if u8(heap, tcp + FLAGS) & SYN and tcp + OPTIONS <= int64(m.cur) + int64(m.len):
            clamp_syn(heap, m, tcp, most, counters)
