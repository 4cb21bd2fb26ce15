# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.l2 import ARP, Ether

from pyvpp.buffers import LOCALLY_ORIGINATED
from pyvpp.testing import Packet, run_kernel
from pyvpp_nodes.fib.tables import Kind
from pyvpp_nodes.ip4.arp import ARP_WINDOW, Counter, Next, ip4_arp
from tests.graph_nodes.forwarding import MACS, Fib, address, frames, interface_table, ip4, output_of

FIB = Fib()
FIB.to("10.1.2.0/24", Kind.GLEAN, 2, source=address("10.1.2.1"))
CONNECTED = FIB.adjacency(Kind.ARP, 2, address=address("10.1.2.7"))
ELSEWHERE = FIB.adjacency(Kind.ARP, 1, address=address("192.0.2.9"))
FOREIGN = FIB.adjacency(Kind.ARP, 1, address=address("10.1.2.99"))  # on another link than its subnet
WITHOUT_SOURCE = FIB.adjacency(Kind.ARP, 3, address=address("192.0.2.10"))
COMPLETE = FIB.adjacency(Kind.REWRITE, 2, bytes(14), address=address("10.1.2.8"))
GLEAN = FIB.adjacency(Kind.GLEAN, 2)
FIRST_ADDRESS = np.zeros(16, np.uint32)
FIRST_ADDRESS[1] = address("10.1.1.1")
FIRST_ADDRESS[2] = address("10.1.99.1")


def run(packets: list[Packet], now: int = ARP_WINDOW, throttle=None, **more):
    tables = {**FIB.tables, "interfaces": interface_table(), "ip4_interface_address": FIRST_ADDRESS}
    if throttle is not None:
        tables["arp_throttle"] = throttle
    result = run_kernel(ip4_arp, packets, tables, now=now, **more)
    if throttle is not None:
        throttle[:] = result.tables["arp_throttle"]
    return result


def request(sw_if_index: int, source: str, target: str) -> bytes:
    arp = ARP(op=1, hwsrc=MACS[sw_if_index], psrc=source, hwdst="00:00:00:00:00:00", pdst=target)
    return bytes(Ether(dst="ff:ff:ff:ff:ff:ff", src=MACS[sw_if_index]) / arp)


REQUESTS = {
    CONNECTED: (request(2, "10.1.2.1", "10.1.2.7"), output_of(2)),
    FOREIGN: (request(1, "10.1.1.1", "10.1.2.99"), output_of(1)),
    ELSEWHERE: (request(1, "10.1.1.1", "192.0.2.9"), output_of(1)),
}


@given(frames(st.sampled_from([CONNECTED, ELSEWHERE, FOREIGN, WITHOUT_SOURCE, COMPLETE, GLEAN])))
def test_one_request_per_next_hop(adjacencies):
    result = run([Packet(ip4(), adj=adjacency) for adjacency in adjacencies])
    asked = [a for i, a in enumerate(adjacencies) if a in REQUESTS and a not in adjacencies[:i]]
    assert result.emitted == [REQUESTS[a] for a in asked]
    assert result.nexts == [Next.REWRITE if a == COMPLETE else Next.DROP for a in adjacencies]
    assert result.counters[Counter.REQUEST_SENT] == len(asked)
    assert result.counters[Counter.RESOLVED] == adjacencies.count(COMPLETE)
    assert result.counters[Counter.NON_ARP_ADJ] == adjacencies.count(GLEAN)
    assert sum(result.counters) == len(adjacencies)
    assert (result.counters[Counter.NO_SOURCE_ADDRESS] > 0) == (WITHOUT_SOURCE in adjacencies)


@pytest.mark.parametrize("adjacency", list(REQUESTS))
def test_each_next_hop(adjacency):
    assert run([Packet(ip4(), adj=adjacency)]).emitted == [REQUESTS[adjacency]]


def test_a_millisecond_later_again():
    throttle = np.zeros(9, np.uint64)
    sent = [
        len(run([Packet(ip4(), adj=CONNECTED)], now, throttle).emitted)
        for now in (ARP_WINDOW, 2 * ARP_WINDOW - 1, 2 * ARP_WINDOW)
    ]
    assert sent == [1, 0, 1]


def test_the_request_is_our_own():
    meta = run([Packet(ip4(), adj=CONNECTED)]).emitted_meta[0]
    assert meta["flags"] == LOCALLY_ORIGINATED
    assert (int(meta["tx"]), int(meta["error"]), int(meta["gso_type"])) == (2, 0, 0)


def test_without_a_buffer():
    result = run([Packet(ip4(), adj=CONNECTED)], buffers=0)
    assert result.counters[Counter.NO_BUFFERS] == 1
    assert (result.nexts, result.emitted) == ([Next.DROP], [])
