# SPDX-License-Identifier: Apache-2.0
"""IPv6 forwarding, one route."""

from ipaddress import IPv6Address
from typing import Any

from pyvpp.bench.scenario import IN_MAC, OUT_MAC, Scenario
from pyvpp_nodes.bench.ground import PEER_MAC, SENDER_MAC
from pyvpp_nodes.bench.model import (
    ETHERNET_BYTES,
    ETHERTYPE_IP6,
    IP6_BYTES,
    UDP,
    UDP_BYTES,
    ethernet,
    ip6,
    ip6_forwarded,
    udp6,
)

SENDER = IPv6Address("2001:db8:1::2")
FAR = IPv6Address("2001:db8:2::2")
INNER = IPv6Address("2001:2::")  # RFC 5180's network for benchmarks, /48
SMALLEST = ETHERNET_BYTES + IP6_BYTES + UDP_BYTES


def frame(engine: Any, i: int, size: int) -> bytes:
    payload = bytes(k & 0xFF for k in range(max(size, SMALLEST) - SMALLEST))
    packet = ip6(SENDER, INNER + i, UDP, udp6(SENDER, INNER + i, (1024 + i % 60000, 4000), payload))
    return ethernet(IN_MAC, SENDER_MAC, packet, ETHERTYPE_IP6)


def forwarded(engine: Any, arrived: bytes) -> bytes:
    return ethernet(PEER_MAC, OUT_MAC, ip6_forwarded(arrived[ETHERNET_BYTES:]), ETHERTYPE_IP6)


ONE = Scenario(
    name="ip6",
    summary="IPv6 forwarding, one route",
    needs=("ip6-input", "ip6-lookup", "ip6-rewrite"),
    setup=(
        "set interface ip address pg0 2001:db8:1::1/64",
        "set interface ip address pg1 2001:db8:2::1/64",
        f"set ip neighbor pg1 {FAR} {PEER_MAC.hex(':')} static",
        f"ip route add {INNER}/48 via {FAR} pg1",
    ),
    packet=frame,
    expect=forwarded,
)
