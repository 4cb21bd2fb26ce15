# SPDX-License-Identifier: Apache-2.0
"""Echo requests as bytes, and what answers say (RFC 792; RFC 4443, 4.1 and 4.2)."""

import secrets
import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

Address = IPv4Address | IPv6Address

ICMP, ICMP6 = 1, 58
ICMP_BYTES, IP4_BYTES, IP6_BYTES = 8, 20, 40
ECHO_REQUEST4, ECHO_REQUEST6 = 8, 128
HOPS = 64


@dataclass(frozen=True)
class Answer:
    """An echo reply: `size` bytes of ICMP, header included; `hops` as its TTL or hop limit says."""

    source: Address
    identifier: int
    sequence: int
    size: int
    hops: int


def echo_request(source: Address, destination: Address, identifier: int, sequence: int, size: int) -> bytes:
    """An IP packet with a request of so many bytes of data. Raises ValueError for addresses of two families."""
    if source.version != destination.version:
        raise ValueError(f"from {source} to {destination}")
    kind = ECHO_REQUEST4 if source.version == 4 else ECHO_REQUEST6
    message = struct.pack("!BBHHH", kind, 0, 0, identifier, sequence) + bytes(k & 0xFF for k in range(size))
    if source.version == 6:
        pseudo = source.packed + destination.packed + struct.pack("!II", len(message), ICMP6)
        header = struct.pack("!IHBB", 6 << 28, len(message), ICMP6, HOPS) + source.packed + destination.packed
        return header + message[:2] + checksum(pseudo + message) + message[4:]
    identification = secrets.randbelow(1 << 16)
    header = struct.pack("!BBHHHBBH", 0x45, 0, IP4_BYTES + len(message), identification, 0, HOPS, ICMP, 0)
    header += source.packed + destination.packed
    return header[:10] + checksum(header) + header[12:] + message[:2] + checksum(message) + message[4:]


def read_answer(packet: bytes) -> Answer:
    """Of an IP packet that is known to be an echo reply, its headers whole."""
    if packet[0] >> 4 == 6:
        source: Address = IPv6Address(packet[8:24])
        hops, icmp = packet[7], IP6_BYTES
    else:
        source = IPv4Address(packet[12:16])
        hops, icmp = packet[8], 4 * (packet[0] & 15)
    identifier, sequence = struct.unpack_from("!HH", packet, icmp + 4)
    return Answer(source, identifier, sequence, len(packet) - icmp, hops)


def checksum(data: bytes) -> bytes:
    """RFC 1071."""
    data += bytes(len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return (total ^ 0xFFFF).to_bytes(2, "big")
