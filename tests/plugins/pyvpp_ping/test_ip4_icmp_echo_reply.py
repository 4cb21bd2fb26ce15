# SPDX-License-Identifier: Apache-2.0
from hypothesis import given

from pyvpp.testing import Packet, run_kernel
from pyvpp_ping.ip4_icmp_echo_reply import Counter, Next, ip4_icmp_echo_reply
from tests.graph_nodes.forwarding import frames
from tests.plugins.pyvpp_ping.replies import PINGING_OF, REPLIES4, TIME, noted, tables_of


def reference(packet: bytes, pinging: list[tuple[int, str]]) -> bool:
    """Whether a packet is an answer to a ping of ours."""
    icmp = 4 * (packet[0] & 15)
    return pinging[int.from_bytes(packet[icmp + 4 : icmp + 6], "big")][0] == 4


@given(frames(REPLIES4), PINGING_OF)
def test_kernel_is_the_reference_applied_to_each_packet(packets, pinging):
    result = run_kernel(ip4_icmp_echo_reply, [Packet(data) for data in packets], tables_of(pinging), now=TIME)
    expected = [reference(data, pinging) for data in packets]
    assert result.nexts == [Next.REPLY if each else Next.PUNT for each in expected]
    assert result.packets == packets
    assert noted(result, expected)
    assert result.counters.tolist() == [expected.count(True), expected.count(False)]
    assert (Counter.REPLIES, Counter.UNKNOWN_ID) == (0, 1)
