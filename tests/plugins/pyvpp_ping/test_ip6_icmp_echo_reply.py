# SPDX-License-Identifier: Apache-2.0
import numpy as np
from hypothesis import given

from pyvpp.node import TO_NODE
from pyvpp.testing import Packet, run_kernel
from pyvpp_ping.ip6_icmp_echo_reply import Next, ip6_icmp_echo_reply
from tests.graph_nodes.forwarding import frames
from tests.plugins.pyvpp_ping.replies import OURS, PINGING_OF, REPLIES6, TIME, noted, tables_of

CHAINS = np.array([0, TO_NODE | 7, TO_NODE | 9], np.uint16)


def reference(packet: bytes, pinging: list[tuple[int, str]]) -> bool:
    """Whether a packet is an answer to a ping of ours."""
    if packet[6] != 58 or len(packet) < 48 or packet[40] != 129:
        return False
    version, source = pinging[int.from_bytes(packet[44:46], "big")]
    return version == 6 and packet[24:40] == OURS[source]


@given(frames(REPLIES6), PINGING_OF)
def test_kernel_is_the_reference_applied_to_each_packet(packets, pinging):
    given_packets = [Packet(data, feature=1 + k % 2) for k, data in enumerate(packets)]
    tables = {**tables_of(pinging), "feature_chains": CHAINS}
    result = run_kernel(ip6_icmp_echo_reply, given_packets, tables, now=TIME)
    expected = [reference(data, pinging) for data in packets]
    others = [int(CHAINS[1 + k % 2]) for k in range(len(packets))]
    assert result.nexts == [Next.REPLY if each else other for each, other in zip(expected, others, strict=True)]
    assert result.packets == packets
    assert noted(result, expected)
    assert result.counters.tolist() == [expected.count(True)]
