# SPDX-License-Identifier: Apache-2.0
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyvpp.testing import Packet, run_kernel
from pyvpp_nodes.ip4.udp_lookup import Counter, Next, ip4_udp_lookup
from tests.graph_nodes.forwarding import frames, ip4, udp

LISTENERS = {4789: 0x8123, 53: 0x8053, 0: 0x8001, 65535: 0x8002}
PORTS = np.zeros(1 << 16, np.uint16)
for port, listener in LISTENERS.items():
    PORTS[port] = listener


def reference(data: bytes) -> tuple[int, Counter | None]:
    header = 4 * (data[0] & 15)
    length = int.from_bytes(data[header + 4 : header + 6].ljust(2, b"\0"), "big")
    if len(data) < header + 8 or not 8 <= length <= len(data) - header:
        return Next.DROP, Counter.LENGTH_ERROR
    port = int.from_bytes(data[header + 2 : header + 4], "big")
    return (LISTENERS[port], None) if port in LISTENERS else (Next.ICMP_ERROR, Counter.NO_LISTENER)


DATAGRAMS = st.builds(
    lambda port, length, payload, options: ip4(struct.pack("!HHHH", 9, port, max(length + len(payload), 0), 0) + payload, options=options),
    st.sampled_from([4789, 4790, 53, 0, 65535, 7]), st.sampled_from([8, 8, 8, 9, 0]), st.binary(max_size=20), st.sampled_from([b"", b"\1" * 4]),
)  # fmt: skip


@given(frames(st.one_of(DATAGRAMS, st.binary(max_size=7).map(ip4))))
def test_mixed_frames(packets):
    result = run_kernel(ip4_udp_lookup, [Packet(data) for data in packets], {"udp_ports": PORTS})
    expected = [reference(data) for data in packets]
    assert result.nexts == [next_ for next_, _ in expected]
    for counter in Counter:
        assert result.counters[counter] == sum(fault == counter for _, fault in expected)
    assert result.packets == packets
    for (next_, _), m, data in zip(expected, result.meta, packets, strict=True):
        if next_ == Next.ICMP_ERROR:
            assert int(m["flow_hash"]) == 3 << 24 | 3 << 16
        if next_ != Next.DROP:
            assert int(m["l4"]) - int(m["l3"]) == 4 * (data[0] & 15)


def test_shorter_than_a_header():
    whole = ip4(struct.pack("!HHHH", 1, 53, 8, 0))
    nexts = run_kernel(ip4_udp_lookup, [Packet(whole[:n]) for n in (20, 26, 27, 28)], {"udp_ports": PORTS}).nexts
    assert nexts == [Next.DROP] * 3 + [LISTENERS[53]]


def test_what_nobody_listens_for_is_the_hosts():
    tables = {"udp_ports": PORTS, "punt_tx": np.array([3], np.uint32)}
    result = run_kernel(ip4_udp_lookup, [Packet(ip4(udp(destination_port=port))) for port in (53, 54)], tables)
    assert result.nexts == [LISTENERS[53], Next.PUNT]
    assert (result.counters[Counter.PUNT], result.counters[Counter.NO_LISTENER]) == (1, 0)


@pytest.mark.slow
def test_every_port():
    for start in range(0, 1 << 16, 1 << 13):
        sent = [ip4(udp(destination_port=port)) for port in range(start, start + (1 << 13))]
        result = run_kernel(ip4_udp_lookup, [Packet(data) for data in sent], {"udp_ports": PORTS})
        assert result.nexts == [LISTENERS.get(port, Next.ICMP_ERROR) for port in range(start, start + (1 << 13))]
