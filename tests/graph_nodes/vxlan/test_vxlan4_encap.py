# SPDX-License-Identifier: Apache-2.0
"""vxlan4-encap against a reference and scapy."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Raw

from pyvpp.buffers import CSUM_PARTIAL, FLOW_HASH, L2_VALID, LOCALLY_ORIGINATED
from pyvpp.node import TO_NODE
from pyvpp.testing import Packet, run_kernel
from pyvpp_nodes.vxlan import vxlan4_encap as encap
from tests.graph_nodes.forwarding import frames, internet_checksum, ip4, udp, with_checksum
from tests.graph_nodes.vxlan.tunnels import BARE, DOWN, ETHERNET, LOCAL, NONE, REMOTE, TABLES, TUNNELS


def encapsulated(inner: bytes, tx: int, source_port: int) -> bytes:
    """RFC 7348, figure 1, less the outer Ethernet header."""
    remote, vni, _, port, _, _, _ = TUNNELS[tx]
    vxlan = struct.pack("!BBHI", 8, 0, 0, vni << 8)
    datagram = struct.pack("!HHHH", source_port, port, 16 + len(inner), 0) + vxlan + inner
    return ip4(datagram, LOCAL, remote, ttl=254, protocol=17, identification=0)


PACKETS = st.one_of(
    st.builds(
        ip4, st.builds(udp, st.binary(max_size=20), st.integers(1, 9)), source=st.sampled_from(["10.2.0.1", "10.2.0.2"])
    ),
    st.builds(ip4, st.binary(max_size=9), fragment=st.sampled_from([0, 0x2000, 7])),
    st.binary(max_size=60),
)
TYPED = st.builds(
    lambda macs, kind, data: macs + kind + data,
    st.binary(min_size=12, max_size=12),
    st.sampled_from([b"\x08\0", b"\x08\x06"]),
    PACKETS,
)


@given(frames(st.tuples(st.one_of(TYPED, PACKETS), st.sampled_from([ETHERNET, BARE, DOWN, NONE, 8, 0xFFFF]))))
def test_encapsulation_of_mixed_frames(sent):
    result = run_kernel(encap.vxlan4_encap, [Packet(data, tx=tx) for data, tx in sent], TABLES, error_base=50)
    for (data, tx), next_, packet, m in zip(sent, result.nexts, result.packets, result.meta):
        if tx not in TUNNELS:
            assert (next_, packet, m["error"]) == (encap.Next.DROP, data, 50 + encap.Counter.NO_TUNNEL)
            continue
        if tx == BARE and len(data) >= 20 and data[0] >> 4 == 4 and 20 <= int.from_bytes(data[2:4], "big") < len(data):
            data = data[: int.from_bytes(data[2:4], "big")]
        port = int.from_bytes(packet[20:22], "big")
        assert packet == encapsulated(data, tx, port)
        assert 49152 <= port <= 65535
        if tx == BARE:
            assert next_ == TO_NODE | 60
            assert 22 <= m["adj"] <= 25
        else:
            assert (next_, m["adj"]) == (TO_NODE | 51, 11)
        assert m["l3"] == m["cur"] and m["l4"] == m["cur"] + 20
    good = sum(tx in TUNNELS for _, tx in sent)
    assert list(result.counters) == [good, len(sent) - good, 0]


def port_of(inner, tx: int = ETHERNET) -> int:
    packet = run_kernel(encap.vxlan4_encap, [Packet(bytes(inner), tx=tx)], TABLES).packets[0]
    return int.from_bytes(packet[20:22], "big")


@pytest.mark.parametrize("tx", [ETHERNET, BARE])
def test_the_source_port_is_the_flow(tx):
    link = Ether(dst="02:00:00:00:00:02", src="02:00:00:00:00:01") if tx == ETHERNET else None
    over = (lambda packet: link / packet) if link else (lambda packet: packet)
    flow = IP(src="10.2.0.1", dst="10.3.0.1") / TCP(sport=1000, dport=80)
    same = IP(src="10.2.0.1", dst="10.3.0.1", id=9, ttl=3) / TCP(sport=1000, dport=80, seq=5) / Raw(b"x" * 30)
    assert port_of(over(flow), tx) == port_of(over(same), tx)
    ports = {port_of(over(IP(src="10.2.0.1", dst="10.3.0.1") / UDP(sport=1000 + k)), tx) for k in range(64)}
    assert len(ports) > 56
    first = IP(src="10.2.0.1", dst="10.3.0.1", flags="MF") / UDP(sport=5)
    later = IP(src="10.2.0.1", dst="10.3.0.1", frag=3, proto=17) / Raw(bytes(8))
    assert port_of(over(first), tx) == port_of(over(later), tx)


def test_other_frames_by_their_addresses():
    macs = [
        Ether(src=f"02:00:00:00:00:{k:02x}", dst="ff:ff:ff:ff:ff:ff") / ARP(psrc="10.0.0.1", pdst="10.0.0.2")
        for k in range(32)
    ]
    assert len({port_of(frame) for frame in macs}) > 28
    assert port_of(macs[0]) == port_of(macs[0] / Raw(b"more"))


def test_scapy_reads_every_field():
    inner = Ether(dst="02:00:00:00:00:02", src="02:00:00:00:00:01") / Dot1Q(vlan=5) / IP(dst="10.3.0.1") / ICMP()
    result = run_kernel(encap.vxlan4_encap, [Packet(bytes(inner), tx=ETHERNET)], TABLES)
    outer = IP(result.packets[0])
    assert (outer.version, outer.ihl, outer.tos, outer.id, outer.frag, int(outer.flags)) == (4, 5, 0, 0, 0, 0)
    assert (outer.len, outer.ttl, outer.proto, outer.src, outer.dst) == (len(inner) + 36, 254, 17, LOCAL, REMOTE)
    assert with_checksum(bytes(outer)) == bytes(outer)
    assert (outer[UDP].dport, outer[UDP].len, outer[UDP].chksum) == (4789, len(inner) + 16, 0)
    vxlan = outer[VXLAN]
    assert (int(vxlan.flags), vxlan.reserved1, vxlan.vni, vxlan.reserved2) == (8, 0, 100, 0)
    assert bytes(vxlan.payload) == bytes(inner)


def test_large_packets_are_segmented_first():
    packets = [Packet(bytes(2000), tx=tx, gso_type=1, gso_size=1000) for tx in (ETHERNET, BARE)]
    result = run_kernel(encap.vxlan4_encap, packets, TABLES)
    assert result.nexts == [encap.Next.GSO_L2_IP4, encap.Next.GSO_IP4]
    assert result.packets == [bytes(2000)] * 2
    assert not any(result.counters)


def test_nothing_overtakes_a_large_packet():
    packets = [Packet(bytes(60), tx=BARE), Packet(bytes(2000), tx=BARE, gso_type=1, gso_size=1000)]
    packets += [Packet(bytes(60), tx=tx, gso_type=gso_type) for tx, gso_type in ((BARE, 0), (ETHERNET, 0), (BARE, 5))]
    result = run_kernel(encap.vxlan4_encap, packets, TABLES)
    gso = [encap.Next.GSO_IP4, encap.Next.GSO_IP4, encap.Next.GSO_L2_IP4, encap.Next.GSO_IP4]
    assert result.nexts[1:] == gso
    assert result.counters[encap.Counter.ENCAPSULATED] == 1


@pytest.mark.parametrize("tx", [ETHERNET, BARE])
def test_a_train_becomes_a_large_udp_packet_of_which_each_piece_is_in_the_tunnel(tx):
    """A device cuts the payload of UDP into pieces of gso_size bytes: VXLAN header and inner packet each."""
    inners = [b"\x45\0\0\x64" + bytes([k]) * 96 for k in range(4)] + [b"\x45\0\0\x32" + bytes(46)]
    data = b"\xa5" * 8
    data = data.join(inners)
    result = run_kernel(encap.vxlan4_encap, [Packet(data, tx=tx, gso_type=5, gso_size=108)], TABLES)
    (sent,), (m,) = result.packets, result.meta
    outer = IP(sent)
    assert (outer.len, outer[UDP].len) == (len(sent), len(sent) - 20)
    assert with_checksum(sent[:20]) == sent[:20]
    assert (int(m["gso_type"]), int(m["gso_size"]), int(m["csum_offset"])) == (5, 108, 6)
    assert int(m["csum_start"]) == int(m["cur"]) + 20
    assert int(m["flags"]) & CSUM_PARTIAL
    pieces = [sent[28:][start : start + 108] for start in range(0, len(sent) - 28, 108)]
    assert [piece[8:] for piece in pieces] == inners
    assert {piece[:8] for piece in pieces} == {bytes(outer[VXLAN])[:8]}
    pseudo = sent[12:20] + (17).to_bytes(2, "big") + outer[UDP].len.to_bytes(2, "big")
    assert outer[UDP].chksum == 0xFFFF - internet_checksum(pseudo)
    alone = run_kernel(encap.vxlan4_encap, [Packet(inners[0], tx=tx)], TABLES).packets[0]
    assert alone[20:22] == sent[20:22]  # of one flow, so of one source port


def test_what_is_too_long():
    result = run_kernel(encap.vxlan4_encap, [Packet(bytes(n), tx=ETHERNET) for n in (65499, 65500)], TABLES)
    assert result.nexts == [TO_NODE | 51, encap.Next.DROP]
    assert result.counters[encap.Counter.TOO_LONG] == 1


@pytest.mark.parametrize("tx", [ETHERNET, BARE])
def test_a_tunnel_that_is_no_more_takes_nothing(tx):
    tunnels = TABLES["vxlan_tunnels"].copy()
    tunnels["flags"][tx] = 0
    packets = [Packet(bytes(60), tx=tx) for _ in range(3)]
    result = run_kernel(encap.vxlan4_encap, packets, {**TABLES, "vxlan_tunnels": tunnels})
    assert result.nexts == [encap.Next.DROP] * 3
    assert list(result.counters) == [3 if each == encap.Counter.NO_TUNNEL else 0 for each in encap.Counter]


def test_no_room_in_front():
    """HEADROOM is 192: the fourth encapsulation would leave no room for a link-layer header."""
    packet = Packet(bytes(60), tx=ETHERNET)
    for expected in (False, False, False, True):
        result = run_kernel(encap.vxlan4_encap, [packet], TABLES)
        assert bool(result.counters[encap.Counter.TOO_LONG]) == expected
        depth = packet.cur - 36
        packet = Packet(bytes(60), tx=ETHERNET, cur=depth)


def test_inner_state():
    flags = L2_VALID | LOCALLY_ORIGINATED | CSUM_PARTIAL
    m = run_kernel(encap.vxlan4_encap, [Packet(bytes(60), tx=ETHERNET, flags=flags, csum_start=34)], TABLES).meta[0]
    assert m["flags"] == CSUM_PARTIAL | FLOW_HASH
    assert m["csum_start"] == m["cur"] + 36 + 34


@given(st.binary(max_size=100), st.sampled_from([ETHERNET, BARE, DOWN, NONE]))
def test_random_bytes_on_the_way_out(data, tx):
    result = run_kernel(encap.vxlan4_encap, [Packet(data, tx=tx)], TABLES)
    assert sum(result.counters) == 1


@pytest.mark.parametrize("length", [19, 20, 21, 45, 46, 47])
def test_ethernet_padding_stays_out_of_a_bare_ip_tunnel(length):
    """What the header says counts, if it can be: at least a header, at most what is there."""
    data = b"\x45\0" + length.to_bytes(2, "big") + bytes(42)
    packet = run_kernel(encap.vxlan4_encap, [Packet(data, tx=BARE)], TABLES).packets[0]
    assert packet[36:] == (data[:length] if 20 <= length < 46 else data)
