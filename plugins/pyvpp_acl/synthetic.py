# SPDX-License-Identifier: Apache-2.0
"""Lists of rules as they are found in routers (acl), firewalls (fw) and hosts (ipc), made by a seed; and flows.

How often prefixes of which lengths, services and ranges of ports occur follows the kinds that ClassBench made known
(Taylor and Turner, 2007): few addresses in front of networks crowd, firewalls have many wildcards, specific rules come
before general ones. No more than that; the figures are not ClassBench's seeds.
"""

import random
from dataclasses import dataclass
from functools import cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from pyvpp_acl.rules import ALL_PORTS, ICMP, ICMP6, TCP, UDP, Action, Network, Rule

SERVICES = (22, 25, 53, 80, 110, 123, 143, 161, 179, 389, 443, 445, 514, 993, 1433, 1521, 3306, 3389, 5060, 8080, 8443)
WIDTHS = (1, 3, 9, 63, 100, 999, 5000)
ANY, EXACT, RANGE, HIGH, LOW = "any", "exact", "range", "high", "low"
IP4: tuple[Network, Network] = (IPv4Network("10.0.0.0/8"), IPv4Network("198.18.0.0/15"))
IP6: tuple[Network, Network] = (IPv6Network("2001:db8::/32"), IPv6Network("2001:db8:ffff::/48"))
ICMPS = {4: ICMP, 6: ICMP6}


@dataclass(frozen=True)
class Flavour:
    """How often what occurs; lengths are those of IPv4 prefixes, 0 is everywhere."""

    sources: dict[int, int]
    destinations: dict[int, int]
    source_ports: dict[str, int]
    destination_ports: dict[str, int]
    protocols: dict[int, int]


FLAVOURS = {
    "acl": Flavour(
        {0: 8, 16: 4, 23: 4, 24: 20, 27: 8, 28: 8, 30: 6, 32: 42}, {0: 2, 16: 4, 24: 20, 27: 10, 28: 8, 30: 6, 32: 50},
        {ANY: 97, HIGH: 3}, {ANY: 22, EXACT: 55, RANGE: 18, HIGH: 5}, {TCP: 75, UDP: 15, ICMP: 4, 0: 6},
    ),
    "fw": Flavour(
        {0: 45, 8: 5, 16: 10, 24: 15, 32: 25}, {0: 35, 16: 8, 24: 17, 32: 40},
        {ANY: 75, HIGH: 15, EXACT: 10}, {ANY: 25, EXACT: 50, RANGE: 10, HIGH: 10, LOW: 5},
        {TCP: 55, UDP: 30, ICMP: 5, 0: 10},
    ),
    "ipc": Flavour(
        {0: 15, 8: 3, 16: 10, 24: 25, 32: 47}, {0: 15, 16: 10, 24: 25, 32: 50},
        {ANY: 70, EXACT: 20, HIGH: 10}, {ANY: 45, EXACT: 35, RANGE: 10, HIGH: 10}, {TCP: 45, UDP: 30, ICMP: 5, 0: 20},
    ),
}  # fmt: skip


class Crowd:
    """Addresses within a network that share longer prefixes: some of those have most of the hosts."""

    def __init__(self, within: Network, sites: int, random_: random.Random) -> None:
        self._within, self._random = within, random_
        self._level = max(1, (min(64, within.max_prefixlen) - within.prefixlen) // 3)
        self._known: dict[int, list[int]] = {}
        self._sites = sites

    def prefix(self, length: int) -> Network:
        """Of a length that counts 32 bits; 0 is everywhere, 32 a host."""
        w = self._within
        kind = IPv4Network if w.version == 4 else IPv6Network
        if length == 0:
            return kind((0, 0))
        at = self._one_of(0, self._sites) << self._level
        at |= self._one_of(at, 12)
        free = w.max_prefixlen - w.prefixlen
        address = (
            int(w.network_address) | at << free - 2 * self._level | self._random.getrandbits(free - 2 * self._level)
        )
        scaled = w.max_prefixlen if length == 32 else max(w.prefixlen, length if w.version == 4 else length + 32)
        return kind((address, scaled), strict=False)

    def _one_of(self, parent: int, most: int) -> int:
        known = self._known.setdefault(parent, [self._random.getrandbits(self._level) for _ in range(most)])
        return known[min(int(self._random.paretovariate(0.9)) - 1, most - 1)]


def _drawn(random_: random.Random, weights: dict[int, int]) -> int:
    return random_.choices(list(weights), list(weights.values()))[0]


def _ports(random_: random.Random, weights: dict[str, int]) -> tuple[int, int]:
    kind = random_.choices(list(weights), list(weights.values()))[0]
    if kind == EXACT:
        port = random_.choice(SERVICES) if random_.random() < 0.7 else random_.randrange(1, 65536)
        return port, port
    if kind == RANGE:
        low = random_.randrange(1, 60000)
        return low, min(65535, low + random_.choice(WIDTHS))
    return {ANY: ALL_PORTS, HIGH: (1024, 65535), LOW: (0, 1023)}[kind]


@cache
def realistic(flavour: str, n: int, version: int = 4, seed: int = 1) -> tuple[Rule, ...]:
    """So many rules, the last of which permits all the rest."""
    random_, kind = random.Random(f"{flavour} {n} {version} {seed}"), FLAVOURS[flavour]
    sources, destinations = (Crowd(within, max(4, n // 60), random_) for within in (IP4 if version == 4 else IP6))
    made: dict[Rule, float] = {}
    for _ in range(20 * n):
        if len(made) == n - 1:
            break
        source, destination = (
            crowd.prefix(_drawn(random_, lengths))
            for crowd, lengths in ((sources, kind.sources), (destinations, kind.destinations))
        )
        protocol = _drawn(random_, kind.protocols)
        from_, to = ALL_PORTS, ALL_PORTS
        if protocol in (TCP, UDP):
            from_, to = _ports(random_, kind.source_ports), _ports(random_, kind.destination_ports)
        protocol = ICMPS[version] if protocol == ICMP else protocol
        width = sum((high - low + 1).bit_length() for low, high in (from_, to))
        place = width - source.prefixlen - destination.prefixlen + random_.gauss(0, 8)
        made[Rule(Action.PERMIT, source, destination, protocol, from_, to)] = place
    everywhere: Network = (IPv4Network if version == 4 else IPv6Network)((0, 0))
    return (*sorted(made, key=made.__getitem__), Rule(Action.PERMIT, everywhere, everywhere))


Flow = tuple[IPv4Address | IPv6Address, IPv4Address | IPv6Address, int, int]


@cache
def flows_of(flavour: str, n: int, count: int, version: int = 4) -> tuple[Flow, ...]:
    """Senders, receivers and ports of UDP: half of them a rule's, half the ends of two rules with any service."""
    random_, rules = random.Random(n + 1), realistic(flavour, n, version)
    found = []
    for k in range(count):
        rule, other = random_.choice(rules), random_.choice(rules)
        ends = rule.source, rule.destination if k & 1 else other.destination
        source, destination = (
            address_in(end, within, random_) for end, within in zip(ends, IP4 if version == 4 else IP6, strict=True)
        )
        ports = rule.destination_ports if k & 1 else (random_.choice(SERVICES),) * 2
        assert not isinstance(ports, str)
        found.append((source, destination, random_.randrange(1024, 65536), random_.randint(ports[0], ports[1])))
    return tuple(found)


def address_in(network: Network | str, within: Network, random_: random.Random) -> IPv4Address | IPv6Address:
    """Any one of those that a rule means and that are within."""
    assert not isinstance(network, str)
    chosen = network if network.prefixlen >= within.prefixlen else within
    return chosen[random_.randrange(chosen.num_addresses)]
