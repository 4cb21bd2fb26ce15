# SPDX-License-Identifier: Apache-2.0
"""VXLAN: a port cross-connected with a tunnel, each way; a route through a tunnel, each way."""

from ipaddress import IPv4Address
from typing import Any

from pyvpp.bench.scenario import IN_MAC, OUT_MAC, Scenario, VppFigures
from pyvpp_nodes.bench.ground import (
    INNER,
    NEAR,
    OWN,
    PEER_MAC,
    ROUTE,
    SENDER,
    SENDER_MAC,
    TUNNEL_FAR,
    UNDERLAY,
    flow,
    inner,
    mac_of,
    rewritten,
    to,
)
from pyvpp_nodes.bench.model import (
    ETHERNET_BYTES,
    IP4_BYTES,
    UDP,
    UDP_BYTES,
    VXLAN_PORT,
    ethernet,
    ip4,
    ip4_forwarded,
    udp,
    vxlan,
)

VNI = 100
FAR_MAC = bytes.fromhex("020000000303")  # of the host behind the tunnel
TUNNEL = f"create vxlan tunnel src {NEAR} dst {TUNNEL_FAR} vni {VNI}"
ROUTED = (
    *UNDERLAY,
    TUNNEL,
    "set interface ip address vxlan_tunnel0 10.4.0.1/24",
    f"set ip neighbor vxlan_tunnel0 10.4.0.2 {FAR_MAC.hex(':')} static",
)
OUTER_TTL = 253
SOURCE_PORT = (ETHERNET_BYTES + IP4_BYTES, ETHERNET_BYTES + IP4_BYTES + 1)  # drawn from the inner flow (RFC 7348, 5)
OUTER_BYTES = ETHERNET_BYTES + IP4_BYTES + UDP_BYTES + 8


def connected(tunnel_end: str, wire_end: str) -> tuple[str, ...]:
    return f"set interface l2 xconnect {tunnel_end} {wire_end}", f"set interface l2 xconnect {wire_end} {tunnel_end}"


def encapsulated(engine: Any, frame: bytes) -> bytes:
    """A frame behind the outer headers, on the wire."""
    return ethernet(PEER_MAC, OUT_MAC, ip4(NEAR, TUNNEL_FAR, UDP, udp(0, VXLAN_PORT, vxlan(VNI, frame)), OUTER_TTL))


def routed_and_encapsulated(engine: Any, frame: bytes) -> bytes:
    through = ethernet(FAR_MAC, mac_of(engine, "vxlan_tunnel0"), ip4_forwarded(frame[ETHERNET_BYTES:]))
    return encapsulated(engine, through)


def arriving(i: int, near: IPv4Address, destination: bytes, size: int) -> bytes:
    frame = ethernet(destination, FAR_MAC, flow(inner(i), i, size - ETHERNET_BYTES))
    datagram = udp(49152 + i % 1000, VXLAN_PORT, vxlan(VNI, frame))
    return ethernet(IN_MAC, SENDER_MAC, ip4(TUNNEL_FAR, near, UDP, datagram))


ENCAP = Scenario(
    name="vxlan-encap",
    summary="a port cross-connected with a VXLAN tunnel",
    setup=(*UNDERLAY[1:], TUNNEL, *connected("vxlan_tunnel0", "pg0")),
    packet=to(inner),
    expect=encapsulated,
    masked=SOURCE_PORT,
    vpp=VppFigures(157, 89),
)
DECAP = Scenario(
    name="vxlan-decap",
    summary="a VXLAN tunnel cross-connected with a port (64 bytes without the outer headers)",
    setup=(
        f"set interface ip address pg0 {OWN}/24",
        f"set ip neighbor pg0 {SENDER} {SENDER_MAC.hex(':')} static",
        f"ip route add {TUNNEL_FAR}/32 via {SENDER} pg0",
        f"create vxlan tunnel src {OWN} dst {TUNNEL_FAR} vni {VNI}",
        *connected("vxlan_tunnel0", "pg1"),
    ),
    packet=lambda engine, i, size: arriving(i, OWN, PEER_MAC, size),
    expect=lambda engine, frame: frame[OUTER_BYTES:],
    vpp=VppFigures(177, 140),
)
ENCAP_L3 = Scenario(
    name="vxlan-encap-l3",
    summary="a route through a VXLAN tunnel",
    setup=(*ROUTED, f"ip route add {INNER}/15 via 10.4.0.2 vxlan_tunnel0"),
    packet=to(inner),
    expect=routed_and_encapsulated,
    masked=SOURCE_PORT,
    vpp=VppFigures(186, 119),
)
DECAP_L3 = Scenario(
    name="vxlan-decap-l3",
    summary="out of a VXLAN tunnel, then a route (64 bytes without the outer headers)",
    setup=(*ROUTED, ROUTE),
    packet=lambda engine, i, size: arriving(i, NEAR, mac_of(engine, "vxlan_tunnel0"), size),
    expect=lambda engine, frame: rewritten(engine, frame[OUTER_BYTES:]),
    vpp=VppFigures(206, 171),
)
