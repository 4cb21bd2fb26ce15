# SPDX-License-Identifier: Apache-2.0
from collections import Counter as Counts

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyvpp.buffers import CSUM_PARTIAL, L2_VALID, TRACED
from pyvpp.testing import Packet, run_kernel
from pyvpp_nodes.uplink.input import Counter, Next, uplink_input
from tests.graph_nodes.forwarding import MACS, NEIGHBOR_MAC, arp, ethernet, frames, output_of
from tests.graph_nodes.uplink.stand import (
    BROADCAST,
    ELSEWHERE,
    GATEWAY,
    HOST_INDEX,
    OWN,
    OWN_VLAN,
    PACKETS,
    POD,
    TABLES,
    TAGS,
    UPLINK_INDEX,
    received,
    received_tagged,
)

REPLY = ethernet(arp(2, NEIGHBOR_MAC, GATEWAY, MACS[1], OWN), MACS[1], ethertype=0x0806)


@given(frames(received()))
def test_ours_is_kept_and_the_rest_goes_to_the_host_unchanged(cases):
    result = run_kernel(uplink_input, [Packet(data, rx=UPLINK_INDEX) for data, _, _ in cases], TABLES)
    ours = copied = 0
    for (data, name, mac), next_, packet, m in zip(cases, result.nexts, result.packets, result.meta, strict=True):
        if mac == MACS[1] and name in PACKETS and PACKETS[name][1]:
            ours += 1
            assert (next_, packet) == (Next.IP4, data[14:])
            assert int(m["l3"]) == int(m["cur"]) == int(m["l2"]) + 14
        else:
            assert (next_, packet, int(m["tx"])) == (output_of(HOST_INDEX), data, HOST_INDEX)
            copied += name == "arp request"
    assert list(result.counters) == [len(cases) - ours, ours, copied, 0, 0]
    assert result.emitted == [(data[14:], Next.ARP) for data, name, _ in cases if name == "arp request"]


@given(frames(received_tagged()))
def test_the_same_behind_tags_that_are_shared_with_the_host(cases):
    result = run_kernel(uplink_input, [Packet(data, rx=UPLINK_INDEX) for data, _, _, _ in cases], TABLES)
    outcomes, emitted, counted = [], [], Counts()
    for data, name, mac, tag in cases:
        owner, header = TAGS[tag] if tag else UPLINK_INDEX, 14 + len(tag)
        if owner == OWN_VLAN:
            outcomes.append((Next.ETHERNET, data, UPLINK_INDEX))
            continue
        if owner not in (None, UPLINK_INDEX):
            counted[owner] += 1
        if owner is not None and mac == MACS[1] and name in PACKETS and PACKETS[name][1]:
            outcomes.append((Next.IP4, data[header:], owner))
            continue
        if owner is not None and name == "arp request":
            emitted.append((data[header:], Next.ARP, owner))
        outcomes.append((output_of(HOST_INDEX), data, UPLINK_INDEX))
    seen = zip(result.nexts, result.packets, (int(m["rx"]) for m in result.meta), strict=True)
    assert list(seen) == outcomes
    copies = zip(result.emitted, result.emitted_meta, strict=True)
    assert [(data, next_, int(m["rx"])) for (data, next_), m in copies] == emitted
    assert {k: int(n) for k, n in enumerate(result.tables["interface_rx"]["packets"]) if n} == counted
    for (data, _, _, tag), next_, m in zip(cases, result.nexts, result.meta, strict=True):
        if next_ == Next.IP4:
            assert int(m["l3"]) == int(m["cur"]) == int(m["l2"]) + 14 + len(tag)
        assert int(m["len"]) == len(data) - (14 + len(tag) if next_ == Next.IP4 else 0)


def test_every_vlan_id():
    """Of 802.1Q one is shared, one is pyvpp's own; all others are the host's, unchanged."""
    pod = PACKETS["to a pod"][0]
    sent = [ethernet(vlan.to_bytes(2, "big") + b"\x08\0" + pod, ethertype=0x8100) for vlan in range(4096)]
    result = run_kernel(uplink_input, [Packet(data, rx=UPLINK_INDEX) for data in sent], TABLES)
    taken = {0: Next.IP4, 10: Next.IP4, 20: Next.ETHERNET}
    assert result.nexts == [taken.get(vlan, output_of(HOST_INDEX)) for vlan in range(4096)]
    assert all(
        packet == data for v, (packet, data) in enumerate(zip(result.packets, sent, strict=True)) if v not in (0, 10)
    )


@pytest.mark.parametrize("name", PACKETS)
def test_each_kind_for_our_mac_address(name):
    packet, ours = PACKETS[name]
    result = run_kernel(uplink_input, [Packet(ethernet(packet), rx=UPLINK_INDEX)], TABLES)
    assert result.nexts == [Next.IP4 if ours else output_of(HOST_INDEX)]


@pytest.mark.parametrize(
    ("opcode", "sender", "target", "copied"),
    [
        (2, GATEWAY, OWN, True),
        (2, GATEWAY, ELSEWHERE, True),
        (1, GATEWAY, OWN, True),
        (1, GATEWAY, GATEWAY, True),
        (1, GATEWAY, "10.1.1.253", False),
        (1, GATEWAY, POD, False),
        (3, GATEWAY, OWN, False),
        (3, GATEWAY, GATEWAY, False),
        (0, GATEWAY, OWN, False),
    ],
)
def test_arp_goes_to_the_host_and_a_copy_of_what_tells_of_a_neighbor_to_us(opcode, sender, target, copied):
    frame = ethernet(arp(opcode, NEIGHBOR_MAC, sender, MACS[1], target), BROADCAST, ethertype=0x0806)
    fields = {"flags": TRACED | L2_VALID | CSUM_PARTIAL, "trace": 7, "gso_type": 1, "gso_size": 9, "csum_start": 20}
    result = run_kernel(uplink_input, [Packet(frame, rx=UPLINK_INDEX, l2=0, **fields)], TABLES)
    assert (result.nexts, result.packets) == ([output_of(HOST_INDEX)], [frame])
    assert list(result.counters) == [1, 0, int(copied), 0, 0]
    assert result.emitted == [(frame[14:], Next.ARP)] * copied
    assert result.free_buffers == 128 - copied
    for copy in result.emitted_meta:
        assert (int(copy["rx"]), int(copy["l2"]), int(copy["l3"])) == (UPLINK_INDEX, copy["cur"] - 14, copy["cur"])
        assert int(copy["cur"]) != int(result.meta[0]["cur"]) + 14
        assert (int(copy["flags"]), int(copy["trace"]), int(copy["ref"])) == (TRACED | L2_VALID, 7, 1)
        assert not any(int(copy[name]) for name in ("tx", "adj", "error", "gso_type", "gso_size", "csum_start"))


@pytest.mark.parametrize("length", [41, 42, 60, 128, 129])
def test_how_long_arp_is(length):
    result = run_kernel(uplink_input, [Packet((REPLY + bytes(99))[:length], rx=UPLINK_INDEX)], TABLES)
    assert [len(data) for data, _ in result.emitted] == [length - 14] * (42 <= length <= 128)


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


def test_every_length_behind_a_tag():
    frame = ethernet(PACKETS["vxlan's outer packet"][0])
    whole = frame[:12] + b"\x81\0\0\x0a" + frame[12:]
    for n in range(len(whole) + 1):
        result = run_kernel(uplink_input, [Packet(whole[:n], rx=UPLINK_INDEX)], TABLES)
        assert result.nexts == [Next.IP4 if n >= 18 + 28 else output_of(HOST_INDEX)]
        assert result.packets == [whole[18:n] if n >= 18 + 28 else whole[:n]]


@pytest.mark.parametrize("tag", TAGS)
def test_arp_behind_each_tag(tag):
    """A copy is received by the VLAN it came in; the uplink's own counters do not change, the VLAN's do."""
    frame = REPLY[:12] + tag + REPLY[12:]
    result = run_kernel(uplink_input, [Packet(frame, rx=UPLINK_INDEX)], TABLES)
    owner, counted = TAGS[tag], result.tables["interface_rx"]
    if owner == OWN_VLAN:
        assert (result.nexts, result.packets, result.emitted) == ([Next.ETHERNET], [frame], [])
    else:
        assert (result.nexts, result.packets) == ([output_of(HOST_INDEX)], [frame])
        assert [(data, int(m["rx"])) for (data, _), m in zip(result.emitted, result.emitted_meta, strict=True)] == (
            [] if owner is None else [(REPLY[14:], owner)]
        )
    shared = {owner} - {None, OWN_VLAN, UPLINK_INDEX}
    assert {sub: int(n) for sub, n in enumerate(counted["packets"]) if n} == dict.fromkeys(shared, 1)
    assert {sub: int(n) for sub, n in enumerate(counted["bytes"]) if n} == dict.fromkeys(shared, len(frame))


def test_a_tag_that_is_cut_off_is_the_hosts():
    whole = ethernet(b"\0\x14\x08\0" + PACKETS["to a pod"][0], ethertype=0x8100)
    for n in range(len(whole) + 1):
        result = run_kernel(uplink_input, [Packet(whole[:n], rx=UPLINK_INDEX)], TABLES)
        assert result.nexts == [Next.ETHERNET if n >= 18 else output_of(HOST_INDEX)]
