# SPDX-License-Identifier: Apache-2.0
"""gso-udp4-input: cut a large UDP packet for us into the datagrams it stands for.

A neighbor on the same machine, or one whose NIC joins datagrams, sends several packets of a tunnel as one, with their
segmentation left to a device (Linux' UDP_SEGMENT). vxlan4-input sends them here, `m.cur` at the outer IPv4 header, and
what came behind them; all go back to it in order.

Dropped and counted: headers that are not those of a GSO packet, and what finds no buffer.
"""

from enum import IntEnum

from pyvpp.buffers import emit_to
from pyvpp.jit import jit
from pyvpp.node import HELD, node
from pyvpp.typing import U8, U16, U32, U64, Records
from pyvpp_nodes.gso.outcome import Counter, settle
from pyvpp_nodes.gso.segment import segment
from pyvpp_nodes.integers import int64
from pyvpp_nodes.vxlan.header import UDP_BYTES, VXLAN_BYTES

IN_TUNNEL = UDP_BYTES + VXLAN_BYTES
"""How far behind the outer UDP header a checksum is at least that is not its own."""


class Next(IntEnum):
    DROP = 0
    VXLAN_INPUT = 1


@node(
    name="gso-udp4-input",
    next={Next.DROP: "error-drop", Next.VXLAN_INPUT: "vxlan4-input"},
    counters=Counter,
)
@jit
def gso_udp4_input(
    heap: U8, meta: Records, frame: U32, nexts: U16, counters: U64, pool: U32, emit: U32, error_base: int
) -> None:
    for i, b in enumerate(frame):
        m = meta[b]
        if m.gso_type == 0 or m.csum_start >= m.l4 + IN_TUNNEL:  # was behind a large one, and stays there
            nexts[i] = HELD if emit_to(emit, int64(b), int64(Next.VXLAN_INPUT)) else Next.VXLAN_INPUT
            continue
        sent, result = segment(heap, meta, b, int64(m.cur), pool, emit, int64(Next.VXLAN_INPUT))
        nexts[i] = settle(m, counters, error_base, sent, result, int64(Next.DROP))
