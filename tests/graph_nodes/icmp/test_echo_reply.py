# SPDX-License-Identifier: Apache-2.0
from types import SimpleNamespace

from pyvpp_nodes.icmp.echo_reply import ip4_icmp_echo_reply
from tests.graph_nodes.forwarding import ip4


def test_each_ping_gets_its_own_answers():
    heard = []
    pings = {7: lambda data, icmp, now: heard.append((data, icmp))}
    engine = SimpleNamespace(stack=SimpleNamespace(pings=pings))
    replies = [ip4(b"\0\0\0\0\0" + bytes([k]) + b"\0\1", protocol=1, options=b"\1" * 8) for k in (6, 7, 8)]
    for reply in replies:
        ip4_icmp_echo_reply(engine, SimpleNamespace(data=reply))
    assert heard == [(replies[1], 28)]
