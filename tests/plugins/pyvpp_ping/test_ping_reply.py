# SPDX-License-Identifier: Apache-2.0
from types import SimpleNamespace

from pyvpp.node import FREE
from pyvpp.testing import Packet, run_kernel
from pyvpp_ping.ping_reply import Counter, Next, ping_reply
from tests.plugins.pyvpp_ping.replies import reply4


def test_who_asked_is_told_and_the_rest_is_dropped():
    heard = []

    def hear(packet: bytes, at: int) -> bool:
        heard.append((packet, at))
        return packet[25] != 6

    engine = SimpleNamespace(stack=SimpleNamespace(pings=SimpleNamespace(heard=hear)))
    replies = [reply4(identifier, b"") for identifier in (5, 6, 7)]
    packets = [Packet(reply, ping_received=at) for at, reply in enumerate(replies)]
    result = run_kernel(ping_reply, packets, engine=engine, error_base=20)
    assert heard == list(zip(replies, range(3), strict=True))
    assert result.nexts == [FREE, Next.DROP, FREE]
    assert [int(m.error) for m in result.meta] == [0, 20 + Counter.NOT_ASKED, 0]
    assert result.counters.tolist() == [1]
