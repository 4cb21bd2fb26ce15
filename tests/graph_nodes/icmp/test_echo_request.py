# SPDX-License-Identifier: Apache-2.0
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP

from pyvpp.buffers import CSUM_VALID, FLOW_HASH, LOCALLY_ORIGINATED, TRACED
from pyvpp.testing import Packet, run_kernel
from pyvpp_nodes.icmp.echo_request import Counter, Next, ip4_icmp_echo_request
from tests.graph_nodes.forwarding import frames, internet_checksum, ip4, with_checksum


def echo_request(payload: bytes, checksum: int | None = None, code: int = 0, **fields) -> bytes:
    message = struct.pack("!BBHHH", 8, code, 0, 77, 1) + payload
    checksum = internet_checksum(message) if checksum is None else checksum
    return ip4(message[:2] + struct.pack("!H", checksum) + message[4:], protocol=1, **fields)


def reference(data: bytes, out: bytes) -> bytes:
    """The reply, with the fragment id of `out`, which is any."""
    header = 4 * (data[0] & 15)
    message = data[header:]
    damage = int.from_bytes(message[2:4], "big") - internet_checksum(message[:2] + b"\0\0" + message[4:])
    message = b"\0" + message[1:]
    checksum = (internet_checksum(message[:2] + b"\0\0" + message[4:]) + damage) % 0xFFFF
    head = data[:4] + out[4:6] + data[6:8] + b"\x40" + data[9:12] + data[16:20] + data[12:16] + data[20:header]
    return with_checksum(head + message[:2] + struct.pack("!H", checksum) + message[4:])


PINGS = st.builds(
    echo_request, st.binary(max_size=70), st.one_of(st.none(), st.integers(0, 0xFFFF)), ttl=st.integers(1, 255), code=st.sampled_from([0, 5]),
    tos=st.integers(0, 255), options=st.sampled_from([b"", b"\1" * 8]), source=st.sampled_from(["10.1.1.9", "192.0.2.1"]),
)  # fmt: skip


def same(left: bytes, right: bytes) -> bool:
    """Equal, zero and 0xffff being the same number in an ICMP checksum."""
    at = 4 * (left[0] & 15) + 2
    left, right = (
        p[:at] + struct.pack("!H", int.from_bytes(p[at : at + 2], "big") % 0xFFFF) + p[at + 2 :] for p in (left, right)
    )
    return left == right


@given(frames(PINGS), st.integers(0, 2**62))
def test_mixed_frames(packets, now):
    result = run_kernel(ip4_icmp_echo_request, [Packet(data) for data in packets], now=now)
    assert all(same(out, reference(data, out)) for data, out in zip(packets, result.packets, strict=True))
    assert result.nexts == [Next.LOOKUP] * len(packets)
    assert result.counters[Counter.ECHO_REPLIES_SENT] == len(packets)


def test_scapy_agrees():
    sent = IP(src="10.0.0.1", dst="10.0.0.2", ttl=3) / ICMP(id=5, seq=6) / b"abcdefgh"
    out = IP(run_kernel(ip4_icmp_echo_request, [Packet(bytes(sent))]).packets[0])
    assert (out.src, out.dst, out.ttl, out[ICMP].type, out[ICMP].id, out[ICMP].seq) == (
        "10.0.0.2",
        "10.0.0.1",
        64,
        0,
        5,
        6,
    )
    again = out.copy()
    del again.chksum, again[ICMP].chksum
    assert bytes(again) == bytes(out)


@pytest.mark.slow
def test_every_checksum_value():
    base = echo_request(b"")
    for start in range(0, 1 << 16, 1 << 13):
        sent = [base[:22] + struct.pack("!H", value) + base[24:] for value in range(start, start + (1 << 13))]
        result = run_kernel(ip4_icmp_echo_request, [Packet(data) for data in sent])
        assert all(same(out, reference(data, out)) for data, out in zip(sent, result.packets, strict=True))


def test_the_reply_is_our_own():
    flags = run_kernel(ip4_icmp_echo_request, [Packet(echo_request(b""), flags=TRACED | CSUM_VALID | FLOW_HASH)]).meta[
        0
    ]["flags"]
    assert flags == TRACED | LOCALLY_ORIGINATED
