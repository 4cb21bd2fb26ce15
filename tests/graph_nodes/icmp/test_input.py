# SPDX-License-Identifier: Apache-2.0
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pyvpp.node import TO_NODE
from pyvpp.testing import Packet, run_kernel
from pyvpp_nodes.icmp.input import Counter, Next, ip4_icmp_input
from tests.graph_nodes.forwarding import frames, ip4

MESSAGES = st.builds(
    lambda kind, rest, options: ip4(bytes([kind]) + rest, protocol=1, options=options),
    st.sampled_from([0, 3, 8, 8, 11, 13, 255]), st.binary(max_size=20), st.sampled_from([b"", b"\1" * 4]),
)  # fmt: skip


def reference(data: bytes) -> tuple[Next, Counter | None]:
    message = data[4 * (data[0] & 15) :]
    if len(message) < 8:
        return Next.DROP, Counter.LENGTH_TOO_SMALL_FOR_TYPE
    return (Next.ECHO_REQUEST, None) if message[0] == 8 else (Next.PUNT, Counter.UNKNOWN_TYPE)


@given(frames(MESSAGES))
def test_mixed_frames(packets):
    result = run_kernel(ip4_icmp_input, [Packet(data) for data in packets])
    expected = [reference(data) for data in packets]
    assert result.nexts == [next_ for next_, _ in expected]
    for counter in Counter:
        assert result.counters[counter] == sum(fault == counter for _, fault in expected)
    assert result.packets == packets


def test_every_type():
    result = run_kernel(ip4_icmp_input, [Packet(ip4(bytes([kind]) + bytes(7), protocol=1)) for kind in range(256)])
    assert [kind for kind, next_ in enumerate(result.nexts) if next_ != Next.PUNT] == [8]


def test_a_node_takes_the_types_it_is_entered_for_but_no_requests():
    """Every type, whole and cut off."""
    types = np.zeros(256, np.uint16)
    types[[0, 8, 13]] = TO_NODE | 7
    for length, taken in ((8, TO_NODE | 7), (7, Next.DROP)):
        packets = [Packet(ip4(bytes([kind]) + bytes(length - 1), protocol=1)) for kind in range(256)]
        result = run_kernel(ip4_icmp_input, packets, tables={"icmp_types": types})
        assert [kind for kind, next_ in enumerate(result.nexts) if next_ == taken] == (
            [0, 13] if length == 8 else list(range(256))
        )
