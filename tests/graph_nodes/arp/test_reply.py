# SPDX-License-Identifier: Apache-2.0
import itertools
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.l2 import ARP, Ether

from pyvpp.buffers import L2_VALID, LOCALLY_ORIGINATED, TRACED
from pyvpp.interface import UPLINK
from pyvpp.testing import Packet, run_kernel
from pyvpp_nodes.arp.reply import Counter, Next, arp_reply
from pyvpp_nodes.fib.tables import Kind
from tests.graph_nodes.forwarding import (
    MACS,
    UP,
    Fib,
    address,
    arp,
    ethernet,
    frames,
    interface_table,
    mac_bytes,
    output_of,
)

STRANGER, KNOWN, OTHER, VRRP = "02:00:00:00:00:01", "02:00:00:00:00:02", "02:00:00:00:00:03", "00:00:5e:00:01:07"
WIRE = 3  # an uplink
FIB = Fib()
for link in (1, 2, WIRE):
    FIB.to(f"10.1.{link}.0/24", Kind.GLEAN, link)
    FIB.to(f"10.1.{link}.1/32", Kind.LOCAL, link)
    FIB.to(f"10.1.{link}.5/32", Kind.REWRITE, link, mac_bytes(KNOWN) + bytes(8), address=address(f"10.1.{link}.5"))
    FIB.to(
        f"10.1.{link}.6/32", Kind.ARP, link, mac_bytes(KNOWN) + bytes(8), address=address(f"10.1.{link}.6")
    )  # gone, its MAC still there
FIB.to("192.0.2.0/24", Kind.REWRITE, 1, mac_bytes(KNOWN) + bytes(8), address=address("10.1.1.5"))
FIB.route("198.51.100.0/24", FIB.balance(FIB.adjacency(Kind.GLEAN, 1), FIB.adjacency(Kind.GLEAN, 1)))
TABLES = {**FIB.tables, "interfaces": interface_table({WIRE: {"flags": UP | UPLINK}})}

Outcome = tuple[int | None, bytes | None, list[Counter]]


def reference(frame: bytes, rx: int) -> Outcome:
    """Next, the reply that is sent, and what is counted."""
    opcode, sender_mac, sender, target = int.from_bytes(frame[20:22], "big"), frame[22:28], frame[28:32], frame[38:42]
    known = {bytes([10, 1, rx, 5]): mac_bytes(KNOWN)}
    if opcode not in (1, 2):
        return Next.DROP, None, [Counter.OPCODE_NOT_REQUEST]
    if sender[:2] == b"\x0a\x01" and sender[2] in (1, 2, 3) and sender[3] == 1:
        return Next.DROP, None, [Counter.L3_SRC_ADDRESS_IS_LOCAL]
    if sender[:3] != bytes([10, 1, rx]):
        return Next.DROP, None, [Counter.L3_SRC_ADDRESS_NOT_LOCAL]
    if frame[6:12] != sender_mac and frame[6:11] != mac_bytes(VRRP)[:5]:
        return Next.DROP, None, [Counter.L2_ADDRESS_MISMATCH]
    if target != bytes([10, 1, rx, 1]):
        if sender == target and sender in known:
            return Next.LEARN, None, [Counter.GRATUITOUS_ARP]
        if opcode == 1 and sender != target and rx != WIRE:
            return Next.PROXY, None, []
        return Next.DROP, None, [Counter.L3_DST_ADDRESS_NOT_LOCAL]
    if opcode == 2:
        return Next.LEARN, None, [Counter.REPLIES_RECEIVED]
    news = known.get(sender) != sender_mac
    if rx == WIRE:
        return Next.LEARN, None, [Counter.LEFT_TO_HOST] + [Counter.L3_SRC_ADDRESS_LEARNED] * news
    reply = mac_bytes(MACS[rx]) + target + sender_mac + sender
    reply = sender_mac + mac_bytes(MACS[rx]) + struct.pack("!HHHBBH", 0x0806, 1, 0x0800, 6, 4, 2) + reply
    counted = [Counter.REPLIES_SENT] + [Counter.L3_SRC_ADDRESS_LEARNED] * news
    return (Next.LEARN if news else output_of(rx)), reply, counted


def arp_frame(opcode: int, sender_mac: str, sender: str, target: str, ethernet_source: str) -> bytes:
    return ethernet(
        arp(opcode, sender_mac, sender, "00:00:00:00:00:00", target), "ff:ff:ff:ff:ff:ff", ethernet_source, 0x0806
    )


SENDER_ADDRESSES = [
    "10.1.1.5", "10.1.1.6", "10.1.1.77", "10.1.1.1", "10.1.2.5", "10.1.2.1", "10.1.2.9", "10.1.3.5", "10.1.3.6", "10.1.3.9", "192.0.2.9",
    "198.51.100.9", "0.0.0.0", "10.9.9.9",
]  # fmt: skip
TARGET_ADDRESSES = ["10.1.1.1", "10.1.2.1", "10.1.3.1", "10.1.1.5", "10.1.1.77", "10.1.2.5", "10.1.3.77", "10.9.9.9"]
SENDERS, TARGETS = st.sampled_from(["10.1.1.5", *SENDER_ADDRESSES]), st.sampled_from(["10.1.1.1", *TARGET_ADDRESSES])
MAC = st.sampled_from([STRANGER, KNOWN, KNOWN])


@st.composite
def received(draw: st.DrawFn) -> tuple[bytes, int]:
    mac, sender = draw(MAC), draw(SENDERS)
    ethernet_source = draw(st.sampled_from([mac, mac, mac, mac, OTHER, VRRP]))
    target = draw(st.one_of(TARGETS, st.just(sender)))
    frame = arp_frame(draw(st.sampled_from([1, 1, 1, 2, 3, 0])), mac, sender, target, ethernet_source)
    return frame, draw(st.sampled_from([1, 1, 2, WIRE]))


def run(cases: list[tuple[bytes, int]], **more):
    packets = [Packet(frame, rx=rx, cur=14, l2=0, flags=L2_VALID) for frame, rx in cases]
    return run_kernel(arp_reply, packets, TABLES, **more)


def check(cases: list[tuple[bytes, int]]) -> None:
    result = run(cases, buffers=len(cases))
    expected = [reference(*case) for case in cases]
    assert result.nexts == [next_ for next_, _, _ in expected]
    counted = [counter for _, _, counters in expected for counter in counters]
    assert [result.counters[counter] for counter in Counter] == [counted.count(counter) for counter in Counter]
    emitted = iter(result.emitted)
    for (frame, rx), (next_, reply, _), out in zip(cases, expected, result.packets, strict=True):
        if reply is not None and next_ == Next.LEARN:
            assert next(emitted) == (reply, output_of(rx))
        assert out == (reply if next_ == output_of(rx) else frame[14:])
    assert next(emitted, None) is None


@given(frames(received()))
def test_mixed_frames(cases):
    check(cases)


@pytest.mark.parametrize("rx", [1, 2, WIRE])
@pytest.mark.parametrize("opcode", [1, 2, 3])
def test_every_combination(rx, opcode):
    combinations = itertools.product(
        [STRANGER, KNOWN], SENDER_ADDRESSES, [*TARGET_ADDRESSES, None], [None, OTHER, VRRP]
    )
    check(
        [
            (arp_frame(opcode, mac, sender, target or sender, source or mac), rx)
            for mac, sender, target, source in combinations
        ]
    )


def test_scapy_agrees():
    request = Ether(src=KNOWN, dst="ff:ff:ff:ff:ff:ff") / ARP(op=1, hwsrc=KNOWN, psrc="10.1.1.5", pdst="10.1.1.1")
    out = run([(bytes(request), 1)]).packets[0]
    assert out == bytes(
        Ether(src=MACS[1], dst=KNOWN) / ARP(op=2, hwsrc=MACS[1], psrc="10.1.1.1", hwdst=KNOWN, pdst="10.1.1.5")
    )


def test_without_a_buffer_the_answer_matters_more_than_learning():
    request = arp_frame(1, STRANGER, "10.1.1.77", "10.1.1.1", STRANGER)
    result = run([(request, 1)], buffers=0)
    assert result.nexts == [output_of(1)]
    assert result.packets == [reference(request, 1)[1]]
    assert (result.counters[Counter.NO_BUFFERS], result.counters[Counter.REPLIES_SENT]) == (1, 1)
    assert result.counters[Counter.L3_SRC_ADDRESS_LEARNED] == 0


@pytest.mark.slow
def test_every_opcode():
    sent = [(arp_frame(opcode, KNOWN, "10.1.1.5", "10.1.1.1", KNOWN), 1) for opcode in range(0, 1 << 16, 3)]
    assert run(sent).nexts == [reference(*case)[0] for case in sent]


def test_an_answer_in_place_is_our_own():
    frame = arp_frame(1, KNOWN, "10.1.1.5", "10.1.1.1", KNOWN)
    packet = Packet(frame, rx=1, cur=14, l2=0, flags=L2_VALID | TRACED)
    m = run_kernel(arp_reply, [packet], TABLES).meta[0]
    assert m["flags"] == TRACED | LOCALLY_ORIGINATED
    assert (int(m["tx"]), int(m["rx"])) == (1, 1)
