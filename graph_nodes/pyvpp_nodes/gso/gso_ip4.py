# SPDX-License-Identifier: Apache-2.0
"""gso-ip4: segment in software what no device will, a large packet on its way into a tunnel that carries bare IP.

Linux hands over TCP and UDP packets of up to 64 KiB with the size of the segments they stand for. Inside a tunnel a
device would not find them, so ip4-midchain and vxlan4-encap send them here first. `m.cur` is at the IP header. The
segments go back to where the packet came from, which is told by its adjacency: a midchain's to ip4-midchain, others
to vxlan4-encap. Those for VXLAN go as a train in one buffer (`pyvpp_nodes.gso.train`), of which a device makes packets.
What vxlan4-encap sends along because it came behind a large packet stays behind its segments.

Dropped and counted: headers that are not those of a GSO packet, and what finds no buffer (its earlier segments are on
their way; TCP sends the rest again).
"""

from enum import IntEnum

from pyvpp.buffers import emit_to
from pyvpp.jit import jit
from pyvpp.node import HELD, node
from pyvpp.typing import U8, U16, U32, U64, Records
from pyvpp_nodes.fib.tables import Kind
from pyvpp_nodes.gso.outcome import Counter, settle
from pyvpp_nodes.gso.segment import segment
from pyvpp_nodes.gso.train import is_train, send_trains
from pyvpp_nodes.integers import int64
from pyvpp_nodes.vxlan.header import VXLAN_BYTES

MIDCHAIN = int(Kind.MIDCHAIN)


class Next(IntEnum):
    DROP = 0
    MIDCHAIN = 1
    VXLAN_ENCAP = 2


@node(
    name="gso-ip4",
    next={Next.DROP: "error-drop", Next.MIDCHAIN: "ip4-midchain", Next.VXLAN_ENCAP: "vxlan4-encap"},
    counters=Counter,
)
@jit
def gso_ip4(
    heap: U8,
    meta: Records,
    frame: U32,
    nexts: U16,
    counters: U64,
    pool: U32,
    emit: U32,
    error_base: int,
    adjacencies: Records,
) -> None:
    for i, b in enumerate(frame):
        m = meta[b]
        ip = int64(m.cur)
        if m.gso_type == 0 or is_train(m):  # was behind a large one, and stays there
            nexts[i] = HELD if emit_to(emit, int64(b), int64(Next.VXLAN_ENCAP)) else Next.VXLAN_ENCAP
            continue
        if adjacencies[m.adj].kind == MIDCHAIN:
            sent, result = segment(heap, meta, b, ip, pool, emit, int64(Next.MIDCHAIN))
        else:
            sent, result = send_trains(heap, meta, b, ip, VXLAN_BYTES, pool, emit, int64(Next.VXLAN_ENCAP))
        nexts[i] = settle(m, counters, error_base, sent, result, int64(Next.DROP))
