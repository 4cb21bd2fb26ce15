# SPDX-License-Identifier: Apache-2.0
"""Pings that run: which identifier is whose, what was sent and when, what was answered."""

import asyncio
import secrets
from dataclasses import dataclass, field
from typing import Any

from pyvpp.buffers import LOCALLY_ORIGINATED
from pyvpp.errors import OperatorError
from pyvpp.node import TO_NODE
from pyvpp_nodes.icmp.message import ECHO_REPLY
from pyvpp_nodes.ip4.tables import ICMP_TYPES
from pyvpp_ping.ip6_icmp_echo_reply import ARC
from pyvpp_ping.message import Address, Answer, echo_request, read_answer
from pyvpp_ping.tables import IDENTIFIERS, PINGS

NODE4, NODE6 = "ip4-icmp-echo-reply", "ip6-icmp-echo-reply"
LOW_HALF = (1 << 64) - 1


@dataclass(eq=False)
class Ping:
    """One ping that runs. `answers` gets each answer with its time in ms, and whether it came before."""

    source: Address
    destination: Address
    identifier: int
    rx: int
    """sw_if_index of an interface in whose table the destination is looked up"""
    sent: dict[int, int] = field(default_factory=dict)
    """by sequence number, when it was sent: ns of the workers' clock"""
    answered: set[int] = field(default_factory=set)
    answers: "asyncio.Queue[tuple[Answer, float, bool]]" = field(default_factory=asyncio.Queue)


class Pings:
    """`engine.stack.pings`."""

    def __init__(self, engine: Any, before: Any = None) -> None:
        """`before` is what another version of this module had: its pings go on."""
        self._engine = engine
        self.running: dict[int, Any] = dict(before.running) if before else {}
        types = engine.tables[ICMP_TYPES.name].array
        types[ECHO_REPLY] = TO_NODE | engine.graph.index_of(NODE4)

    def begin(self, source: Address, destination: Address, rx: int = 0) -> Ping:
        """A ping with an identifier of its own. Raises OperatorError when all are taken."""
        if len(self.running) >= IDENTIFIERS // 2:
            raise OperatorError(f"{len(self.running)} pings run already")
        identifier = secrets.randbelow(IDENTIFIERS)
        while identifier in self.running:
            identifier = secrets.randbelow(IDENTIFIERS)
        ping = Ping(source, destination, identifier, rx)
        row = self._engine.tables[PINGS.name].array[identifier]
        row["source_high"], row["source_low"] = int(source) >> 64, int(source) & LOW_HALF
        row["version"] = source.version
        self.running[identifier] = ping
        self._listen()
        return ping

    def end(self, ping: Any) -> None:
        """Answers that still come are no longer ours."""
        self._engine.tables[PINGS.name].array["version"][ping.identifier] = 0
        self.running.pop(ping.identifier, None)
        self._listen()

    def send(self, ping: Any, sequence: int, size: int) -> bool:
        """One request with so many bytes of data; False when there is no buffer for it now."""
        packet = echo_request(ping.source, ping.destination, ping.identifier, sequence, size)
        ping.answered.discard(sequence)
        ping.sent[sequence] = self._engine.workers[0].now
        node = f"ip{ping.source.version}-lookup"
        if self._engine.inject(packet, node, rx=ping.rx, flags=LOCALLY_ORIGINATED):
            return True
        del ping.sent[sequence]
        return False

    def heard(self, packet: bytes, at: int) -> bool:
        """Tells a ping of an answer, an IP packet that came at this moment; False when it did not ask for it."""
        answer = read_answer(packet)
        ping = self.running.get(answer.identifier)
        if ping is None or answer.sequence not in ping.sent:
            return False
        took = (at - ping.sent[answer.sequence]) / 1e6
        ping.answers.put_nowait((answer, took, answer.sequence in ping.answered))
        ping.answered.add(answer.sequence)
        return True

    def _listen(self) -> None:
        """Looks at what arrives on IPv6 interfaces for as long as somebody waits for it."""
        wanted = any(ping.source.version == 6 for ping in self.running.values())
        for interface in self._engine.interfaces:
            is_on = NODE6 in self._engine.features.enabled(ARC, interface.sw_if_index)
            if interface.sw_if_index and is_on is not wanted:
                self._engine.features.enable(ARC, NODE6, interface.sw_if_index, wanted)
