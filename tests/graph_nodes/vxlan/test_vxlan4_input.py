# SPDX-License-Identifier: Apache-2.0
"""vxlan4-input against a reference, scapy, and vxlan4-encap."""

import struct

from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.l2 import Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Raw

from pyvpp.buffers import CSUM_PARTIAL, CSUM_VALID, L2_VALID
from pyvpp.node import TO_NODE
from pyvpp.testing import Packet, run_kernel
from pyvpp_nodes.vxlan import vxlan4_encap as encap
from pyvpp_nodes.vxlan import vxlan4_input as decap
from tests.graph_nodes.forwarding import frames, ip4, udp
from tests.graph_nodes.vxlan.tunnels import DOWN, ETHERNET, LOCAL, OTHER, REMOTE, TABLES, TUNNELS


def arriving(data: bytes, **fields) -> Packet:
    return Packet(data, l3=0, l4=4 * (data[0] & 15), **fields)


def reference(data: bytes) -> tuple[decap.Counter, bytes, int]:
    l4 = 4 * (data[0] & 15)
    end = l4 + int.from_bytes(data[l4 + 4 : l4 + 6], "big")
    if end > len(data) or end <= l4 + 16:
        return decap.Counter.TRUNCATED, data, 1
    if data[l4 + 8] != 8:
        return decap.Counter.BAD_FLAGS, data, 1
    key = (
        ".".join(map(str, data[12:16])),
        ".".join(map(str, data[16:20])),
        int.from_bytes(data[l4 + 12 : l4 + 16], "big"),
        data[l4 + 2 : l4 + 4],
    )
    for sw_if_index, (remote, vni, port, *_) in TUNNELS.items():
        if key == (remote, LOCAL, vni << 8, port.to_bytes(2, "big")):
            if sw_if_index == DOWN:
                return decap.Counter.DOWN, data, 1
            return decap.Counter.DECAPSULATED, data[l4 + 16 : end], sw_if_index
    return decap.Counter.NO_SUCH_TUNNEL, data, 1


ARRIVING = st.builds(
    lambda inner, source, destination, port, flags, vni, reserved, options, padding, shorter: ip4(
        struct.pack("!HHHH", 60000, port, 16 + len(inner) + shorter, 0) + struct.pack("!BBHI", flags, 0, 0, vni << 8 | reserved) + inner,
        source, destination, options=options,
    ) + padding,
    st.binary(max_size=40), st.sampled_from([REMOTE, REMOTE, OTHER, LOCAL]), st.sampled_from([LOCAL, LOCAL, LOCAL, REMOTE]),
    st.sampled_from([4789, 4789, 4790]), st.sampled_from([8, 8, 8, 8, 0, 9, 0x88]), st.sampled_from([100, 4096, 0xFFFFFF, 101]),
    st.sampled_from([0, 0, 0, 1]), st.sampled_from([b"", b"", b"\1" * 8]), st.binary(max_size=6), st.sampled_from([0, 0, 0, -1, -9, 1]),
)  # fmt: skip


@given(frames(ARRIVING))
def test_decapsulation_of_mixed_frames(received):
    result = run_kernel(decap.vxlan4_input, [arriving(data) for data in received], TABLES, error_base=70)
    expected = [reference(data) for data in received]
    for (counter, inner, rx), next_, packet, m in zip(expected, result.nexts, result.packets, result.meta):
        if counter == decap.Counter.DECAPSULATED:
            assert (next_, packet, m["rx"]) == (TUNNELS[rx][5], inner, rx)
        else:
            assert (next_, packet, m["rx"], m["error"]) == (decap.Next.DROP, packet, 1, 70 + counter)
    for counter in decap.Counter:
        assert result.counters[counter] == sum(each == counter for each, _, _ in expected)
    for sw_if_index in TUNNELS:
        through = [inner for _, inner, rx in expected if rx == sw_if_index]
        counted = result.tables["interface_rx"][sw_if_index]
        assert (counted["packets"], counted["bytes"]) == (len(through), sum(map(len, through)))


@given(st.binary(min_size=28, max_size=100), st.integers(0, 300))
def test_random_bytes_on_the_way_back(data, start):
    result = run_kernel(decap.vxlan4_input, [arriving(data, flags=CSUM_PARTIAL, csum_start=start)], TABLES)
    assert sum(result.counters) == 1


def test_every_value_of_the_flags():
    inner = bytes(20)
    packets = [ip4(udp(bytes([flags, 0, 0, 0, 0, 0, 100, 0]) + inner, 9, 4789), REMOTE, LOCAL) for flags in range(256)]
    result = run_kernel(decap.vxlan4_input, [arriving(data) for data in packets], TABLES)
    assert [next_ != decap.Next.DROP for next_ in result.nexts] == [flags == 8 for flags in range(256)]
    assert result.counters[decap.Counter.BAD_FLAGS] == 255


def test_several_outer_packets_in_one_are_not_taken_for_one_and_not_overtaken():
    """A tunnel's far end on this machine may leave segmentation of outer packets to us; of the inner one it may too."""
    inner = bytes(Ether() / IP(dst="10.3.0.1") / UDP() / Raw(bytes(100)))
    data = bytes(IP(src=REMOTE, dst=LOCAL) / UDP(sport=50000, dport=4789) / VXLAN(vni=100, flags=8) / inner)
    state = {"flags": CSUM_PARTIAL, "gso_type": 5, "gso_size": 60}
    received = [arriving(data, csum_start=start, **state) for start in (20, 35, 36, 36 + 34)]
    for several in received[:2]:
        result = run_kernel(decap.vxlan4_input, [*received[2:], several, *received[2:]], TABLES, error_base=70)
        assert result.nexts == [TO_NODE | 31] * 2 + [decap.Next.GSO] * 3
        assert result.packets[2:] == [data] * 3
        assert result.counters[decap.Counter.DECAPSULATED] == 2


def test_what_scapy_encapsulates():
    inner = Ether() / IP(dst="10.3.0.1") / ICMP() / Raw(b"ping")
    outer = IP(src=REMOTE, dst=LOCAL) / UDP(sport=50000, dport=4789) / VXLAN(vni=100, flags=8) / inner
    for packet in (outer, outer / Raw(b"")):
        result = run_kernel(decap.vxlan4_input, [arriving(bytes(packet), flags=L2_VALID | CSUM_VALID)], TABLES)
        assert result.packets == [bytes(inner)]
        assert result.nexts == [TO_NODE | 31]
        assert result.meta[0]["flags"] == 0


def test_there_and_back():
    """What is encapsulated here and arrives there, its addresses exchanged, is the same frame."""
    inner = bytes(Ether() / IP(dst="10.3.0.1") / UDP() / Raw(b"there and back"))
    sent = run_kernel(encap.vxlan4_encap, [Packet(inner, tx=ETHERNET)], TABLES).packets[0]
    sent = sent[:12] + sent[16:20] + sent[12:16] + sent[20:]
    assert run_kernel(decap.vxlan4_input, [arriving(sent)], TABLES).packets == [inner]
