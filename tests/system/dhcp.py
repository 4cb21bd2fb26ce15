# SPDX-License-Identifier: Apache-2.0
"""A DHCP server and a client (RFC 2131), small but honest: raw frames where a host without an address has to send them,
an ordinary UDP socket where it has one. Headers are scapy's.

`python dhcp.py server ADDRESS LEASE SECONDS` answers on eth0 and prints what it was asked;
`python dhcp.py client` obeys lines on standard input: `lease` or `lease broadcast`, `renew ADDRESS SERVER`.
"""

from __future__ import annotations

import random
import socket
import sys

from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Packet

EVERYBODY, NOBODY = "255.255.255.255", "0.0.0.0"
BROADCAST_FLAG = 0x8000
SERVER_PORT, CLIENT_PORT = 67, 68
TYPES = {1: "discover", 2: "offer", 3: "request", 5: "ack", 6: "nak"}
PATIENCE = 10


def raw_socket() -> socket.socket:
    opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
    opened.bind(("eth0", 0x0800))
    return opened


def options_of(packet: Packet) -> dict[str, object]:
    return {each[0]: each[1] for each in packet[DHCP].options if isinstance(each, tuple)}


def serve(own: str, lease: str, seconds: int) -> None:
    """Offers and acknowledges one address. What it prints: the kind, from, to, and how it answered."""
    with raw_socket() as wire, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as held:
        held.bind((own, SERVER_PORT))  # or Linux would answer what comes by unicast, too: nobody is there
        print("serving", flush=True)
        while True:
            asked = Ether(wire.recv(4096))
            if BOOTP not in asked or asked[BOOTP].op != 1:
                continue
            kind = TYPES[int(options_of(asked)["message-type"])]  # type: ignore[call-overload]
            renewing = asked[BOOTP].ciaddr != NOBODY
            everybody = asked[BOOTP].flags & BROADCAST_FLAG and not renewing
            answer = {"discover": "offer", "request": "ack"}[kind]
            wire.send(
                bytes(
                    Ether(src=wire.getsockname()[4], dst="ff:ff:ff:ff:ff:ff" if everybody else asked.src)
                    / IP(src=own, dst=EVERYBODY if everybody else lease)
                    / UDP(sport=SERVER_PORT, dport=CLIENT_PORT)
                    / BOOTP(op=2, xid=asked[BOOTP].xid, yiaddr=lease, siaddr=own, chaddr=asked[BOOTP].chaddr)
                    / DHCP(options=[("message-type", answer), ("server_id", own), ("lease_time", seconds), "end"])
                )
            )
            print(kind, asked[IP].src, asked[IP].dst, "to everybody" if everybody else "to it alone", flush=True)


def question(mac: bytes, kind: str, flags: int = 0, own: str = NOBODY, **options: str) -> Packet:
    return BOOTP(chaddr=mac, ciaddr=own, flags=flags, xid=random.getrandbits(32)) / DHCP(
        options=[("message-type", kind), *options.items(), "end"]
    )


def ask_without_an_address(wire: socket.socket, asked: Packet) -> Packet:
    """As a frame to everybody; the answer to this question."""
    mac = wire.getsockname()[4]
    frame = Ether(src=mac, dst="ff:ff:ff:ff:ff:ff") / IP(src=NOBODY, dst=EVERYBODY)
    wire.send(bytes(frame / UDP(sport=CLIENT_PORT, dport=SERVER_PORT) / asked))
    while True:
        heard = Ether(wire.recv(4096))
        if BOOTP in heard and heard[BOOTP].op == 2 and heard[BOOTP].xid == asked[BOOTP].xid:
            return heard


def lease(flags: int) -> str:
    """Discover, offer, request, acknowledgement: the address."""
    with raw_socket() as wire:
        wire.settimeout(PATIENCE)
        mac = wire.getsockname()[4]
        offer = ask_without_an_address(wire, question(mac, "discover", flags))
        server = str(options_of(offer)["server_id"])
        wanted = question(mac, "request", flags, requested_addr=offer[BOOTP].yiaddr, server_id=server)
        told = ask_without_an_address(wire, wanted)
        return f"{TYPES[int(options_of(told)['message-type'])]} {told[BOOTP].yiaddr}"  # type: ignore[call-overload]


def renew(own: str, server: str) -> str:
    """From the address to the server alone, by a socket as everybody has it."""
    with raw_socket() as wire:
        mac = wire.getsockname()[4]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        opened.settimeout(PATIENCE)
        opened.bind((own, CLIENT_PORT))
        opened.connect((server, SERVER_PORT))
        asked = question(mac, "request", own=own)
        opened.send(bytes(asked))
        told = BOOTP(opened.recv(4096))
        assert told.xid == asked[BOOTP].xid
        return f"{TYPES[int(options_of(told)['message-type'])]} {told.yiaddr}"  # type: ignore[call-overload]


def obey() -> None:
    print("ready", flush=True)
    for line in sys.stdin:
        match line.split():
            case ["lease", *how]:
                print(lease(BROADCAST_FLAG if how else 0), flush=True)
            case ["renew", own, server]:
                print(renew(own, server), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "server":
        serve(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    else:
        obey()
