# SPDX-License-Identifier: Apache-2.0
"""ICMP types and codes (RFC 792, 1191, 1812), and how a node asks ip4-icmp-error for one of them.

The asking node leaves what it wants in `m.flow_hash`: type in bits 31-24, code in 23-16, the next hop's MTU in 15-0.
"""

from pyvpp.buffers import FLOW_HASH
from pyvpp.jit import inline
from pyvpp.typing import Record

ECHO_REPLY, UNREACHABLE, SOURCE_QUENCH, REDIRECT, ECHO_REQUEST, TIME_EXCEEDED, PARAMETER_PROBLEM = 0, 3, 4, 5, 8, 11, 12
HOST_UNREACHABLE, PROTOCOL_UNREACHABLE, PORT_UNREACHABLE, FRAGMENTATION_NEEDED, HOST_PROHIBITED = 1, 2, 3, 4, 10
TTL_IN_TRANSIT = 0
HEADER_BYTES = 8

WITHOUT_FLOW_HASH = 0xFFFFFFFF ^ FLOW_HASH


@inline
def ask_for_error(m: Record, icmp_type: int, code: int, mtu: int) -> None:
    m.flow_hash = icmp_type << 24 | code << 16 | min(mtu, 0xFFFF)
    m.flags = m.flags & WITHOUT_FLOW_HASH
