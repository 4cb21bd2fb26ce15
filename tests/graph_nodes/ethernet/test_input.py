# SPDX-License-Identifier: Apache-2.0
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Dot1Q, Ether

from pyvpp.buffers import L2_VALID
from pyvpp.interface import ADMIN_UP, L2
from pyvpp.testing import Packet, run_kernel
from pyvpp_nodes.ethernet.input import Counter, Next, ethernet_input
from tests.graph_nodes.forwarding import MACS, NODE_BY_NODE, UP, frames, interface_table, mac_bytes

DOWN, CONNECTED = 2, 3
INTERFACES = interface_table({DOWN: {"flags": UP & ~ADMIN_UP}, CONNECTED: {"flags": UP | L2}})
TABLES = {"interfaces": INTERFACES} | NODE_BY_NODE


def reference(data: bytes, rx: int) -> tuple[Next, Counter | None, bytes]:
    """The verdict and what is left of the frame."""
    if rx == DOWN:
        return Next.DROP, Counter.DOWN, data
    if len(data) < 14:
        return Next.DROP, Counter.TOO_SHORT, data
    if rx == CONNECTED:
        return Next.L2, None, data
    if not data[0] & 1 and data[:6] != mac_bytes(MACS[rx]):
        return Next.DROP, Counter.L3_MAC_MISMATCH, data
    at = 12
    while data[at : at + 2] in (b"\x81\x00", b"\x88\xa8"):
        if len(data) < at + 6:
            return Next.DROP, Counter.TOO_SHORT, data
        if int.from_bytes(data[at + 2 : at + 4], "big") % 4096:
            return Next.DROP, Counter.UNKNOWN_VLAN, data
        at += 4
    ethertype, payload = int.from_bytes(data[at : at + 2], "big"), data[at + 2 :]
    known = {0x0800: Next.IP4, 0x0806: Next.ARP, 0x86DD: Next.IP6}
    if ethertype in known:
        return known[ethertype], None, payload
    if ethertype < 0x600 and ethertype > len(payload):
        return Next.DROP, Counter.BAD_LLC_LENGTH, data
    return Next.DROP, Counter.UNKNOWN_TYPE, data


MAC_BYTES = st.sampled_from([mac_bytes(MACS[1]), mac_bytes(MACS[2]), b"\xff" * 6, mac_bytes("01:00:5e:00:00:01")])
NEARLY = st.builds(lambda k: bytes(b ^ (i == k) * 2 for i, b in enumerate(mac_bytes(MACS[1]))), st.integers(0, 5))
TAGS = st.lists(
    st.sampled_from([b"\x81\x00\0\0", b"\x81\x00\xe0\0", b"\x88\xa8\0\0", b"\x81\x00\0\x05", b"\x81\x00\x80\0"]),
    max_size=3,
)
TYPES = st.sampled_from([b"\x08\x00", b"\x08\x06", b"\x86\xdd", b"\0\x04", b"\x05\xff", b"\x06\x00", b"\x88\xcc"])
FRAMES = st.builds(
    lambda dst, tags, kind, payload: dst + mac_bytes("02:00:00:00:00:99") + b"".join(tags) + kind + payload,
    st.one_of(MAC_BYTES, NEARLY), TAGS, TYPES, st.binary(max_size=50),
)  # fmt: skip
RECEIVED = st.tuples(
    st.one_of(FRAMES, st.binary(max_size=13), FRAMES.map(lambda f: f[:16])), st.sampled_from([1, 1, 1, DOWN, CONNECTED])
)


@given(frames(RECEIVED))
def test_mixed_frames(received):
    result = run_kernel(ethernet_input, [Packet(data, rx=rx) for data, rx in received], TABLES)
    expected = [reference(*each) for each in received]
    assert list(zip(result.nexts, result.packets, strict=True)) == [(next_, left) for next_, _, left in expected]
    for counter in Counter:
        assert result.counters[counter] == sum(fault == counter for _, fault, _ in expected)


def run_one(data: bytes, rx: int = 1):
    return run_kernel(ethernet_input, [Packet(data, rx=rx)], TABLES)


def test_scapy_frames():
    ip, ip6, arp = IP(dst="10.0.0.1"), IPv6(dst="2001:db8::1"), ARP(pdst="10.0.0.1")
    for frame, next_ in (
        (Ether(dst=MACS[1]) / ip, Next.IP4),
        (Ether(dst=MACS[1]) / Dot1Q(vlan=0, prio=5) / ip, Next.IP4),
        (Ether(dst="ff:ff:ff:ff:ff:ff") / arp, Next.ARP),
        (Ether(dst=MACS[1]) / ip6, Next.IP6),
        (Ether(dst=MACS[1]) / Dot1Q(vlan=0, prio=5) / ip6, Next.IP6),
        (Ether(dst="33:33:00:00:00:01") / ip6, Next.IP6),
        (Ether(dst=MACS[2]) / ip6, Next.DROP),
        (Ether(dst=MACS[2]) / ip, Next.DROP),
        (Ether(dst=MACS[1]) / Dot1Q(vlan=7) / ip, Next.DROP),
    ):
        assert run_one(bytes(frame)).nexts == [next_], frame.summary()


def test_the_edges_of_llc_and_vlan():
    header = mac_bytes(MACS[1]) + bytes(6)
    cases = [
        (b"\0\x04", 3),
        (b"\0\x04", 4),
        (b"\x05\xff", 9),
        (b"\x06\0", 9),
        (b"\x81\0\x08\0\x08\0", 20),
        (b"\x81\0\x10\0\x08\0", 20),
    ]
    sent = [header + kind + bytes(n) for kind, n in cases]
    result = run_kernel(ethernet_input, [Packet(data) for data in sent], TABLES)
    assert result.nexts == [Next.DROP] * 5 + [Next.IP4]
    counted = {Counter.BAD_LLC_LENGTH: 2, Counter.UNKNOWN_TYPE: 2, Counter.UNKNOWN_VLAN: 1}
    assert {c: int(result.counters[c]) for c in Counter if result.counters[c]} == counted


def test_where_the_headers_are():
    result = run_one(bytes(Ether(dst=MACS[1]) / Dot1Q(vlan=0) / IP()))
    m = result.meta[0]
    assert m["flags"] & L2_VALID
    assert int(m["cur"]) == int(m["l2"]) + 18


@pytest.mark.slow
def test_every_ethertype():
    header = mac_bytes(MACS[1]) + bytes(6)
    for start in range(0, 1 << 16, 1 << 13):
        sent = [header + kind.to_bytes(2, "big") + bytes(46) for kind in range(start, start + (1 << 13))]
        result = run_kernel(ethernet_input, [Packet(data) for data in sent], TABLES)
        assert result.nexts == [reference(data, 1)[0] for data in sent]


@pytest.mark.slow
def test_every_vlan_tag():
    header = mac_bytes(MACS[1]) + bytes(6) + b"\x81\x00"
    sent = [header + tag.to_bytes(2, "big") + b"\x08\x00" + bytes(20) for tag in range(0, 1 << 16, 7)]
    result = run_kernel(ethernet_input, [Packet(data) for data in sent], TABLES)
    assert result.nexts == [reference(data, 1)[0] for data in sent]
