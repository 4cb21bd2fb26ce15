# SPDX-License-Identifier: Apache-2.0
"""virtio_net_hdr against a reading of its own: struct.unpack."""

from __future__ import annotations

import struct
from typing import NamedTuple

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pyvpp.buffers import BUFFER, CSUM_PARTIAL, CSUM_VALID, L2_VALID
from pyvpp.device import vnet

HEAP_BYTES = 4096
HEADER = 100
PACKET = 1024


class Header(NamedTuple):
    flags: int
    gso_type: int
    hdr_len: int
    gso_size: int
    csum_start: int
    csum_offset: int


def packed(header: Header) -> bytes:
    return struct.pack("<BBHHHH", *header)


u16 = st.integers(0, 0xFFFF)
types = st.sampled_from([0, 1, 4, 5, 0x81, 0x84, 3, 0x80]) | st.integers(0, 255)
headers = st.builds(Header, st.integers(0, 3), types, u16, u16, u16, u16)
near_headers = st.builds(
    Header, st.just(1), types, u16, st.integers(0, 2), st.integers(20, 110), st.sampled_from([0, 6, 16])
)


def read(header: Header, length: int, flags: int = 0) -> np.record:
    heap = np.full(HEAP_BYTES, 0xA5, np.uint8)
    heap[HEADER : HEADER + vnet.BYTES] = np.frombuffer(packed(header), np.uint8)
    meta = np.full(BUFFER.itemsize, 0xA5, np.uint8).view(BUFFER)
    meta[0]["cur"] = PACKET
    meta[0]["len"] = length
    meta[0]["flags"] = flags
    vnet.read_vnet(heap, HEADER, meta[0])
    return meta[0]


def written(m: dict[str, int], linear: int, packet: bytes = b"") -> Header:
    heap = np.full(HEAP_BYTES, 0xA5, np.uint8)
    heap[PACKET : PACKET + len(packet)] = np.frombuffer(packet, np.uint8)
    meta = np.full(BUFFER.itemsize, 0xA5, np.uint8).view(BUFFER)
    meta[0]["cur"] = PACKET
    for name, value in m.items():
        meta[0][name] = value
    vnet.write_vnet(heap, HEADER, meta[0], linear)
    untouched = np.delete(heap, range(HEADER, HEADER + vnet.BYTES))
    assert (untouched[:HEADER] == 0xA5).all()
    return Header(*struct.unpack("<BBHHHH", heap[HEADER : HEADER + vnet.BYTES].tobytes()))


def believed(header: Header, length: int) -> tuple[int, int, int, int, int]:
    """flags, csum_start and csum_offset, gso_type and gso_size of a packet of that length."""
    if not header.flags & vnet.NEEDS_CSUM:
        return CSUM_VALID if header.flags & vnet.DATA_VALID else 0, 0, 0, 0, 0
    if header.csum_start + header.csum_offset + 2 > length:
        return 0, 0, 0, 0, 0
    least = {1: 20, 4: 20, 5: 8}.get(header.gso_type & ~0x80)
    gso = least is not None and header.gso_size > 0 and header.csum_start + least <= length
    return (
        CSUM_PARTIAL, PACKET + header.csum_start, header.csum_offset,
        header.gso_type if gso else 0, header.gso_size if gso else 0,
    )  # fmt: skip


@given(headers | near_headers, st.integers(14, 65549) | st.integers(14, 120), st.sampled_from([0, L2_VALID]))
def test_reading(header: Header, length: int, flags: int) -> None:
    """What lies outside of the packet, and what no segmentation can be, is not believed."""
    m = read(header, length, flags)
    added, *rest = believed(header, length)
    assert m["flags"] == flags | added
    assert [m[name] for name in ("csum_start", "csum_offset", "gso_type", "gso_size")] == rest


@given(st.integers(0, 2000), u16, u16)
def test_writing_a_packet_whose_checksum_is_left(start: int, offset: int, linear: int) -> None:
    m = {"flags": CSUM_PARTIAL | L2_VALID, "gso_type": 0, "csum_start": PACKET + start, "csum_offset": offset}
    assert written(m, linear) == Header(vnet.NEEDS_CSUM, 0, linear, 0, start, offset)


@given(u16)
def test_writing_a_finished_packet_shows_nothing_of_the_buffers_past(linear: int) -> None:
    assert written({"flags": L2_VALID | CSUM_VALID, "gso_type": 0}, linear) == Header(0, 0, linear, 0, 0, 0)


@given(st.sampled_from([1, 4, 0x81, 0x84]), u16, st.integers(14, 200), st.integers(5, 15))
def test_writing_tcp_segments_ends_the_headers_after_the_options(
    gso_type: int, size: int, start: int, words: int
) -> None:
    packet = bytes(start + 12) + bytes([words << 4 | 0xF])
    m = {"flags": CSUM_PARTIAL, "gso_type": gso_type, "gso_size": size, "csum_start": PACKET + start, "csum_offset": 16}
    assert written(m, 0, packet) == Header(vnet.NEEDS_CSUM, gso_type, start + 4 * words, size, start, 16)


@given(u16, st.integers(14, 200))
def test_writing_udp_segments(size: int, start: int) -> None:
    m = {"flags": CSUM_PARTIAL, "gso_type": 5, "gso_size": size, "csum_start": PACKET + start, "csum_offset": 6}
    assert written(m, 0) == Header(vnet.NEEDS_CSUM, 5, start + 8, size, start, 6)
