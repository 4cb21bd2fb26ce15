# SPDX-License-Identifier: Apache-2.0
"""What differs between IPv4 and IPv6 in the FIB. Addresses are plain numbers of the family's width."""

from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any

Address = IPv4Address | IPv6Address | str | int
Prefix = IPv4Network | IPv6Network | str | tuple[int, int]


@dataclass(frozen=True)
class Family:
    """An address family."""

    name: str  # of nodes: ip4-lookup
    title: str  # in VPP's output: ipv4-VRF:0
    bits: int
    ethertype: bytes
    resolve_ethertype: bytes  # of what asks for a neighbor: ARP, or IPv6 itself
    broadcast: bool  # do a prefix's first and last address mean something else than a host?
    parse_address: Callable[[Any], Any] = field(repr=False)
    parse_network: Callable[..., Any] = field(repr=False)

    @property
    def ones(self) -> int:
        return (1 << self.bits) - 1

    def mask(self, length: int) -> int:
        return self.ones << (self.bits - length) & self.ones

    def number(self, address: Address) -> int:
        return int(self.parse_address(address))

    def prefix_of(self, prefix: Prefix) -> tuple[int, int]:
        """(network, length) of whatever names a prefix; bits beyond the length are cleared, as VPP does."""
        if not isinstance(prefix, tuple):
            network = self.parse_network(prefix, strict=False)
            return int(network.network_address), network.prefixlen
        address, length = prefix
        return address & self.mask(length), length

    def is_unicast(self, address: int) -> bool:
        """Can it be an interface's? Not multicast, nobody's, or reserved (240/4, the IPv4 broadcast address in it)."""
        first = 0xE0 if self.bits == 32 else 0xFF
        return 0 < address < first << (self.bits - 8)

    def show(self, address: int, length: int | None = None) -> str:
        text = str(self.parse_address(address))
        return text if length is None else f"{text}/{length}"


IP4 = Family(
    name="ip4",
    title="ipv4",
    bits=32,
    ethertype=b"\x08\x00",
    resolve_ethertype=b"\x08\x06",
    broadcast=True,
    parse_address=IPv4Address,
    parse_network=IPv4Network,
)
IP6 = Family(
    name="ip6",
    title="ipv6",
    bits=128,
    ethertype=b"\x86\xdd",
    resolve_ethertype=b"\x86\xdd",
    broadcast=False,
    parse_address=IPv6Address,
    parse_network=IPv6Network,
)
