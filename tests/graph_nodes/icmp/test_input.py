# SPDX-License-Identifier: Apache-2.0
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

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


def test_answers_to_our_pings():
    ping_ids = np.zeros(65536, np.uint8)
    ping_ids[0x1234] = 1
    messages = [b"\0\0\0\0\x12\x34\0\1", b"\0\0\0\0\x12\x35\0\1", b"\3\0\0\0\x12\x34\0\1"]
    packets = [Packet(ip4(message, protocol=1)) for message in messages]
    result = run_kernel(ip4_icmp_input, packets, tables={"ping_ids": ping_ids})
    assert result.nexts == [Next.ECHO_REPLY, Next.PUNT, Next.PUNT]
