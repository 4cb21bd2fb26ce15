# SPDX-License-Identifier: Apache-2.0
"""IPv4 forwarding from a VLAN of one port to a VLAN of another."""

from typing import Any

from pyvpp.bench.scenario import Scenario
from pyvpp_nodes.bench.ground import FAR, INNER, NEAR, OWN, PEER_MAC, inner, rewritten, to

IN_VLAN, OUT_VLAN = 100, 200
MACS = 12
TAGGED = b"\x81\x00"


def tagged(frame: bytes, vlan: int) -> bytes:
    """The frame with an 802.1Q tag behind its MAC addresses."""
    return frame[:MACS] + TAGGED + vlan.to_bytes(2, "big") + frame[MACS:]


def arrives(engine: Any, i: int, size: int) -> bytes:
    return tagged(to(inner)(engine, i, size - 4), IN_VLAN)


def leaves(engine: Any, frame: bytes) -> bytes:
    return tagged(rewritten(engine, frame[:MACS] + frame[MACS + 4 :]), OUT_VLAN)


TAGGED_TO_TAGGED = Scenario(
    name="ip4-vlan",
    summary="IPv4 forwarding from a VLAN to another, one route",
    setup=(
        f"create sub-interfaces pg0 {IN_VLAN}",
        f"create sub-interfaces pg1 {OUT_VLAN}",
        f"set interface state pg0.{IN_VLAN} up",
        f"set interface state pg1.{OUT_VLAN} up",
        f"set interface ip address pg0.{IN_VLAN} {OWN}/24",
        f"set interface ip address pg1.{OUT_VLAN} {NEAR}/24",
        f"set ip neighbor pg1.{OUT_VLAN} {FAR} {PEER_MAC.hex(':')} static",
        f"ip route add {INNER}/15 via {FAR} pg1.{OUT_VLAN}",
    ),
    packet=arrives,
    expect=leaves,
)
