# SPDX-License-Identifier: Apache-2.0
from hypothesis import given
from hypothesis import strategies as st

from pyvpp.testing import Packet, run_kernel
from pyvpp_nodes.ip4.options import Next, ip4_options
from tests.graph_nodes.forwarding import frames, ip4

ALERT, NOTHING, ROUTE = b"\x94\x04\0\0", b"\1\1\1\0", b"\x07\x07\x04\0\0\0\0\0"
PACKETS = st.builds(
    lambda protocol, options: ip4(b"12345678", protocol=protocol, options=options),
    st.sampled_from([2, 17, 46]), st.sampled_from([ALERT, NOTHING, ROUTE]),
)  # fmt: skip


@given(frames(PACKETS))
def test_only_igmp_with_a_router_alert_is_ours(packets):
    result = run_kernel(ip4_options, [Packet(data) for data in packets])
    assert result.nexts == [Next.LOCAL if p[9] == 2 and p[20:24] == ALERT else Next.PUNT for p in packets]
    assert result.packets == packets
