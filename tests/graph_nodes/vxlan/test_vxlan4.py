# SPDX-License-Identifier: Apache-2.0
"""vxlan4-encap and vxlan4-input, each against a reference and scapy, and against each other."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Raw

from pyvpp.buffers import CSUM_PARTIAL, CSUM_VALID, FLOW_HASH, L2_VALID, LOCALLY_ORIGINATED
from pyvpp.node import TO_NODE
from pyvpp.testing import Packet, run_kernel
from pyvpp_nodes.fib.tables import BUCKET, LOAD_BALANCE
from pyvpp_nodes.ipip.tunnel_table import WORDS, insert_tunnel
from pyvpp_nodes.vxlan import vxlan4_encap as encap
from pyvpp_nodes.vxlan import vxlan4_input as decap
from pyvpp_nodes.vxlan.tables import IN_USE, L3, VXLAN_TUNNEL
from tests.graph_nodes.forwarding import UP, address, interface_table, ip4, udp, with_checksum

LOCAL, REMOTE, OTHER = "10.1.2.1", "10.1.2.2", "10.1.2.3"
ETHERNET, BARE, DOWN, NONE = 4, 5, 6, 7
# sw_if_index: remote, vni, source port, destination port, flags, decap next, load balance
TUNNELS = {
    ETHERNET: (REMOTE, 100, 4789, 4789, IN_USE, TO_NODE | 31, 1),
    BARE: (REMOTE, 4096, 4789, 8472, IN_USE | L3, TO_NODE | 32, 2),
    DOWN: (OTHER, 0xFFFFFF, 4790, 4789, IN_USE, TO_NODE | 31, 1),
}


def tables():
    tunnels, keys = np.zeros(8, VXLAN_TUNNEL), np.zeros(WORDS * 8, np.uint32)
    for sw_if_index, (remote, vni, source_port, destination_port, flags, decap_next, balance) in TUNNELS.items():
        row = tunnels[sw_if_index : sw_if_index + 1]
        row["source"], row["destination"], row["vni"] = address(LOCAL), address(remote), vni
        row["destination_port"], row["decap_next"], row["load_balance"], row["flags"] = (
            destination_port,
            decap_next,
            balance,
            flags,
        )
        insert_tunnel(keys, address(LOCAL), address(remote), vni << 8, source_port, sw_if_index)
    balances, buckets = np.zeros(4, LOAD_BALANCE), np.zeros(8, BUCKET)
    for index, (n, next_, adj, first) in {1: (1, TO_NODE | 51, 11, 0), 2: (4, 0, 0, 2)}.items():
        row = balances[index : index + 1]
        row["n_buckets"], row["next"], row["adj"], row["buckets"] = n, next_, adj, first
    buckets["next"], buckets["adj"] = TO_NODE | 60, np.arange(8) + 20
    return {
        "vxlan_tunnels": tunnels, "vxlan_keys": keys, "load_balances": balances, "lb_buckets": buckets,
        "interfaces": interface_table({ETHERNET: {"flags": UP}, BARE: {"flags": UP}, DOWN: {"flags": 0}}),
    }  # fmt: skip


TABLES = tables()


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


@given(
    st.lists(
        st.tuples(st.one_of(TYPED, PACKETS), st.sampled_from([ETHERNET, BARE, DOWN, NONE, 8, 0xFFFF])),
        min_size=1,
        max_size=12,
    )
)
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


def test_what_is_too_long():
    result = run_kernel(encap.vxlan4_encap, [Packet(bytes(n), tx=ETHERNET) for n in (65499, 65500)], TABLES)
    assert result.nexts == [TO_NODE | 51, encap.Next.DROP]
    assert result.counters[encap.Counter.TOO_LONG] == 1


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


# -- the way back


def arriving(data: bytes, **fields) -> Packet:
    return Packet(data, l3=0, l4=4 * (data[0] & 15), **fields)


def reference(data: bytes) -> tuple[decap.Counter, bytes, int]:
    l4 = 4 * (data[0] & 15)
    end = l4 + int.from_bytes(data[l4 + 4 : l4 + 6], "big")
    if end > len(data) or end <= l4 + 16:
        return decap.Counter.TRUNCATED, data, 1
    if data[l4 + 8] != 8:
        return decap.Counter.BAD_FLAGS, data, 1
    key = (
        ".".join(map(str, data[12:16])),
        ".".join(map(str, data[16:20])),
        int.from_bytes(data[l4 + 12 : l4 + 16], "big"),
        data[l4 + 2 : l4 + 4],
    )
    for sw_if_index, (remote, vni, port, *_) in TUNNELS.items():
        if key == (remote, LOCAL, vni << 8, port.to_bytes(2, "big")):
            if sw_if_index == DOWN:
                return decap.Counter.DOWN, data, 1
            return decap.Counter.DECAPSULATED, data[l4 + 16 : end], sw_if_index
    return decap.Counter.NO_SUCH_TUNNEL, data, 1


ARRIVING = st.builds(
    lambda inner, source, destination, port, flags, vni, reserved, options, padding, shorter: ip4(
        struct.pack("!HHHH", 60000, port, 16 + len(inner) + shorter, 0) + struct.pack("!BBHI", flags, 0, 0, vni << 8 | reserved) + inner,
        source, destination, options=options,
    ) + padding,
    st.binary(max_size=40), st.sampled_from([REMOTE, REMOTE, OTHER, LOCAL]), st.sampled_from([LOCAL, LOCAL, LOCAL, REMOTE]),
    st.sampled_from([4789, 4789, 4790]), st.sampled_from([8, 8, 8, 8, 0, 9, 0x88]), st.sampled_from([100, 4096, 0xFFFFFF, 101]),
    st.sampled_from([0, 0, 0, 1]), st.sampled_from([b"", b"", b"\1" * 8]), st.binary(max_size=6), st.sampled_from([0, 0, 0, -1, -9, 1]),
)  # fmt: skip


@given(st.lists(ARRIVING, min_size=1, max_size=12))
def test_decapsulation_of_mixed_frames(received):
    result = run_kernel(decap.vxlan4_input, [arriving(data) for data in received], TABLES, error_base=70)
    expected = [reference(data) for data in received]
    for (counter, inner, rx), next_, packet, m in zip(expected, result.nexts, result.packets, result.meta):
        if counter == decap.Counter.DECAPSULATED:
            assert (next_, packet, m["rx"]) == (TUNNELS[rx][5], inner, rx)
        else:
            assert (next_, packet, m["rx"], m["error"]) == (decap.Next.DROP, packet, 1, 70 + counter)
    for counter in decap.Counter:
        assert result.counters[counter] == sum(each == counter for each, _, _ in expected)
    for sw_if_index in TUNNELS:
        through = [inner for _, inner, rx in expected if rx == sw_if_index]
        counted = result.tables["interface_rx"][sw_if_index]
        assert (counted["packets"], counted["bytes"]) == (len(through), sum(map(len, through)))


@given(st.binary(min_size=28, max_size=100), st.integers(0, 300))
def test_random_bytes_on_the_way_back(data, start):
    result = run_kernel(decap.vxlan4_input, [arriving(data, flags=CSUM_PARTIAL, csum_start=start)], TABLES)
    assert sum(result.counters) == 1


@given(st.binary(max_size=100), st.sampled_from([ETHERNET, BARE, DOWN, NONE]))
def test_random_bytes_on_the_way_out(data, tx):
    result = run_kernel(encap.vxlan4_encap, [Packet(data, tx=tx)], TABLES)
    assert sum(result.counters) == 1


def test_every_value_of_the_flags():
    inner = bytes(20)
    packets = [ip4(udp(bytes([flags, 0, 0, 0, 0, 0, 100, 0]) + inner, 9, 4789), REMOTE, LOCAL) for flags in range(256)]
    result = run_kernel(decap.vxlan4_input, [arriving(data) for data in packets], TABLES)
    assert [next_ != decap.Next.DROP for next_ in result.nexts] == [flags == 8 for flags in range(256)]
    assert result.counters[decap.Counter.BAD_FLAGS] == 255


def test_what_scapy_encapsulates():
    inner = Ether() / IP(dst="10.3.0.1") / ICMP() / Raw(b"ping")
    outer = IP(src=REMOTE, dst=LOCAL) / UDP(sport=50000, dport=4789) / VXLAN(vni=100, flags=8) / inner
    for packet in (outer, outer / Raw(b"")):
        result = run_kernel(decap.vxlan4_input, [arriving(bytes(packet), flags=L2_VALID | CSUM_VALID)], TABLES)
        assert result.packets == [bytes(inner)]
        assert result.nexts == [TO_NODE | 31]
        assert result.meta[0]["flags"] == 0


def test_there_and_back():
    """What is encapsulated here and arrives there, its addresses exchanged, is the same frame."""
    inner = bytes(Ether() / IP(dst="10.3.0.1") / UDP() / Raw(b"there and back"))
    sent = run_kernel(encap.vxlan4_encap, [Packet(inner, tx=ETHERNET)], TABLES).packets[0]
    sent = sent[:12] + sent[16:20] + sent[12:16] + sent[20:]
    assert run_kernel(decap.vxlan4_input, [arriving(sent)], TABLES).packets == [inner]
