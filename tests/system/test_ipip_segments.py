# SPDX-License-Identifier: Apache-2.0
"""What Linux makes of a large packet in an IPIP tunnel that a packet socket hands it, seen at the other end of a veth."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import pytest
from scapy.layers.inet import IP, TCP, UDP, IPOption
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Packet as Layers
from scapy.packet import Raw

from pyvpp.device import ipip_segments
from pyvpp.device.ipip_segments import leave_ipip
from pyvpp.device.vnet import BYTES, GSO_ECN, GSO_TCP4, GSO_UDP_L4, NEEDS_CSUM
from pyvpp.interface import OFFLOAD_ALL, OFFLOAD_CSUM_ANYWHERE, OFFLOAD_IPIP
from pyvpp.linux import ethtool
from pyvpp.linux.ethtool import Offload
from tests.graph_nodes.forwarding import with_checksum
from tests.graph_nodes.gso.test_segment import sent_by_linux
from tests.system.conftest import Namespace, Pair

ETH_P_ALL, SOL_PACKET, PACKET_VNET_HDR = 3, 263, 15
SO_RCVBUFFORCE, SO_RCVMARK = 33, 75
SIZE = 1400
FIRST_ID = 0xFFFE
LINK = Ether(src="02:00:00:00:00:01", dst="ff:ff:ff:ff:ff:ff")
OUTER = IP(src="10.77.0.1", dst="10.77.0.2", proto=4, id=FIRST_ID, ttl=9, tos=3)
INNER = IP(src="10.1.0.2", dst="10.2.0.2", id=7, flags="DF")
PAYLOAD = bytes(range(251)) * 100
SEQUENCE = 0xFFFFF000
TCP_SEGMENT = TCP(sport=2, dport=1, seq=SEQUENCE, flags="PA", options=[("NOP", None), ("NOP", None), ("SAckOK", b"")])
LAST = bytes(LINK) + b"the last one".ljust(50)


@dataclass(frozen=True)
class Sent:
    """A large packet whose TCP or UDP header is `l4` bytes behind the frame's beginning."""

    layers: Layers
    l4: int
    gso_type: int = GSO_TCP4
    size: int = SIZE

    @property
    def udp(self) -> bool:
        return self.gso_type == GSO_UDP_L4

    @property
    def frame(self) -> bytes:
        """The checksum is the sum of the pseudo header alone."""
        frame = bytearray(bytes(self.layers))
        n = len(frame) - self.l4
        pseudo = frame[self.l4 - 8 : self.l4] + struct.pack("!HH", 17 if self.udp else 6, n)
        at = self.l4 + (6 if self.udp else 16)
        frame[at : at + 2] = struct.pack("!H", sum(struct.unpack("!6H", pseudo)) % 0xFFFF)
        return bytes(frame)

    @property
    def header(self) -> bytes:
        payload = self.l4 + (8 if self.udp else (self.frame[self.l4 + 12] >> 4) * 4)
        checksum = self.l4, 6 if self.udp else 16
        gso = (self.gso_type, payload, self.size) if self.gso_type else (0, 0, 0)
        return struct.pack("=BBHHHH", NEEDS_CSUM, *gso, *checksum)

    def segments(self) -> list[bytes]:
        """Slowly, on bytes: the outer header counts its ids and says its lengths as the inner one does."""
        frame = bytes(self.layers)
        outer, inner = frame[14:34], sent_by_linux(frame[34:], 0, self.size, self.udp)
        return [
            frame[:14] + with_checksum(outer[:2] + struct.pack("!HH", 20 + len(each), (FIRST_ID + k) & 0xFFFF) + outer[6:]) + each
            for k, each in enumerate(inner)
        ]  # fmt: skip


KINDS = {
    "tcp": Sent(LINK / OUTER / INNER / TCP_SEGMENT / Raw(PAYLOAD), 54),
    "tcp with ECN": Sent(LINK / OUTER / INNER / TCP_SEGMENT / Raw(PAYLOAD), 54, GSO_TCP4 | GSO_ECN),
    "two segments": Sent(LINK / OUTER / INNER / TCP_SEGMENT / Raw(PAYLOAD[: SIZE + 1]), 54),
    "64 KiB": Sent(LINK / OUTER / INNER / TCP_SEGMENT / Raw(bytes(0xFFFF - 54 - 24)), 54),
    "udp": Sent(LINK / OUTER / INNER / UDP(sport=2, dport=1) / Raw(PAYLOAD), 54, GSO_UDP_L4),
}


def without_length(header: bytes) -> bytes:
    """A virtio_net_hdr without hdr_len, which is Linux' own affair, where a packet's pages begin."""
    return header[:2] + header[4:BYTES]


@dataclass
class Wire:
    """A marked socket and one that is not, at one end, and what the other end receives."""

    near: Namespace
    ours: socket.socket
    other: socket.socket
    far: socket.socket

    def seen(self) -> list[tuple[bytes, bytes]]:
        """The virtio_net_hdr, less hdr_len, and frame of each packet of ours that has arrived by now."""
        self.other.send(bytes(BYTES) + LAST)
        found = []
        while (data := self.far.recv(1 << 17))[BYTES:] != LAST:
            if data[BYTES : BYTES + 12] == bytes(LINK)[:12]:
                found.append((without_length(data), data[BYTES:]))
        return found

    @contextlib.contextmanager
    def without(self, *offloads: Offload) -> Iterator[None]:
        for each in offloads:
            self.near.inside(partial(ethtool.switch, "eth0", each, False))
        try:
            yield
        finally:
            for each in reversed(offloads):
                self.near.inside(partial(ethtool.switch, "eth0", each, True))


def opened(protocol: int = 0) -> socket.socket:
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    made.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    made.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20)
    made.bind(("eth0", protocol))
    made.settimeout(5)
    return made


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    with Pair(tmp_path_factory.mktemp("ipip")).as_joined() as made:
        yield made


@pytest.fixture
def wire(pair: Pair) -> Iterator[Wire]:
    def near() -> tuple[socket.socket, socket.socket, int | None]:
        ours, other = opened(), opened()
        link, offload = leave_ipip("eth0", socket.if_nametoindex("eth0"), OFFLOAD_ALL, [ours])
        assert offload == OFFLOAD_ALL | OFFLOAD_IPIP
        return ours, other, link

    ours, other, link = pair.host.inside(near)
    assert link is not None
    with ours, other, pair.peer.inside(lambda: opened(ETH_P_ALL)) as far:
        try:
            yield Wire(pair.host, ours, other, far)
        finally:
            os.close(link)


@pytest.mark.parametrize("kind", KINDS)
def test_a_device_that_segments_gets_it_whole(wire: Wire, kind: str) -> None:
    sent = KINDS[kind]
    wire.ours.send(sent.header + sent.frame)
    assert wire.seen() == [(without_length(sent.header), sent.frame)]


def test_linux_segments_what_is_too_long_for_the_device(wire: Wire) -> None:
    """As long as IP allows, with an Ethernet header: more than gso_max_size."""
    sent = Sent(LINK / OUTER / INNER / TCP_SEGMENT / Raw(bytes(0xFFFF - 40 - 24)), 54)
    wire.ours.send(sent.header + sent.frame)
    seen = wire.seen()
    assert [len(frame) for _, frame in seen] == [len(each) for each in sent.segments()]
    assert [frame[:34] for _, frame in seen] == [each[:34] for each in sent.segments()]


@pytest.mark.parametrize("kind", KINDS)
def test_linux_segments_for_a_device_that_does_not(wire: Wire, kind: str) -> None:
    sent = KINDS[kind]
    with wire.without(Offload.TSO, Offload.GSO, Offload.TX_CHECKSUM):
        wire.ours.send(sent.header + sent.frame)
        assert [frame for _, frame in wire.seen()] == sent.segments()


OTHERS = {
    "no tunnel": Sent(LINK / INNER / TCP_SEGMENT / Raw(PAYLOAD), 34),
    "a small packet in the tunnel": Sent(LINK / OUTER / INNER / TCP_SEGMENT / Raw(PAYLOAD[:SIZE]), 54, 0),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_other_packets_pass_as_they_are(wire: Wire, kind: str) -> None:
    sent = OTHERS[kind]
    for opened in (wire.ours, wire.other):
        opened.send(sent.header + sent.frame)
    assert wire.seen() == [(without_length(sent.header), sent.frame)] * 2


REFUSED = {
    "a tag in front": Sent(LINK / Dot1Q(vlan=5) / OUTER / INNER / TCP_SEGMENT / Raw(PAYLOAD), 58),
    "options": Sent(LINK / IP(proto=4, options=IPOption(b"\1\1\1\0")) / INNER / TCP_SEGMENT / Raw(PAYLOAD), 58),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_midchain_does_not_send_is_refused(wire: Wire, kind: str) -> None:
    """By Linux, as it were without the program."""
    with contextlib.suppress(OSError):
        wire.ours.send(REFUSED[kind].header + REFUSED[kind].frame)
    assert wire.seen() == []


def test_only_packets_of_marked_sockets_are_looked_at(wire: Wire) -> None:
    sent = KINDS["tcp"]
    with contextlib.suppress(OSError):
        wire.other.send(sent.header + sent.frame)
    assert wire.seen() == []


def test_nobody_behind_the_program_sees_the_mark(wire: Wire) -> None:
    """A socket that hears what leaves, in the same namespace: between two namespaces Linux takes marks away."""
    with wire.near.inside(lambda: opened(ETH_P_ALL)) as listening:
        listening.setsockopt(socket.SOL_SOCKET, SO_RCVMARK, 1)
        for sent in (KINDS["tcp"], *OTHERS.values()):
            wire.ours.send(sent.header + sent.frame)
            while True:
                data, ancillary, _, _ = listening.recvmsg(1 << 17, 128)
                if data[BYTES:] == sent.frame:
                    break
            assert [struct.unpack("I", value)[0] for _, kind, value in ancillary if kind == socket.SO_MARK] == [0]


def test_nothing_stays_when_it_is_closed(pair: Pair) -> None:
    def leave() -> None:
        with opened() as ours:
            link, _ = leave_ipip("eth0", socket.if_nametoindex("eth0"), OFFLOAD_ALL, [ours])
            assert link is not None
            os.close(link)
            with pytest.raises(OSError):
                ours.send(KINDS["tcp"].header + KINDS["tcp"].frame)

    pair.host.inside(leave)


def test_without_tcx_nothing_is_promised(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """As without the right to load programs; and where the device finishes no checksum inside, nothing is tried."""

    def refuse(ifindex: int) -> int:
        raise OSError(22, "Invalid argument")

    with pair.host.inside(opened) as ours:
        monkeypatch.setattr(ipip_segments, "let_linux_segment", refuse)
        for offload in (OFFLOAD_ALL, OFFLOAD_ALL & ~OFFLOAD_CSUM_ANYWHERE):
            assert leave_ipip("eth0", 1, offload, [ours]) == (None, offload)
        assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_MARK) == 0
