# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Dot1AD, Dot1Q, Ether

from pyvpp.interface import ADMIN_UP, DELETED
from pyvpp.testing import Packet, run_kernel
from pyvpp_nodes.ethernet.sub_interface_output import Counter, Next, sub_interface_output
from tests.graph_nodes.ethernet.vlans import vlan_tables
from tests.graph_nodes.forwarding import MACS, UP, frames, interface_table

PLAIN, SERVICE, DOWN, GONE = 1, 2, 3, 4
INTERFACES = interface_table({SERVICE: {"flags": UP}, DOWN: {"flags": UP & ~ADMIN_UP}, GONE: {"flags": UP | DELETED}})
VLANS = vlan_tables({(9, 0x8100, 100): PLAIN, (9, 0x88A8, 4094): SERVICE, (9, 0x8100, 3): DOWN, (9, 0x8100, 4): GONE})
TABLES = {"interfaces": INTERFACES, **VLANS}
TAGS = {PLAIN: b"\x81\x00\x00\x64", SERVICE: b"\x88\xa8\x0f\xfe"}


def reference(frame: bytes, sub: int) -> bytes:
    """IEEE 802.1Q: the tag is behind the MAC addresses, the type behind the tag."""
    return frame[:12] + TAGS[sub] + frame[12:]


@given(frames(st.binary(min_size=14, max_size=200)), st.sampled_from([PLAIN, SERVICE]))
def test_tags_and_counts_what_leaves(sent, sub):
    packets = [Packet(data, rx=3, csum_start=len(data) // 2, l3=14) for data in sent]
    result = run_kernel(sub_interface_output, packets, TABLES, instance=sub)
    assert result.nexts == [Next.PARENT] * len(sent)
    assert result.packets == [reference(data, sub) for data in sent]
    assert [int(m["tx"]) for m in result.meta] == [sub] * len(sent)
    for data, m in zip(sent, result.meta, strict=True):  # what is behind the tag stays where it is
        assert int(m["l3"]) - int(m["cur"]) == 18
        assert int(m["csum_start"]) - int(m["cur"]) == len(data) // 2 + 4
    tx = result.tables["interface_tx"]
    assert (int(tx["packets"][sub]), int(tx["bytes"][sub])) == (len(sent), sum(map(len, sent)) + 4 * len(sent))
    assert tx["packets"].sum() == len(sent)
    assert not any(result.counters)


@pytest.mark.parametrize(("instance", "tag"), [(PLAIN, Dot1Q(vlan=100)), (SERVICE, Dot1AD(vlan=4094))])
def test_scapy_agrees(instance, tag):
    link, packet = Ether(src=MACS[1], dst=MACS[2]), IP(dst="10.0.0.1") / UDP() / b"payload"
    result = run_kernel(sub_interface_output, [Packet(bytes(link / packet))], TABLES, instance=instance)
    assert result.packets == [bytes(link / tag / packet)]


def test_every_tag():
    frame = bytes(range(60))
    for start in range(0, 4096, 512):
        for vlan in range(max(start, 1), start + 512, 37):
            for tpid in (0x8100, 0x88A8):
                tables = {"interfaces": INTERFACES, **vlan_tables({(9, tpid, vlan): PLAIN})}
                result = run_kernel(sub_interface_output, [Packet(frame)], tables, instance=PLAIN)
                tag = tpid.to_bytes(2, "big") + vlan.to_bytes(2, "big")
                assert result.packets == [frame[:12] + tag + frame[12:]]


@pytest.mark.parametrize(("instance", "counter"), [(DOWN, Counter.DOWN), (GONE, Counter.DELETED)])
def test_a_sub_interface_that_cannot_send(instance, counter):
    result = run_kernel(sub_interface_output, [Packet(b"abc" * 9)] * 3, TABLES, instance=instance)
    assert result.nexts == [Next.DROP] * 3
    assert result.packets == [b"abc" * 9] * 3
    assert result.counters[counter] == 3
    assert sum(result.counters) == 3
    assert not result.tables["interface_tx"]["packets"].any()
    assert len({int(m["error"]) for m in result.meta}) == 1


def test_features_come_first():
    arc = np.zeros(16, np.uint32)
    arc[1] = 4
    chains = np.full(16, 0x8123, np.uint16)
    tables = TABLES | {"interface_output_arc": arc, "feature_chains": chains}
    result = run_kernel(sub_interface_output, [Packet(bytes(14))], tables, instance=PLAIN)
    assert result.nexts == [0x8123]
    assert result.packets == [bytes(12) + TAGS[PLAIN] + bytes(2)]
