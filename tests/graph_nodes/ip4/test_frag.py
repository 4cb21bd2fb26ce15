# SPDX-License-Identifier: Apache-2.0
import struct

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, UDP, defragment, fragment
from scapy.packet import Raw

from pyvpp.buffers import CSUM_PARTIAL
from pyvpp.node import FREE
from pyvpp.testing import Packet, run_kernel
from pyvpp_nodes.fib.tables import ADJACENCY, Kind
from pyvpp_nodes.ip4.frag import Counter, Next, ip4_frag
from tests.graph_nodes.forwarding import internet_checksum, ip4, with_checksum

MTUS = {1: 1500, 2: 68, 3: 576, 4: 9000, 5: 27}
MIDCHAIN = 3


def adjacencies():
    table = np.zeros(8, ADJACENCY)
    for adj, mtu in MTUS.items():
        table["mtu"][adj] = mtu
        table["kind"][adj] = Kind.MIDCHAIN if adj == MIDCHAIN else Kind.REWRITE
    return table


TABLES = {"adjacencies": adjacencies()}


def reference(data: bytes, mtu: int, running_id: int) -> tuple[Counter, list[bytes]]:
    """RFC 791, 3.2, on bytes; `running_id` is for packets that have none."""
    length, word = int.from_bytes(data[2:4], "big"), int.from_bytes(data[6:8], "big")
    if len(data) < 20 or not 20 <= length <= len(data):
        return Counter.MALFORMED, []
    if length <= mtu:
        return Counter.SMALL_PACKET, [data[:length]]
    if data[0] & 15 != 5 or mtu < 28:
        return Counter.CANT_FRAGMENT_HEADER, []
    if word & 0x4000:
        return Counter.DONT_FRAGMENT_SET, []
    payload, size = data[20:length], (mtu - 20) // 8 * 8
    identification = int.from_bytes(data[4:6], "big")
    if identification == 0 and word & 0x3FFF == 0:
        identification = running_id
    pieces = []
    for at in range(0, len(payload), size):
        more = 0x2000 if at + size < len(payload) else word & 0x2000
        part = payload[at : at + size]
        fields = struct.pack("!HHH", 20 + len(part), identification, more | (word & 0x1FFF) + at // 8)
        pieces.append(with_checksum(data[:2] + fields + data[8:20] + part))
    return Counter.FRAGMENTED, pieces


PACKETS = st.builds(
    lambda payload, repeat, options, fragment, identification, padding: (
        ip4((payload * repeat)[:2400], options=options, fragment=fragment, identification=identification) + padding
    ),
    st.binary(max_size=200), st.integers(1, 12), st.sampled_from([b"", b"", b"", b"\1" * 4]),
    st.sampled_from([0, 0, 0, 0x4000, 0x2000, 0x2010, 0x0101]), st.sampled_from([0, 1, 0xFFFF]), st.sampled_from([b"", b"", bytes(26)]),
)  # fmt: skip


@given(st.lists(st.tuples(PACKETS, st.sampled_from([1, 2, 3, 4, 5])), min_size=1, max_size=8))
def test_mixed_frames(received):
    result = run_kernel(ip4_frag, [Packet(data, adj=adj) for data, adj in received], TABLES, buffers=500, error_base=40)
    running, emitted, counted = 0, [], dict.fromkeys(Counter, 0)
    for (data, adj), next_, packet, m in zip(received, result.nexts, result.packets, result.meta):
        verdict, pieces = reference(data, MTUS[adj], (running + 1) & 0xFFFF)
        to = Next.MIDCHAIN if adj == MIDCHAIN else Next.REWRITE
        counted[verdict] += 1
        if verdict == Counter.FRAGMENTED:
            if data[4:6] == b"\0\0" and not int.from_bytes(data[6:8], "big") & 0x3FFF:
                running += 1
            assert next_ == FREE
            emitted += [(piece, to) for piece in pieces]
            counted[Counter.FRAGMENT_SENT] += len(pieces)
        elif verdict == Counter.SMALL_PACKET:
            assert (next_, [packet]) == (to, pieces)
        else:
            assert (next_, m["error"], packet) == (Next.DROP, 40 + verdict, data)
    assert result.emitted == emitted
    assert {counter: result.counters[counter] for counter in Counter} == counted


@example(2953, 1501, 1)  # the last fragment fills the MTU although that leaves no multiple of 8
@given(st.integers(0, 3000), st.sampled_from([68, 576, 1500, 1501, 1507]), st.integers(1, 0xFFFF))
def test_scapy_cuts_the_same(n, mtu, identification):
    packet = (
        IP(src="10.1.1.2", dst="10.1.2.2", id=identification)
        / UDP(sport=1, dport=2)
        / Raw(bytes(k % 251 for k in range(n)))
    )
    table = adjacencies()
    table["mtu"][1] = mtu
    result = run_kernel(ip4_frag, [Packet(bytes(packet), adj=1)], {"adjacencies": table}, buffers=200)
    if len(packet) <= mtu:
        assert result.nexts == [Next.REWRITE]
        return
    assert [data for data, _ in result.emitted] == [bytes(piece) for piece in fragment(packet, fragsize=mtu - 20)]
    whole = defragment([IP(data) for data, _ in result.emitted])
    assert bytes(whole[0][UDP]) == bytes(packet[UDP])


def test_every_mtu_gives_whole_packets_back():
    data = ip4(bytes(k % 251 for k in range(400)), identification=5)
    for mtu in range(28, 421):
        table = adjacencies()
        table["mtu"][1] = mtu
        result = run_kernel(ip4_frag, [Packet(data, adj=1)], {"adjacencies": table})
        if mtu == 420:
            assert result.nexts == [Next.REWRITE]
            continue
        assert all(len(piece) <= mtu for piece, _ in result.emitted)
        assert b"".join(piece[20:] for piece, _ in result.emitted) == data[20:]


def test_a_fragment_of_a_fragment_fits_the_same_datagram():
    table = adjacencies()
    table["mtu"][1], table["mtu"][2] = 500, 100
    data = ip4(bytes(k % 251 for k in range(900)), identification=77)
    first = run_kernel(ip4_frag, [Packet(data, adj=1)], {"adjacencies": table})
    again = run_kernel(ip4_frag, [Packet(piece, adj=2) for piece, _ in first.emitted], {"adjacencies": table})
    small = [piece for packet, next_ in zip(again.packets, again.nexts) if next_ == Next.REWRITE for piece in [packet]]
    pieces = [IP(piece) for piece in [*small, *(piece for piece, _ in again.emitted)]]
    assert {piece.id for piece in pieces} == {77}
    by_offset = sorted((piece.frag * 8, bytes(piece.payload), piece.flags.MF) for piece in pieces)
    assert b"".join(payload for _, payload, _ in by_offset) == data[20:]
    assert [more for *_, more in by_offset] == [True] * (len(by_offset) - 1) + [False]


def test_packets_without_id_get_one_each():
    data = ip4(bytes(200), identification=0)
    result = run_kernel(ip4_frag, [Packet(data, adj=2)] * 3, {**TABLES, "ip4_frag_id": np.array([0xFFFE], np.uint32)})
    ids = [int.from_bytes(piece[4:6], "big") for piece, _ in result.emitted]
    per_packet = len(ids) // 3
    assert ids == [0xFFFF] * per_packet + [0] * per_packet + [1] * per_packet


def test_a_partial_checksum_is_completed_first():
    whole = ip4(struct.pack("!HHHH", 1, 2, 8 + 300, 0) + bytes(range(100)) * 3, identification=3)
    pseudo = whole[12:20] + struct.pack("!HH", 17, 308)
    partial = whole[:26] + struct.pack("!H", 0xFFFF - internet_checksum(pseudo)) + whole[28:]
    packet = Packet(partial, adj=2, flags=CSUM_PARTIAL, csum_start=20, csum_offset=6)
    result = run_kernel(ip4_frag, [packet], TABLES)
    payload = b"".join(piece[20:] for piece, _ in result.emitted)
    assert internet_checksum(pseudo + payload) in (0, 0xFFFF)
    assert all(m["flags"] & CSUM_PARTIAL == 0 for m in result.emitted_meta)


def test_metadata_goes_with_every_fragment():
    fields = {"adj": 2, "tx": 7, "flow_hash": 99, "trace": 4, "flags": 1 | 8 | 32}
    result = run_kernel(ip4_frag, [Packet(ip4(bytes(100)), rx=3, **fields)], TABLES)
    for m in result.emitted_meta:
        assert {name: int(m[name]) for name in fields} == fields
        assert (m["rx"], m["ref"], m["l3"]) == (3, 1, m["cur"])


@pytest.mark.parametrize("buffers", [0, 1, 3])
def test_without_buffers(buffers):
    result = run_kernel(ip4_frag, [Packet(ip4(bytes(1000)), adj=2)] * 2, TABLES, buffers=buffers)
    assert result.nexts == [Next.DROP] * 2
    assert result.counters[Counter.MEMORY] == 2
    assert len(result.emitted) == result.counters[Counter.FRAGMENT_SENT] == 2 * buffers
    assert result.free_buffers == 0


def gso(payload: bytes, flags: int = 0, **fields: int) -> Packet:
    """A TCP packet to be cut into segments of 1000 bytes."""
    data = bytes(
        IP(src="10.1.1.2", dst="10.1.2.2", id=7, flags=flags) / TCP(sport=1, dport=2, flags="A", seq=5) / payload
    )
    return Packet(data, flags=CSUM_PARTIAL, csum_start=20, csum_offset=16, gso_type=1, gso_size=1000, **fields)


@pytest.mark.parametrize(("adj", "next_"), [(1, Next.REWRITE), (MIDCHAIN, Next.MIDCHAIN)])
def test_a_gso_packet_is_cut_as_its_sender_meant(adj, next_):
    """Whatever its own length: what does not fit is the segment, and each comes back here."""
    payload = bytes(k % 251 for k in range(2500))
    result = run_kernel(ip4_frag, [gso(payload, adj=adj)], TABLES)
    assert (result.nexts, result.counters[Counter.SEGMENTED], sum(result.counters)) == (
        [FREE],
        1,
        1 + len(result.emitted),
    )
    assert [to for _, to in result.emitted] == [next_] * 3
    segments = [IP(data) for data, _ in result.emitted]
    assert [(s.id, s[TCP].seq, s.len) for s in segments] == [(7, 5, 1040), (8, 1005, 1040), (9, 2005, 540)]
    assert b"".join(bytes(s[TCP].payload) for s in segments) == payload
    for m, (data, _) in zip(result.emitted_meta, result.emitted):
        assert (m["gso_type"], m["flags"] & CSUM_PARTIAL, m["adj"]) == (0, 0, adj)
        again = IP(data)
        del again.chksum, again[TCP].chksum
        assert bytes(again) == data


def test_a_gso_packet_that_would_fit_as_it_is_does_not_come_back_as_it_is():
    """ip4-rewrite measures by the segment it claims to be made of and would send it here again, for ever."""
    result = run_kernel(ip4_frag, [gso(b"short", adj=1)], TABLES)
    assert (result.nexts, len(result.emitted)) == ([FREE], 1)
    assert (result.emitted_meta[0]["gso_type"], result.emitted_meta[0]["gso_size"]) == (0, 0)


def test_gso_packets_that_are_not_cut():
    packets = [gso(bytes(3000), flags="DF", adj=1), Packet(ip4(bytes(3000)), adj=1, gso_type=5, gso_size=0)]
    result = run_kernel(ip4_frag, packets, TABLES, error_base=40)
    assert result.nexts == [Next.DROP] * 2
    assert [m["error"] for m in result.meta] == [40 + Counter.DONT_FRAGMENT_SET, 40 + Counter.MALFORMED]
    result = run_kernel(ip4_frag, [gso(bytes(3000), adj=1)], TABLES, buffers=1, error_base=40)
    assert (result.nexts, result.counters[Counter.MEMORY]) == ([Next.DROP], 1)
    assert result.meta[0]["error"] == 40 + Counter.MEMORY


@given(st.binary(max_size=300), st.sampled_from(sorted(MTUS)), st.sampled_from([{}, {"gso_type": 1, "gso_size": 9}]))
def test_random_bytes(data, adj, fields):
    result = run_kernel(ip4_frag, [Packet(data, adj=adj, flags=CSUM_PARTIAL, csum_start=30, **fields)], TABLES)
    assert sum(result.counters) - result.counters[Counter.FRAGMENT_SENT] == 1
