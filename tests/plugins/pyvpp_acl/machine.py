# SPDX-License-Identifier: Apache-2.0
"""The nodes of acl on frames, beside the definition: a linear scan, and for sessions a dict with an expiry for each."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from pyvpp.features import FEATURE_CHAINS
from pyvpp.node import TO_NODE, Node
from pyvpp.testing import Packet, Result, run_kernel
from pyvpp_acl.compile import compile_lists
from pyvpp_acl.filter import Counter
from pyvpp_acl.rules import ALL_PORTS, ICMP, ICMP6, TCP, UDP, Action, Row, for_later_fragments
from pyvpp_acl.sessions import ACK, FIN, RST, SYN, TCP_IDLE, TCP_TRANSIENT, UDP_IDLE
from pyvpp_acl.tables import ACL_APPLIED, ACL_HITS, ACL_SESSIONS, ACL_SESSIONS6
from pyvpp_nodes.fib.tables import ADJACENCY
from tests.plugins.pyvpp_acl.model import Seen, as_judged, linear, packet_of

INTERFACES = 4
REWRITES = (0, 14, 20)
DROP = 0
ERROR_BASE = 40
ROOM = 6
"""Sessions."""


@dataclass
class Lists:
    """One list on all interfaces, in both directions, or on one alone; the others have one that denies everything."""

    rows: Sequence[Row]
    version: int
    only: int | None = None
    tables: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        (nothing, number), self.tables = compile_lists([([], self.version), (self.rows, self.version)])
        applied = np.zeros(INTERFACES, ACL_APPLIED.dtype)
        for name in ("in", "out"):
            mine = [number if self.only in (None, k) else nothing for k in range(INTERFACES)]
            applied[f"{name}{self.version}"] = mine
        applied["reflects"] = any(row.action is Action.REFLECT for row in self.rows)
        self.tables["acl_applied"] = applied

    def judge(self, seen: Seen, later_fragment: bool, interface: int) -> Row | None:
        if self.only not in (None, interface):
            return None
        rows = for_later_fragments(self.rows) if later_fragment else self.rows
        return linear(rows, as_judged(seen, later_fragment))


def run(node: Node, frame: Any, tables: dict[str, Any], now: int = 1000) -> Result:
    """The kernel on packets that arrive, or on those that leave, behind what their adjacency has put in front."""
    leaving = "-out-" in node.name
    chains = np.zeros(FEATURE_CHAINS.capacity, np.uint16)
    chains[: len(frame) + 1] = TO_NODE | np.arange(len(frame) + 1)
    adjacencies = np.zeros(len(REWRITES), ADJACENCY)
    adjacencies["rewrite_bytes"] = REWRITES
    given = []
    for i, (seen, later_fragment, interface, adjacency) in enumerate(frame):
        front = b"\xee" * REWRITES[adjacency] if leaving else b""
        where = {"tx": interface, "rx": (interface + 1) % INTERFACES} if leaving else {"rx": interface}
        given.append(Packet(front + packet_of(seen, later_fragment), adj=adjacency, feature=i + 1, **where))
    more = {"adjacencies": adjacencies} if leaving else {}
    more["acl_applied"] = tables["acl_applied"].copy()
    for version in (4, 6):  # the other way nothing may pass
        more["acl_applied"][f"{'in' if leaving else 'out'}{version}"] = 0
    sessions = {
        "acl_hits": np.zeros(64, ACL_HITS.dtype),
        **small_sessions(),
        **tables,
        "feature_chains": chains,
        **more,
    }
    result = run_kernel(node, given, sessions, now=now, error_base=ERROR_BASE)
    assert result.packets == [packet.data for packet in given]
    return result


def small_sessions() -> dict[str, Any]:
    found = {}
    for table in (ACL_SESSIONS, ACL_SESSIONS6):
        found[table.name] = np.zeros(ROOM + 1, table.dtype)
        found[f"{table.name}_index"] = np.zeros(32, np.uint64)
    return found


def check_nexts(result: Result, passes: list[bool], errors: list[int]) -> None:
    assert result.nexts == [TO_NODE | i + 1 if passed else DROP for i, passed in enumerate(passes)]
    assert [int(m.error) for m in result.meta] == [
        0 if passed else ERROR_BASE + error for passed, error in zip(passes, errors, strict=True)
    ]


def frames_are_judged(node: Node, rows: Sequence[Row], frame: Any, only: int | None = None) -> None:
    """Stateless: sessions of rules that reflect begin, but none of them has been here before."""
    stateless = [replace(row, action=Action.PERMIT if row.action is Action.REFLECT else row.action) for row in rows]
    version = frame[0][0].source.version
    lists = Lists(stateless, version, only)
    result = run(node, frame, lists.tables)
    found = [lists.judge(seen, later, interface) for seen, later, interface, _ in frame]
    passes = [row is not None and row.action is Action.PERMIT for row in found]
    check_nexts(result, passes, [Counter.DENY] * len(frame))
    assert result.counters[Counter.DENY] == passes.count(False)
    assert result.counters[Counter.PERMIT] == passes.count(True)
    hits = result.tables["acl_hits"]
    for row in stateless:
        decided = [k for k, each in enumerate(found) if each is not None and each.number == row.number]
        assert hits[row.number]["packets"] == len(decided)
        lengths = [len(packet_of(frame[k][0], frame[k][1])) for k in decided]
        if "-out-" not in node.name:
            assert hits[row.number]["bytes"] == sum(lengths)


def longer_than_a_chunk(node: Node, version: int) -> None:
    """Two chunks and a part of one, in each of which others pass."""
    one, other, _ = HOSTS[version]
    everywhere = ip_network("0.0.0.0/0" if version == 4 else "::/0")
    given = [Row(2, Action.PERMIT, ip_network(one), everywhere, UDP, ALL_PORTS, ALL_PORTS, 0, 0)]
    frame = [(Seen(*((other, one) if k % 3 else (one, other)), UDP, k, 53), False, k % 4, 0) for k in range(150)]
    frames_are_judged(node, given, frame)


def sessions_begin_within_a_chunk(node: Node, version: int) -> None:
    """The second packet of a flow goes on with the session of the first, and its answer passes though rules deny it."""
    one, other, third = HOSTS[version]
    longer_than_a_chunk(node, version)
    everywhere = ip_network("0.0.0.0/0" if version == 4 else "::/0")
    given = [
        Row(3, Action.REFLECT, ip_network(one), everywhere, UDP, ALL_PORTS, ALL_PORTS, 0, 0),
        Row(5, Action.PERMIT, ip_network(third), everywhere, UDP, ALL_PORTS, ALL_PORTS, 0, 0),
    ]
    there, back = Seen(one, other, UDP, 1024, 53), Seen(other, one, UDP, 53, 1024)
    stranger, free = Seen(other, one, UDP, 53, 1025), Seen(third, one, UDP, 1, 2)
    frame = [(seen, False, 1, 0) for seen in (back, there, there, back, stranger, free)]
    timeouts = np.array([TIMEOUTS[k] for k in range(3)], np.int64)
    sessions = small_sessions()
    for table in (sessions["acl_sessions"], sessions["acl_sessions6"]):  # what others have left there
        table["packets"], table["bytes"], table["flags"] = 7, 700, 18
    result = run(node, frame, {**Lists(given, version).tables, **sessions, "acl_timeouts": timeouts})
    check_nexts(result, [False, True, True, True, False, True], [Counter.DENY] * 6)
    counted = {Counter.DENY: 2, Counter.TOO_MANY_SESSIONS: 0, Counter.PERMIT: 1}
    counted |= {Counter.NEW_SESSION: 1, Counter.EXIST_SESSION: 2}
    assert {counter: int(result.counters[counter]) for counter in Counter} == counted
    assert result.tables["acl_hits"]["packets"].nonzero()[0].tolist() == [3, 5]
    assert result.tables["acl_hits"]["packets"][[3, 5]].tolist() == [1, 1]
    (session,) = (
        each for each in result.tables[f"acl_sessions{'' if version == 4 else '6'}"] if each["expires"]
    )  # fmt: skip
    assert int(session["packets"]) == 3 and session["flags"].tolist() == [0, 0]
    before = sum(len(packet_of(seen)) + (int(REWRITES[0])) for seen in (there, there, back))
    assert int(session["bytes"]) == before


TIMEOUTS = {UDP_IDLE: 50, TCP_TRANSIENT: 20, TCP_IDLE: 200}
HOSTS = {4: [IPv4Address(f"10.0.0.{n}") for n in (1, 2, 9)], 6: [IPv6Address(f"2001:db8::{n}") for n in (1, 2, 9)]}
PORTS = [53, 1024, 4000]
ECHO = {4: (8, 0), 6: (128, 129)}


@dataclass
class Session:
    """What the definition knows of one."""

    expires: int
    flags: dict[bool, int] = field(default_factory=lambda: {True: 0, False: 0})
    """by whether the sender is the one that sent first"""
    first: tuple[Any, int] = (None, 0)


class SessionMachine(RuleBasedStateMachine):
    """Lists change, packets of few hosts go both ways, time passes."""

    node: Node
    version: int

    @initialize()
    def begin(self) -> None:
        self.now = 1000
        self.model: dict[Any, Session] = {}
        self.sessions = small_sessions()
        self.sessions["acl_timeouts"] = np.array([TIMEOUTS[k] for k in range(3)], np.int64)
        self.change([(Action.REFLECT, UDP, 0)])

    @rule(
        given=st.lists(
            st.tuples(st.sampled_from(list(Action)), st.sampled_from([0, TCP, UDP, ICMP, ICMP6]), st.integers(0, 3)),
            max_size=4,
        )
    )
    def change(self, given: Any) -> None:
        """Other rules: any destination, from one host or from everywhere. Sessions go on."""
        everywhere = ip_network("0.0.0.0/0" if self.version == 4 else "::/0")
        hosts = [everywhere, *(ip_network(host) for host in HOSTS[self.version])]
        rows = [
            Row(number, action, hosts[source], everywhere, protocol, ALL_PORTS, ALL_PORTS, 0, 0)
            for number, (action, protocol, source) in enumerate(given)
        ]
        self.lists = Lists(rows, self.version)

    @rule(passed=st.sampled_from([1, 19, 20, 49, 50, 200]))
    def time(self, passed: int) -> None:
        self.now += passed

    @rule(data=st.data())
    def send(self, data: st.DataObject) -> None:
        frame = data.draw(st.lists(self.packets(), min_size=1, max_size=6))
        result = run(self.node, frame, {**self.lists.tables, **self.sessions}, self.now)
        self.sessions |= {name: table for name, table in result.tables.items() if name in self.sessions}
        counted = dict.fromkeys(Counter, 0)
        judged = [self.judge(seen, later, interface, counted) for seen, later, interface, _ in frame]
        check_nexts(result, [error is None for error in judged], [error or 0 for error in judged])
        assert {counter: int(result.counters[counter]) for counter in Counter} == counted

    def packets(self) -> Any:
        hosts, (request, reply) = HOSTS[self.version], ECHO[self.version]
        icmp = ICMP if self.version == 4 else ICMP6
        flags = st.sampled_from([SYN, SYN | ACK, ACK, FIN | ACK, RST])
        two = st.permutations(hosts).map(lambda each: each[:2])
        tcp = st.builds(
            lambda h, s, d, f: Seen(*h, TCP, s, d, f), two, st.sampled_from(PORTS), st.sampled_from(PORTS), flags
        )
        udp = st.builds(lambda h, s, d: Seen(*h, UDP, s, d), two, st.sampled_from(PORTS), st.sampled_from(PORTS))
        echo = st.builds(lambda h, t: Seen(*h, icmp, t, 0), two, st.sampled_from([request, reply, 3]))
        seen = st.one_of(tcp, tcp, udp, echo, st.builds(lambda h: Seen(*h, 99), two))
        return st.tuples(seen, st.sampled_from([False] * 5 + [True]), st.sampled_from([1, 1, 1, 2]), st.integers(0, 2))

    def judge(self, seen: Seen, later: bool, interface: int, counted: dict[Counter, int]) -> Counter | None:
        """Why the packet is dropped, None when it passes."""
        may_begin, belongs = self.part_of(seen, later)
        ports = (0, 0) if seen.protocol not in (TCP, UDP) else (seen.source_port, seen.destination_port)
        ends = ((seen.source, ports[0]), (seen.destination, ports[1]))
        key = (frozenset(ends), seen.protocol, interface)
        reflects = any(row.action is Action.REFLECT for row in self.lists.rows)
        live = {k: s for k, s in self.model.items() if s.expires > self.now}
        if reflects and belongs and key in live:
            self.see(live[key], ends[0], seen)
            counted[Counter.EXIST_SESSION] += 1
            return None
        row = self.lists.judge(seen, later, interface)
        if row is None or row.action is Action.DENY:
            counted[Counter.DENY] += 1
            return Counter.DENY
        if row.action is Action.REFLECT and may_begin:
            if len(live) >= ROOM:
                counted[Counter.TOO_MANY_SESSIONS] += 1
                return Counter.TOO_MANY_SESSIONS
            self.model[key] = Session(0, first=ends[0])
            self.see(self.model[key], ends[0], seen)
            counted[Counter.NEW_SESSION] += 1
            return None
        counted[Counter.PERMIT] += 1
        return None

    def part_of(self, seen: Seen, later: bool) -> tuple[bool, bool]:
        """Whether a packet may begin a session, and whether it may belong to one."""
        if later:
            return False, False
        if seen.protocol in (ICMP, ICMP6):
            request, reply = ECHO[self.version]
            return seen.source_port == request, seen.source_port in (request, reply)
        return True, True

    def see(self, session: Session, sender: Any, seen: Seen) -> None:
        session.flags[sender == session.first] |= seen.flags if seen.protocol == TCP else 0
        kind = UDP_IDLE
        if seen.protocol == TCP:
            both = [flags & (FIN | SYN | RST | ACK) == SYN | ACK for flags in session.flags.values()]
            kind = TCP_IDLE if all(both) else TCP_TRANSIENT
        session.expires = self.now + TIMEOUTS[kind]


SETTINGS = settings(max_examples=25, stateful_step_count=25, deadline=None)
