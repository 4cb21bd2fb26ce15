# SPDX-License-Identifier: Apache-2.0
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyvpp.testing import Packet, run_kernel
from pyvpp_nodes.uplink.input import Counter, Next, uplink_input
from tests.graph_nodes.forwarding import MACS, NEIGHBOR_MAC, arp, ethernet, frames, output_of
from tests.graph_nodes.uplink.stand import GATEWAY, HOST_INDEX, OWN, PACKETS, TABLES, UPLINK_INDEX, received

REPLY = ethernet(arp(2, NEIGHBOR_MAC, GATEWAY, MACS[1], OWN), MACS[1], ethertype=0x0806)


@given(frames(received()))
def test_ours_is_kept_and_the_rest_goes_to_the_host_unchanged(cases):
    result = run_kernel(uplink_input, [Packet(data, rx=UPLINK_INDEX) for data, _, _ in cases], TABLES)
    ours = 0
    for (data, name, mac), next_, packet, m in zip(cases, result.nexts, result.packets, result.meta, strict=True):
        if mac == MACS[1] and name in PACKETS and PACKETS[name][1]:
            ours += 1
            assert (next_, packet) == (Next.IP4, data[14:])
            assert int(m["l3"]) == int(m["cur"]) == int(m["l2"]) + 14
        else:
            assert (next_, packet, int(m["tx"])) == (output_of(HOST_INDEX), data, HOST_INDEX)
    assert list(result.counters) == [len(cases) - ours, ours, 0, 0]
    assert result.emitted == []


@pytest.mark.parametrize("name", PACKETS)
def test_each_kind_for_our_mac_address(name):
    packet, ours = PACKETS[name]
    result = run_kernel(uplink_input, [Packet(ethernet(packet), rx=UPLINK_INDEX)], TABLES)
    assert result.nexts == [Next.IP4 if ours else output_of(HOST_INDEX)]


def test_an_arp_reply_goes_to_the_host_and_a_copy_to_us():
    result = run_kernel(uplink_input, [Packet(REPLY, rx=UPLINK_INDEX)], TABLES)
    assert (result.nexts, result.packets) == ([output_of(HOST_INDEX)], [REPLY])
    assert result.emitted == [(REPLY[14:], Next.ARP)]
    copy = result.emitted_meta[0]
    assert (int(copy["rx"]), int(copy["l2"])) == (UPLINK_INDEX, int(copy["cur"]) - 14)
    assert int(copy["cur"]) != int(result.meta[0]["cur"]) + 14
    assert result.counters[Counter.ARP_COPIED] == result.counters[Counter.TO_HOST] == 1
    assert result.free_buffers == 127


def test_without_a_buffer_the_host_still_has_its_reply():
    result = run_kernel(uplink_input, [Packet(REPLY, rx=UPLINK_INDEX)], TABLES, buffers=0)
    assert (result.nexts, result.packets, result.emitted) == ([output_of(HOST_INDEX)], [REPLY], [])
    assert result.counters[Counter.NO_BUFFERS] == 1


@given(st.lists(st.binary(max_size=80), min_size=1, max_size=12))
def test_random_bytes_are_the_hosts(data):
    result = run_kernel(uplink_input, [Packet(each, rx=UPLINK_INDEX) for each in data], TABLES)
    assert result.nexts == [output_of(HOST_INDEX)] * len(data)
    assert result.packets == data


def test_every_length():
    whole = ethernet(PACKETS["vxlan's outer packet"][0])
    for n in range(len(whole) + 1):
        result = run_kernel(uplink_input, [Packet(whole[:n], rx=UPLINK_INDEX)], TABLES)
        assert result.nexts == [Next.IP4 if n >= 14 + 28 else output_of(HOST_INDEX)]
