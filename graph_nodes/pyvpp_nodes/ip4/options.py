# SPDX-License-Identifier: Apache-2.0
"""ip4-options: packets with IP options go to the host, IGMP with a router alert to ip4-local.

Only the first option is looked at, as in VPP: RFC 2113's router alert is the only one in IGMP's header.
"""

from enum import IntEnum

from pyvpp.jit import jit
from pyvpp.node import node
from pyvpp.trace import TraceRecord
from pyvpp.trace_format import format_ip4
from pyvpp.typing import U8, U16, U32, Records
from pyvpp.wire import u8
from pyvpp_nodes.integers import int64
from pyvpp_nodes.ip4.header import HEADER_BYTES, IGMP, PROTOCOL

ROUTER_ALERT = 0x94


class Next(IntEnum):
    PUNT = 0
    LOCAL = 1


def format_trace(record: TraceRecord) -> list[str]:
    return format_ip4(record.data)


@node(name="ip4-options", next={Next.PUNT: "ip4-punt", Next.LOCAL: "ip4-local"}, trace=format_trace)
@jit
def ip4_options(heap: U8, meta: Records, frame: U32, nexts: U16) -> None:
    for i, b in enumerate(frame):
        ip = int64(meta[b].cur)
        alert = u8(heap, ip + HEADER_BYTES) == ROUTER_ALERT and u8(heap, ip + PROTOCOL) == IGMP
        nexts[i] = Next.LOCAL if alert else Next.PUNT
