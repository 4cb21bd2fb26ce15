# SPDX-License-Identifier: Apache-2.0
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.l2 import ARP

from pyvpp.testing import Packet, run_kernel
from pyvpp_nodes.arp.input import Counter, Next, arp_input
from tests.graph_nodes.forwarding import frames

GOOD = bytes(ARP(op=1, hwsrc="02:00:00:00:00:01", psrc="10.1.1.2", pdst="10.1.1.1"))


def reference(data: bytes) -> tuple[Next, Counter | None]:
    if len(data) < 28:
        return Next.DROP, Counter.TOO_SHORT
    hardware, protocol, hardware_size, protocol_size = struct.unpack("!HHBB", data[:6])
    if (hardware, hardware_size) != (1, 6):
        return Next.DROP, Counter.L2_TYPE_NOT_ETHERNET
    if (protocol, protocol_size) != (0x0800, 4):
        return Next.DROP, Counter.L3_TYPE_NOT_IP4
    if data[24:28] == bytes(4):
        return Next.DROP, Counter.L3_DST_ADDRESS_UNSET
    return Next.REPLY, None


def changed(at: int, value: bytes) -> bytes:
    return GOOD[:at] + value + GOOD[at + len(value) :]


PACKETS = st.one_of(
    st.just(GOOD),
    st.just(GOOD + bytes(18)),
    st.builds(changed, st.sampled_from([0, 2, 4]), st.binary(min_size=2, max_size=2)),
    st.builds(changed, st.integers(0, 5), st.binary(min_size=1, max_size=1)),
    st.just(changed(24, bytes(4))),
    st.integers(0, 27).map(lambda n: GOOD[:n]),
)


@given(frames(PACKETS))
def test_mixed_frames(packets):
    result = run_kernel(arp_input, [Packet(data) for data in packets])
    expected = [reference(data) for data in packets]
    assert result.nexts == [next_ for next_, _ in expected]
    for counter in Counter:
        assert result.counters[counter] == sum(fault == counter for _, fault in expected)
    assert result.packets == packets


@pytest.mark.slow
@pytest.mark.parametrize("at", [0, 2, 4])
def test_every_value_of_the_first_three_words(at):
    for start in range(0, 1 << 16, 1 << 13):
        sent = [changed(at, struct.pack("!H", value)) for value in range(start, start + (1 << 13))]
        assert run_kernel(arp_input, [Packet(data) for data in sent]).nexts == [reference(data)[0] for data in sent]
