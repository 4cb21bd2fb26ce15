# SPDX-License-Identifier: Apache-2.0
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyvpp_nodes.fib.tables import FLOW_HASH_DEFAULT
from pyvpp_nodes.ip4.flow_hash import (
    HASH_DESTINATION,
    HASH_DESTINATION_PORT,
    HASH_PROTOCOL,
    HASH_REVERSE,
    HASH_SOURCE,
    HASH_SOURCE_PORT,
    HASH_SYMMETRIC,
)
from pyvpp_nodes.ip6.flow_hash import HASH_FLOW_LABEL, ip6_flow_hash
from tests.graph_nodes.forwarding import ip6, ip6_packets, udp
from tests.graph_nodes.ip4.test_flow_hash import mixed


def flow(data: bytes, fields: int = FLOW_HASH_DEFAULT) -> int:
    heap = np.frombuffer(b"\xa5" * 7 + data + b"\xa5" * 8, np.uint8).copy()
    return int(ip6_flow_hash(heap, 7, fields))


def folded(address: bytes) -> int:
    *first, last = struct.unpack("!4I", address)
    return mixed(*first) ^ last


def reference(data: bytes, fields: int) -> int:
    a, b, protocol, l4, ports = folded(data[8:24]), folded(data[24:40]), data[6], 40, (0, 0)
    if protocol == 0:  # hop-by-hop options
        protocol, l4 = data[40], 48 + 8 * data[41]
    if protocol in (6, 17):
        ports = struct.unpack("!HH", data[l4 : l4 + 4])
    a, b = a * bool(fields & 1), b * bool(fields & 2)
    ports = ports[0] * bool(fields & 4), ports[1] * bool(fields & 8)
    if (fields & 64 and (a, ports[0]) > (b, ports[1])) or (fields & 96 == 32):
        a, b, ports = b, a, (ports[1], ports[0])
    label = (int.from_bytes(data[:4], "big") & 0xFFFFF) << 8
    return mixed(a, b ^ protocol * bool(fields & 16) ^ label * bool(fields & 128), ports[1] << 16 | ports[0])


@given(ip6_packets(), st.integers(0, 255))
def test_the_fields_that_are_asked_for(data, fields):
    assert flow(data, fields) == reference(data, fields)


BASE = dict(source="2001:db8::1", destination="2001:db8::2", protocol=17)


@pytest.mark.parametrize(
    ("field", "other"),
    [
        (HASH_SOURCE, ip6(udp(), **BASE | {"source": "2001:db8::9"})),
        (HASH_SOURCE, ip6(udp(), **BASE | {"source": "2001:db9::1"})),
        (HASH_DESTINATION, ip6(udp(), **BASE | {"destination": "2001:db8:0:1::2"})),
        (HASH_PROTOCOL, ip6(udp(), **BASE | {"protocol": 6})),
        (HASH_SOURCE_PORT, ip6(udp(source_port=99), **BASE)),
        (HASH_DESTINATION_PORT, ip6(udp(destination_port=99), **BASE)),
        (HASH_FLOW_LABEL, ip6(udp(), **BASE, flow_label=1)),
    ],
)
def test_each_field_counts_when_chosen_and_only_then(field, other):
    base = ip6(udp(), **BASE)
    assert flow(base) != flow(other)
    assert flow(base, FLOW_HASH_DEFAULT & ~field) == flow(other, FLOW_HASH_DEFAULT & ~field)


@given(ip6_packets())
def test_both_directions_alike(data):
    l4 = 48 + 8 * data[41] if data[6] == 0 else 40
    back = (
        data[:8] + data[24:40] + data[8:24] + data[40:l4] + data[l4 + 2 : l4 + 4] + data[l4 : l4 + 2] + data[l4 + 4 :]
    )
    assert flow(data, FLOW_HASH_DEFAULT | HASH_SYMMETRIC) == flow(back, FLOW_HASH_DEFAULT | HASH_SYMMETRIC)
    assert flow(data) == flow(back, FLOW_HASH_DEFAULT | HASH_REVERSE)


def test_fragments_of_a_packet_stay_together():
    first, second = (ip6(bytes([17, 0, 0, offset]) + udp(text), protocol=44) for offset, text in ((1, b"a"), (8, b"b")))
    assert flow(first) == flow(second)


def test_addresses_of_a_network_and_ports_spread_evenly():
    """Sixteen buckets: each within a tenth of its share."""
    ports = [ip6(udp(source_port=port), **BASE) for port in range(0, 1 << 16, 8)]
    hosts = [ip6(udp(), **BASE | {"destination": f"2001:db8::{n:x}"}) for n in range(1 << 13)]
    networks = [ip6(udp(), **BASE | {"destination": f"2001:db8:{n:x}::1"}) for n in range(1 << 13)]
    for packets in (ports, hosts, networks):
        buckets = np.bincount([flow(data) & 15 for data in packets], minlength=16)
        assert abs(buckets - 512).max() < 100
