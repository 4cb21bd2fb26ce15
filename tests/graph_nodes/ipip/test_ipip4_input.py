# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from pyvpp.buffers import CSUM_PARTIAL, CSUM_VALID, FLOW_HASH, L2_VALID, LOCALLY_ORIGINATED
from pyvpp.testing import Packet, run_kernel
from pyvpp_nodes.ipip.ipip4_input import Counter, Next, ipip4_input
from pyvpp_nodes.ipip.tunnel_table import WORDS, insert_tunnel
from tests.graph_nodes.forwarding import UP, address, frames, interface_table, ip4

LOCAL, REMOTE, OTHER, DOWN_REMOTE = "10.1.2.1", "10.1.2.2", "10.1.2.3", "10.1.2.4"
TUNNELS = {(REMOTE, LOCAL): 4, (OTHER, LOCAL): 5, (DOWN_REMOTE, LOCAL): 6}
INTERFACES = interface_table({4: {"flags": UP}, 5: {"flags": UP}, 6: {"flags": 0}})


def keys():
    table = np.zeros(WORDS * 8, np.uint32)
    for (remote, local), sw_if_index in TUNNELS.items():
        insert_tunnel(table, address(local), address(remote), 0, 0, sw_if_index)
    return table


TABLES = {"ipip_keys": keys(), "interfaces": INTERFACES}


def reference(data: bytes) -> tuple[Counter, bytes, int]:
    """What is counted, what is left, and on which interface, straight from RFC 2003 and VPP's list of errors."""
    header, length = 4 * (data[0] & 15), int.from_bytes(data[2:4], "big")
    if int.from_bytes(data[6:8], "big") & 0x3FFF:
        return Counter.FRAGMENTED, data, 1
    if header < 20 or length > len(data) or length < header + 20:
        return Counter.TRUNCATED, data, 1
    if data[9] != 4:
        return Counter.BAD_PROTOCOL, data, 1
    source, destination = (".".join(map(str, data[at : at + 4])) for at in (12, 16))
    tunnel = TUNNELS.get((source, destination))
    if tunnel is None:
        return Counter.NO_TUNNEL, data, 1
    if tunnel == 6:
        return Counter.DOWN, data, 1
    return Counter.DECAPSULATED, data[header:length], tunnel


OUTER = st.builds(
    lambda inner, source, destination, protocol, fragment, options, padding, cut: (
        ip4(inner, source, destination, protocol=protocol, fragment=fragment, options=options) + padding
    )[: None if cut is None else 20 + cut],
    st.one_of(st.builds(ip4, st.binary(max_size=30)), st.binary(max_size=40)),
    st.sampled_from([REMOTE, OTHER, DOWN_REMOTE, "10.9.9.9", LOCAL]), st.sampled_from([LOCAL, LOCAL, REMOTE]),
    st.sampled_from([4, 4, 4, 41, 0]), st.sampled_from([0, 0, 0, 0x4000, 0x2000, 1, 0x8000]),
    st.sampled_from([b"", b"", b"\1" * 4, b"\1" * 40]), st.binary(max_size=6), st.sampled_from([None, None, 0, 10, 19, 20]),
)  # fmt: skip


@given(frames(OUTER))
def test_mixed_frames(received):
    result = run_kernel(ipip4_input, [Packet(data) for data in received], TABLES, error_base=100)
    expected = [reference(data) for data in received]
    for (counter, inner, rx), next_, packet, m in zip(expected, result.nexts, result.packets, result.meta):
        good = counter == Counter.DECAPSULATED
        assert (next_, packet, int(m["rx"])) == (Next.IP4 if good else Next.DROP, inner, rx)
        assert good or m["error"] == 100 + counter
    for counter in Counter:
        assert result.counters[counter] == sum(each == counter for each, _, _ in expected)
    for sw_if_index in TUNNELS.values():
        through = [inner for _, inner, rx in expected if rx == sw_if_index]
        counted = result.tables["interface_rx"][sw_if_index]
        assert (counted["packets"], counted["bytes"]) == (len(through), sum(map(len, through)))


@given(st.binary(min_size=20, max_size=100), st.integers(0, 0xFFFFFFFF))
def test_random_bytes(data, csum_start):
    result = run_kernel(ipip4_input, [Packet(data, flags=CSUM_PARTIAL, csum_start=csum_start % 200)], TABLES)
    assert sum(result.counters) == 1
    assert (result.nexts[0] == Next.IP4) == bool(result.counters[Counter.DECAPSULATED])


def test_what_scapy_encapsulates():
    inner = IP(src="10.2.0.1", dst="10.3.0.1", ttl=9, tos=0x48) / ICMP(id=77) / Raw(b"abcdefgh")
    frame = Ether() / IP(src=REMOTE, dst=LOCAL, flags="DF", ttl=63) / inner
    result = run_kernel(ipip4_input, [Packet(bytes(frame), cur=14)], TABLES)
    assert result.nexts == [Next.IP4]
    assert result.packets == [bytes(inner)]
    assert IP(result.packets[0]) == IP(bytes(inner))


def test_what_is_known_of_the_inner_packet_stays_and_of_the_outer_goes():
    data = bytes(IP(src=REMOTE, dst=LOCAL) / IP() / UDP() / Raw(bytes(30)))
    flags = L2_VALID | CSUM_VALID | FLOW_HASH | CSUM_PARTIAL | LOCALLY_ORIGINATED
    inner, outer = (
        run_kernel(
            ipip4_input, [Packet(data, flags=flags, csum_start=start, csum_offset=6, gso_size=9, gso_type=5)], TABLES
        ).meta[0]
        for start in (40, 19)
    )
    assert inner["flags"] == CSUM_PARTIAL | LOCALLY_ORIGINATED
    assert outer["flags"] == LOCALLY_ORIGINATED
    assert (inner["gso_size"], inner["gso_type"], inner["csum_offset"]) == (9, 5, 6)
    assert outer["gso_type"] == 0
    assert inner["l3"] == inner["cur"]
    assert inner["csum_start"] == inner["cur"] + 20


@pytest.mark.parametrize("fragment", [1, 0x2000, 0x1FFF, 0x2001, 0x3FFF])
def test_fragments_are_counted_and_dropped(fragment):
    result = run_kernel(ipip4_input, [Packet(ip4(ip4(), REMOTE, LOCAL, protocol=4, fragment=fragment))], TABLES)
    assert (result.nexts, result.counters[Counter.FRAGMENTED]) == ([Next.DROP], 1)


def test_every_length_of_a_truncated_inner():
    whole = ip4(ip4(bytes(12)), REMOTE, LOCAL, protocol=4)
    for n in range(20, len(whole)):
        result = run_kernel(ipip4_input, [Packet(whole[:n])], TABLES)
        assert (result.nexts, result.counters[Counter.TRUNCATED]) == ([Next.DROP], 1)


@pytest.mark.parametrize(("n", "counter"), [(19, Counter.TRUNCATED), (20, Counter.DECAPSULATED)])
def test_the_least_inner_packet_is_a_header(n, counter):
    result = run_kernel(ipip4_input, [Packet(ip4(bytes(n), REMOTE, LOCAL, protocol=4))], TABLES)
    assert result.counters[counter] == 1


@pytest.mark.parametrize(("start", "kept"), [(19, 0), (20, CSUM_PARTIAL)])
def test_a_partial_checksum_is_kept_if_it_is_the_inner_packets(start, kept):
    packet = Packet(ip4(ip4(), REMOTE, LOCAL, protocol=4), flags=CSUM_PARTIAL, csum_start=start)
    assert run_kernel(ipip4_input, [packet], TABLES).meta[0]["flags"] == kept
