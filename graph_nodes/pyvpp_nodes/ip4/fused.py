# SPDX-License-Identifier: Apache-2.0
"""ip4-input, ip4-lookup and ip4-rewrite in one turn of the loop, for plain packets.

The node that received a frame (ethernet-input or ip4-input) takes each plain packet at its beginning to where those
nodes would have: to the interface's output node past ip4-rewrite, or else to the node behind ip4-lookup. Packet,
metadata and counters become the same.

Where the frame's first, middle and last packet take one route, it is looked up once, and each packet of this route
stays in registers: `ip4` takes 35 clocks instead of 46, `vxlan-decap-l3` 72 instead of 88. The others take a route of
their own each, in three passes (`route.py`): `ip4-1m` takes 72 clocks instead of 76, and vectors of 1 and 4 packets,
for which there is a node to call where there were four, 330 and 117 clocks a packet instead of 490 and 180.

From the first packet on that is otherwise (not plain, not of the same interface, our own, GSO, traced) a frame goes
from node to node, so that nothing overtakes what came before. So do all frames where a feature is on the way, and after
`set graph fusion off`; and so does what the node gets later in the same round of the worker's loop (`ip4_long_way`),
for the others still wait before ip4-lookup or ip4-rewrite. `show runtime` counts a packet at the nodes it came through.
"""

from numba import uint64

from pyvpp.buffers import L2_VALID, LOCALLY_ORIGINATED, TRACED
from pyvpp.jit import inline
from pyvpp.typing import I64, U8, U16, U32, U64, Record, Records
from pyvpp.wire import be16, be32, le64
from pyvpp_nodes.ethernet.plain import IP4_AS_LOADED
from pyvpp_nodes.ethernet.plain import is_plain as is_plain_frame
from pyvpp_nodes.fib.forwarding import NONE, WORTH_EXPECTING, are_many, count_on
from pyvpp_nodes.fib.tables import Kind
from pyvpp_nodes.fib.trie.lookup import fib_lookup
from pyvpp_nodes.integers import int64
from pyvpp_nodes.ip4 import forward
from pyvpp_nodes.ip4.forward import ETHERNET_BYTES, put_ethernet, put_ethernet_rewrite
from pyvpp_nodes.ip4.header import DESTINATION, TOTAL_LENGTH, TTL, decrement_ttl
from pyvpp_nodes.ip4.plain import is_plain
from pyvpp_nodes.ip4.route import begin_lookup, finish_lookups, take_route

ADJACENCY_REWRITE = int(Kind.REWRITE)
TRACED_OR_OUR_OWN = TRACED | LOCALLY_ORIGINATED


@inline
def common_route(
    heap: U8,
    meta: Records,
    frame: U32,
    header: int,
    interfaces: Records,
    ip4_fib_roots: U32,
    ip4_fib_nodes: U32,
    load_balances: Records,
    ip4_unicast_arc: U32,
) -> int:
    """The route, with a single path, of a frame's first, middle and last packet, whose IP headers begin `header` bytes
    behind `m.cur`, or NONE."""
    n = len(frame)
    first, middle, last = meta[frame[0]], meta[frame[n >> 1]], meta[frame[n - 1]]
    if not first.rx == middle.rx == last.rx or ip4_unicast_arc[first.rx] != 0:
        return NONE
    to = header + DESTINATION
    fib_index = int64(interfaces[first.rx].fib_index)
    route = fib_lookup(ip4_fib_roots, ip4_fib_nodes, fib_index, be32(heap, int64(first.cur) + to))
    if (
        route != fib_lookup(ip4_fib_roots, ip4_fib_nodes, fib_index, be32(heap, int64(middle.cur) + to))
        or route != fib_lookup(ip4_fib_roots, ip4_fib_nodes, fib_index, be32(heap, int64(last.cur) + to))
        or load_balances[uint64(route)].n_buckets != 1
    ):
        return NONE
    return route


@inline
def leaves_at_once(adjacency: Record, ip4_output_arc: U32) -> bool:
    """Whether an adjacency is a neighbor behind an Ethernet header and no feature is on the way out."""
    return bool(
        adjacency.kind == ADJACENCY_REWRITE
        and adjacency.rewrite_bytes == ETHERNET_BYTES
        and ip4_output_arc[adjacency.sw_if_index] == 0
    )


@inline
def take_along(
    heap: U8,
    meta: Records,
    frame: U32,
    nexts: U16,
    header: int,
    route: int,
    through_rewrite: bool,
    interfaces: Records,
    ip4_fib_roots: U32,
    ip4_fib_nodes: U32,
    load_balances: Records,
    route_counters: Records,
    adjacencies: Records,
    interface_ip4: U64,
) -> int:
    """Takes a frame's plain packets along `route`, up to the first that is otherwise; answers how many those were."""
    rx = int64(meta[frame[0]].rx)
    interface = interfaces[uint64(rx)]
    fib_index = int64(interface.fib_index)
    balance = load_balances[uint64(route)]
    adj, next_ = int64(balance.adj), int64(balance.next)
    adjacency = adjacencies[uint64(adj)]
    mtu, tx = int64(adjacency.mtu), adjacency.sw_if_index
    first, second = le64(adjacency.rewrite, 0), le64(adjacency.rewrite, 6)
    if through_rewrite:
        next_ = int64(adjacency.next)
    to = be32(heap, int64(meta[frame[0]].cur) + header + DESTINATION)  # where many packets go
    taken, size = int64(0), int64(0)
    for i, b in enumerate(frame):
        m = meta[b]
        start = int64(m.cur)
        length = int64(m.len)
        ip = start + header
        if not (
            m.rx == rx
            and m.flags & TRACED == 0
            and (header == 0 or is_plain_frame(heap, start, length, interface, IP4_AS_LOADED))
            and is_plain(heap, ip, length - header)
        ):
            break
        n = int64(be16(heap, ip + TOTAL_LENGTH))
        destination = be32(heap, ip + DESTINATION)
        if destination != to and fib_lookup(ip4_fib_roots, ip4_fib_nodes, fib_index, destination) != route:
            break
        if through_rewrite and not forward.is_plain(heap, m, ip + TTL, n, mtu):
            break
        m.l3 = ip
        m.adj = adj
        if header:
            m.l2 = start
            m.flags = m.flags | L2_VALID
        if through_rewrite:
            decrement_ttl(heap, ip)
            put_ethernet(heap, m, ip, n, first, second)
            m.tx = tx
        else:
            m.cur = ip
            m.len = n
        nexts[i] = next_
        taken += 1
        size += n
    if taken:
        count_on(route_counters, route, taken, size)
        interface_ip4[uint64(rx)] += uint64(taken)
    return taken


@inline
def take_one_way(
    heap: U8,
    meta: Records,
    frame: U32,
    nexts: U16,
    header: int,
    interfaces: Records,
    ip4_fib_roots: U32,
    ip4_fib_nodes: U32,
    load_balances: Records,
    route_counters: Records,
    adjacencies: Records,
    interface_ip4: U64,
    ip4_unicast_arc: U32,
    ip4_output_arc: U32,
) -> int:
    """Takes the packets at the beginning of a frame along their common route; answers how many those were."""
    route = common_route(
        heap, meta, frame, header, interfaces, ip4_fib_roots, ip4_fib_nodes, load_balances, ip4_unicast_arc
    )  # fmt: skip
    if route == NONE:
        return 0
    if leaves_at_once(adjacencies[load_balances[uint64(route)].adj], ip4_output_arc):  # two loops, one for each
        return take_along(
            heap, meta, frame, nexts, header, route, True, interfaces, ip4_fib_roots, ip4_fib_nodes, load_balances,
            route_counters, adjacencies, interface_ip4,
        )  # fmt: skip
    return take_along(
        heap, meta, frame, nexts, header, route, False, interfaces, ip4_fib_roots, ip4_fib_nodes, load_balances,
        route_counters, adjacencies, interface_ip4,
    )  # fmt: skip


@inline
def begin_lookups(
    heap: U8, meta: Records, frame: U32, header: int, interfaces: Records, ip4_fib_roots: U32, ip4_fib_nodes: U32
) -> int:
    """`begin_lookup` of a frame's plain packets, up to the first that is otherwise; answers how many those were."""
    rx = int64(meta[frame[0]].rx)
    interface = interfaces[uint64(rx)]
    fib_index = int64(interface.fib_index)
    begun = int64(0)
    for b in frame:
        m = meta[b]
        start = int64(m.cur)
        length = int64(m.len)
        if not (
            m.rx == rx
            and (m.flags & TRACED_OR_OUR_OWN) | m.gso_type == 0
            and (header == 0 or is_plain_frame(heap, start, length, interface, IP4_AS_LOADED))
            and is_plain(heap, start + header, length - header)
        ):
            break
        begin_lookup(m, ip4_fib_roots, ip4_fib_nodes, fib_index, be32(heap, start + header + DESTINATION))
        begun += 1
    return begun


@inline
def take_many_ways(
    heap: U8,
    meta: Records,
    frame: U32,
    nexts: U16,
    header: int,
    interfaces: Records,
    ip4_fib_roots: U32,
    ip4_fib_nodes: U32,
    load_balances: Records,
    lb_buckets: Records,
    route_counters: Records,
    adjacencies: Records,
    interface_ip4: U64,
    ip4_unicast_arc: U32,
    ip4_output_arc: U32,
) -> int:
    """Takes the plain packets at the beginning of a frame along a route of its own each; answers how many those were.

    One that leaves at once overtakes what waits before ip4-rewrite for the same neighbor. There it finds only what will
    be refused or split: at a packet of our own, a GSO packet or a traced one the beginning has come to its end.
    """
    rx = uint64(meta[frame[0]].rx)
    if ip4_unicast_arc[rx] != 0:
        return 0
    taken = begin_lookups(heap, meta, frame, header, interfaces, ip4_fib_roots, ip4_fib_nodes)
    finish_lookups(heap, meta, frame[:taken], header + DESTINATION, ip4_fib_nodes, load_balances, route_counters)
    for i, b in enumerate(frame[:taken]):
        m = meta[b]
        start = int64(m.cur)
        ip = start + header
        n = int64(be16(heap, ip + TOTAL_LENGTH))
        m.cur = ip
        m.len = n
        m.l3 = ip
        if header:
            m.l2 = start
            m.flags = m.flags | L2_VALID
        next_ = take_route(heap, m, int64(m.adj), load_balances, lb_buckets, route_counters)
        adjacency = adjacencies[uint64(m.adj)]
        if leaves_at_once(adjacency, ip4_output_arc) and forward.is_plain(heap, m, ip + TTL, n, int64(adjacency.mtu)):
            decrement_ttl(heap, ip)
            put_ethernet_rewrite(heap, m, ip, adjacency)
            m.tx = adjacency.sw_if_index
            next_ = int64(adjacency.next)
        nexts[i] = next_
    interface_ip4[rx] += uint64(taken)
    return taken


@inline
def take_common_way(
    heap: U8,
    meta: Records,
    frame: U32,
    nexts: U16,
    header: int,
    interfaces: Records,
    ip4_fib_roots: U32,
    ip4_fib_nodes: U32,
    load_balances: Records,
    lb_buckets: Records,
    route_counters: Records,
    adjacencies: Records,
    interface_ip4: U64,
    ip4_unicast_arc: U32,
    ip4_output_arc: U32,
    node_by_node: U32,
    ip4_long_way: I64,
    now: int,
) -> int:
    """How many packets at the beginning of a frame have been taken along; the others are left as they came.

    The IP headers begin `header` bytes behind `m.cur`: 14, or 0 where there is no Ethernet header.
    """
    node = 0 if header else 1
    if node_by_node[0] != 0 or ip4_long_way[node] == now + 1:
        return 0
    taken = int64(0)
    if len(frame) >= WORTH_EXPECTING and not are_many(load_balances, ip4_fib_nodes):
        taken = take_one_way(
            heap, meta, frame, nexts, header, interfaces, ip4_fib_roots, ip4_fib_nodes, load_balances,
            route_counters, adjacencies, interface_ip4, ip4_unicast_arc, ip4_output_arc,
        )  # fmt: skip
    if taken < len(frame):
        taken += take_many_ways(
            heap, meta, frame[taken:], nexts[taken:], header, interfaces, ip4_fib_roots, ip4_fib_nodes, load_balances,
            lb_buckets, route_counters, adjacencies, interface_ip4, ip4_unicast_arc, ip4_output_arc,
        )  # fmt: skip
    if taken < len(frame):
        ip4_long_way[node] = now + 1
    return taken
