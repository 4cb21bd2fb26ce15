# SPDX-License-Identifier: Apache-2.0
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.l2 import ARP, Ether

from pyvpp.buffers import L2_VALID
from pyvpp.testing import Packet, run_kernel
from pyvpp_nodes.arp.proxy import Counter, Next, arp_proxy_node
from pyvpp_nodes.arp.tables import PROXY_RANGE
from tests.graph_nodes.forwarding import MACS, address, arp, ethernet, frames, interface_table, output_of

ASKER = "02:00:00:00:00:01"
RANGES = np.zeros(4, PROXY_RANGE)
RANGES[0] = (address("10.5.0.10"), address("10.5.0.20"), 0, 1)
RANGES[1] = (address("10.6.0.0"), address("10.6.0.255"), 0, 0)
RANGES[3] = (address("10.7.0.1"), address("10.7.0.1"), 1, 1)
ENABLED = np.array([0, 1, 0, 1] + [0] * 12, np.uint32)
TABLES = {"interfaces": interface_table({3: {"fib_index": 1}}), "arp_proxy": RANGES, "arp_proxy_interfaces": ENABLED}
SERVED = {(1, f"10.5.0.{n}") for n in range(10, 21)} | {(3, "10.7.0.1")}
TARGETS = st.sampled_from(
    ["10.5.0.9", "10.5.0.10", "10.5.0.15", "10.5.0.20", "10.5.0.21", "10.6.0.5", "10.7.0.1", "0.0.0.1"]
)


@given(frames(st.tuples(st.sampled_from([1, 2, 3]), TARGETS)))
def test_answers_for_the_range_and_interface(cases):
    requests = [arp(1, ASKER, "10.1.1.5", "00:00:00:00:00:00", target) for _, target in cases]
    packets = [
        Packet(ethernet(r, ethertype=0x0806), rx=rx, cur=14, l2=0, flags=L2_VALID)
        for r, (rx, _) in zip(requests, cases, strict=True)
    ]
    result = run_kernel(arp_proxy_node, packets, TABLES)
    for case, request, next_, out in zip(cases, requests, result.nexts, result.packets, strict=True):
        rx, target = case
        reply = Ether(dst=ASKER, src=MACS[rx]) / ARP(op=2, hwsrc=MACS[rx], psrc=target, hwdst=ASKER, pdst="10.1.1.5")
        assert (next_, out) == ((output_of(rx), bytes(reply)) if case in SERVED else (Next.DROP, request))
    served = sum(case in SERVED for case in cases)
    assert result.counters[Counter.PROXY_ARP_REPLIES_SENT] == served
    assert result.counters[Counter.L3_DST_ADDRESS_NOT_LOCAL] == len(cases) - served
