# SPDX-License-Identifier: Apache-2.0
"""Reads captures: libpcap files and pcapng files of either byte order, as tcpdump and Wireshark write them.

Formats: draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng. Only the packets count; times and options are skipped.
"""

import struct
from collections.abc import Iterator
from pathlib import Path

from pyvpp.errors import OperatorError

PCAP_MAGICS = (0xA1B2C3D4, 0xA1B23C4D)  # microseconds, nanoseconds
PCAPNG_SECTION, BYTE_ORDER = 0x0A0D0D0A, 0x1A2B3C4D
PCAPNG_INTERFACE, PCAPNG_SIMPLE, PCAPNG_ENHANCED = 1, 3, 6
PCAP_HEADER, PCAP_RECORD = 24, 16


def read(path: Path, most: int) -> tuple[int, list[bytes]]:
    """The link type and the first `most` packets. Raises OperatorError.

    A file whose interfaces have different link types is refused; one that ends within a packet ends before it.
    """
    try:
        with path.open("rb") as file:
            data = file.read()
    except OSError as error:
        raise OperatorError(f"{path}: {error.strerror}") from None
    if len(data) >= 8 and int.from_bytes(data[:4], "big") == PCAPNG_SECTION:
        found = _pcapng(data)
    elif len(data) >= PCAP_HEADER and _pcap_order(data):
        found = _pcap(data)
    else:
        raise OperatorError(f"{path}: neither pcap nor pcapng")
    packets: list[bytes] = []
    links: set[int] = set()
    for link_type, packet in found:
        if len(packets) == most:
            break
        links.add(link_type)
        packets.append(packet)
    if len(links) > 1:
        raise OperatorError(f"{path}: interfaces of different link types {sorted(links)}; capture on one of them")
    return links.pop() if links else 0, packets


def _pcap_order(data: bytes) -> str:
    """`<` or `>`; empty when it is no pcap file."""
    return next((order for order in "<>" if struct.unpack(order + "I", data[:4])[0] in PCAP_MAGICS), "")


def _pcap(data: bytes) -> Iterator[tuple[int, bytes]]:
    order = _pcap_order(data)
    link_type = struct.unpack_from(order + "I", data, 20)[0] & 0xFFFF  # the upper bits tell of a frame check sequence
    at = PCAP_HEADER
    while at + PCAP_RECORD <= len(data):
        captured = struct.unpack_from(order + "I", data, at + 8)[0]
        at += PCAP_RECORD
        if at + captured > len(data):
            return
        yield link_type, data[at : at + captured]
        at += captured


def _pcapng(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Blocks: type, length, body, length again. Interfaces are numbered anew in each section."""
    order, at = "<", 0
    interfaces: list[tuple[int, int]] = []  # link type, snap length
    while at + 12 <= len(data):
        if int.from_bytes(data[at : at + 4], "big") == PCAPNG_SECTION:
            order = "<" if struct.unpack_from("<I", data, at + 8)[0] == BYTE_ORDER else ">"
            interfaces = []
        kind, length = struct.unpack_from(order + "II", data, at)
        if length < 12 or length & 3 or at + length > len(data):
            return
        body = data[at + 8 : at + length - 4]
        at += length
        if kind == PCAPNG_INTERFACE and len(body) >= 8:
            interfaces.append(struct.unpack_from(order + "HxxI", body))
        elif kind == PCAPNG_ENHANCED and len(body) >= 20:
            interface, _, _, captured = struct.unpack_from(order + "IIII", body)
            if interface < len(interfaces) and 20 + captured <= len(body):
                yield interfaces[interface][0], body[20 : 20 + captured]
        elif kind == PCAPNG_SIMPLE and len(body) >= 4 and interfaces:
            link_type, snap = interfaces[0]
            original = struct.unpack_from(order + "I", body)[0]
            yield link_type, body[4 : 4 + min(original, snap or original)]
