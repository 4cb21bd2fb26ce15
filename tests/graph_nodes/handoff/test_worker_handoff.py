# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyvpp import handoff_ring as ring
from pyvpp.buffers import L2_VALID
from pyvpp.node import HELD, TO_NODE
from pyvpp.testing import Packet, run_kernel
from pyvpp_nodes.fib.tables import FLOW_HASH_DEFAULT
from pyvpp_nodes.handoff.tables import HANDOFF
from pyvpp_nodes.handoff.worker_handoff import Counter, Next, worker_handoff
from pyvpp_nodes.ip4.flow_hash import HASH_SYMMETRIC
from tests.graph_nodes.forwarding import ip4, ip4_packets, ip6_packets, udp
from tests.graph_nodes.ip4 import test_flow_hash as of_ip4
from tests.graph_nodes.ip6 import test_flow_hash as of_ip6

ETHERNET, BARE, PLAIN = 1, 2, 3  # interfaces: two that hand on, one that does not
WORKERS, ME, SLOTS = 3, 1, 64
SPREAD = {ETHERNET: ([0, 1, 2], FLOW_HASH_DEFAULT), BARE: ([2, 1], FLOW_HASH_DEFAULT | HASH_SYMMETRIC)}
ERROR_BASE = 70


def reference(packet: bytes, rx: int) -> int:
    """The worker that is to have a packet."""
    if rx not in SPREAD:
        return ME
    workers, fields = SPREAD[rx]
    ip, ethertype, flow = packet, 0x86DD if packet[0] >> 4 == 6 else 0x0800, 0
    if rx == ETHERNET:
        destination, source = int.from_bytes(packet[:6], "big"), int.from_bytes(packet[6:12], "big")
        if fields & HASH_SYMMETRIC and source > destination:
            destination, source = source, destination
        flow = of_ip4.mixed(source % 2**32, destination % 2**32, (source >> 32) * 2**16 | destination >> 32)
        at = 12
        while at < 20 and packet[at : at + 2] in (b"\x81\x00", b"\x88\xa8"):
            at += 4
        ethertype, ip = int.from_bytes(packet[at : at + 2], "big"), packet[at + 2 :]
    if ethertype == 0x0800 and len(ip) >= 20:
        flow = of_ip4.reference(ip, fields)
    elif ethertype == 0x86DD and len(ip) >= 40:
        flow = of_ip6.reference(ip, fields)
    return workers[flow % 2**16 * len(workers) // 2**16]


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    """Ethernet frames: IPv4 and IPv6, tagged once, twice, three times, or not at all; ARP; cut ones."""
    ethertype, payload = draw(
        st.one_of(
            st.tuples(st.just(0x0800), ip4_packets()),
            st.tuples(st.just(0x86DD), ip6_packets()),
            st.tuples(st.sampled_from([0x0806, 0x88CC, 0x0800, 0x86DD]), st.binary(max_size=19)),
        )
    )
    tags = b"".join(
        struct.pack("!HH", draw(st.sampled_from([0x8100, 0x88A8])), draw(st.integers(0, 4095)))
        for _ in range(draw(st.integers(0, 3)))
    )
    return draw(st.binary(min_size=12, max_size=12)) + tags + ethertype.to_bytes(2, "big") + payload


def packets() -> st.SearchStrategy[Packet]:
    next_ = st.integers(0, 300)
    return st.one_of(
        st.builds(
            lambda data, n: Packet(data, ETHERNET, flags=L2_VALID, feature=TO_NODE | n, trace=n), frames(), next_
        ),
        st.builds(
            lambda data, n: Packet(data, BARE, feature=TO_NODE | n, trace=n), ip4_packets() | ip6_packets(), next_
        ),
        st.builds(lambda data, n: Packet(data, PLAIN, flags=L2_VALID, feature=TO_NODE | n, trace=n), frames(), next_),
    )


def tables(full: tuple[int, ...] = ()) -> dict[str, Any]:
    """The interfaces' settings, and rings of which some are full."""
    rows = np.zeros(4, HANDOFF)
    for rx, (workers, fields) in SPREAD.items():
        rows["workers"][rx], rows["flow_hash"][rx] = len(workers), fields
        rows["worker"][rx, : len(workers)] = workers
    rings = np.zeros(ring.words(WORKERS, SLOTS), np.int64)
    rings[[ring.WORKERS, ring.SLOTS]] = WORKERS, SLOTS
    for target in full:
        at = ring.ring_at(rings, ME, target)
        rings[at + ring.STAGED] = rings[at + ring.WRITTEN] = SLOTS
    return {"handoff_interfaces": rows, "handoff_rings": rings}


def run(frame: list[Packet], full: tuple[int, ...] = ()) -> tuple[Any, dict[int, list[tuple[int, int]]]]:
    """What the kernel did, and for each worker the buffers and nexts that it put into its ring."""
    result = run_kernel(worker_handoff, frame, tables(full), worker=ME, error_base=ERROR_BASE)
    rings = result.tables["handoff_rings"]
    staged = {}
    for target in range(WORKERS):
        at = ring.ring_at(rings, ME, target)
        assert rings[at + ring.WRITTEN] == (SLOTS if target in full else 0)  # nobody sees them yet
        slots = rings[at + ring.FIRST :][: int(rings[at + ring.STAGED])] if target not in full else []
        staged[target] = [(int(word) & 0xFFFFFFFF, int(word) >> 32) for word in slots]
    return result, staged


@given(st.lists(packets(), min_size=1, max_size=SLOTS), st.sampled_from([(), (0,), (0, 2)]))
def test_each_goes_on_where_it_would_have_gone(frame: list[Packet], full: tuple[int, ...]) -> None:
    result, staged = run(frame, full)
    expected: dict[int, list[tuple[int, int]]] = {target: [] for target in range(WORKERS)}
    dropped = 0
    for k, packet in enumerate(frame):
        target, m = reference(packet.data, packet.rx), result.meta[k]
        if target == ME:
            assert (result.nexts[k], int(m["feature"])) == (packet.fields["feature"], 0)
        elif target in full:
            assert (result.nexts[k], int(m["error"])) == (Next.DROP, ERROR_BASE + Counter.CONGESTION_DROP)
            dropped += 1
        else:
            assert (result.nexts[k], int(m["feature"])) == (HELD, target)
            expected[target].append((result.buffers[k], packet.fields["feature"]))
        assert result.packets[k] == packet.data and int(m["trace"]) == packet.fields["trace"]
        assert (int(m["flags"]), int(m["flow_hash"])) == (packet.fields.get("flags", 0), 0)
    assert staged == expected
    assert list(result.counters) == [dropped]
    rings = result.tables["handoff_rings"]
    assert sum(int(rings[ring.ring_at(rings, ME, t) + ring.CONGESTED]) for t in range(WORKERS)) == dropped


@given(ip4_packets(fragments=st.just(0), protocols=st.sampled_from([6, 17])), st.booleans())
def test_both_directions_meet_when_symmetrical(data: bytes, tagged: bool) -> None:
    l4 = 4 * (data[0] & 15)
    back = (
        data[:12] + data[16:20] + data[12:16] + data[20:l4] + data[l4 + 2 : l4 + 4] + data[l4 : l4 + 2] + data[l4 + 4 :]
    )
    frame = [Packet(each, BARE, feature=TO_NODE | 9) for each in (data, back)]
    result, _ = run(frame)
    assert result.nexts[0] == result.nexts[1]


def test_mac_addresses_the_other_way_round() -> None:
    row = tables()
    row["handoff_interfaces"]["flow_hash"][ETHERNET] |= HASH_SYMMETRIC
    for k in range(1, 40):
        a, b = bytes([2, 0, 0, 0, k, 1]), bytes([2, k, 0, 0, 0, 2])
        frame = [Packet(first + second + b"\x08\x06", ETHERNET, flags=L2_VALID, feature=TO_NODE | 9)
                 for first, second in ((a, b), (b, a))]  # fmt: skip
        result = run_kernel(worker_handoff, frame, row, worker=ME)
        assert result.nexts[0] == result.nexts[1]
        assert int(result.meta[0]["feature"]) == int(result.meta[1]["feature"])


@pytest.mark.parametrize("ports", [range(1, 1001)])
def test_flows_are_spread_evenly(ports: range) -> None:
    counts = np.zeros(WORKERS, np.int64)
    for port in ports:
        counts[reference(bytes(12) + b"\x08\x00" + ip4(udp(source_port=port)), ETHERNET)] += 1
    assert counts.min() > len(ports) // WORKERS * 0.85
