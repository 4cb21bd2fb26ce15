# SPDX-License-Identifier: Apache-2.0
"""Rules as operators write them, and what sets of addresses and ports make of them: rows, the first of which wins."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from ipaddress import IPv4Network, IPv6Network

from pyvpp.errors import OperatorError

Network = IPv4Network | IPv6Network
ICMP, TCP, UDP, ICMP6 = 1, 6, 17, 58
ANY_PROTOCOL = 0
"""As in VPP. IPv6's hop-by-hop options have that number: an extension header, no protocol to filter by."""
ALL_PORTS = (0, 0xFFFF)
MOST_ROWS = 1 << 17
"""What sets may make of the lists of one interface."""


class Action(IntEnum):
    """VPP's numbers."""

    DENY = 0
    PERMIT = 1
    REFLECT = 2


ACTION_BITS = 2
"""Of a row's verdict; above them is its rule's number."""
ACTION_WORDS = {Action.DENY: "deny", Action.PERMIT: "permit", Action.REFLECT: "permit+reflect"}


@dataclass(frozen=True)
class Rule:
    """What a packet must be to match. Of ICMP `source_ports` are types and `destination_ports` codes.

    A set is named instead of a prefix or a range; it holds what it holds when packets pass, not when the rule was made.
    """

    action: Action
    source: Network | str
    destination: Network | str
    protocol: int = ANY_PROTOCOL
    source_ports: tuple[int, int] | str = ALL_PORTS
    destination_ports: tuple[int, int] | str = ALL_PORTS
    tcp_flags: int = 0
    tcp_mask: int = 0


@dataclass(frozen=True)
class Row:
    """A rule with one prefix and one range for each field; `number` says which rule, for its hits."""

    number: int
    action: Action
    source: Network
    destination: Network
    protocol: int
    source_ports: tuple[int, int]
    destination_ports: tuple[int, int]
    tcp_flags: int
    tcp_mask: int


@dataclass
class Sets:
    """Named sets of prefixes and of port ranges."""

    addresses: dict[str, tuple[Network, ...]] = field(default_factory=dict)
    ports: dict[str, tuple[tuple[int, int], ...]] = field(default_factory=dict)

    def networks(self, field_: Network | str) -> Sequence[Network]:
        return self.addresses[field_] if isinstance(field_, str) else (field_,)

    def ranges(self, field_: tuple[int, int] | str) -> Sequence[tuple[int, int]]:
        return self.ports[field_] if isinstance(field_, str) else (field_,)


def names_in(rule: Rule) -> Iterator[str]:
    """The sets a rule names."""
    for each in (rule.source, rule.destination, rule.source_ports, rule.destination_ports):
        if isinstance(each, str):
            yield each


def rows_of(rules: Sequence[tuple[int, Rule]], sets: Sets, version: int) -> list[Row]:
    """The rows of one address family, in the order in which they are looked through. Raises OperatorError."""
    found: list[Row] = []
    for number, rule in rules:
        for source in sets.networks(rule.source):
            for destination in sets.networks(rule.destination):
                if source.version != version or destination.version != version:
                    continue
                found += _with_ports(number, rule, source, destination, sets)
                if len(found) > MOST_ROWS:
                    raise OperatorError(f"sets make more than {MOST_ROWS} rows of the rules of an interface")
    return found


def _with_ports(number: int, rule: Rule, source: Network, destination: Network, sets: Sets) -> Iterator[Row]:
    for source_ports in sets.ranges(rule.source_ports):
        for destination_ports in sets.ranges(rule.destination_ports):
            yield Row(
                number, rule.action, source, destination, rule.protocol, source_ports, destination_ports,
                rule.tcp_flags, rule.tcp_mask,
            )  # fmt: skip


def for_later_fragments(rows: Sequence[Row]) -> list[Row]:
    """The rows as fragments without a header behind IP see them: by addresses and protocol alone, as in VPP.

    Only the first fragment has what the other conditions are about, and no host makes anything of the rest without it.
    """
    first: dict[tuple[Network, Network, int], Row] = {}
    for row in rows:
        key = (row.source, row.destination, row.protocol)
        if key not in first:
            first[key] = Row(row.number, row.action, *key, ALL_PORTS, ALL_PORTS, 0, 0)
    return list(first.values())


def rule_text(rule: Rule) -> str:
    """As VPP's `show acl-plugin acl` has it."""
    version = next((f.version for f in (rule.source, rule.destination) if not isinstance(f, str)), 0)
    text = f"{f'ipv{version}' if version else 'ip'} {ACTION_WORDS[rule.action]}"
    text += f" src {_named(rule.source)} dst {_named(rule.destination)} proto {rule.protocol}"
    text += f" sport {_range(rule.source_ports)} dport {_range(rule.destination_ports)}"
    return text + (f" tcpflags {rule.tcp_flags} mask {rule.tcp_mask}" if rule.tcp_mask else "")


def _named(field_: Network | str) -> str:
    return f"@{field_}" if isinstance(field_, str) else str(field_)


def _range(field_: tuple[int, int] | str) -> str:
    if isinstance(field_, str):
        return f"@{field_}"
    return str(field_[0]) if field_[0] == field_[1] else f"{field_[0]}-{field_[1]}"
