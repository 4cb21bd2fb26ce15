# SPDX-License-Identifier: Apache-2.0
"""Captures as scapy writes them, and as the drafts describe what scapy cannot write."""

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.l2 import Ether
from scapy.utils import wrpcap, wrpcapng

from pyvpp.errors import OperatorError
from pyvpp.pcap_read import read

ETHERNET, RAW = 1, 101
PACKETS = [bytes([n & 0xFF]) * n for n in (1, 60, 1514, 65535)]


def pcap(order: str, magic: int, link_type: int, packets: list[bytes]) -> bytes:
    records = [struct.pack(order + "IIII", 1, 2, len(p), len(p) + 5) + p for p in packets]
    return struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 65535, link_type) + b"".join(records)


def block(order: str, kind: int, body: bytes) -> bytes:
    body += bytes(-len(body) % 4)
    length = struct.pack(order + "I", len(body) + 12)
    return struct.pack(order + "I", kind) + length + body + length


def section(order: str) -> bytes:
    return block(order, 0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1))


def interface(order: str, link_type: int, snap: int = 0) -> bytes:
    return block(order, 1, struct.pack(order + "HHI", link_type, 0, snap))


def enhanced(order: str, number: int, packet: bytes) -> bytes:
    return block(
        order,
        6,
        struct.pack(order + "IIIII", number, 0, 0, len(packet), len(packet)) + packet + bytes(-len(packet) % 4),
    )


def from_bytes(tmp_path: Path, data: bytes, most: int = 100) -> tuple[int, list[bytes]]:
    path = tmp_path / "capture"
    path.write_bytes(data)
    return read(path, most)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("magic", [0xA1B2C3D4, 0xA1B23C4D])
def test_pcap_of_both_byte_orders_and_resolutions(tmp_path: Path, order: str, magic: int):
    assert from_bytes(tmp_path, pcap(order, magic, RAW, PACKETS)) == (RAW, PACKETS)


def test_what_scapy_writes(tmp_path: Path):
    packets = [bytes(Ether() / bytes([n])) for n in range(50)]
    wrpcap(str(tmp_path / "a"), [Ether(p) for p in packets])
    assert read(tmp_path / "a", 100) == (ETHERNET, packets)
    wrpcapng(str(tmp_path / "b"), [Ether(p) for p in packets])
    assert read(tmp_path / "b", 100) == (ETHERNET, packets)
    assert read(tmp_path / "a", 7) == (ETHERNET, packets[:7])


@pytest.mark.parametrize("order", ["<", ">"])
def test_pcapng_blocks(tmp_path: Path, order: str):
    unknown = block(order, 0x0BAD, b"12345")
    simple = block(order, 3, struct.pack(order + "I", 9) + b"123456789")
    cut = block(order, 3, struct.pack(order + "I", 9) + b"123")  # and a byte of padding
    parts = [
        section(order), interface(order, ETHERNET), unknown, enhanced(order, 0, b"abc"), simple,
        enhanced(order, 5, b"of an interface nobody declared"),
        section(order), interface(order, ETHERNET, snap=3), enhanced(order, 0, b"def"), cut,
    ]  # fmt: skip
    assert from_bytes(tmp_path, b"".join(parts)) == (ETHERNET, [b"abc", b"123456789", b"def", b"123"])


def test_interfaces_of_one_kind_only(tmp_path: Path):
    parts = [
        section("<"),
        interface("<", ETHERNET),
        interface("<", RAW),
        enhanced("<", 0, b"a"),
        enhanced("<", 1, b"b"),
    ]
    with pytest.raises(OperatorError, match=r"different link types \[1, 101\]"):
        from_bytes(tmp_path, b"".join(parts))
    assert from_bytes(tmp_path, b"".join(parts[:4])) == (ETHERNET, [b"a"])


@given(st.integers(0, 200))
def test_a_file_that_was_cut_has_the_packets_before_the_cut(tmp_path_factory: pytest.TempPathFactory, cut: int):
    path = tmp_path_factory.mktemp("cut")
    packets = [b"x" * 30, b"y" * 30, b"z" * 30]
    ng = section("<") + interface("<", ETHERNET) + b"".join(enhanced("<", 0, p) for p in packets)
    for whole, head, size in ((pcap("<", 0xA1B2C3D4, ETHERNET, packets), 24, 46), (ng, 48, 64)):
        length = max(head, len(whole) - cut)
        _, found = from_bytes(path, whole[:length])
        assert found == packets[: (length - head) // size]


@pytest.mark.parametrize("data", [b"", b"short", b"\0" * 100, b"GET / HTTP/1.1\r\n" * 5])
def test_what_is_no_capture(tmp_path: Path, data: bytes):
    with pytest.raises(OperatorError, match="capture: neither pcap nor pcapng"):
        from_bytes(tmp_path, data)


def test_a_file_that_is_not_there(tmp_path: Path):
    with pytest.raises(OperatorError, match="No such file"):
        read(tmp_path / "nothing", 1)
