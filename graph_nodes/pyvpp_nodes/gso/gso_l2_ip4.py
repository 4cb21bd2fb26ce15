# SPDX-License-Identifier: Apache-2.0
"""gso-l2-ip4: segment in software a large packet in an Ethernet frame on its way into a VXLAN tunnel.

What gso-ip4 is to bare IP: `m.cur` is at the Ethernet header, behind whose VLAN tags comes IPv4 or IPv6. The
segments, each with a copy of the Ethernet header, go back to vxlan4-encap as a train, in one buffer.

Dropped and counted: headers that are not those of a GSO packet, and what finds no buffer.
"""

from enum import IntEnum

from pyvpp.buffers import emit_to
from pyvpp.jit import jit
from pyvpp.node import HELD, node
from pyvpp.typing import U8, U16, U32, U64, Records
from pyvpp_nodes.gso.outcome import Counter, settle
from pyvpp_nodes.gso.segment import ip_behind
from pyvpp_nodes.gso.train import is_train, send_trains
from pyvpp_nodes.integers import int64
from pyvpp_nodes.vxlan.header import VXLAN_BYTES


class Next(IntEnum):
    DROP = 0
    VXLAN_ENCAP = 1


@node(
    name="gso-l2-ip4",
    next={Next.DROP: "error-drop", Next.VXLAN_ENCAP: "vxlan4-encap"},
    counters=Counter,
)
@jit
def gso_l2_ip4(
    heap: U8, meta: Records, frame: U32, nexts: U16, counters: U64, pool: U32, emit: U32, error_base: int
) -> None:
    for i, b in enumerate(frame):
        m = meta[b]
        if m.gso_type == 0 or is_train(m):  # was behind a large one, and stays there
            nexts[i] = HELD if emit_to(emit, int64(b), int64(Next.VXLAN_ENCAP)) else Next.VXLAN_ENCAP
            continue
        ip = ip_behind(heap, m)
        sent, result = send_trains(heap, meta, b, ip, VXLAN_BYTES, pool, emit, int64(Next.VXLAN_ENCAP))
        nexts[i] = settle(m, counters, error_base, sent, result, int64(Next.DROP))
