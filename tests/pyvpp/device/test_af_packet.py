# SPDX-License-Identifier: Apache-2.0
"""What is fixed by Linux: the layout of a ring and of its rows."""

from __future__ import annotations

import struct

import pytest

from pyvpp.device import af_packet


@pytest.mark.parametrize(
    ("slot_bytes", "slots"),
    [(af_packet.RX_SLOT_BYTES, 256), (af_packet.TX_SLOT_BYTES, 512), (2048, 16)],
)
def test_a_ring_is_made_of_whole_pages_and_slots(slot_bytes: int, slots: int) -> None:
    block, blocks, slot, count = struct.unpack("IIII", af_packet._ring_request(slot_bytes, slots))
    assert (slot, count) == (slot_bytes, slots)
    assert block % 4096 == 0 and block % slot == 0 and slot % 16 == 0
    assert block * blocks == slot * count


def test_a_receive_slot_holds_the_largest_gso_packet() -> None:
    """64 KiB of IP, an Ethernet header, two tags, and TPACKET_V2's own header with its address (linux/if_packet.h)."""
    assert af_packet.RX_SLOT_BYTES >= 65535 + 14 + 8 + 10 + 32 + 20 + 16


def test_the_address_words_of_a_row_are_aligned() -> None:
    offsets = {name: af_packet.AF_PACKET_RING.fields[name] for name in af_packet.AF_PACKET_RING.names}
    assert all(offset % dtype.itemsize == 0 for dtype, offset, *_ in offsets.values())
