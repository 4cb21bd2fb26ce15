# SPDX-License-Identifier: Apache-2.0
"""What is fixed by Linux: the layout of a ring and of its rows."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from pyvpp.device import af_packet_ring, af_packet_socket, tap
from pyvpp.tables import LINE_PAIR


@pytest.mark.parametrize(
    ("slot_bytes", "slots"),
    [(2048, 4096), (16384, 512), (131072, 64), (af_packet_ring.TX_SLOT_BYTES, 512), (2048, 16)],
)
def test_a_ring_is_made_of_whole_pages_and_slots(slot_bytes: int, slots: int) -> None:
    block, blocks, slot, count = struct.unpack("IIII", af_packet_socket._ring_request(slot_bytes, slots))
    assert (slot, count) == (slot_bytes, slots)
    assert block % 4096 == 0 and block % slot == 0 and slot % 16 == 0
    assert block * blocks == slot * count


@pytest.mark.parametrize(
    ("mtu", "slot_bytes"), [(68, 2048), (1500, 2048), (1920, 2048), (1921, 4096), (9000, 16384), (65535, 131072)]
)
def test_a_receive_slot_holds_a_packet_of_the_mtu(mtu: int, slot_bytes: int) -> None:
    """It, an Ethernet header, a tag that is not stripped, and what TPACKET_V2 puts in front (linux/if_packet.h)."""
    assert af_packet_socket.rx_slot_bytes(mtu) == slot_bytes
    header = -(-(32 + 20 + 16) // 16) * 16 + 10
    assert header + mtu + 4 <= slot_bytes  # the header ends where IP begins


@pytest.mark.parametrize("row", [af_packet_ring.AF_PACKET_RX_QUEUE, af_packet_ring.AF_PACKET_TX_QUEUE])
def test_the_address_words_of_a_row_are_aligned(row: Any) -> None:
    offsets = {name: row.fields[name] for name in row.names if name != "pad"}
    assert all(offset % dtype.itemsize == 0 for dtype, offset, *_ in offsets.values())


@pytest.mark.parametrize("row", [af_packet_ring.AF_PACKET_RX_QUEUE, tap.TAP_RX_QUEUE])
def test_no_two_receive_queues_share_a_pair_of_cache_lines(row: Any) -> None:
    """Several workers write their rows of the same table."""
    assert row.itemsize == LINE_PAIR
