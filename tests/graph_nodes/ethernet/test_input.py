# SPDX-License-Identifier: Apache-2.0
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Dot1AD, Dot1Q, Ether

from pyvpp.buffers import L2_VALID
from pyvpp.interface import ADMIN_UP, L2
from pyvpp.tables import COUNTER
from pyvpp.testing import Packet, run_kernel
from pyvpp_nodes.ethernet.input import Counter, Next, ethernet_input
from tests.graph_nodes.ethernet.vlans import vlan_tables
from tests.graph_nodes.forwarding import MACS, NODE_BY_NODE, UP, frames, interface_table, mac_bytes

DOWN, CONNECTED = 2, 3
SUB, SUB_DOWN, SERVICE, CUSTOMER, OWN_MAC, OF_CONNECTED = 4, 5, 6, 7, 8, 9
VLANS = {  # (parent, TPID, VLAN id): sub-interface
    (1, 0x8100, 5): SUB,
    (1, 0x8100, 6): SUB_DOWN,
    (1, 0x88A8, 7): SERVICE,
    (SERVICE, 0x8100, 5): CUSTOMER,
    (1, 0x8100, 4094): OWN_MAC,
    (CONNECTED, 0x8100, 5): OF_CONNECTED,
}
SUB_MACS = {SUB: MACS[1], SUB_DOWN: MACS[1], SERVICE: MACS[1], CUSTOMER: MACS[1], OWN_MAC: MACS[2]}
INTERFACES = interface_table(
    {DOWN: {"flags": UP & ~ADMIN_UP}, CONNECTED: {"flags": UP | L2}}
    | {
        sub: {"flags": UP & ~(ADMIN_UP if sub == SUB_DOWN else 0), "mac": int.from_bytes(mac_bytes(mac), "big")}
        for sub, mac in SUB_MACS.items()
    }
)
TABLES = {"interfaces": INTERFACES, **vlan_tables(VLANS)} | NODE_BY_NODE
SUBS = set(VLANS.values())


def reference(data: bytes, rx: int) -> tuple[Next, Counter | None, bytes, list[int]]:
    """The verdict, what is left of the frame, and whose it has been: the interface it came by and sub-interfaces."""
    whose = [rx]
    if rx == DOWN:
        return Next.DROP, Counter.DOWN, data, whose
    if len(data) < 14:
        return Next.DROP, Counter.TOO_SHORT, data, whose
    if rx == CONNECTED:
        return Next.L2, None, data, whose
    at = 12
    while data[at : at + 2] in (b"\x81\x00", b"\x88\xa8"):
        if len(data) < at + 6:
            return Next.DROP, Counter.TOO_SHORT, data, whose
        vlan = int.from_bytes(data[at + 2 : at + 4], "big") % 4096
        if vlan:
            sub = VLANS.get((whose[-1], int.from_bytes(data[at : at + 2], "big"), vlan))
            if sub is None:
                return Next.DROP, Counter.UNKNOWN_VLAN, data, whose
            whose.append(sub)
            if sub == SUB_DOWN:
                return Next.DROP, Counter.SUB_INTERFACE_DOWN, data, whose
        at += 4
    if not data[0] & 1 and data[:6] != mac_bytes(SUB_MACS.get(whose[-1], MACS[1])):
        return Next.DROP, Counter.L3_MAC_MISMATCH, data, whose
    ethertype, payload = int.from_bytes(data[at : at + 2], "big"), data[at + 2 :]
    known = {0x0800: Next.IP4, 0x0806: Next.ARP, 0x86DD: Next.IP6}
    if ethertype in known:
        return known[ethertype], None, payload, whose
    if ethertype < 0x600 and ethertype > len(payload):
        return Next.DROP, Counter.BAD_LLC_LENGTH, data, whose
    return Next.DROP, Counter.UNKNOWN_TYPE, data, whose


MAC_BYTES = st.sampled_from([mac_bytes(MACS[1]), mac_bytes(MACS[2]), b"\xff" * 6, mac_bytes("01:00:5e:00:00:01")])
NEARLY = st.builds(lambda k: bytes(b ^ (i == k) * 2 for i, b in enumerate(mac_bytes(MACS[1]))), st.integers(0, 5))
TPIDS = [b"\x81\x00", b"\x88\xa8"]
TCIS = [
    b"\0\0",
    b"\xe0\0",
    b"\0\x05",
    b"\x70\x05",
    b"\0\x06",
    b"\0\x07",
    b"\x0f\xfe",
    b"\0\x08",
    b"\x80\0",
    b"\x0f\xff",
]
TAGS = st.one_of(
    st.just([]),
    st.just([b"\x81\x00\0\x05"]),
    st.just([b"\x88\xa8\0\x07", b"\x81\x00\0\x05"]),
    st.lists(st.sampled_from([tpid + tci for tpid, tci in product(TPIDS, TCIS)]), max_size=3),
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
    assert list(zip(result.nexts, result.packets, strict=True)) == [(next_, left) for next_, _, left, _ in expected]
    assert [int(m["rx"]) for m in result.meta] == [whose[-1] for _, _, _, whose in expected]
    for counter in Counter:
        assert result.counters[counter] == sum(fault == counter for _, fault, _, _ in expected)
    counted = result.tables["interface_rx"]
    for sub in SUBS - {SUB_DOWN}:
        theirs = [len(data) for (data, _), (_, _, _, whose) in zip(received, expected, strict=True) if sub in whose]
        assert (int(counted["packets"][sub]), int(counted["bytes"][sub])) == (len(theirs), sum(theirs))
    assert not any(counted["packets"][each] for each in (1, DOWN, CONNECTED, SUB_DOWN))


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
        (Ether(dst=MACS[1]) / Dot1Q(vlan=5) / ip, Next.IP4),
        (Ether(dst="ff:ff:ff:ff:ff:ff") / Dot1Q(vlan=5, prio=7, dei=1) / arp, Next.ARP),
        (Ether(dst=MACS[1]) / Dot1Q(vlan=5) / Dot1Q(vlan=0) / ip6, Next.IP6),
        (Ether(dst=MACS[1]) / Dot1Q(vlan=5) / Dot1Q(vlan=5) / ip, Next.DROP),
        (Ether(dst=MACS[1]) / Dot1AD(vlan=7) / Dot1Q(vlan=5) / ip, Next.IP4),
        (Ether(dst=MACS[1]) / Dot1AD(vlan=5) / ip, Next.DROP),
        (Ether(dst=MACS[1]) / Dot1Q(vlan=4094) / ip, Next.DROP),
        (Ether(dst=MACS[2]) / Dot1Q(vlan=4094) / ip, Next.IP4),
    ):
        result = run_one(bytes(frame))
        assert result.nexts == [next_], frame.summary()
        if next_ != Next.DROP:
            assert result.packets == [
                bytes(frame.lastlayer() if next_ == Next.ARP else frame[IP if next_ == Next.IP4 else IPv6])
            ]


@pytest.mark.parametrize(
    ("tags", "fault", "whose"),
    [
        ([(0x8100, 5)], None, SUB),
        ([(0x8100, 0xF005)], None, SUB),
        ([(0x8100, 0), (0x8100, 5), (0x88A8, 0)], None, SUB),
        ([(0x88A8, 7), (0x8100, 5)], None, CUSTOMER),
        ([(0x88A8, 7)], None, SERVICE),
        ([(0x8100, 0xE000)], None, 1),
        ([(0x8100, 6)], Counter.SUB_INTERFACE_DOWN, SUB_DOWN),
        ([(0x8100, 6), (0x8100, 5)], Counter.SUB_INTERFACE_DOWN, SUB_DOWN),
        ([(0x8100, 7)], Counter.UNKNOWN_VLAN, 1),
        ([(0x88A8, 5)], Counter.UNKNOWN_VLAN, 1),
        ([(0x8100, 5), (0x8100, 5)], Counter.UNKNOWN_VLAN, SUB),
        ([(0x88A8, 7), (0x88A8, 5)], Counter.UNKNOWN_VLAN, SERVICE),
        ([(0x8100, 4094)], Counter.L3_MAC_MISMATCH, OWN_MAC),
    ],
)
def test_each_verdict_on_tags(tags, fault, whose):
    """One of each beside a frame without a tag: where it goes, whose it is, what is counted for whom."""
    plain = mac_bytes(MACS[1]) + bytes(6) + b"\x08\0" + bytes(range(20))
    data = plain[:12] + b"".join(tpid.to_bytes(2, "big") + tci.to_bytes(2, "big") for tpid, tci in tags) + plain[12:]
    result = run_kernel(ethernet_input, [Packet(plain), Packet(data)], TABLES)
    assert result.nexts == [Next.IP4, Next.IP4 if fault is None else Next.DROP]
    assert result.packets == [plain[14:], plain[14:] if fault is None else data]
    assert [int(m["rx"]) for m in result.meta] == [1, whose]
    assert {counter for counter in Counter if result.counters[counter]} == ({fault} if fault is not None else set())
    counted = result.tables["interface_rx"]
    expected = reference(data, 1)[3][1:]
    assert {sub: int(n) for sub, n in enumerate(counted["bytes"]) if n} == {
        sub: len(data) for sub in expected if sub != SUB_DOWN
    }


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
@pytest.mark.parametrize("tpid", [0x8100, 0x88A8])
def test_every_tag(tpid):
    header = mac_bytes(MACS[1]) + bytes(6) + tpid.to_bytes(2, "big")
    sent = [header + tci.to_bytes(2, "big") + b"\x08\x00" + bytes(20) for tci in range(1 << 16)]
    for start in range(0, len(sent), 1 << 13):
        part = sent[start : start + (1 << 13)]
        result = run_kernel(ethernet_input, [Packet(data) for data in part], TABLES)
        assert result.nexts == [reference(data, 1)[0] for data in part]
        assert [int(m["rx"]) for m in result.meta] == [reference(data, 1)[3][-1] for data in part]


@pytest.mark.slow
@pytest.mark.parametrize("absent", [0, 1, 5, 2048, 4094])
def test_every_vlan_id_of_an_interface_that_has_all_but_one(absent):
    """Each id has a sub-interface of its own, so that one that is looked up beside its place shows."""
    subs = {vlan: 10 + vlan for vlan in range(1, 4096) if vlan != absent}
    interfaces = np.zeros(8192, INTERFACES.dtype)
    interfaces["flags"] = UP
    interfaces["mac"] = INTERFACES["mac"][1]
    tables = {"interfaces": interfaces, **vlan_tables({(1, 0x8100, v): s for v, s in subs.items()})} | NODE_BY_NODE
    tables["interface_rx"] = np.zeros(8192, COUNTER)
    header = mac_bytes(MACS[1]) + bytes(6) + b"\x81\x00"
    sent = [header + (0xE000 | vlan).to_bytes(2, "big") + b"\x08\x00" + bytes(20) for vlan in range(4096)]
    result = run_kernel(ethernet_input, [Packet(data) for data in sent], tables)
    assert [int(m["rx"]) for m in result.meta] == [subs.get(vlan, 1) for vlan in range(4096)]
    assert result.nexts == [Next.IP4 if vlan in subs or not vlan else Next.DROP for vlan in range(4096)]
