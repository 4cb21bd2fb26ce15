# SPDX-License-Identifier: Apache-2.0
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP
from scapy.layers.l2 import Dot1Q, Ether

from pyvpp.buffers import L2_VALID
from pyvpp.interface import P2P
from pyvpp.testing import Packet, run_kernel
from pyvpp_nodes.ip4.punt import Counter, Next, ip4_punt
from tests.graph_nodes.forwarding import MACS, UP, ethernet, frames, interface_table, ip4_packets, mac_bytes, output_of

TAP, TUN = 3, 2
INTERFACES = interface_table({TUN: {"flags": UP | P2P}})
TABLES = {"interfaces": INTERFACES, "punt_tx": np.array([TAP], np.uint32)}
TAP_MAC, MULTICAST = MACS[TAP], "01:00:5e:00:00:05"


@given(frames(st.tuples(ip4_packets(), st.sampled_from(["unicast", "multicast", "bare", "tunnel"]))))
def test_the_host_gets_a_frame(cases):
    packets, expected = [], []
    for data, how in cases:
        if how == "bare":
            packets.append(Packet(data, rx=TUN))
        elif how == "tunnel":  # decapsulated: what lies in front is an outer packet's
            packets.append(Packet(bytes(40) + data, rx=TUN, cur=40, l2=6, flags=L2_VALID))
        else:
            frame = ethernet(data, destination=MACS[1] if how == "unicast" else MULTICAST)
            packets.append(Packet(frame, rx=1, cur=14, l2=0, flags=L2_VALID))
            expected.append(ethernet(data, destination=TAP_MAC if how == "unicast" else MULTICAST))
            continue
        expected.append(ethernet(data, destination=TAP_MAC, source="02:fe:00:00:00:01"))
    result = run_kernel(ip4_punt, packets, TABLES)
    assert result.packets == expected
    assert result.nexts == [output_of(TAP)] * len(cases)
    assert result.counters[Counter.TO_HOST] == len(cases)
    punts = result.tables["interface_punts"]
    assert (int(punts[1]), int(punts[TUN])) == tuple(sum((p.rx == rx) for p in packets) for rx in (1, TUN))
    assert {int(m["tx"]) for m in result.meta} == {TAP}


def test_a_tagged_frame_comes_back_whole():
    frame = bytes(Ether(dst=MACS[1], src="02:00:00:00:00:09") / Dot1Q(vlan=0, prio=3) / IP(dst="10.0.0.1"))
    out = run_kernel(ip4_punt, [Packet(frame, cur=18, l2=0, flags=L2_VALID)], TABLES).packets[0]
    assert out == mac_bytes(TAP_MAC) + frame[6:]


def test_without_a_host():
    result = run_kernel(ip4_punt, [Packet(b"E" * 30)], {"interfaces": INTERFACES})
    assert result.nexts == [Next.ERROR_PUNT]
    assert result.counters[Counter.NO_HOST] == 1
    assert not result.tables["interface_punts"].any()
