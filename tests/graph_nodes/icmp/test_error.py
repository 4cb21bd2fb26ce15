# SPDX-License-Identifier: Apache-2.0
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, UDP

from pyvpp.buffers import CSUM_PARTIAL, L2_VALID, LOCALLY_ORIGINATED, TRACED
from pyvpp.interface import ADMIN_UP, HOST
from pyvpp.testing import Packet, run_kernel
from pyvpp_nodes.icmp.error import ICMP_WINDOW, Counter, Next, ip4_icmp_error
from tests.graph_nodes.forwarding import MACS, address, ethernet, interface_table, internet_checksum, ip4, udp

ADDRESSES = np.zeros(16, np.uint32)
ADDRESSES[1], ADDRESSES[2] = address("10.1.1.1"), address("10.1.2.1")
NO_ADDRESS = 3
UNREACHABLE_PORT, TOO_BIG, EXPIRED, PROBLEM = 3 << 24 | 3 << 16, 3 << 24 | 4 << 16 | 9000, 11 << 24, 12 << 24
COUNTERS = {UNREACHABLE_PORT: Counter.DEST_UNREACH_SENT, TOO_BIG: Counter.DEST_UNREACH_SENT,
            EXPIRED: Counter.TTL_EXPIRE_SENT, PROBLEM: Counter.PARAM_PROBLEM_SENT}  # fmt: skip
QUERIES = (0, 8, 9, 10, 13, 14, 15, 16, 17, 18)


def run(packets: list[Packet], now: int = ICMP_WINDOW, throttle=None):
    tables = {"ip4_interface_address": ADDRESSES}
    if throttle is not None:
        tables["icmp_throttle"] = throttle
    result = run_kernel(ip4_icmp_error, packets, tables, now=now)
    if throttle is not None:
        throttle[:] = result.tables["icmp_throttle"]
    return result


def message(data: bytes, wanted: int, rx: int) -> bytes:
    """RFC 792 and 1191: type, code, checksum, MTU, as much as fits in 576 bytes."""
    body = struct.pack("!BBHI", wanted >> 24, wanted >> 16 & 255, 0, wanted & 0xFFFF) + data[:548]
    body = body[:2] + struct.pack("!H", internet_checksum(body)) + body[4:]
    source = ".".join(str(byte) for byte in int(ADDRESSES[rx]).to_bytes(4, "big"))
    return ip4(body, source, ".".join(map(str, data[12:16])), ttl=255, protocol=1, identification=0)


def may_answer(data: bytes) -> bool:
    """RFC 1812 4.3.2.7"""
    header = 4 * (data[0] & 15)
    if int.from_bytes(data[6:8], "big") & 0x1FFF or data[16] >= 224 or data[12] in (0, 127) or data[12] >= 224:
        return False
    return data[9] != 1 or (len(data) > header and data[header] in QUERIES)


def reference(data: bytes, wanted: int, rx: int) -> tuple[Next, Counter, bytes]:
    if not may_answer(data):
        return Next.DROP, Counter.DROP, data
    if rx == NO_ADDRESS:
        return Next.DROP, Counter.NO_SOURCE_ADDRESS, data
    return Next.LOOKUP, COUNTERS[wanted], message(data, wanted, rx)


SOURCES = st.sampled_from(
    ["10.9.0.1", "10.9.0.1", "10.9.0.2", "0.1.2.3", "127.0.0.1", "224.0.0.5", "240.1.1.1", "255.255.255.255"]
)
DESTINATIONS = st.sampled_from(["10.1.2.2", "10.1.2.3", "224.0.0.1", "255.255.255.255", "223.255.255.255"])
OFFENDERS = st.builds(
    ip4, st.one_of(st.binary(max_size=40), st.binary(min_size=500, max_size=800)), SOURCES, DESTINATIONS,
    protocol=st.sampled_from([17, 17, 6, 1]), fragment=st.sampled_from([0, 0, 0x4000, 0x2000, 0x0001, 0x2003]),
    options=st.sampled_from([b"", b"\1" * 4]), ttl=st.integers(0, 255),
)  # fmt: skip
CASES = st.tuples(OFFENDERS, st.sampled_from(list(COUNTERS)), st.sampled_from([1, 2, NO_ADDRESS]))


@given(st.lists(CASES, min_size=1, max_size=8, unique_by=lambda case: case[0][12:20]))
def test_mixed_frames(cases):
    result = run([Packet(data, rx=rx, flow_hash=wanted) for data, wanted, rx in cases])
    expected = [reference(*case) for case in cases]
    assert result.nexts == [next_ for next_, _, _ in expected]
    assert result.packets == [out for _, _, out in expected]
    for counter in Counter:
        assert result.counters[counter] == sum(counted == counter for _, counted, _ in expected)


def test_vpps_own_packet():
    """From VPP's trace: the reply to an expired ping of 84 bytes has 112 and the checksum 0xa588."""
    ping = bytes.fromhex(
        "45000054788b40000001eb180a0101020a0102020800a94627160001c49d036b0000000092c60e000000000010111213"
    ) + bytes(36)
    out = run([Packet(ping[:84], flow_hash=EXPIRED)]).packets[0]
    assert out[:20].hex() == "45000070000000" + "00ff01a5880a0101010a010102"


def test_scapy_agrees():
    offender = IP(src="10.9.0.1", dst="10.1.2.2") / UDP(dport=9) / bytes(700)
    out = IP(run([Packet(bytes(offender), flow_hash=TOO_BIG)]).packets[0])
    assert (out.src, out.dst, out.len, out[ICMP].type, out[ICMP].code, out[ICMP].nexthopmtu) == (
        "10.1.1.1",
        "10.9.0.1",
        576,
        3,
        4,
        9000,
    )
    again = out.copy()
    del again.chksum, again[ICMP].chksum
    assert bytes(again) == bytes(out)


def test_whose_address_it_comes_from():
    """The interface's own, its partner's, the uplink's; to the host, which has the uplink's, the destination's."""
    uplink, tap, tun, host = 1, 5, 6, 7
    addresses = np.zeros(16, np.uint32)
    addresses[uplink], addresses[2] = address("10.1.1.1"), address("10.1.2.1")
    tables = {
        "ip4_interface_address": addresses,
        "interfaces": interface_table({tap: {"peer": uplink}, host: {"peer": uplink, "flags": HOST | ADMIN_UP}}),
        "punt_tx": np.array([tap], np.uint32),
    }
    packets = [
        Packet(ip4(source=f"10.9.0.{rx}", destination="10.9.8.7"), rx=rx, flow_hash=EXPIRED)
        for rx in (uplink, 2, tap, tun, host)
    ]
    outs = [IP(out).src for out in run_kernel(ip4_icmp_error, packets, tables, now=ICMP_WINDOW).packets]
    assert outs == ["10.1.1.1", "10.1.2.1", "10.1.1.1", "10.1.1.1", "10.9.8.7"]


def test_every_icmp_type():
    sent = [ip4(bytes([kind]) + bytes(9), f"10.8.{kind}.1", protocol=1) for kind in range(256)]
    nexts = [run([Packet(data, flow_hash=EXPIRED)]).nexts[0] for data in sent]
    assert [kind for kind, next_ in enumerate(nexts) if next_ == Next.LOOKUP] == list(QUERIES)


@pytest.mark.slow
def test_every_mtu():
    """The sixteen bits that a source learns its path MTU from."""
    data = ip4(udp(b"x"))
    for start in range(0, 1 << 16, 1 << 12):
        sent = [3 << 24 | 4 << 16 | mtu for mtu in range(start, start + (1 << 12), 5)]
        outs = [run([Packet(data, flow_hash=wanted)]).packets[0] for wanted in sent[:40]]
        assert outs == [message(data, wanted, 1) for wanted in sent[:40]]


def test_every_length():
    for n in range(0, 620):
        data = ip4(bytes(n))
        assert run([Packet(data, flow_hash=EXPIRED)]).packets == [message(data, EXPIRED, 1)]


@pytest.mark.parametrize(
    ("destination", "next_"),
    [(MACS[1], Next.LOOKUP), ("ff:ff:ff:ff:ff:ff", Next.DROP), ("01:00:5e:00:00:01", Next.DROP)],
)
def test_no_answer_to_a_link_layer_broadcast(destination, next_):
    packet = Packet(ethernet(ip4(), destination=destination), cur=14, l2=0, flags=L2_VALID, flow_hash=EXPIRED)
    assert run([packet]).nexts == [next_]


def test_one_message_per_sender_and_window():
    throttle = np.zeros(9, np.uint64)
    data = ip4(source="10.9.0.1")

    def answered(now: int) -> list[int]:
        return run([Packet(data, flow_hash=EXPIRED)] * 3, now, throttle).nexts

    assert answered(ICMP_WINDOW) == [Next.LOOKUP, Next.DROP, Next.DROP]
    assert answered(2 * ICMP_WINDOW - 1) == [Next.DROP] * 3
    assert answered(2 * ICMP_WINDOW) == [Next.LOOKUP, Next.DROP, Next.DROP]


def test_the_message_is_our_own():
    packet = Packet(
        ip4(), flags=TRACED | CSUM_PARTIAL | L2_VALID, flow_hash=EXPIRED, gso_type=1, gso_size=99, error=5, l2=0
    )
    m = run([packet]).meta[0]
    assert m["flags"] == TRACED | LOCALLY_ORIGINATED
    assert (int(m["gso_type"]), int(m["gso_size"]), int(m["error"]), int(m["l4"]) - int(m["l3"])) == (0, 0, 0, 20)
