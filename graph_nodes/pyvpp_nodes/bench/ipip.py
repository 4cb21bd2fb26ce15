# SPDX-License-Identifier: Apache-2.0
"""IPv4 in IPv4: into a tunnel by a route, and out of it."""

from typing import Any

from pyvpp.bench.scenario import IN_MAC, OUT_MAC, Scenario, VppFigures
from pyvpp_nodes.bench.ground import (
    INNER,
    NEAR,
    PEER_MAC,
    ROUTE,
    SENDER_MAC,
    TUNNEL_FAR,
    UNDERLAY,
    flow,
    inner,
    rewritten,
    to,
)
from pyvpp_nodes.bench.model import ETHERNET_BYTES, IP4_BYTES, IP_IN_IP, ethernet, ip4, ip4_forwarded

TUNNEL = (
    *UNDERLAY,
    f"create ipip tunnel src {NEAR} dst {TUNNEL_FAR}",
    "set interface state ipip0 up",
    "set interface ip address ipip0 10.4.0.1/30",
)
OUTER_TTL = 63


def encapsulated(engine: Any, frame: bytes) -> bytes:
    return ethernet(
        PEER_MAC, OUT_MAC, ip4(NEAR, TUNNEL_FAR, IP_IN_IP, ip4_forwarded(frame[ETHERNET_BYTES:]), OUTER_TTL)
    )


def tunnelled(engine: Any, i: int, size: int) -> bytes:
    return ethernet(IN_MAC, SENDER_MAC, ip4(TUNNEL_FAR, NEAR, IP_IN_IP, flow(inner(i), i, size - ETHERNET_BYTES)))


ENCAP = Scenario(
    name="ipip-encap",
    summary="a route into an IPIP tunnel",
    setup=(*TUNNEL, f"ip route add {INNER}/15 via ipip0"),
    packet=to(inner),
    expect=encapsulated,
    vpp=VppFigures(173, 104),
)
DECAP = Scenario(
    name="ipip-decap",
    summary="out of an IPIP tunnel, then a route (64 bytes without the outer header)",
    setup=(*TUNNEL, ROUTE),
    packet=tunnelled,
    expect=lambda engine, frame: rewritten(engine, frame[IP4_BYTES:]),
    vpp=VppFigures(290, 250),
)
