# SPDX-License-Identifier: Apache-2.0
"""Scenarios of `pyvpp bench`: lists of 10, 1,000 and 10,000 rules, sessions that begin and sessions that go on."""

import random
from collections.abc import Callable
from functools import cache
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_network
from typing import Any

import numpy as np

from pyvpp.bench.scenario import IN_MAC, Scenario, Traffic
from pyvpp_acl.compile import compile_lists
from pyvpp_acl.owner import INPUT, OUTPUT, AclPlugin
from pyvpp_acl.rules import ALL_PORTS, TCP, UDP, Action, Network, Row, Rule
from pyvpp_acl.synthetic import flows_of, realistic
from pyvpp_acl.tables import (
    ACL_APPLIED,
    ACL_SESSIONS,
    ACL_SESSIONS6,
    ACL_SESSIONS6_INDEX,
    ACL_SESSIONS_INDEX,
    ACL_TIMEOUTS,
    APPLIED,
)
from pyvpp_nodes.bench.ground import BASE, INNER, ROUTE, SENDER_MAC, flow, rewritten
from pyvpp_nodes.bench.ip6 import ONE, frame
from pyvpp_nodes.bench.model import ETHERNET_BYTES, ethernet, ip4, udp

SENDERS = IPv4Network("10.0.0.0/8")
RECEIVERS = IPv4Network("198.18.0.0/15")
FLOWS = 16384
NEW_FLOWS = 1 << 18
SHORT = 1_000_000
"""Nanoseconds that sessions live where every packet is to begin one: less than until its turn comes again."""
PORTS = (*[(port, port) for port in (22, 53, 80, 123, 443, 8080)], (1024, 65535), (6000, 6063), (0, 1023), (137, 139))


@cache
def rules(n: int) -> tuple[Rule, ...]:
    """So many rules as firewalls have them: hosts and networks of many sizes, services, and all the rest permitted."""
    random_ = random.Random(n)

    def network(within: IPv4Network) -> IPv4Network:
        length = random_.choice((within.prefixlen, 16, 20, 22, 24, 24, 24, 26, 28, 30, 32, 32, 32))
        address = int(within.network_address) | random_.getrandbits(32 - within.prefixlen)
        return IPv4Network((address, max(length, within.prefixlen)), strict=False)

    made = [
        Rule(
            Action.PERMIT, network(SENDERS), network(RECEIVERS), random_.choice((TCP, UDP, UDP)),
            destination_ports=random_.choice((*PORTS, ALL_PORTS)),
        )
        for _ in range(n - 1)
    ]  # fmt: skip
    return (*made, Rule(Action.PERMIT, ip_network("0.0.0.0/0"), ip_network("0.0.0.0/0")))


@cache
def flows(n: int, count: int) -> tuple[tuple[IPv4Address, IPv4Address, int, int], ...]:
    """Senders, receivers and ports: half of them match a random rule of the list, the others any address."""
    random_ = random.Random(n + 1)
    found = []
    for k in range(count):
        rule = random_.choice(rules(n)) if k & 1 else rules(n)[-1]
        source, destination = _inside(rule.source, SENDERS, random_), _inside(rule.destination, RECEIVERS, random_)
        ports = rule.destination_ports
        assert not isinstance(ports, str)
        found.append((source, destination, random_.randrange(1024, 65536), random_.randint(*ports)))
    return tuple(found)


def _inside(network: Network | str, within: IPv4Network, random_: random.Random) -> IPv4Address:
    assert isinstance(network, IPv4Network)
    chosen = network if network.prefixlen >= within.prefixlen else within
    return chosen[random_.randrange(chosen.num_addresses)]


def arriving(n: int, count: int) -> Callable[[Any, int, int], bytes]:
    return lambda engine, i, size: datagram(flows(n, count)[i % count], size)


def arriving_at(flavour: str, n: int, count: int) -> Callable[[Any, int, int], bytes]:
    return lambda engine, i, size: datagram(flows_of(flavour, n, count)[i % count], size)


def datagram(flow_: Any, size: int) -> bytes:
    source, destination, source_port, destination_port = flow_
    payload = bytes(size - ETHERNET_BYTES - 28)
    return ethernet(IN_MAC, SENDER_MAC, ip4(source, destination, UDP, udp(source_port, destination_port, payload)))


def applied(
    chosen: Callable[[], tuple[Rule, ...]], lifetime: int = 0, interface: str = "pg0", way: str = INPUT
) -> Callable[[Any], None]:
    """Applies a list to what arrives on pg0, or elsewhere."""

    def prepare(engine: Any) -> None:
        owner: AclPlugin = engine.stack.acl
        index = owner.set_acl(None, chosen())
        owner.apply(engine.interfaces.by_name(interface).sw_if_index, way, index)
        if lifetime:
            engine.tables[ACL_TIMEOUTS.name].array[:] = lifetime

    return prepare


REFLECT = (Rule(Action.REFLECT, ip_network("0.0.0.0/0"), ip_network("0.0.0.0/0")),)
SCENARIOS = (
    *(
        Scenario(
            name=f"acl-{name}",
            summary=f"IPv4 forwarding, a list of {n:,} rules on input, stateless; half of the flows match one of them",
            setup=(*BASE, ROUTE),
            prepare=applied(lambda n=n: rules(n)),  # type: ignore[misc]
            packet=arriving(n, FLOWS),
            variations=FLOWS,
            expect=rewritten,
        )
        for name, n in (("10", 10), ("1k", 1000), ("10k", 10000))
    ),
    *(
        Scenario(
            name=f"acl-10k-{flavour}",
            summary=f"IPv4 forwarding, a list of 10,000 rules as in {where} on input, stateless",
            setup=(*BASE, ROUTE),
            prepare=applied(lambda flavour=flavour: realistic(flavour, 10000)),  # type: ignore[misc]
            packet=arriving_at(flavour, 10000, FLOWS),
            variations=FLOWS,
            expect=rewritten,
        )
        for flavour, where in (("acl", "routers"), ("fw", "firewalls"), ("ipc", "hosts"))
    ),
    Scenario(
        name="acl-sessions",
        summary=f"IPv4 forwarding, permit+reflect on input, {FLOWS:,} established sessions",
        setup=(*BASE, ROUTE),
        prepare=applied(lambda: REFLECT),
        packet=arriving(10, FLOWS),
        variations=FLOWS,
        expect=rewritten,
    ),
    Scenario(
        name="acl-new-sessions",
        summary="IPv4 forwarding, permit+reflect on input, every packet begins a session",
        setup=(*BASE, ROUTE),
        prepare=applied(lambda: REFLECT, SHORT),
        packet=lambda engine, i, size: ethernet(
            IN_MAC, SENDER_MAC, flow(INNER + (i & 0x1FFFF), i, size - ETHERNET_BYTES)
        ),
        variations=NEW_FLOWS,
        expect=rewritten,
    ),
)


TRAFFIC = (
    Traffic(name="acl-output", summary="IPv4 forwarding, a list of 1,000 rules on output", setup=(*BASE, ROUTE),
            prepare=applied(lambda: rules(1000), interface="pg1", way=OUTPUT), packet=arriving(1000, FLOWS)),
    Traffic(name="acl-6", summary="IPv6 forwarding, a list of 1,000 rules on input", setup=ONE.setup,
            prepare=applied(lambda: realistic("fw", 1000, 6)), packet=frame),
    Traffic(name="acl-output-6", summary="IPv6 forwarding, a list of 1,000 rules on output", setup=ONE.setup,
            prepare=applied(lambda: realistic("fw", 1000, 6), interface="pg1", way=OUTPUT), packet=frame),
)  # fmt: skip


def check_tables(random_: random.Random) -> dict[str, Any]:
    """A few rules of every kind, applied everywhere, and room for few sessions."""
    kinds = ((4, 32), (6, 128))
    lists = [([_row(number, version, width, random_) for number in range(24)], version) for version, width in kinds]
    numbers, compiled = compile_lists(lists)
    contexts = {"4": numbers[0], "6": numbers[1]}
    table = np.zeros(ACL_APPLIED.capacity, APPLIED)
    for name in ("in4", "out4", "in6", "out6"):
        table[name] = contexts[name[-1]]
    table["reflects"] = [random_.randrange(2) for _ in table]
    sessions = {table.name: np.zeros(64, table.dtype) for table in (ACL_SESSIONS, ACL_SESSIONS6)}
    sessions |= {table.name: np.zeros(256, table.dtype) for table in (ACL_SESSIONS_INDEX, ACL_SESSIONS6_INDEX)}
    timeouts = {ACL_TIMEOUTS.name: np.full(3, 1000, np.int64)}
    return {**compiled, **sessions, **timeouts, ACL_APPLIED.name: table}


def _row(number: int, version: int, width: int, random_: random.Random) -> Row:
    kind = IPv4Network if version == 4 else IPv6Network

    def network() -> Network:
        return kind((random_.getrandbits(width), random_.choice((0, 0, 1, 2, 3))), strict=False)

    low = random_.randrange(1 << 16)
    ports = random_.choice((ALL_PORTS, (low, random_.randint(low, 0xFFFF))))
    return Row(
        number, Action(random_.randrange(3)), network(), network(), random_.choice((0, 0, 1, TCP, UDP, 58)), ALL_PORTS,
        ports, 0, 0,
    )  # fmt: skip
