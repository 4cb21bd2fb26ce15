# SPDX-License-Identifier: Apache-2.0
"""Traffic that does not go straight on: what brings nodes their packets that no scenario reaches, for `--nodes`."""

import struct
from collections.abc import Callable
from typing import Any

from pyvpp.bench.scenario import IN_MAC, Traffic
from pyvpp_nodes.bench.ground import (
    BASE,
    FAR,
    INNER,
    NEAR,
    OWN,
    PEER_MAC,
    ROUTE,
    SENDER,
    SENDER_MAC,
    TUNNEL_FAR,
    flow,
    inner,
    to,
)
from pyvpp_nodes.bench.model import ETHERNET_BYTES, IP4_BYTES, checksum, ethernet, ip4, with_ip4_checksum

ICMP, ECHO_REQUEST = 1, 8
ETHERTYPE_ARP, BROADCAST = 0x0806, b"\xff" * 6
RETURN = f"set ip neighbor pg0 {SENDER} {SENDER_MAC.hex(':')} static"
NO_OPERATION = b"\x01" * 4
SECOND_FAR = FAR + 1

Maker = Callable[[Any, int, int], bytes]


def arriving(packet: bytes) -> bytes:
    return ethernet(IN_MAC, SENDER_MAC, packet)


def expiring(engine: Any, i: int, size: int) -> bytes:
    packet = flow(inner(i), i, size - ETHERNET_BYTES)
    return arriving(with_ip4_checksum(packet[:8] + b"\x01" + packet[9:]))


def optioned(engine: Any, i: int, size: int) -> bytes:
    packet = flow(OWN, i, size - ETHERNET_BYTES - len(NO_OPERATION))
    head = b"\x46" + packet[1:2] + (len(packet) + len(NO_OPERATION)).to_bytes(2, "big") + packet[4:10]
    header = head + bytes(2) + packet[12:IP4_BYTES] + NO_OPERATION
    return arriving(header[:10] + checksum(header).to_bytes(2, "big") + header[12:] + packet[IP4_BYTES:])


def echo_request(engine: Any, i: int, size: int) -> bytes:
    head = struct.pack("!BBHHH", ECHO_REQUEST, 0, 0, 1, i & 0xFFFF)
    message = head + bytes(max(size - ETHERNET_BYTES - IP4_BYTES - len(head), 0) & ~1)
    return arriving(ip4(SENDER, OWN, ICMP, message[:2] + checksum(message).to_bytes(2, "big") + message[4:]))


def arp_request(engine: Any, i: int, size: int) -> bytes:
    body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + SENDER_MAC + SENDER.packed + bytes(6) + OWN.packed
    return ethernet(BROADCAST, SENDER_MAC, body, ETHERTYPE_ARP)


def traffic(name: str, summary: str, packet: Maker, *setup: str, packet_bytes: int = 64) -> Traffic:
    return Traffic(name=name, summary=summary, setup=setup, packet=packet, variations=1024, packet_bytes=packet_bytes)


TRAFFIC = (
    traffic("ttl-expired", "packets at the end of their life", expiring, *BASE, RETURN, ROUTE),
    traffic("no-route", "packets to nowhere", to(inner), *BASE),
    traffic(
        "null-route",
        "packets to a route that refuses",
        to(inner),
        *BASE,
        RETURN,
        f"ip route add {INNER}/15 via null-send-unreach",
    ),
    traffic(
        "unresolved-on-link", "packets to addresses of a link that nobody has", to(lambda i: NEAR + 9 + i % 200), *BASE
    ),
    traffic(
        "unresolved-next-hop",
        "packets to a next hop that does not answer",
        to(inner),
        *BASE,
        f"ip route add {INNER}/15 via {SECOND_FAR} pg1",
    ),
    traffic("to-us", "datagrams to a port nobody listens on", to(lambda i: OWN), *BASE, RETURN),
    traffic("options", "packets to us with IP options", optioned, *BASE, RETURN),
    traffic("echo-requests", "pings to us", echo_request, *BASE, RETURN),
    traffic("arp-requests", "somebody asks for our MAC address", arp_request, *BASE),
    traffic(
        "fragments",
        "1500 bytes through an MTU of 576",
        to(inner),
        *BASE,
        ROUTE,
        "set interface mtu packet 576 pg1",
        packet_bytes=1500,
    ),
    traffic(
        "tunnel-ecmp",
        "an IPIP tunnel over two next hops",
        to(inner),
        *BASE,
        f"set ip neighbor pg1 {SECOND_FAR} {PEER_MAC.hex(':')} static",
        f"ip route add {TUNNEL_FAR}/32 via {FAR} pg1 via {SECOND_FAR} pg1",
        f"create ipip tunnel src {NEAR} dst {TUNNEL_FAR}",
        "set interface state ipip0 up",
        f"ip route add {INNER}/15 via ipip0",
    ),
    traffic(
        "loopback",
        "packets to a neighbor on a loopback interface, who is not there",
        to(inner),
        "create loopback interface",
        "set interface state loop0 up",
        "set interface ip address loop0 10.8.0.1/24",
        "set ip neighbor loop0 10.8.0.2 02:00:00:00:08:02 static",
        f"ip route add {INNER}/15 via 10.8.0.2 loop0",
    ),
)
