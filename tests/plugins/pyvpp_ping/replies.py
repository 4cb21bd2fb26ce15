# SPDX-License-Identifier: Apache-2.0
"""Frames of echo replies and what looks like them, for both families."""

from typing import Any

import numpy as np
from hypothesis import strategies as st

from pyvpp_ping.tables import IDENTIFIERS, PING_RECEIVED, PINGING, PINGS
from tests.graph_nodes.forwarding import ip4

OURS = {
    "2001:db8::1": bytes.fromhex("20010db8" + 22 * "0" + "01"),
    "2001:db8::2": bytes.fromhex("20010db8" + 22 * "0" + "02"),
}
IDS = st.integers(0, 7)
PINGING_OF = st.lists(st.tuples(st.sampled_from((0, 4, 6)), st.sampled_from(sorted(OURS))), min_size=8, max_size=8)
TIME = 12_345_678_901


def reply4(identifier: int, options: bytes) -> bytes:
    return ip4(b"\0\0\0\0" + identifier.to_bytes(2, "big") + b"\0\1", protocol=1, options=options)


def reply6(identifier: int, destination: str, kind: int, next_header: int, cut: int) -> bytes:
    message = bytes([kind]) + bytes(3) + identifier.to_bytes(2, "big") + b"\0\1"
    packet = b"\x60" + bytes(3) + b"\0\x08" + bytes([next_header, 64]) + bytes(16) + OURS[destination] + message
    return packet[: len(packet) - cut]


REPLIES4 = st.builds(reply4, IDS, st.sampled_from([b"", b"\1" * 8]))
REPLIES6 = st.builds(
    reply6, IDS, st.sampled_from(sorted(OURS)), st.sampled_from([129, 129, 129, 128, 1]),
    st.sampled_from([58, 58, 58, 17, 44]), st.sampled_from([0, 0, 0, 1, 8]),
)  # fmt: skip


def tables_of(pinging: list[tuple[int, str]]) -> dict[str, Any]:
    """`pings` with a row for each of the first identifiers."""
    pings = np.zeros(IDENTIFIERS, PINGING)
    for identifier, (version, source) in enumerate(pinging):
        pings["version"][identifier] = version
        pings["source_high"][identifier] = int.from_bytes(OURS[source][:8], "big")
        pings["source_low"][identifier] = int.from_bytes(OURS[source][8:], "big")
    return {PINGS.name: pings}


def noted(result: Any, expected: list[bool]) -> bool:
    """Whether the time was noted for the answers, and for nothing else."""
    times = result.tables[PING_RECEIVED.name][result.buffers].tolist()
    return times == [TIME if each else 0 for each in expected]
