# SPDX-License-Identifier: Apache-2.0
"""What the four nodes of acl do with a packet: its session, or the first rule that matches it."""

from typing import Any

from numba import uint32, uint64

from pyvpp.jit import inline, outline, rare_case
from pyvpp.node import NodeCounter, Severity
from pyvpp.typing import I64, U8, U32, U64, Record, Records
from pyvpp.wire import be16, be32, be64, u8
from pyvpp_acl.classify import NO_ROW, STATE, ask_for_leaves, first_row, put_packet
from pyvpp_acl.rules import ACTION_BITS, ICMP, ICMP6, TCP, UDP, Action
from pyvpp_acl.sessions import BEGINS, NO_SESSION, ends_of, role, see
from pyvpp_acl.tables import SEEN_WORDS
from pyvpp_nodes.integers import int64
from pyvpp_nodes.ip4.header import DESTINATION, SOURCE
from pyvpp_nodes.ip6 import header as ip6
from pyvpp_nodes.kit.hash_table import NONE, add, find, hash_of
from pyvpp_nodes.kit.transport import NO_HEADER

PASSES, WENT_ON = -1, -2
NO_VERDICT = int(Action.DENY)
TCP_FLAGS = 13
DENY, REFLECT = int(Action.DENY), int(Action.REFLECT)
ACTIONS = (1 << ACTION_BITS) - 1
KNOWN = 3
"""What `meet` remembers of a packet: that it has a session, or the part it plays in one (`role`)."""


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
def about(
    transport: Any, addresses: Any, heap: U8, m: Record, ip: int
) -> tuple[Any, Any, int, int, tuple[int, int], int]:
    """Of a packet: source, destination, protocol, where the next header is, ports, flags.

    The first two are the functions of its IP version.
    """
    end = int64(m.cur) + int64(m.len)
    protocol, l4 = transport(heap, ip, end)
    source, destination = addresses(heap, ip)
    if l4 == NO_HEADER:
        return source, destination, protocol, l4, (int64(0), int64(0)), int64(0)
    return source, destination, protocol, l4, ports_of(heap, protocol, l4), flags_of(heap, protocol, l4, end)


@inline
def meet(
    transport: Any, addresses: Any, key_of: Any, both: Any, heap: U8, m: Record, ip: int, k: int, number: int,
    sw_if_index: int, reflects: bool, now: int, counters: U64, acl_contexts: Records, acl_trees: Records,
    acl_nodes: U64, leaves: U64, acl_seen: U32, acl_found: U64, acl_timeouts: I64, index: U64, sessions: Records,
) -> None:  # fmt: skip
    """The first turn for packet k of a chunk, whose IP header is at `ip`: its session, or the leaves of its rules.

    The first four are the functions of its IP version; numba makes another `meet` for each.
    """
    source, destination, protocol, l4, ports, flags = about(transport, addresses, heap, m, ip)
    if l4 == NO_HEADER:
        number = int64(acl_contexts[uint64(number)].fragments)
    part = role(heap, protocol, l4) if reflects and l4 != NO_HEADER else NO_SESSION
    state = uint64(k * SEEN_WORDS + STATE)
    acl_seen[state] = uint32(part)
    if part != NO_SESSION:
        ends = ends_of(heap, protocol, l4, ports[0], ports[1])
        key, direction = key_of(source, destination, ends, protocol, sw_if_index)
        i = find(index, sessions, key, hash_of(index, key), now)
        if i != NONE:
            goes_on(sessions[uint64(i)], direction, protocol, flags, m, now, counters, acl_timeouts)
            acl_seen[state] = uint32(KNOWN)
            return
    put_packet(acl_seen, k * SEEN_WORDS, number, source, destination, protocol, ports, flags)
    ask_for_leaves(both, acl_contexts, acl_trees, acl_nodes, leaves, acl_seen, acl_found, k)


@inline
def goes_on(
    session: Record, direction: int, protocol: int, flags: int, m: Record, now: int, counters: U64, acl_timeouts: I64
) -> None:
    see(session, direction, protocol, flags, int64(m.len), now, acl_timeouts)
    counters[Counter.EXIST_SESSION] += uint64(1)


@inline
def session_of(
    transport: Any, addresses: Any, key_of: Any, heap: U8, m: Record, ip: int, sw_if_index: int
) -> tuple[Any, int, int, int]:
    """Key, direction, protocol and flags of a packet that may have a session."""
    source, destination, protocol, l4, ports, flags = about(transport, addresses, heap, m, ip)
    ends = ends_of(heap, protocol, l4, ports[0], ports[1])
    key, direction = key_of(source, destination, ends, protocol, sw_if_index)
    return key, direction, protocol, flags


@outline
def has_begun(
    key: Any, direction: int, protocol: int, flags: int, m: Record, now: int, counters: U64, acl_timeouts: I64,
    index: U64, sessions: Records,
) -> bool:  # fmt: skip
    """Whether the session of a packet has begun since `meet`, by another one of its chunk; then it goes on."""
    rare_case()
    i = find(index, sessions, key, hash_of(index, key), now)
    if i != NONE:
        goes_on(sessions[uint64(i)], direction, protocol, flags, m, now, counters, acl_timeouts)
    return bool(i != NONE)


@outline
def begin(
    key: Any, direction: int, protocol: int, flags: int, m: Record, begun: bool, now: int, counters: U64,
    acl_timeouts: I64, index: U64, sessions: Records,
) -> int:  # fmt: skip
    """A new session for a packet that a rule wants to be reflected: PASSES, or why it does not; or WENT_ON."""
    rare_case()
    h = hash_of(index, key)
    i = int64(find(index, sessions, key, h, now)) if begun else int64(NONE)
    if i != NONE:
        goes_on(sessions[uint64(i)], direction, protocol, flags, m, now, counters, acl_timeouts)
        return WENT_ON
    i = int64(add(index, sessions, key, h, now, now + 1))
    if i == NONE:
        return int64(Counter.TOO_MANY_SESSIONS)
    session = sessions[uint64(i)]
    session.packets, session.bytes = 0, 0
    session.flags[0], session.flags[1] = 0, 0
    see(session, direction, protocol, flags, int64(m.len), now, acl_timeouts)
    counters[Counter.NEW_SESSION] += uint64(1)
    return PASSES


@inline
def judge(
    transport: Any, addresses: Any, key_of: Any, both: Any, heap: U8, m: Record, ip: int, k: int, begun: bool,
    sw_if_index: int, now: int, counters: U64, acl_contexts: Records, acl_trees: Records, leaves: U64,
    acl_verdicts: U32, acl_hits: Records, acl_seen: U32, acl_found: U64, acl_timeouts: I64, index: U64,
    sessions: Records,
) -> int:  # fmt: skip
    """The second turn: PASSES, or the counter that says why packet k does not.

    `begun`: a packet of the chunk has begun a session, which may be this one's, too.
    """
    state = int64(acl_seen[uint64(k * SEEN_WORDS + STATE)])
    if state == KNOWN:
        return PASSES
    r = first_row(both, acl_contexts, acl_trees, leaves, acl_seen, acl_found, k)
    verdict = int64(acl_verdicts[uint64(r)]) if r != NO_ROW else int64(NO_VERDICT)
    reflects = verdict & ACTIONS == REFLECT and state == BEGINS
    if reflects or (begun and state != NO_SESSION):
        key, direction, protocol, flags = session_of(transport, addresses, key_of, heap, m, ip, sw_if_index)
        if not reflects and has_begun(
            key, direction, protocol, flags, m, now, counters, acl_timeouts, index, sessions
        ):  # fmt: skip
            return PASSES
    if reflects:
        outcome = begin(
            key, direction, protocol, flags, m, begun, now, counters, acl_timeouts, index, sessions
        )  # fmt: skip
        if outcome == WENT_ON:
            return PASSES
    elif verdict & ACTIONS == DENY:
        outcome = int64(Counter.DENY)
    else:
        counters[Counter.PERMIT] += uint64(1)
        outcome = int64(PASSES)
    if r != NO_ROW:
        hits = acl_hits[uint64(verdict >> ACTION_BITS)]
        hits.packets += uint64(1)
        hits.bytes += uint64(m.len)
    return outcome
