# SPDX-License-Identifier: Apache-2.0
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
    ip4_flow_hash,
)
from tests.graph_nodes.forwarding import ip4, ip4_packets, udp


def mixed(*words: int) -> int:
    product = 0
    for word, by in zip(words, (0x1B873593, 0x4CF5AD43, 0x5BD1E995), strict=True):
        product ^= word * by
    product ^= product >> 32
    return (product % 2**32 * 0x2C1B3C6D // 2**28) % 2**32


def flow(data: bytes, fields: int = FLOW_HASH_DEFAULT) -> int:
    heap = np.frombuffer(b"\xa5" * 7 + data + b"\xa5" * 8, np.uint8).copy()
    return int(ip4_flow_hash(heap, 7, fields))


def reference(data: bytes, fields: int) -> int:
    a, b, ports = int.from_bytes(data[12:16], "big"), int.from_bytes(data[16:20], "big"), (0, 0)
    if data[9] in (6, 17) and int.from_bytes(data[6:8], "big") & 0x3FFF == 0:
        l4 = 4 * (data[0] & 15)
        ports = int.from_bytes(data[l4 : l4 + 2], "big"), int.from_bytes(data[l4 + 2 : l4 + 4], "big")
    a, b = a * bool(fields & 1), b * bool(fields & 2)
    ports = ports[0] * bool(fields & 4), ports[1] * bool(fields & 8)
    if (fields & 64 and (a, ports[0]) > (b, ports[1])) or (fields & 96 == 32):
        a, b, ports = b, a, (ports[1], ports[0])
    return mixed(a, b ^ data[9] * bool(fields & 16), ports[1] << 16 | ports[0])


@given(ip4_packets(), st.integers(0, 127))
def test_the_fields_that_are_asked_for(data, fields):
    assert flow(data, fields) == reference(data, fields)


BASE = dict(source="10.0.0.1", destination="10.0.0.2", protocol=17)


@pytest.mark.parametrize(
    ("field", "other"),
    [
        (HASH_SOURCE, ip4(udp(), **BASE | {"source": "10.0.0.9"})),
        (HASH_DESTINATION, ip4(udp(), **BASE | {"destination": "10.0.0.9"})),
        (HASH_PROTOCOL, ip4(udp(), **BASE | {"protocol": 6})),
        (HASH_SOURCE_PORT, ip4(udp(source_port=99), **BASE)),
        (HASH_DESTINATION_PORT, ip4(udp(destination_port=99), **BASE)),
    ],
)
def test_each_field_counts_when_chosen_and_only_then(field, other):
    base = ip4(udp(), **BASE)
    assert flow(base) != flow(other)
    assert flow(base, FLOW_HASH_DEFAULT & ~field) == flow(other, FLOW_HASH_DEFAULT & ~field)


@given(ip4_packets(fragments=st.just(0), protocols=st.sampled_from([6, 17])))
def test_both_directions_alike(data):
    l4 = 4 * (data[0] & 15)
    back = (
        data[:12] + data[16:20] + data[12:16] + data[20:l4] + data[l4 + 2 : l4 + 4] + data[l4 : l4 + 2] + data[l4 + 4 :]
    )
    assert flow(data, FLOW_HASH_DEFAULT | HASH_SYMMETRIC) == flow(back, FLOW_HASH_DEFAULT | HASH_SYMMETRIC)
    assert flow(data) == flow(back, FLOW_HASH_DEFAULT | HASH_REVERSE)


def test_fragments_of_a_datagram_stay_together():
    first, second = ip4(udp(b"abc"), fragment=0x2000), ip4(b"other bytes", fragment=0x0005)
    assert flow(first) == flow(second)


def test_every_port_spreads_evenly():
    """Sixteen buckets over all source ports: each within a tenth of its share."""
    buckets = np.bincount(
        [flow(ip4(udp(source_port=port), **BASE)) & 15 for port in range(0, 1 << 16, 8)], minlength=16
    )
    assert abs(buckets - 512).max() < 100
