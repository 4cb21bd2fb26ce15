# SPDX-License-Identifier: Apache-2.0
"""What holds for all four nodes: every size and limit, options at odd places, and scapy's opinion of the outcome."""

import struct

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6

from pyvpp.node import FRAME_SIZE
from pyvpp_mss_clamp.clamp import Counter
from pyvpp_mss_clamp.ip4_in import clamp_ip4_in
from pyvpp_mss_clamp.ip6_out import clamp_ip6_out
from tests.plugins.pyvpp_mss_clamp.segments import INTERFACES, check, run

LIMIT = 1400


def syn(options: list[object], number: int = 0) -> TCP:
    return TCP(sport=1024 + number, dport=80, flags="S", seq=number, options=options)


@pytest.mark.parametrize("nops", [0, 1, 2, 3])
def test_scapy_agrees_on_the_options_and_the_checksum(nops):
    options = [("NOP", None)] * nops + [("MSS", 1460), ("SAckOK", b""), ("WScale", 7)]
    for node, header, leaving in (
        (clamp_ip4_in, IP(src="10.0.0.1", dst="10.0.0.2"), False),
        (clamp_ip6_out, IPv6(), True),
    ):
        (left,) = check(node, [(bytes(header / syn(options)), 1, 1, False)], [LIMIT] * INTERFACES, leaving=leaving)
        parsed = type(header)(left)
        assert dict(parsed[TCP].options)["MSS"] == LIMIT
        given = parsed[TCP].chksum
        del parsed[TCP].chksum
        assert type(header)(bytes(parsed))[TCP].chksum == given


@pytest.mark.slow
@pytest.mark.parametrize("nops", [0, 1])
def test_every_size_that_may_be_asked_for(nops):
    """Sixteen bits are swept, not sampled; with one NOP the size lies across two words of the checksum."""
    base = bytes(IP(src="10.0.0.1", dst="10.0.0.2") / syn([("NOP", None)] * nops + [("MSS", 0)]))
    at = 20 + 20 + nops + 2
    clamped = 0
    for first in range(0, 1 << 16, FRAME_SIZE):
        sizes = range(first, first + FRAME_SIZE)
        frame = [(base[:at] + struct.pack("!H", size) + base[at + 2 :], size % INTERFACES, 0, False) for size in sizes]
        result, left = run(clamp_ip4_in, frame, [LIMIT] * INTERFACES, leaving=False)
        clamped += int(result.counters[Counter.CLAMPED])
        for size, (packet, *_), after in zip(sizes, frame, left, strict=True):
            assert after[at : at + 2] == struct.pack("!H", min(size, LIMIT))
            total_before = sum(struct.unpack(f"!{len(packet) // 2}H", packet)) % 0xFFFF
            assert sum(struct.unpack(f"!{len(after) // 2}H", after)) % 0xFFFF == total_before
    assert clamped == (1 << 16) - LIMIT - 1
