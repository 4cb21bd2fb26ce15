# SPDX-License-Identifier: Apache-2.0
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyvpp.testing import Packet, run_kernel
from pyvpp_nodes.uplink.host_input import Counter, Next, host_input
from tests.graph_nodes.forwarding import ethernet, frames, output_of
from tests.graph_nodes.uplink.stand import (
    BROADCAST,
    HOST_INDEX,
    MULTICAST,
    OTHERS,
    OWN_VLAN,
    PACKETS,
    TABLES,
    TAGS,
    UPLINK_INDEX,
    received,
    received_tagged,
)

ROUTED = ("to a pod", "behind a tunnel")


@given(frames(received()))
def test_to_pods_and_tunnels_routed_and_the_rest_to_the_wire_unchanged(cases):
    result = run_kernel(host_input, [Packet(data, rx=HOST_INDEX) for data, _, _ in cases], TABLES)
    ours = 0
    for (data, name, mac), next_, packet, m in zip(cases, result.nexts, result.packets, result.meta, strict=True):
        if name in ROUTED and mac not in (BROADCAST, MULTICAST):
            ours += 1
            assert (next_, packet) == (Next.IP4, data[14:])
            assert int(m["l3"]) == int(m["cur"]) == int(m["l2"]) + 14
        else:
            assert (next_, packet, int(m["tx"])) == (output_of(UPLINK_INDEX), data, UPLINK_INDEX)
    assert list(result.counters) == [len(cases) - ours, ours]


@given(frames(received_tagged()))
def test_the_same_behind_tags_that_are_shared_with_the_host(cases):
    result = run_kernel(host_input, [Packet(data, rx=HOST_INDEX) for data, _, _, _ in cases], TABLES)
    for (data, name, mac, tag), next_, packet, m in zip(cases, result.nexts, result.packets, result.meta, strict=True):
        shared = not tag or TAGS[tag] not in (None, OWN_VLAN)
        if shared and name in ROUTED and mac not in (BROADCAST, MULTICAST):
            assert (next_, packet, int(m["rx"])) == (Next.IP4, data[14 + len(tag) :], HOST_INDEX)
            assert int(m["l3"]) == int(m["cur"]) == int(m["l2"]) + 14 + len(tag)
        else:
            assert (next_, packet, int(m["tx"])) == (output_of(UPLINK_INDEX), data, UPLINK_INDEX)


def test_each_kind():
    names = [*PACKETS, *OTHERS]
    data = [
        ethernet(PACKETS[n][0] if n in PACKETS else OTHERS[n], ethertype=0x0800 if n in PACKETS else 0x0806)
        for n in names
    ]
    result = run_kernel(host_input, [Packet(each, rx=HOST_INDEX) for each in data], TABLES)
    assert [n for n, next_ in zip(names, result.nexts, strict=True) if next_ == Next.IP4] == list(ROUTED)
    assert result.counters[Counter.OURS] == len(ROUTED)


@given(st.lists(st.binary(max_size=80), min_size=1, max_size=12))
def test_random_bytes_go_to_the_wire(data):
    result = run_kernel(host_input, [Packet(each, rx=HOST_INDEX) for each in data], TABLES)
    assert result.nexts == [output_of(UPLINK_INDEX)] * len(data)
    assert result.packets == data


def test_every_length():
    whole = ethernet(PACKETS["to a pod"][0])
    for n in range(len(whole) + 1):
        result = run_kernel(host_input, [Packet(whole[:n], rx=HOST_INDEX)], TABLES)
        assert result.nexts == [Next.IP4 if n >= 34 else output_of(UPLINK_INDEX)]


@pytest.mark.parametrize("name", ROUTED)
def test_every_length_behind_a_tag(name):
    """Also where the address is cut off behind what its route needs."""
    frame = ethernet(PACKETS[name][0])
    whole = frame[:12] + b"\x81\0\0\x0a" + frame[12:]
    for n in range(len(whole) + 1):
        result = run_kernel(host_input, [Packet(whole[:n], rx=HOST_INDEX)], TABLES)
        assert result.nexts == [Next.IP4 if n >= 38 else output_of(UPLINK_INDEX)]


@pytest.mark.parametrize("tag", TAGS)
def test_each_tag(tag):
    frame = ethernet(PACKETS["to a pod"][0])
    result = run_kernel(host_input, [Packet(frame[:12] + tag + frame[12:], rx=HOST_INDEX)], TABLES)
    assert result.nexts == [output_of(UPLINK_INDEX) if TAGS[tag] in (None, OWN_VLAN) else Next.IP4]
