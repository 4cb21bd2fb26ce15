# SPDX-License-Identifier: Apache-2.0
"""What the four nodes of acl do with a packet: its session, or the first rule that matches it."""

from typing import Any

from numba import uint64

from pyvpp.jit import inline
from pyvpp.node import NodeCounter, Severity
from pyvpp.typing import I64, U8, U32, U64, Record, Records
from pyvpp.wire import be16, be32, be64, u8
from pyvpp_acl.classify import NO_ROW, first_row
from pyvpp_acl.rules import ICMP, ICMP6, TCP, UDP, Action
from pyvpp_acl.sessions import BEGINS, NO_SESSION, ends_of, role, see
from pyvpp_nodes.integers import int64
from pyvpp_nodes.ip4.header import DESTINATION, SOURCE
from pyvpp_nodes.ip6 import header as ip6
from pyvpp_nodes.kit.hash_table import NONE, add, find, hash_of
from pyvpp_nodes.kit.transport import NO_HEADER

PASSES = -1
TCP_FLAGS = 13
DENY, REFLECT = int(Action.DENY), int(Action.REFLECT)


class Counter(NodeCounter):
    """VPP's words."""

    DENY = 0, "ACL deny packets"
    TOO_MANY_SESSIONS = 1, "too many sessions to add new"
    PERMIT = 2, "ACL permit packets", Severity.INFO
    NEW_SESSION = 3, "new sessions added", Severity.INFO
    EXIST_SESSION = 4, "existing session packets", Severity.INFO


@inline
def flags_of(heap: U8, protocol: int, l4: int, end: int) -> int:
    return int64(u8(heap, l4 + TCP_FLAGS)) if protocol == TCP and l4 + TCP_FLAGS < end else 0


@inline
def ports_of(heap: U8, protocol: int, l4: int) -> tuple[int, int]:
    """Source and destination, or ICMP's type and code; zeros of protocols that have neither."""
    if protocol in (TCP, UDP):
        return int64(be16(heap, l4)), int64(be16(heap, l4 + 2))
    if protocol in (ICMP, ICMP6):
        return int64(u8(heap, l4)), int64(u8(heap, l4 + 1))
    return 0, 0


@inline
def addresses4(heap: U8, ip: int) -> tuple[Any, Any]:
    return (uint64(be32(heap, ip + SOURCE)),), (uint64(be32(heap, ip + DESTINATION)),)


@inline
def addresses6(heap: U8, ip: int) -> tuple[Any, Any]:
    s, d = ip + ip6.SOURCE, ip + ip6.DESTINATION
    return (be64(heap, s), be64(heap, s + 8)), (be64(heap, d), be64(heap, d + 8))


@inline
def by_rules(
    m: Record, context: Record, source: Any, destination: Any, protocol: int, ports: tuple[int, int], flags: int,
    acl_roots: U32, acl_nodes: U32, acl_ports: U32, acl_classes: U32, acl_bitmaps: U64, acl_tuples: Records,
    acl_slots: U64, acl_rows: Records, acl_hits: Records,
) -> int:  # fmt: skip
    """The action of the first rule that matches."""
    r = first_row(
        acl_roots, acl_nodes, acl_ports, acl_classes, acl_bitmaps, acl_tuples, acl_slots, acl_rows, context, source,
        destination, protocol, ports[0], ports[1], flags,
    )  # fmt: skip
    if r == NO_ROW:
        return DENY
    row = acl_rows[uint64(r)]
    hits = acl_hits[row.rule]
    hits.packets += uint64(1)
    hits.bytes += uint64(m.len)
    return int64(row.action)


@inline
def begin(
    index: U64, sessions: Records, key: Any, h: int, direction: int, protocol: int, flags: int, m: Record, now: int,
    counters: U64, acl_timeouts: I64,
) -> int:  # fmt: skip
    """A new session for a packet that a rule wants to be reflected."""
    i = add(index, sessions, key, h, now, now + 1)
    if i == NONE:
        return int64(Counter.TOO_MANY_SESSIONS)
    session = sessions[i]
    session.packets, session.bytes = 0, 0
    session.flags[0], session.flags[1] = 0, 0
    see(session, direction, protocol, flags, int64(m.len), now, acl_timeouts)
    counters[Counter.NEW_SESSION] += uint64(1)
    return PASSES


@inline
def judge(
    transport: Any, addresses: Any, key_of: Any, heap: U8, m: Record, ip: int, number: int, sw_if_index: int,
    reflects: bool, now: int, counters: U64, acl_contexts: Records, acl_roots: U32, acl_nodes: U32, acl_ports: U32,
    acl_classes: U32, acl_bitmaps: U64, acl_tuples: Records, acl_slots: U64, acl_rows: Records, acl_hits: Records,
    acl_timeouts: I64, index: U64, sessions: Records,
) -> int:  # fmt: skip
    """PASSES, or the counter that says why a packet, whose IP header is at `ip`, does not.

    The first three are the functions of its IP version; numba makes another `judge` for each.
    """
    end = int64(m.cur) + int64(m.len)
    protocol, l4 = transport(heap, ip, end)
    source, destination = addresses(heap, ip)
    context = acl_contexts[uint64(number)]
    if l4 == NO_HEADER:
        action = by_rules(
            m, acl_contexts[context.fragments], source, destination, protocol, (int64(0), int64(0)), int64(0),
            acl_roots, acl_nodes, acl_ports, acl_classes, acl_bitmaps, acl_tuples, acl_slots, acl_rows, acl_hits,
        )  # fmt: skip
        return permitted(action, counters)
    ports, flags = ports_of(heap, protocol, l4), flags_of(heap, protocol, l4, end)
    part = role(heap, protocol, l4) if reflects else NO_SESSION
    ends = ends_of(heap, protocol, l4, ports[0], ports[1])
    key, direction = key_of(source, destination, ends, protocol, sw_if_index)
    h = int64(0)
    if part != NO_SESSION:
        h = hash_of(index, key)
        i = find(index, sessions, key, h, now)
        if i != NONE:
            see(sessions[uint64(i)], direction, protocol, flags, int64(m.len), now, acl_timeouts)
            counters[Counter.EXIST_SESSION] += uint64(1)
            return PASSES
    action = by_rules(
        m, context, source, destination, protocol, ports, flags, acl_roots, acl_nodes, acl_ports, acl_classes,
        acl_bitmaps, acl_tuples,
        acl_slots, acl_rows, acl_hits,
    )  # fmt: skip
    if action == REFLECT and part == BEGINS:
        return begin(index, sessions, key, h, direction, protocol, flags, m, now, counters, acl_timeouts)
    return permitted(action, counters)


@inline
def permitted(action: int, counters: U64) -> int:
    if action == DENY:
        return int64(Counter.DENY)
    counters[Counter.PERMIT] += uint64(1)
    return PASSES
