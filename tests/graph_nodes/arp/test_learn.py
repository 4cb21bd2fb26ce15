# SPDX-License-Identifier: Apache-2.0
from types import SimpleNamespace

from pyvpp_nodes.arp.learn import arp_learn
from tests.graph_nodes.forwarding import address, arp, mac_bytes


def learned(data: bytes) -> list[tuple]:
    calls: list[tuple] = []
    neighbors = SimpleNamespace(learn=lambda *arguments: calls.append(arguments))
    arp_learn.kernel(SimpleNamespace(stack=SimpleNamespace(neighbors=neighbors)), SimpleNamespace(data=data, rx=4))
    return calls


def test_the_sender_becomes_a_neighbor():
    data = arp(2, "02:00:00:00:00:01", "10.1.1.2", "02:fe:00:00:aa:01", "10.1.1.1")
    assert learned(data) == [(4, address("10.1.1.2"), mac_bytes("02:00:00:00:00:01"))]


def test_padding_does_not_matter_and_a_stump_is_ignored():
    data = arp(2, "02:00:00:00:00:01", "10.1.1.2", "02:fe:00:00:aa:01", "10.1.1.1")
    assert learned(data + bytes(18)) == learned(data)
    assert learned(data[:27]) == []
