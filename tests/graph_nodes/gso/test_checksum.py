# SPDX-License-Identifier: Apache-2.0
import struct

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pyvpp.buffers import BUFFER, CSUM_PARTIAL
from pyvpp.checksum import complete_checksum
from tests.graph_nodes.forwarding import internet_checksum


def complete(data: bytes, start: int, offset: int, flags: int = CSUM_PARTIAL):
    heap = np.full(len(data) + 64, 0xA5, np.uint8)
    heap[7 : 7 + len(data)] = np.frombuffer(data, np.uint8)
    meta = np.zeros(1, BUFFER)
    fields = {"cur": 7, "len": len(data), "flags": flags, "csum_start": 7 + start, "csum_offset": offset}
    for name, value in fields.items():
        meta[name] = value
    complete_checksum(heap, meta[0])
    assert set(heap[:7]) == set(heap[7 + len(data) :]) == {0xA5}
    return bytes(heap[7 : 7 + len(data)]), int(meta["flags"][0])


@given(st.binary(min_size=8, max_size=100), st.integers(0, 40), st.integers(0, 90))
def test_against_rfc_1071(data, start, offset):
    done, flags = complete(data, start, offset)
    assert flags == 0
    field = start + offset
    if field + 2 > len(data):
        assert done == data
        return
    checksum = struct.pack("!H", internet_checksum(data[start:]) or 0xFFFF)
    if offset % 2 == 0:
        assert done == data[:field] + checksum + data[field + 2 :]


def test_every_length():
    for n in range(8, 80):
        data = bytes(range(1, n + 1))
        assert complete(data, 2, 4)[0][6:8] == struct.pack("!H", internet_checksum(data[2:]))


def test_zero_becomes_all_ones():
    assert complete(b"\0\0\xff\xff\xff\xff", 0, 0)[0][:2] == b"\xff\xff"


def test_only_what_is_partial():
    assert complete(bytes(range(40)), 0, 6, flags=0) == (bytes(range(40)), 0)
