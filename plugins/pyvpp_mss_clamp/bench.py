# SPDX-License-Identifier: Apache-2.0
"""What `pyvpp bench --scenario mss-clamp` runs, and what `pyvpp plugin check` fills the tables with."""

import random
import struct
from typing import Any

import numpy as np

from pyvpp.bench.scenario import IN_MAC, Scenario, Traffic
from pyvpp_mss_clamp.clamp import CHECKSUM, MSS_CLAMP, OPTIONS
from pyvpp_nodes.bench.ground import BASE, ROUTE, SENDER, SENDER_MAC, inner, rewritten
from pyvpp_nodes.bench.ip6 import ONE, frame
from pyvpp_nodes.bench.model import ETHERNET_BYTES, IP4_BYTES, IP6_BYTES, checksum, ethernet, ip4
from pyvpp_nodes.fib.tables import ADJACENCIES, ADJACENCY
from pyvpp_nodes.ip4.header import TCP

ASKED, MOST = 1460, 1400
TCP_AT, TCP_AT6 = ETHERNET_BYTES + IP4_BYTES, ETHERNET_BYTES + IP6_BYTES


def syn(mss: int, source: bytes, destination: bytes, port: int, payload: bytes) -> bytes:
    """A TCP header with the MSS option, its checksum computed."""
    segment = struct.pack("!HHIIBBHHHBBH", port, 80, port, 0, 6 << 4, 2, 0xFFFF, 0, 0, 2, 4, mss) + payload
    pseudo = source + destination + struct.pack("!HH", TCP, len(segment))
    return segment[:CHECKSUM] + checksum(pseudo + segment).to_bytes(2, "big") + segment[CHECKSUM + 2 :]


def arriving(engine: Any, i: int, size: int) -> bytes:
    payload = bytes(max(0, size - TCP_AT - OPTIONS - 4) & ~1)
    segment = syn(ASKED, SENDER.packed, inner(i).packed, 1024 + i % 60000, payload)
    return ethernet(IN_MAC, SENDER_MAC, ip4(SENDER, inner(i), TCP, segment))


def clamped(engine: Any, packet: bytes) -> bytes:
    """The same SYN, made with the smaller size from the start."""
    port, payload = int.from_bytes(packet[TCP_AT : TCP_AT + 2], "big"), packet[TCP_AT + OPTIONS + 4 :]
    source, destination = packet[ETHERNET_BYTES + 12 :][:4], packet[ETHERNET_BYTES + 16 :][:4]
    return rewritten(engine, packet[:TCP_AT] + syn(MOST, source, destination, port, payload))


SCENARIO = Scenario(
    name="mss-clamp",
    summary="IPv4 forwarding of SYNs only, each clamped on arrival",
    setup=(*BASE, ROUTE, f"set interface tcp-mss-clamp pg0 ip4 rx ip4-mss {MOST}"),
    packet=arriving,
    expect=clamped,
)


def arriving6(engine: Any, i: int, size: int) -> bytes:
    """Its checksum is not computed: whoever clamps changes it by what changes."""
    header, payload = frame(engine, i, 64)[:TCP_AT6], syn(ASKED, b"", b"", 1024 + i % 60000, b"")
    header = header[: TCP_AT6 - 36] + len(payload).to_bytes(2, "big") + bytes([TCP]) + header[TCP_AT6 - 33 :]
    return header + payload


TRAFFIC = (
    Traffic(name="mss-clamp-output", summary="IPv4 forwarding of SYNs only, each clamped when it leaves",
            setup=(*BASE, ROUTE, f"set interface tcp-mss-clamp pg1 ip4 tx ip4-mss {MOST}"), packet=arriving),
    Traffic(name="mss-clamp-6", summary="IPv6 forwarding of SYNs only, each clamped on arrival",
            setup=(*ONE.setup, f"set interface tcp-mss-clamp pg0 ip6 rx ip6-mss {MOST}"), packet=arriving6),
    Traffic(name="mss-clamp-output-6", summary="IPv6 forwarding of SYNs only, each clamped when it leaves",
            setup=(*ONE.setup, f"set interface tcp-mss-clamp pg1 ip6 tx ip6-mss {MOST}"), packet=arriving6),
)  # fmt: skip


def check_tables(random_: random.Random) -> dict[str, Any]:
    """Limits of which some change a random size and others do not."""
    table = np.zeros(MSS_CLAMP.capacity, MSS_CLAMP.dtype)
    for family in ("ip4", "ip6"):
        table[family] = [random_.randrange(1 << 16) for _ in range(len(table))]
    adjacencies = np.zeros(16, ADJACENCY)
    adjacencies["rewrite_bytes"] = [random_.choice((0, 14, 20)) for _ in adjacencies]
    return {MSS_CLAMP.name: table, ADJACENCIES.name: adjacencies}
