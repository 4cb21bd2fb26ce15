# SPDX-License-Identifier: Apache-2.0
"""Sessions: what a rule with permit+reflect let pass, so that packets of both directions pass from then on.

A session is an interface's, as in VPP. Its key is the same for both directions: the lower of the two ends comes first.
Of ICMP only echo (and IPv4's timestamp) makes sessions: their requests and replies share an identifier.
"""

from typing import Any

import numpy as np
from numba import uint64

from pyvpp.jit import Native, inline, jit
from pyvpp.typing import I64, U8, U64, Record, Records
from pyvpp.wire import be16, u8
from pyvpp_acl.rules import ICMP, ICMP6, TCP
from pyvpp_nodes.integers import int64
from pyvpp_nodes.kit.hash_table import ENTRIES_USED, remove

UDP_IDLE, TCP_TRANSIENT, TCP_IDLE = 0, 1, 2
"""Kinds of sessions, as timeouts are set for them; everything but TCP counts as UDP."""
FIN, SYN, RST, ACK = 1, 2, 4, 16
IDENTIFIER = 4
ECHO_REPLY, ECHO_REQUEST, TIMESTAMP_REQUEST, TIMESTAMP_REPLY, ECHO_REQUEST6, ECHO_REPLY6 = 0, 8, 13, 14, 128, 129
NO_SESSION, BEGINS, GOES_ON = 0, 1, 2


@inline
def icmp_role(protocol: int, type_: int) -> int:
    """Whether an ICMP message may begin a session, belong to one, or neither."""
    if protocol == ICMP:
        if type_ in (ECHO_REQUEST, TIMESTAMP_REQUEST):
            return BEGINS
        return GOES_ON if type_ in (ECHO_REPLY, TIMESTAMP_REPLY) else NO_SESSION
    if type_ == ECHO_REQUEST6:
        return BEGINS
    return GOES_ON if type_ == ECHO_REPLY6 else NO_SESSION


@inline
def role(heap: U8, protocol: int, l4: int) -> int:
    if protocol in (ICMP, ICMP6):
        return icmp_role(protocol, int64(u8(heap, l4)))
    return BEGINS


@inline
def ends_of(heap: U8, protocol: int, l4: int, source_port: int, destination_port: int) -> tuple[int, int]:
    """What tells sessions of two hosts apart: ports, or ICMP's identifier twice."""
    if protocol in (ICMP, ICMP6):
        identifier = int64(be16(heap, l4 + IDENTIFIER))
        return identifier, identifier
    return source_port, destination_port


@inline
def last_word(low_port: int, high_port: int, protocol: int, sw_if_index: int) -> Any:
    return uint64(low_port) << uint64(48) | uint64(high_port << 32 | protocol << 24 | sw_if_index)


@inline
def key4(source: Any, destination: Any, ports: tuple[int, int], protocol: int, sw_if_index: int) -> tuple[Any, int]:
    """The two words of an IPv4 session's key, and the direction: 0 when the packet comes from the lower end."""
    s, d = source[0], destination[0]
    up = s < d or (s == d and ports[0] <= ports[1])
    if up:
        return (s << uint64(32) | d, last_word(ports[0], ports[1], protocol, sw_if_index)), 0
    return (d << uint64(32) | s, last_word(ports[1], ports[0], protocol, sw_if_index)), 1


@inline
def key6(source: Any, destination: Any, ports: tuple[int, int], protocol: int, sw_if_index: int) -> tuple[Any, int]:
    """The five words of an IPv6 session's key, and the direction."""
    s, d = source, destination
    up = s[0] < d[0] or (s[0] == d[0] and (s[1] < d[1] or (s[1] == d[1] and ports[0] <= ports[1])))
    if up:
        return (s[0], s[1], d[0], d[1], last_word(ports[0], ports[1], protocol, sw_if_index)), 0
    return (d[0], d[1], s[0], s[1], last_word(ports[1], ports[0], protocol, sw_if_index)), 1


@inline
def kind_of(protocol: int, flags_up: int, flags_down: int) -> int:
    """TCP is idle only once both ends have said SYN and ACK, and until one says FIN or RST."""
    if protocol != TCP:
        return UDP_IDLE
    seen = FIN | SYN | RST | ACK
    return TCP_IDLE if flags_up & seen == SYN | ACK and flags_down & seen == SYN | ACK else TCP_TRANSIENT


@inline
def see(session: Record, direction: int, protocol: int, flags: int, n: int, now: int, acl_timeouts: I64) -> None:
    """A packet of a session has passed."""
    session.flags[direction] |= flags
    kind = kind_of(protocol, int64(session.flags[0]), int64(session.flags[1]))
    session.expires = now + acl_timeouts[kind]
    session.packets += uint64(1)
    session.bytes += uint64(n)


EVERY_INTERFACE = -1


@jit
def forget(index: U64, sessions: Records, sw_if_index: int) -> int:
    """Ends the sessions of an interface, or of every one; answers how many. Workers stand still meanwhile."""
    n = int64(0)
    for i in range(1, int64(index[ENTRIES_USED]) + 1):
        session = sessions[i]
        last = session.key[len(session.key) - 1]
        if session.expires > 0 and sw_if_index in (EVERY_INTERFACE, int64(last & uint64(0xFFFFFF))):
            remove(index, sessions, i)
            n += 1
    return n


def _use() -> None:
    from pyvpp_acl.tables import ACL_SESSIONS, ACL_SESSIONS6

    for table in (ACL_SESSIONS, ACL_SESSIONS6):
        forget(np.zeros(32, np.uint64), np.zeros(2, table.dtype), EVERY_INTERFACE)


NATIVE = Native("acl-sessions", _use)
