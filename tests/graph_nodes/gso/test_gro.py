# SPDX-License-Identifier: Apache-2.0
"""gro: what Linux' GRO would have made of a frame, and what segments into what was received."""

import random
import struct
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Raw

from pyvpp.buffers import CSUM_PARTIAL, CSUM_VALID, LARGE_BUFFERS, TRACED, buffer_at
from pyvpp.interface import INTERFACE, P2P
from pyvpp.node import FREE
from pyvpp.testing import Packet, run_kernel
from pyvpp_nodes.gso import gro
from tests.graph_nodes.forwarding import internet_checksum
from tests.graph_nodes.gso.test_segment import sent_by_linux

TUN, TAP, OTHER_TUN = 1, 2, 3
PASSED = 0x8007
START, DONE = 9, 10  # m.feature before and after
SIZE = 100


def run(packets: list[Packet], **options):
    interfaces = np.zeros(8, INTERFACE)
    for number in (TUN, OTHER_TUN):
        interfaces["flags"][number] = P2P
    chains = np.zeros(16, np.uint16)
    chains[START] = PASSED
    tables = {"interfaces": interfaces, "feature_chains": chains}
    return run_kernel(gro.gro, packets, tables, **options)


def leaving(data: bytes, tx: int = TUN, flags: int = 0, **fields: int) -> Packet:
    return Packet(data, tx=tx, flags=flags, feature=START, **fields)


def tcp(seq: int, n: int = SIZE, *, ip=None, flags: str = "A", **fields) -> bytes:
    """A TCP packet whose payload tells its place in the stream."""
    ip = ip if ip is not None else IP(src="10.1.1.2", dst="10.2.1.2", id=(seq - 1) // SIZE, flags="DF")
    payload = bytes((seq + k) % 251 for k in range(n))
    return bytes(ip / TCP(**{"sport": 5, "dport": 6, "ack": 7, "seq": seq, "flags": flags} | fields) / Raw(payload))


def stream(n: int, **fields) -> list[bytes]:
    return [tcp(1 + k * SIZE, **fields) for k in range(n)]


def partial(data: bytes, l2: int = 0, tx: int = TUN) -> Packet:
    """The packet with only the pseudo header's sum in its checksum, as a veth passes it."""
    ip4 = data[l2] >> 4 == 4
    l4 = l2 + (4 * (data[l2] & 15) if ip4 else 40)
    addresses = data[l2 + 12 : l2 + 20] if ip4 else data[l2 + 8 : l2 + 40]
    total = 0xFFFF - internet_checksum(addresses + struct.pack("!HH", 6, len(data) - l4))
    data = data[: l4 + 16] + struct.pack("!H", total) + data[l4 + 18 :]
    return leaving(data, tx=tx, flags=CSUM_PARTIAL, csum_start=l4, csum_offset=16)


def finished(data: bytes, m, l2: int = 0) -> list[bytes]:
    """What goes over a wire in the end: the segments of a GSO packet."""
    return sent_by_linux(data, l2, int(m["gso_size"])) if m["gso_type"] else [data]


def left(result) -> list[tuple[bytes, object]]:
    return [
        (data, m) for data, m, next_ in zip(result.packets, result.meta, result.nexts, strict=True) if next_ != FREE
    ]


def joined(result) -> list[int]:
    """How many packets of the wire each packet that left stands for."""
    return [
        1 if not m["gso_type"] else -(-(len(data) - int(m["csum_start"] - m["cur"]) - 20) // int(m["gso_size"]))
        for data, m in left(result)
    ]


# ---- what Linux does, slowly: inet_gro_receive, ipv6_gro_receive, tcp_gro_receive --------------------------------------
@dataclass
class Held:
    first: bytes
    packets: list[bytes] = field(default_factory=list)
    open: bool = True
    fixed: bool = False


def layout(data: bytes) -> tuple[int, int] | None:
    """Where TCP and its payload begin, in a packet that may be part of another."""
    if data[0] >> 4 == 4:
        plain = data[0] == 0x45 and data[9] == 6 and int.from_bytes(data[6:8], "big") & 0x3FFF == 0
        l4, length = 20, int.from_bytes(data[2:4], "big")
        plain = plain and internet_checksum(data[:20]) == 0
        addresses = data[12:20]
    else:
        plain, l4, length = data[6] == 6, 40, 40 + int.from_bytes(data[4:6], "big")
        addresses = data[8:40]
    if not plain or length != len(data) or len(data) < l4 + 20:
        return None
    if internet_checksum(addresses + struct.pack("!HH", 6, len(data) - l4) + data[l4:]) not in (0, 0xFFFF):
        return None
    payload = l4 + 4 * (data[l4 + 12] >> 4)
    if data[l4 + 13] & 0xA6 or payload < l4 + 20 or payload >= len(data):
        return None
    return l4, payload


def follows(held: Held, data: bytes) -> bool:
    where, first = layout(data), held.first
    if not held.open or where is None or layout(first) != where:
        return False
    l4, payload = where
    length = sum(len(each) - payload for each in held.packets)
    ours, theirs = bytearray(data), bytearray(first)
    if data[0] >> 4 == 4:
        ahead = (int.from_bytes(data[4:6], "big") - int.from_bytes(first[4:6], "big")) % 0x10000
        if len(held.packets) == 1:
            held.fixed = ahead == 0 and bool(data[6] & 0x40)
        if ahead != (0 if held.fixed else len(held.packets)):
            return False
        unequal = (2, 3, 4, 5, 10, 11)
    else:
        unequal = (4, 5)
    for at in (*unequal, *range(l4 + 4, l4 + 8), l4 + 16, l4 + 17):
        ours[at] = theirs[at] = 0
    ours[l4 + 13] &= ~9 & 0xFF
    sequence = int.from_bytes(data[l4 + 4 : l4 + 8], "big") - int.from_bytes(first[l4 + 4 : l4 + 8], "big")
    return (
        ours[:payload] == theirs[:payload]
        and sequence % 2**32 == length
        and len(data) - payload <= len(first) - payload
        and payload + length + len(data) - payload <= 0xFFFF
    )


def flow_of(data: bytes) -> bytes:
    ip4 = data[0] >> 4 == 4
    l4 = 4 * (data[0] & 15) if ip4 else 40
    return (data[12:20] if ip4 else data[8:40]) + data[l4 : l4 + 4]


def reference(frame: list[bytes]) -> list[list[bytes]]:
    """The packets of a frame of TCP packets, grouped as they leave."""
    groups: list[list[bytes]] = []
    holding: dict[bytes, Held] = {}
    for data in frame:
        flow = flow_of(data)
        held = holding.get(flow)
        if held and follows(held, data):
            held.packets.append(data)
        else:
            held = holding[flow] = Held(data, [data])
            groups.append(held.packets)
            held.open = layout(data) is not None
        where = layout(data)
        if where:
            last = data[where[0] + 13] & 9 or len(data) - where[1] < len(held.first) - where[1]
            held.open = held.open and not last
    return groups


# ---- properties --------------------------------------------------------------------------------------------------------
@st.composite
def streams(draw) -> list[bytes]:
    """Packets of up to three flows, each mostly in order, now and then with something odd."""
    version = draw(st.sampled_from([4, 6]))
    options = draw(st.sampled_from([[], [("NOP", None), ("NOP", None), ("Timestamp", (1, 2))]]))
    frame = []
    state = {flow: (draw(st.sampled_from([1, 2**32 - 150])), draw(st.sampled_from([5, 0xFFFE]))) for flow in range(3)}
    for _ in range(draw(st.integers(1, 25))):
        flow = draw(st.integers(0, 2))
        seq, id_ = state[flow]
        n = draw(st.sampled_from([SIZE] * 8 + [0, 1, SIZE - 1, SIZE + 1]))
        odd = draw(st.sampled_from(["no"] * 12 + ["PA", "FA", "SA", "seq", "id", "ttl", "tos", "window", "ack", "bad"]))
        flags = odd if odd in ("PA", "FA", "SA") else "A"
        ttl, tos = 63 if odd == "ttl" else 64, 4 if odd == "tos" else 0
        if version == 4:
            fixed = flow == 2
            ip = IP(
                src="10.0.0.1", dst="10.0.0.2", id=77 if fixed else id_, flags="DF" if flow else 0, ttl=ttl, tos=tos
            )
        else:
            ip = IPv6(src="fd00::1", dst="fd00::2", hlim=ttl, tc=tos)
        data = tcp(
            (seq + (odd == "seq")) % 2**32, n, ip=ip, flags=flags, sport=flow, options=options,
            window=99 if odd == "window" else 100, ack=8 if odd == "ack" else 7,
        )  # fmt: skip
        frame.append(data[:-1] + bytes([data[-1] ^ 0x55]) if odd == "bad" else data)
        state[flow] = (seq + n) % 2**32, (id_ + 1 + (odd == "id")) % 0x10000
    return frame


@given(streams(), st.booleans())
def test_packets_are_joined_as_by_linux_and_segments_are_what_was_received(frame, ethernet):
    link = bytes(Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02", type=0x0800)) if ethernet else b""
    if frame[0][0] >> 4 == 6:
        link = link[:12] + b"\x86\xdd" if link else b""
    result = run([leaving(link + data, tx=TAP if ethernet else TUN) for data in frame])
    expected = reference(frame)
    segments = [finished(data, m, len(link)) for data, m in left(result)]
    assert [len(group) for group in segments] == [len(group) for group in expected]
    for got, group in zip(segments, expected, strict=True):
        fixed = len(group) > 1 and group[0][0] >> 4 == 4 and group[0][4:6] == group[1][4:6]
        for one, other in zip(got, group, strict=True):
            assert without_id(one, len(link)) == without_id(link + other, len(link)) if fixed else one == link + other
    assert result.counters[gro.Counter.COALESCED] == len(frame) - len(expected)


def without_id(data: bytes, l2: int) -> bytes:
    """Ids that stand still become ids that count, which DF allows."""
    return data[: l2 + 4] + data[l2 + 6 : l2 + 10] + data[l2 + 12 :]


@given(st.lists(st.binary(max_size=120), max_size=12), st.integers(0, 4))
def test_random_bytes_pass_unchanged(frame, tx):
    result = run([leaving(data, tx=tx) for data in frame])
    assert result.packets == frame
    assert result.nexts == [PASSED] * len(frame)


@given(st.lists(st.tuples(st.integers(0, 79), st.integers(0, 255)), max_size=3), st.integers(1, 90))
def test_damaged_packets_beside_good_ones(damage, cut):
    good = stream(3)
    bad = bytearray(good[1])
    for at, value in damage:
        bad[at] = value
    result = run([leaving(good[0]), leaving(bytes(bad)[: len(bad) - cut]), leaving(good[1]), leaving(good[2])])
    assert bytes(bad)[: len(bad) - cut] in result.packets
    assert sum(joined(result)) == 4


# ---- one by one ---------------------------------------------------------------------------------------------------------
def test_a_stream_becomes_one_packet_and_its_headers_say_so():
    frame = stream(5)
    result = run([leaving(data) for data in frame])
    ((data, m),) = left(result)
    assert (int(m["gso_type"]), int(m["gso_size"])) == (1, SIZE)
    assert (int(m["flags"]), int(m["csum_offset"]), int(m["csum_start"] - m["cur"])) == (CSUM_PARTIAL, 16, 20)
    assert data[40:] == b"".join(each[40:] for each in frame)
    ours, theirs = IP(data), IP(data)
    del theirs.chksum, theirs.len
    theirs = IP(bytes(theirs))
    assert (ours.chksum, ours.len) == (theirs.chksum, theirs.len)
    pseudo = data[12:20] + struct.pack("!HH", 6, len(data) - 20)
    assert 0xFFFF - internet_checksum(pseudo) == ours[TCP].chksum
    assert result.nexts == [PASSED] + [FREE] * 4
    assert (int(m["feature"]), int(m["tx"]), int(m["ref"])) == (DONE, TUN, 1)


def test_metadata_of_the_first_stays():
    packets = [leaving(data, flags=TRACED | CSUM_VALID, trace=4 + k, rx=6) for k, data in enumerate(stream(2))]
    ((_, m),) = left(run(packets))
    assert (int(m["flags"]), int(m["trace"]), int(m["rx"])) == (TRACED | CSUM_PARTIAL, 4, 6)


def test_64_kib_and_no_more():
    frame = [tcp(1 + k * 1460, 1460, ip=IP(id=k)) for k in range(100)]
    result = run([leaving(data) for data in frame])
    assert joined(result) == [44, 44, 12]
    assert [segment for data, m in left(result) for segment in finished(data, m)] == frame


def test_the_longest_packet_there_is():
    """40 bytes of headers and 65495 of payload: 65535, which the length field just holds."""
    size = 1337
    whole, rest = divmod(0xFFFF - 40, size)
    for more, expected in ((0, [whole + 1]), (1, [whole, 1])):
        frame = [tcp(1 + k * size, size, ip=IP(id=k)) for k in range(whole)]
        frame.append(tcp(1 + whole * size, rest + more, ip=IP(id=whole)))
        result = run([leaving(data) for data in frame])
        assert [len(finished(data, m)) for data, m in left(result)] == expected


def test_partial_checksums_are_trusted_and_mixed_with_whole_ones():
    frame = stream(4)
    result = run([partial(frame[0]), leaving(frame[1]), partial(frame[2]), leaving(frame[3], flags=CSUM_VALID)])
    ((data, m),) = left(result)
    assert finished(data, m) == frame


def test_a_partial_checksum_elsewhere_is_not_tcps():
    frame = [partial(data) for data in stream(3)]
    frame[1].fields["csum_start"] = 24
    assert joined(run(frame)) == [1, 1, 1]


def test_a_checksum_that_the_device_found_right_is_not_computed_again():
    frame = [data[:-1] + bytes([data[-1] ^ 1]) for data in stream(2)]
    assert joined(run([leaving(data, flags=CSUM_VALID) for data in frame])) == [2]
    assert joined(run([leaving(data) for data in frame])) == [1, 1]


@pytest.mark.parametrize("position", [0, 1, 2, 3])
def test_a_bad_checksum_passes_alone(position):
    frame = stream(4)
    for damaged in (frame[position][:-1] + b"\0", frame[position][:10] + b"\0\0" + frame[position][12:]):
        received = [*frame[:position], damaged, *frame[position + 1 :]]
        result = run([leaving(data) for data in received])
        assert damaged in [data for data, _ in left(result)]
        assert [segment for data, m in left(result) for segment in finished(data, m)] == received
        assert sum(joined(result)) == 4


def test_flows_do_not_mix_whatever_their_order():
    flows = [[tcp(1 + k * SIZE, sport=1000 + flow) for k in range(6)] for flow in range(8)]
    order = [flow for flow in range(8) for _ in range(6)]
    random.Random(3).shuffle(order)
    waiting = [list(flow) for flow in flows]
    result = run([leaving(waiting[flow].pop(0)) for flow in order])
    assert sorted(joined(result)) == [6] * 8
    segments = [segment for data, m in left(result) for segment in finished(data, m)]
    for number, flow in enumerate(flows):
        assert [each for each in segments if each[20:22] == struct.pack("!H", 1000 + number)] == flow


def test_more_flows_than_are_remembered_lose_nothing():
    frame = [tcp(1 + k * SIZE, sport=flow) for k in range(4) for flow in range(20)]
    result = run([leaving(data) for data in frame])
    segments = [segment for data, m in left(result) for segment in finished(data, m)]
    for flow in range(20):
        port = struct.pack("!H", flow)
        assert [each for each in segments if each[20:22] == port] == [each for each in frame if each[20:22] == port]


def test_interfaces_do_not_mix():
    frame = stream(4)
    result = run([leaving(data, tx=tx) for data, tx in zip(frame, (TUN, TUN, OTHER_TUN, OTHER_TUN), strict=True)])
    assert joined(result) == [2, 2]


@pytest.mark.parametrize("change", ["src", "dst", "type"])
def test_link_headers_do_not_mix(change):
    frame = stream(3)
    link = {"src": "02:00:00:00:00:01", "dst": "02:00:00:00:00:02", "type": 0x0800}
    other = link | ({change: "02:00:00:00:00:09"} if change != "type" else {"type": 0x86DD})
    packets = [bytes(Ether(**(other if k == 1 else link))) + data for k, data in enumerate(frame)]
    result = run([leaving(data, tx=TAP) for data in packets])
    assert len(left(result)) == 3 if change != "type" else len(left(result)) > 1
    assert [segment for data, m in left(result) for segment in finished(data, m, 14)] == packets


UNTOUCHED = {
    "udp": [bytes(IP() / UDP() / Raw(bytes(60))) for _ in range(3)],
    "no payload": [tcp(1, 0)] * 3,
    "ip options": [tcp(1 + k * SIZE, ip=IP(id=k, options=[b"\x94\x04\0\0"])) for k in range(3)],
    "fragments": [tcp(1 + k * SIZE, ip=IP(id=k, flags="MF")) for k in range(3)],
    "padding": [data + bytes(6) for data in stream(3)],
    "syn": stream(3, flags="S"),
    "rst": stream(3, flags="RA"),
    "urgent": stream(3, flags="UA"),
    "congestion window reduced": stream(3, flags="CA"),
    "push": stream(3, flags="PA"),
    "fin": stream(3, flags="FA"),
    "ip6 destination options": [
        tcp(1 + k * SIZE, ip=IPv6(src="fd00::1", dst="fd00::2") / IPv6ExtHdrDestOpt()) for k in range(3)
    ],
    "ip6 fragments": [
        tcp(1 + k * SIZE, ip=IPv6(src="fd00::1", dst="fd00::2") / IPv6ExtHdrFragment()) for k in range(3)
    ],
    "twice the same": [tcp(1)] * 3,
    "backwards": stream(3)[::-1],
}


@pytest.mark.parametrize("name", UNTOUCHED)
def test_what_is_not_joined(name):
    result = run([leaving(data) for data in UNTOUCHED[name]])
    assert (result.packets, result.nexts) == (UNTOUCHED[name], [PASSED] * 3)
    assert result.counters[gro.Counter.COALESCED] == 0


@pytest.mark.parametrize("name", [name for name in UNTOUCHED if name not in ("udp", "twice the same", "backwards")])
def test_nothing_of_a_flow_is_overtaken(name):
    """What is not joined comes between two that would otherwise be."""
    odd = UNTOUCHED[name][1]
    six = name.startswith("ip6")
    ip = IPv6(src="fd00::1", dst="fd00::2") if six else IP(src=IP(odd).src, dst=IP(odd).dst)
    before, after = tcp(1, ip=ip), tcp(1 + SIZE, ip=ip if six else IP(src=ip.src, dst=ip.dst, id=2))
    result = run([leaving(before), leaving(odd), leaving(after)])
    assert [segment for data, m in left(result) for segment in finished(data, m)] == [before, odd, after]


def test_an_urgent_pointer_is_kept_though_no_flag_says_that_it_counts():
    frame = [tcp(1), tcp(1 + SIZE, urgptr=7), tcp(1 + 2 * SIZE, urgptr=7)]
    result = run([leaving(data) for data in frame])
    assert joined(result) == [1, 2]
    assert [segment for data, m in left(result) for segment in finished(data, m)] == frame


def test_other_protocols_between_are_overtaken():
    frame = stream(2)
    udp = bytes(IP() / UDP())
    result = run([leaving(frame[0]), leaving(udp), leaving(frame[1])])
    assert joined(result) == [2, 1]
    assert left(result)[1][0] == udp


def test_gso_packets_and_shared_buffers_are_left_alone():
    frame = stream(4)
    packets = [leaving(data) for data in frame]
    packets[1] = partial(frame[1])
    packets[1].fields |= {"gso_type": 1, "gso_size": 50}
    assert run(packets).nexts == [PASSED, PASSED, PASSED, FREE]
    packets[1] = leaving(frame[1], ref=2)
    assert run(packets).nexts == [PASSED, PASSED, PASSED, FREE]


@pytest.mark.parametrize("behind", [0, 4000, 12000])
def test_a_packet_far_into_its_large_buffer_grows_no_further_than_that(behind):
    """As one out of many tunnels, one in the other: a packet of 64 KiB no longer fits behind all their headers."""
    n = 4000
    frame = [tcp(1 + k * n, n, ip=IP(src="10.1.1.2", dst="10.2.1.2", id=k, flags="DF")) for k in range(16)]
    packets = [leaving(bytes(behind) + frame[0]), *map(leaving, frame[1:])]
    packets[0].cur = behind
    result = run(packets)
    for data, m in left(result):
        (b,) = {buffer_at(int(m["cur"])), buffer_at(int(m["cur"]) + len(data) - 1)}
        assert b < LARGE_BUFFERS
    assert [segment for data, m in left(result) for segment in finished(data, m)] == frame
    assert joined(result) == [16]


def test_vlan_frames_pass():
    link = bytes(Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / Dot1Q(vlan=3, type=0x0800))
    assert joined(run([leaving(link + data, tx=TAP) for data in stream(3)])) == [1, 1, 1]


def test_without_a_large_buffer_packets_pass_one_by_one():
    result = run([leaving(data) for data in stream(3)], buffers=0)
    assert (result.nexts, result.packets) == ([PASSED] * 3, stream(3))


def test_buffers_come_and_go():
    result = run([leaving(data) for data in stream(5)], buffers=10)
    assert result.free_buffers == 20  # a large one is used, the first packet's small one is free
    assert len({*result.buffers}) == 5
