# SPDX-License-Identifier: Apache-2.0
"""IPv6 traffic that does not go straight on: what brings nodes their packets that no scenario reaches."""

from typing import Any

from pyvpp.bench.scenario import Traffic
from pyvpp_nodes.bench.ground import SENDER_MAC
from pyvpp_nodes.bench.ip6 import FAR, INNER, ONE, SENDER, frame
from pyvpp_nodes.bench.model import ETHERNET_BYTES

HOP_LIMIT = ETHERNET_BYTES + 7
ADDRESSES = ONE.setup[:2]
RETURN = f"set ip neighbor pg0 {SENDER} {SENDER_MAC.hex(':')} static"
TO_INNER = f"ip route add {INNER}/48 via"
NEAR_PREFIX = FAR.packed[:8]


def expiring(engine: Any, i: int, size: int) -> bytes:
    arrived = frame(engine, i, size)
    return arrived[:HOP_LIMIT] + b"\x01" + arrived[HOP_LIMIT + 1 :]


def on_link(engine: Any, i: int, size: int) -> bytes:
    """To an address behind pg1 that nobody has."""
    arrived, to = frame(engine, i, size), ETHERNET_BYTES + 24
    return arrived[:to] + NEAR_PREFIX + (0x1000 + i).to_bytes(8, "big") + arrived[to + 16 :]


TRAFFIC = (
    Traffic(name="hop-limit-expired", summary="IPv6 packets at the end of their life", setup=(*ONE.setup, RETURN),
            packet=expiring, variations=1024),
    Traffic(name="no-route-6", summary="IPv6 packets to nowhere", setup=ADDRESSES, packet=frame, variations=1024),
    Traffic(name="null-route-6", summary="IPv6 packets to a route that refuses", packet=frame, variations=1024,
            setup=(*ADDRESSES, RETURN, f"{TO_INNER} null-send-unreach")),
    Traffic(name="unresolved-on-link-6", summary="IPv6 packets to addresses of a link that nobody has",
            setup=ADDRESSES, packet=on_link, variations=1024),
    Traffic(name="unresolved-next-hop-6", summary="IPv6 packets to a next hop that is not known",
            setup=(*ADDRESSES, f"{TO_INNER} {FAR} pg1"), packet=frame, variations=1024),
)  # fmt: skip
