# SPDX-License-Identifier: Apache-2.0
"""Three colours: the meters of RFC 2697 (one rate), RFC 2698 and RFC 4115 (two rates), and their tables.

A colour-aware one begins with the colour that somebody in front has marked a packet with: the drop precedence of its
class of assured forwarding (RFC 2597, 6), green where the DSCP has none. It never makes a packet better.

Tokens are the kit's: billionths of a byte (or of a packet), so that nothing is rounded.
"""

from enum import IntEnum

import numpy as np
from numba import uint64

from pyvpp.jit import inline
from pyvpp.node import NodeCounter, Severity
from pyvpp.tables import Table, interface_table, record_dtype
from pyvpp.typing import U8, Record
from pyvpp.wire import be16, put_be16, u8
from pyvpp_nodes.integers import int64
from pyvpp_nodes.ip4.header import CHECKSUM, patched
from pyvpp_nodes.kit.token_bucket import TOKEN, filled

GREEN, YELLOW, RED = 0, 1, 2
COLOURS = 3


class Kind(IntEnum):
    """VPP's types: one rate and two colours, one rate and three, two rates."""

    ONE_RATE_TWO_COLOURS = 0
    ONE_RATE = 1
    TWO_RATES_2698 = 2
    TWO_RATES_4115 = 3


class Action(IntEnum):
    DROP = 0
    TRANSMIT = 1
    MARK = 2


class Counter(NodeCounter):
    DROPPED = 0, "policer dropped"
    TRANSMITTED = 1, "policer transmitted", Severity.INFO
    MARKED = 2, "policer marked", Severity.INFO


POLICER = record_dtype(
    [
        ("rate", np.int64),  # committed: bytes a second, or packets
        ("burst", np.int64),
        ("longest", np.int64),  # nanoseconds in which both buckets are full (RFC 2697), or the first one
        ("rate2", np.int64),  # peak (RFC 2698), excess (RFC 4115)
        ("burst2", np.int64),
        ("longest2", np.int64),
        ("kind", np.uint8),
        ("by_packets", np.uint8),
        ("aware", np.uint8),  # of the colour a packet has
        ("action", np.uint8, (COLOURS,)),
        ("dscp", np.uint8, (COLOURS,)),
    ],
    align=True,
)
TOKENS = record_dtype(
    [
        ("committed", np.int64),
        ("excess", np.int64),
        ("at", np.int64),  # nanoseconds: when they were counted
        ("packets", np.uint64, (COLOURS,)),
        ("bytes", np.uint64, (COLOURS,)),
    ]
)
POLICERS = Table("policers", POLICER, 64)
"""The first one is nobody's."""
POLICER_TOKENS = Table("policer_tokens", TOKENS, 64, per_worker=True)
POLICER_APPLIED = interface_table("policer_applied", record_dtype([("input", np.uint32), ("output", np.uint32)]))
"""By sw_if_index: where in POLICER_CLASSES its policers are, in units of CLASSES. The first ones are nobody's."""
CLASSES = 64
POLICER_CLASSES = Table("policer_classes", np.uint32, CLASSES)
"""By DSCP: a policer, 0 for none."""


@inline
def refill(policer: Record, tokens: Record, now: int) -> None:
    """Both buckets as they are now. With one rate, what the first has no room for falls into the second."""
    elapsed = max(int64(0), now - int64(tokens.at))
    tokens.at = now
    burst, burst2 = int64(policer.burst), int64(policer.burst2)
    if policer.kind <= Kind.ONE_RATE:
        earned = min(elapsed, int64(policer.longest)) * int64(policer.rate)
        spare = max(int64(0), int64(tokens.committed) + earned - burst * TOKEN)
        tokens.committed = int64(tokens.committed) + earned - spare
        tokens.excess = min(int64(tokens.excess) + spare, burst2 * TOKEN)
    else:
        rate, rate2 = int64(policer.rate), int64(policer.rate2)
        tokens.committed = filled(int64(tokens.committed), elapsed, rate, burst, int64(policer.longest))
        tokens.excess = filled(int64(tokens.excess), elapsed, rate2, burst2, int64(policer.longest2))


@inline
def colour_of(policer: Record, tokens: Record, n: int, before: int) -> int:
    """The colour of a packet of n bytes that had one before; its tokens are taken."""
    price = n * TOKEN
    committed, excess = int64(tokens.committed) >= price, int64(tokens.excess) >= price
    if policer.kind == Kind.TWO_RATES_2698:
        if before == RED or not excess:
            return RED
        tokens.excess = int64(tokens.excess) - price
        if before == YELLOW or not committed:
            return YELLOW
        tokens.committed = int64(tokens.committed) - price
        return GREEN
    if committed and before == GREEN:
        tokens.committed = int64(tokens.committed) - price
        return GREEN
    if excess and before != RED:
        tokens.excess = int64(tokens.excess) - price
        return YELLOW
    return RED


@inline
def police(policer: Record, tokens: Record, n: int, dscp: int, now: int) -> int:
    """The colour of a packet of n bytes that comes now, counted."""
    refill(policer, tokens, now)
    before = precedence(dscp) if policer.aware else GREEN
    colour = colour_of(policer, tokens, 1 if policer.by_packets else n, before)
    tokens.packets[colour] += uint64(1)
    tokens.bytes[colour] += uint64(n)
    return colour


@inline
def precedence(dscp: int) -> int:
    """The colour that a DSCP says: of AFxy, classes 1 to 4, y is 1, 2 or 3 (RFC 2597)."""
    if 8 <= dscp < 40 and dscp & 1 == 0 and dscp & 7:
        return (dscp & 7) // 2 - 1
    return GREEN


@inline
def dscp_of(heap: U8, ip: int) -> int:
    """Of an IPv4 or IPv6 header."""
    first = int64(be16(heap, ip))
    return first >> 6 & 63 if first >> 12 == 6 else first >> 2 & 63


@inline
def mark(heap: U8, ip: int, dscp: int) -> None:
    """Writes a DSCP (RFC 2474) into an IPv4 or IPv6 header; ECN stays."""
    first = be16(heap, ip)
    if u8(heap, ip) >> 4 == 6:
        put_be16(heap, ip, first & 0xF03F | dscp << 6)
    else:
        new = first & 0xFF03 | dscp << 2
        put_be16(heap, ip, new)
        put_be16(heap, ip + CHECKSUM, patched(be16(heap, ip + CHECKSUM), first, new))
