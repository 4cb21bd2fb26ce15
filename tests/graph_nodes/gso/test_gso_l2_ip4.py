# SPDX-License-Identifier: Apache-2.0
"""Where gso-l2-ip4 finds the IP header; how it cuts is in test_segment.py."""

from hypothesis import given
from hypothesis import strategies as st

from pyvpp.node import FREE
from pyvpp.testing import run_kernel
from pyvpp_nodes.gso.gso_l2_ip4 import Counter, Next, gso_l2_ip4
from tests.graph_nodes.forwarding import ethernet, frames
from tests.graph_nodes.gso.test_segment import gso_packet, on_the_wire, sent_by_linux, tcp

TAG = b"\x00\x05\x81\x00"


@given(frames(st.tuples(st.integers(1, 900), st.integers(0, 3), st.sampled_from([0, 300, 301]))))
def test_mixed_frames(cases):
    """Up to two tags are passed over; behind a third nobody looks."""
    packets, expected, good = [], [], 0
    for n, tags, size in cases:
        plain = ethernet(tcp(n))
        data = plain[:12] + (b"\x81\x00" + TAG * (tags - 1) + b"\x00\x05" if tags else b"") + plain[12:]
        packets.append(gso_packet(data, 14 + 4 * tags, size, 1))
        if size and tags <= 2:
            good += 1
            expected += [(segment, Next.VXLAN_ENCAP) for segment in sent_by_linux(data, 14 + 4 * tags, size)]
    result = run_kernel(gso_l2_ip4, packets, error_base=40)
    assert on_the_wire(result) == expected
    for (_, tags, size), next_, m in zip(cases, result.nexts, result.meta, strict=True):
        if size and tags <= 2:
            assert next_ == FREE
        else:
            assert (next_, int(m["error"])) == (Next.DROP, 40 + Counter.MALFORMED)
    assert list(result.counters) == [good, len(cases) - good, 0, len(result.emitted)]
