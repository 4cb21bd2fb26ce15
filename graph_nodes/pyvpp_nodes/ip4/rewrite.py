# SPDX-License-Identifier: Apache-2.0
"""ip4-rewrite: age a packet by one hop and put the neighbor's link-layer header in front of it.

RFC 1812 5.3.1. Packets of our own (LOCALLY_ORIGINATED) keep their TTL. The adjacency's MTU limits the IP packet, of a
GSO packet each segment it will become. A packet that may not go on is left as it was: an expired one and one too big
with DF set go to ip4-icmp-error (RFC 1191 tells the sender the MTU), one too big without DF to ip4-frag. Starts the
arc ip4-output of the interface it leaves by. `m.l3` must be at the IP header, which stays where it is.
"""

from numba import uint64

from pyvpp.buffers import LOCALLY_ORIGINATED
from pyvpp.features import enter_arc
from pyvpp.jit import inline, jit, outline, rare_case
from pyvpp.node import node
from pyvpp.typing import U8, U16, U32, U64, Record, Records
from pyvpp.wire import le64
from pyvpp_nodes.fib.forwarding import NONE
from pyvpp_nodes.fib.traced import format_rewritten
from pyvpp_nodes.integers import int64
from pyvpp_nodes.ip4.forward import (
    ETHERNET_BYTES,
    FORWARD,
    GO_ON,
    Counter,
    Next,
    adjacency_to_expect,
    is_plain,
    prepend,
    put_ethernet,
    put_ethernet_rewrite,
    refuse,
    verdict,
)
from pyvpp_nodes.ip4.header import TTL, decrement_ttl


@outline
def age_and_prepend(heap: U8, m: Record, ip: int, adjacency: Record, counters: U64, error_base: int) -> int:
    """What is done with a packet that is not plain: GO_ON, or where it goes instead."""
    rare_case()
    decision = verdict(heap, m, ip, int64(adjacency.mtu))
    if decision != FORWARD:
        return refuse(m, decision, int64(adjacency.mtu), counters, error_base)
    if m.flags & LOCALLY_ORIGINATED == 0:
        decrement_ttl(heap, ip)
    prepend(heap, m, adjacency)
    return GO_ON


@inline
def forward(
    heap: U8,
    m: Record,
    adjacency: Record,
    counters: U64,
    error_base: int,
    feature_chains: U16,
    ip4_output_arc: U32,
) -> int:
    """The next of any packet."""
    ip = int64(m.cur)
    if adjacency.rewrite_bytes == ETHERNET_BYTES and is_plain(heap, m, ip + TTL, int64(m.len), int64(adjacency.mtu)):
        decrement_ttl(heap, ip)
        put_ethernet_rewrite(heap, m, ip, adjacency)
    else:
        refused = age_and_prepend(heap, m, ip, adjacency, counters, error_base)
        if refused != GO_ON:
            return refused
    m.tx = adjacency.sw_if_index
    arc = int64(ip4_output_arc[m.tx])
    return enter_arc(feature_chains, m, arc) if arc else int64(adjacency.next)


@node(
    name="ip4-rewrite",
    next={Next.DROP: "ip4-drop", Next.ICMP_ERROR: "ip4-icmp-error", Next.FRAG: "ip4-frag"},
    counters=Counter,
    trace=format_rewritten,
)
@jit
def ip4_rewrite(
    heap: U8,
    meta: Records,
    frame: U32,
    nexts: U16,
    counters: U64,
    error_base: int,
    adjacencies: Records,
    feature_chains: U16,
    ip4_output_arc: U32,
) -> None:
    expected = adjacency_to_expect(meta, frame)
    adjacency = adjacencies[uint64(max(expected, 0))]
    tx, next_ = adjacency.sw_if_index, adjacency.next
    first, second = le64(adjacency.rewrite, 0), le64(adjacency.rewrite, 6)
    at_once = adjacency.rewrite_bytes == ETHERNET_BYTES and ip4_output_arc[tx] == 0
    mtu = int64(adjacency.mtu) if at_once else NONE
    for i, b in enumerate(frame):
        m = meta[b]
        ip = int64(m.cur)
        n = int64(m.len)
        if m.adj == expected and is_plain(heap, m, ip + TTL, n, mtu):
            decrement_ttl(heap, ip)
            put_ethernet(heap, m, ip, n, first, second)
            m.tx = tx
            nexts[i] = next_
        else:
            nexts[i] = forward(
                heap, m, adjacencies[m.adj], counters, error_base, feature_chains, ip4_output_arc
            )  # fmt: skip
