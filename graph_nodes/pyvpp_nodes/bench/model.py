# SPDX-License-Identifier: Apache-2.0
"""Headers in plain Python, straight from the RFCs: what a bench's packets are made of, and the model of their way.

Slow and obvious on purpose: a scenario's output is compared with it byte by byte. No kernel uses it.
"""

import struct
from ipaddress import IPv4Address, IPv6Address

ETHERTYPE_IP4, ETHERTYPE_IP6 = 0x0800, 0x86DD
IP_IN_IP, UDP = 4, 17
VXLAN_PORT = 4789
VXLAN_FLAGS = 0x08 << 24  # the VNI is valid (RFC 7348)
ETHERNET_BYTES, IP4_BYTES, IP6_BYTES, UDP_BYTES = 14, 20, 40, 8


def checksum(data: bytes) -> int:
    """RFC 1071, of an even number of bytes."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def ethernet(destination: bytes, source: bytes, payload: bytes, ethertype: int = ETHERTYPE_IP4) -> bytes:
    return destination + source + ethertype.to_bytes(2, "big") + payload


def ip4(source: IPv4Address, destination: IPv4Address, protocol: int, payload: bytes, ttl: int = 64) -> bytes:
    """RFC 791: no options, no fragment, identification 0."""
    head = struct.pack("!BBHHHBBH", 0x45, 0, IP4_BYTES + len(payload), 0, 0, ttl, protocol, 0)
    return with_ip4_checksum(head + source.packed + destination.packed + payload)


def with_ip4_checksum(packet: bytes) -> bytes:
    header = packet[:10] + bytes(2) + packet[12:IP4_BYTES]
    return packet[:10] + checksum(header).to_bytes(2, "big") + packet[12:]


def ip4_forwarded(packet: bytes) -> bytes:
    """RFC 1812, 5.3.1: one hop later."""
    return with_ip4_checksum(packet[:8] + bytes([packet[8] - 1]) + packet[9:])


def ip6(source: IPv6Address, destination: IPv6Address, protocol: int, payload: bytes, hops: int = 64) -> bytes:
    """RFC 8200: no extension header, no flow label."""
    return struct.pack("!IHBB", 6 << 28, len(payload), protocol, hops) + source.packed + destination.packed + payload


def ip6_forwarded(packet: bytes) -> bytes:
    return packet[:7] + bytes([packet[7] - 1]) + packet[8:]


def udp6(source: IPv6Address, destination: IPv6Address, ports: tuple[int, int], payload: bytes) -> bytes:
    """RFC 8200, 8.1: over IPv6 the checksum is not optional."""
    datagram = udp(*ports, payload)
    pseudo = source.packed + destination.packed + struct.pack("!II", len(datagram), UDP)
    padded = pseudo + datagram + bytes(len(datagram) & 1)
    return datagram[:6] + (checksum(padded) or 0xFFFF).to_bytes(2, "big") + datagram[8:]


def udp(source: int, destination: int, payload: bytes) -> bytes:
    """RFC 768, without a checksum."""
    return struct.pack("!HHHH", source, destination, UDP_BYTES + len(payload), 0) + payload


def vxlan(vni: int, frame: bytes) -> bytes:
    """RFC 7348: the header and the Ethernet frame behind it."""
    return struct.pack("!II", VXLAN_FLAGS, vni << 8) + frame
