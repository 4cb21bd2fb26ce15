# SPDX-License-Identifier: Apache-2.0
"""Unfinished checksums found in the packet, judged by scapy and by the definition (RFC 1071, RFC 793, RFC 8200)."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Dot1Q, Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Raw

from pyvpp.buffers import BUFFER, CSUM_PARTIAL
from pyvpp.checksum import complete_checksum, fold, sum_bytes
from pyvpp.device import af_xdp_offload as offload

START = 256
MTU = 1500
HEADER = {6: 20, 17: 8}
FIELD = {6: 16, 17: 6}


def ones_sum(data: bytes) -> int:
    """Ones' complement sum of big-endian words."""
    total = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def pseudo_header(ip: bytes, protocol: int, n: int) -> bytes:
    if ip[0] >> 4 == 4:
        return ip[12:20] + struct.pack("!HH", protocol, n)
    return ip[8:40] + struct.pack("!II", n, protocol)


class Packet:
    """A packet in a heap of its own, its innermost TCP or UDP at `l4` behind the IP header at `ip`."""

    def __init__(self, frame: bytes, ip: int, l4: int, protocol: int) -> None:
        self.ip, self.l4, self.protocol, self.field = ip, l4, protocol, l4 + FIELD[protocol]
        self.heap = np.zeros(START + len(frame) + 4096, np.uint8)
        self.n = len(frame)
        self.write(frame)
        self.meta: Any = np.zeros(1, BUFFER)
        self.m = self.meta[0]
        self.m.cur, self.m.len = START, len(frame)

    @property
    def frame(self) -> bytes:
        return self.heap[START : START + self.n].tobytes()

    def write(self, frame: bytes) -> None:
        self.heap[START : START + self.n] = np.frombuffer(frame, np.uint8)

    @property
    def bare(self) -> int:
        """The pseudo header's sum."""
        return ones_sum(pseudo_header(self.frame[self.ip :], self.protocol, self.n - self.l4))

    @property
    def right(self) -> int:
        """What the checksum should be."""
        frame = self.frame
        data = frame[self.l4 : self.field] + b"\0\0" + frame[self.field + 2 :]
        pseudo = pseudo_header(frame[self.ip :], self.protocol, self.n - self.l4)
        return ones_sum(pseudo + data) ^ 0xFFFF or 0xFFFF

    def put(self, checksum: int) -> None:
        frame = self.frame
        self.write(frame[: self.field] + struct.pack("!H", checksum) + frame[self.field + 2 :])

    @property
    def checksum(self) -> int:
        return int.from_bytes(self.frame[self.field : self.field + 2], "big")

    def find(self, mtu: int = MTU) -> bool:
        offload.find_unfinished(self.heap, self.m, mtu)
        return bool(int(self.m["flags"]) & CSUM_PARTIAL)


INNER = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
LIKE_IP = Ether(src="02:00:00:00:00:01", dst="45:00:00:40:00:02")
IP4 = IP(src="10.1.2.3", dst="10.4.5.6")
IP6 = IPv6(src="2001:db8::1", dst="2001:db8::2")
OUTER4 = IP(src="192.0.2.1", dst="192.0.2.2")
WAYS: dict[str, tuple[Any, Any]] = {
    "ip4": (INNER, IP4),
    "ip6": (INNER, IP6),
    "options": (INNER, IP(src="10.1.2.3", dst="10.4.5.6", options=[b"\x94\x04\0\0"])),
    "tag": (INNER / Dot1Q(vlan=5), IP4),
    "two tags": (INNER / Dot1Q(vlan=5) / Dot1Q(vlan=6), IP6),
    "ipip": (INNER / OUTER4, IP4),
    "6in4": (INNER / OUTER4, IP6),
    "vxlan": (INNER / OUTER4 / UDP(sport=5555, dport=4789, chksum=0) / VXLAN(vni=7, flags=8) / INNER, IP4),
    "vxlan6": (INNER / OUTER4 / UDP(sport=5555, dport=4789, chksum=0) / VXLAN(vni=7, flags=8) / INNER, IP6),
    "vxlan l3": (INNER / OUTER4 / UDP(sport=5555, dport=4789, chksum=0) / VXLAN(vni=7, flags=8), IP4),
    "vxlan6 l3": (INNER / OUTER4 / UDP(sport=5555, dport=4789, chksum=0) / VXLAN(vni=7, flags=8), IP6),
    "vxlan, mac like ip": (
        INNER / OUTER4 / UDP(sport=5555, dport=4789, chksum=0) / VXLAN(vni=7, flags=8) / LIKE_IP,
        IP4,
    ),
    "vxlan, mac like ip, tag": (
        INNER / OUTER4 / UDP(sport=5555, dport=4789, chksum=0) / VXLAN(vni=7, flags=8) / LIKE_IP / Dot1Q(vlan=5),
        IP4,
    ),
    "vxlan l3, address like ethernet": (
        INNER / OUTER4 / UDP(sport=5555, dport=4789, chksum=0) / VXLAN(vni=7, flags=8),
        IP(src="8.0.69.1", dst="10.4.5.6"),
    ),
}


def packet(way: str, protocol: int, payload: bytes) -> Packet:
    below, ip = WAYS[way]
    top = TCP(sport=1000, dport=2000, seq=77) if protocol == 6 else UDP(sport=1000, dport=2000)
    frame = bytes(below / ip / top / Raw(payload))
    l4 = len(frame) - len(payload) - HEADER[protocol]
    return Packet(frame, l4 - len(bytes(ip)), l4, protocol)


@pytest.mark.parametrize("protocol", [6, 17])
@pytest.mark.parametrize("way", WAYS)
@given(payload=st.binary(min_size=1, max_size=64))
def test_a_bare_checksum_is_found_and_finished(way: str, protocol: int, payload: bytes) -> None:
    each = packet(way, protocol, payload)
    assert each.checksum == each.right, "scapy says so too"
    if each.right != each.bare:
        assert not each.find(), "it is complete"
    each.put(each.bare)
    assert each.find()
    assert (int(each.m["csum_start"]), int(each.m["csum_offset"])) == (START + each.l4, FIELD[protocol])
    assert int(each.m["gso_type"]) == 0
    complete_checksum(each.heap, each.m)
    assert each.checksum == each.right
    assert not int(each.m["flags"]) & CSUM_PARTIAL


def test_ip_whose_addresses_look_like_an_ethernet_payload() -> None:
    """Its length would fit, but there is no EtherType before it."""
    below = INNER / OUTER4 / UDP(sport=5555, dport=4789, chksum=0) / VXLAN(vni=7, flags=8)
    ip = IP(src="10.1.69.3", dst="5.170.1.2")
    each = Packet(bytes(below / ip / TCP() / Raw(bytes(14 + 1450 - 40))), 50, 70, 6)
    each.put(each.bare)
    assert each.find()
    assert int(each.m["csum_start"]) == START + 70


def test_a_padded_frame_whose_mac_address_looks_like_ip() -> None:
    mac = Ether(src="02:00:00:00:00:01", dst="45:00:00:3c:00:02", type=0x0800)
    below = bytes(INNER / OUTER4 / UDP(sport=5555, dport=4789, chksum=0, len=76) / VXLAN(vni=7, flags=8) / mac)
    each = Packet(below + bytes(IP4 / UDP(sport=1, dport=2) / Raw(b"abc")), 64, 84, 17)
    each.put(each.bare)
    padded = Packet(each.frame.ljust(50 + 60, b"\0"), 64, 84, 17)
    assert padded.find()
    assert int(padded.m["csum_start"]) == START + 84


@pytest.mark.slow
@pytest.mark.parametrize("way", ["ip4", "vxlan6"])
def test_of_all_65536_values_two_spellings_at_most_are_bare(way: str) -> None:
    """The sum itself; and whatever is taken for bare, finished, is a right checksum."""
    each = packet(way, 6, b"some payload")
    found = []
    for value in range(65536):
        each.put(value)
        each.m["flags"] = 0
        if each.find():
            found.append(value)
    assert found == [each.bare]


@given(st.integers(0, 65535))
def test_a_complete_packet_taken_for_an_unfinished_one_stays_right(word: int) -> None:
    """One in 65536: the payload is chosen so that the right checksum is the pseudo header's sum."""
    each = packet("ip4", 17, struct.pack("!HH", word, 0))
    each.put(each.bare)
    rest = ones_sum(each.frame[each.l4 :])
    each.write(each.frame[:-2] + struct.pack("!H", (0xFFFF - rest + 0xFFFF - each.bare) % 0xFFFF))
    assert each.right == each.bare == each.checksum
    assert each.find()
    complete_checksum(each.heap, each.m)
    assert each.checksum == each.right


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("mtu", [1500, 9000])
def test_tcp_longer_than_the_mtu_is_to_be_segmented_as_its_sender_would(way: str, mtu: int) -> None:
    each = packet(way, 6, bytes(20000))
    each.put(each.bare)
    assert each.find(mtu)
    assert int(each.m["gso_type"]) == (1 if each.frame[each.ip] >> 4 == 4 else 4)
    assert int(each.m["gso_size"]) == mtu - 100 + 14 - each.l4 - 20, "headers and payload fit a pod's MTU"


def test_udp_has_no_segment_size() -> None:
    each = packet("ip4", 17, bytes(20000))
    each.put(each.bare)
    assert each.find()
    assert (int(each.m["gso_type"]), int(each.m["gso_size"])) == (0, 0)


@pytest.mark.parametrize("fragment", [{"flags": "MF"}, {"frag": 100}])
def test_fragments_are_left_alone(fragment: dict[str, Any]) -> None:
    frame = bytes(INNER / IP(src="10.1.2.3", dst="10.4.5.6", **fragment) / TCP() / Raw(b"abc"))
    each = Packet(frame, 14, 34, 6)
    each.put(each.bare)
    assert not each.find()


@given(st.binary(min_size=14, max_size=200), st.sampled_from([b"\x08\0", b"\x86\xdd", b"\x81\0", b"\x88\xa8"]))
def test_noise_is_read_within_reason(noise: bytes, ethertype: bytes) -> None:
    """Whatever it finds, the field lies in the packet; with NUMBA_BOUNDSCHECK=1 it is read within the heap, too."""
    each = Packet(noise[:12] + ethertype + noise[14:], 14, 14, 17)
    if each.find():
        field = int(each.m["csum_start"]) + int(each.m["csum_offset"])
        assert int(each.m["csum_start"]) >= START and field + 2 <= START + each.n


@given(st.binary(max_size=100), st.integers(0, 3))
def test_the_sum_of_bytes(data: bytes, shift: int) -> None:
    heap = np.zeros(256, np.uint8)
    heap[shift : shift + len(data)] = np.frombuffer(data, np.uint8)
    total = fold(sum_bytes(heap, shift, len(data)))
    assert int.from_bytes(total.to_bytes(2, "little"), "big") % 0xFFFF == ones_sum(data) % 0xFFFF


def test_metadata_of_a_packet_to_be_sent_is_struct_xsk_tx_metadata() -> None:
    each = packet("ip4", 6, b"x")
    each.heap[START - offload.TX_METADATA_BYTES : START] = 0xA5
    each.m["csum_start"], each.m["csum_offset"] = START + each.l4, 16
    offload.put_tx_metadata(each.heap, each.m)
    flags, start, offset = struct.unpack_from("<QHH", each.heap.tobytes(), START - 24)
    assert (flags, start, offset) == (2, each.l4, 16)
    assert not each.heap[START - 12 : START].any()


def segments(pod: str, sizes: list[int], version: int = 4, tag: bool = False) -> list[bytes]:
    """Inner packets with so many bytes of TCP payload each, as a tunnel of Ethernet frames or of bare IP has them."""
    below = (INNER / Dot1Q(vlan=9) if tag else INNER) if pod == "ethernet" else None
    ip = IP4 if version == 4 else IP6
    inner = [ip / TCP(sport=1, dport=2, seq=k) / Raw(bytes([k]) * size) for k, size in enumerate(sizes)]
    return [bytes(below / each if below else each) for each in inner]


def train(inner: list[bytes], port: int = 4789) -> Packet:
    """Packets of a tunnel behind one outer UDP header, whose checksum is left to do."""
    payload = b"".join(bytes(VXLAN(vni=7, flags=8)) + each for each in inner)
    frame = bytes(INNER / OUTER4 / UDP(sport=50000, dport=port) / Raw(payload))
    found = Packet(frame, 14, 34, 17)
    found.put(found.bare)
    return found


def gso(each: Packet) -> tuple[int, int]:
    assert each.find(), "the outer checksum is left to do in any case"
    assert (int(each.m["csum_start"]), int(each.m["csum_offset"])) == (START + 34, 6)
    return int(each.m["gso_type"]), int(each.m["gso_size"])


@pytest.mark.parametrize("pod", ["ethernet", "ip"])
@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("tag", [False, True])
@given(
    size=st.integers(1, 1400), others=st.integers(1, 39), last=st.integers(1, 1400), port=st.sampled_from([4789, 9])
)  # fmt: skip
def test_a_train_says_where_to_cut_it(
    pod: str, version: int, tag: bool, size: int, others: int, last: int, port: int
) -> None:
    """As its sender meant: reference is what Linux makes of the gso_size found, each of which is one inner packet."""
    inner = segments(pod, [size] * others + [min(size, last)], version, tag)
    each = train(inner, port)
    kind, pitch = gso(each)
    assert kind == 5
    payload = each.frame[42:]
    assert [payload[at + 8 : at + pitch] for at in range(0, len(payload), pitch)] == inner


@pytest.mark.parametrize("pod", ["ethernet", "ip"])
def test_what_is_no_train_is_not_cut(pod: str) -> None:
    three = segments(pod, [1000, 1000, 700])
    pitch = len(three[0]) + 8

    def spoilt(at: int, by: int = 1) -> Packet:
        each = train(three)
        frame = bytearray(each.frame)
        frame[42 + at] ^= by
        each.write(bytes(frame))
        return each

    assert gso(train(three)) == (5, pitch)
    for at in (pitch, pitch + 3, pitch + 6, 2 * pitch, 2 * pitch + 7):  # a VXLAN header that is not the first's
        assert gso(spoilt(at)) == (0, 0), at
    assert gso(spoilt(0, 0xFF)) == (0, 0), "no VXLAN"
    assert gso(spoilt((22 if pod == "ethernet" else 8) + 3)) == (0, 0), "the inner IPv4 length is wrong by one"
    assert gso(spoilt((22 if pod == "ethernet" else 8), 0xF0)) == (0, 0), "the inner packet is no IP"
    assert gso(train(three[:1])) == (0, 0), "it is one packet"
    assert gso(train([three[0], b""])) == (0, 0), "nothing behind the last header"
    assert gso(train([three[0] + b"padding", three[1]])) == (0, 0)
    assert gso(train([b"\x45\0\0\x0c" + bytes(8)] * 9)) == (0, 0), "shorter than an IP header"
    other = train(three)
    other.write(other.frame.replace(bytes(VXLAN(vni=7, flags=8)), bytes(VXLAN(vni=7, flags=0x88))))
    assert gso(other) == (0, 0), "no VXLAN anywhere"
    short = train(three)
    short.m["len"] = 42 + pitch + 7
    short.find()
    assert (int(short.m["gso_type"]), int(short.m["gso_size"])) == (0, 0), "cut within a header"


@given(
    noise=st.binary(max_size=120), length=st.integers(0, 65535), version=st.integers(0, 15), copies=st.integers(1, 9)
)
def test_a_hostile_train_is_cut_within_the_packet_or_not_at_all(
    noise: bytes, length: int, version: int, copies: int
) -> None:
    ip = bytes([version << 4 | 5, 0]) + length.to_bytes(2, "big") + noise
    each = train([ip] * copies)
    kind, pitch = gso(each)
    assert kind in (0, 5)
    if kind:
        assert 28 <= pitch < each.n - 42
        payload = each.frame[42:]
        assert all(len(payload) - at > 8 for at in range(0, len(payload), pitch))
        assert {payload[at : at + 8] for at in range(0, len(payload), pitch)} == {payload[:8]}
