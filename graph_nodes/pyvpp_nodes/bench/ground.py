# SPDX-License-Identifier: Apache-2.0
"""The ground that scenarios share: a sender behind pg0, a neighbor behind pg1, an inner network reached through it."""

from collections.abc import Callable
from ipaddress import IPv4Address
from typing import Any

from pyvpp.bench.scenario import IN_MAC, OUT_MAC
from pyvpp_nodes.bench.model import ETHERNET_BYTES, IP4_BYTES, UDP, UDP_BYTES, ethernet, ip4, ip4_forwarded, udp

SENDER_MAC = bytes.fromhex("020000000101")
PEER_MAC = bytes.fromhex("020000000202")
SENDER = IPv4Address("10.1.0.2")
OWN = IPv4Address("10.1.0.1")
NEAR, FAR = IPv4Address("10.2.0.1"), IPv4Address("10.2.0.2")
TUNNEL_FAR = IPv4Address("10.3.0.2")
INNER = IPv4Address("198.18.0.0")  # RFC 2544's network for benchmarks

BASE = (
    f"set interface ip address pg0 {OWN}/24",
    f"set interface ip address pg1 {NEAR}/24",
    f"set ip neighbor pg1 {FAR} {PEER_MAC.hex(':')} static",
)
ROUTE = f"ip route add {INNER}/15 via {FAR} pg1"
UNDERLAY = (*BASE, f"ip route add {TUNNEL_FAR}/32 via {FAR} pg1")


def flow(destination: IPv4Address, number: int, size: int) -> bytes:
    """An IPv4 packet of `size` bytes: UDP from one of 60,000 ports."""
    payload = bytes(i & 0xFF for i in range(size - IP4_BYTES - UDP_BYTES))
    return ip4(SENDER, destination, UDP, udp(1024 + number % 60000, 4000, payload))


def inner(i: int) -> IPv4Address:
    """An address behind the route to INNER."""
    return INNER + i


def to(destination: Callable[[int], IPv4Address]) -> Callable[[Any, int, int], bytes]:
    """Frames of so many bytes in all for pg0's MAC address, with IPv4 packets to an address by number."""
    return lambda engine, i, size: ethernet(IN_MAC, SENDER_MAC, flow(destination(i), i, size - ETHERNET_BYTES))


def rewritten(engine: Any, frame: bytes) -> bytes:
    """The same packet one hop later, on its way to the neighbor behind pg1."""
    return ethernet(PEER_MAC, OUT_MAC, ip4_forwarded(frame[ETHERNET_BYTES:]))


def mac_of(engine: Any, interface: str) -> bytes:
    mac: bytes = engine.require_interface(interface).mac
    return mac
