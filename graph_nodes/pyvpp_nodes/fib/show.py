# SPDX-License-Identifier: Apache-2.0
"""The FIB in VPP's words."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from pyvpp_nodes.fib.adjacency import Adjacency
from pyvpp_nodes.fib.entry import Entry, Path, Source, Via
from pyvpp_nodes.fib.family import IP4, IP6
from pyvpp_nodes.fib.fib import Fib
from pyvpp_nodes.fib.tables import Kind
from pyvpp_nodes.fib.vrf import Vrf

SOURCES = {
    Source.SPECIAL: "special",
    Source.CLASSIFY: "classify",
    Source.PROXY: "proxy",
    Source.INTERFACE: "interface",
    Source.API: "API",
    Source.CLI: "CLI",
    Source.DHCP: "dhcp",
    Source.ADJ: "adjacency",
    Source.RR: "recursive-resolution",
    Source.DEFAULT_ROUTE: "default-route",
}
VIAS = {
    Via.ATTACHED_NEXTHOP: "attached-nexthop",
    Via.ATTACHED: "attached",
    Via.CONNECTED: "attached",
    Via.RECURSIVE: "recursive",
    Via.RECEIVE: "receive",
}
DPO = {
    Kind.DROP: 0,
    Kind.PUNT: 1,
    Kind.ARP: 3,
    Kind.GLEAN: 4,
    Kind.REWRITE: 5,
    Kind.MIDCHAIN: 6,
    Kind.LOCAL: 11,
    Kind.UNREACHABLE: 10,
    Kind.PROHIBIT: 10,
}
RECEIVE6 = 15
ENDS = {
    Kind.DROP: "dpo-drop {}",
    Kind.PUNT: "dpo-punt {}",
    Kind.UNREACHABLE: "{}-null: send-unreachable",
    Kind.PROHIBIT: "{}-null: send-prohibit",
}
HASHED = "src dst sport dport proto flowlabel "


def table_line(vrf: Vrf) -> str:
    locks = "adjacency:1, recursive-resolution:1, default-route:1, " if vrf.family is IP4 else "default-route:1, "
    return (
        f"{vrf.family.title}-VRF:{vrf.table_id}, fib_index:{vrf.fib_index}, flow hash:[{HASHED}] epoch:0 flags:none"
        f" locks:[{locks}]"
    )


def adjacency_text(fib: Fib, adjacency: Adjacency, indent: int = 0) -> str:
    """One adjacency; a tunnel's is followed by what it is stacked on, `indent` spaces deep."""
    family = adjacency.family or fib.family
    link = fib.links.get(adjacency.sw_if_index)
    name = link.name if link is not None else "local0"
    if adjacency.kind in ENDS:
        return ENDS[adjacency.kind].format(family.name)
    if adjacency.kind == Kind.LOCAL:
        return f"dpo-receive: {family.show(adjacency.address)} on {name}"
    if adjacency.kind == Kind.ARP:
        return f"arp-{family.title}: via {family.show(adjacency.address)} {name}"
    if adjacency.kind == Kind.GLEAN:
        head = f"{family.title}-glean: [src:{family.show(adjacency.address, adjacency.length)}] {name}:"
    else:
        head = f"{family.title} via {family.show(adjacency.address)} {name}:"
    output = (link.output_next if link is not None else 0) & 0x7FFF
    flags = "fixup-ip4o4 " if adjacency.kind == Kind.MIDCHAIN and len(adjacency.rewrite) == 20 else ""
    text = f"{head} mtu:{adjacency.mtu} next:{output} flags:[{flags}] {adjacency.rewrite.hex()}".rstrip()
    return text + _stacked(fib, adjacency, indent) if adjacency.kind == Kind.MIDCHAIN else text


def _stacked(fib: Fib, adjacency: Adjacency, indent: int) -> str:
    follower = fib.midchain_of(adjacency)
    if follower is None:
        return ""
    pad = " " * indent
    if follower.looped:
        return f"\n{pad}stacked-on: loop\n{pad}  {dpo(fib, 0, indent + 2)}"
    lines = [f"\n{pad}stacked-on entry:{follower.lb}:"]
    lines += [
        f"{pad}  {dpo(fib, index, indent + 4)}" for index in dict.fromkeys(fib.load_balances.buckets(follower.lb))
    ]
    return "\n".join(lines)


def dpo(fib: Fib, index: int, indent: int) -> str:
    adjacency = fib.adjacencies[index]
    number = RECEIVE6 if adjacency.kind == Kind.LOCAL and adjacency.family is IP6 else DPO[adjacency.kind]
    return f"[@{number}]: {adjacency_text(fib, adjacency, indent)}"


def load_balance_lines(fib: Fib, index: int, counters: Any, indent: str) -> Iterator[str]:
    buckets = fib.load_balances.buckets(index)
    proto = fib.load_balances.family(index).name
    packets, size = (int(counters[index].packets), int(counters[index].bytes)) if counters is not None else (0, 0)
    yield (
        f"{indent}[@0]: dpo-load-balance:"
        f" [proto:{proto} index:{index} buckets:{len(buckets)} uRPF:-1 to:[{packets}:{size}]]"
    )
    first = 0
    for i in range(1, len(buckets) + 1):
        if i == len(buckets) or buckets[i] != buckets[first]:
            span = f"{first}-{i - 1}" if i - 1 > first else str(first)
            yield f"{indent}  [{span}] {dpo(fib, buckets[first], len(indent) + 6)}"
            first = i


def entry_lines(fib: Fib, entry: Entry, counters: Any) -> Iterator[str]:
    yield fib.family.show(entry.prefix, entry.length)
    yield f"  unicast-{fib.family.name}-chain"
    yield from load_balance_lines(fib, entry.lb, counters, "  ")


def entry_detail(fib: Fib, entry: Entry, counters: Any) -> Iterator[str]:
    locks = 1 + len(entry.route.tracks)
    yield f"{fib.family.show(entry.prefix, entry.length)} fib:{entry.fib_index} index:{entry.lb} locks:{locks}"
    for source in sorted(entry.sources):
        paths = entry.sources[source]
        active = source == entry.best
        flags = "added,contributing,active," if active else "added,"
        attached = any(path.via in (Via.ATTACHED, Via.CONNECTED) for path in paths)
        marks = "entry-flags:attached, " if attached else ""
        yield f"  {SOURCES[source]} refs:1 {marks}src-flags:{flags}"
        links = sorted({path.sw_if_index for path in paths if path.sw_if_index in fib.links})
        listed = "".join(f"{each}, " for each in links)
        yield f"    path-list:[{entry.lb}] locks:1 flags:shared, uPRF-list:-1 len:{len(links)} itfs:[{listed}]"
        for number, path in enumerate(paths):
            yield from _path_lines(fib, entry, number, path, active)
    yield ""
    yield f" forwarding:   unicast-{fib.family.name}-chain"
    yield from load_balance_lines(fib, entry.lb, counters, "  ")


def _path_lines(fib: Fib, entry: Entry, number: int, path: Path, active: bool) -> Iterator[str]:
    contributes = fib.contribution(entry, path) if active else ()
    resolved = "  oper-flags:resolved," if contributes else ""
    glean = " cfg-flags:glean," if path.via == Via.CONNECTED else " cfg-flags:local," if path.via == Via.RECEIVE else ""
    kind = VIAS.get(path.via, "special")
    yield (
        f"      path:[{number}] pl-index:{entry.lb} {fib.family.name} weight={path.weight} pref={path.preference}"
        f" {kind}:{resolved}{glean}"
    )
    link = fib.links.get(path.sw_if_index)
    name = link.name if link is not None else ""
    if path.via == Via.RECURSIVE:
        yield f"        via {fib.family.show(path.address)} in fib:{entry.fib_index}"
    elif path.via == Via.ATTACHED_NEXTHOP:
        yield f"        {fib.family.show(path.address)} {name}"
    elif path.via in (Via.ATTACHED, Via.CONNECTED):
        yield f"         {name}"
    for _, adjacency in contributes:
        yield f"      {dpo(fib, adjacency, 8)}"


def summary_lines(vrf: Vrf) -> Iterator[str]:
    yield f"{'Prefix length':>17}{'Count':>14}     "
    for length, count in vrf.by_length().items():
        yield f"{length:>20}{count:>16}"


def path_data(fib: Fib, path: Path) -> dict[str, Any]:
    link = fib.links.get(path.sw_if_index)
    return {
        "via": path.via.name.lower(),
        "address": fib.family.show(path.address),
        "interface": link.name if link is not None else None,
        "weight": path.weight,
        "preference": path.preference,
    }


def entry_data(fib: Fib, entry: Entry, counters: Any) -> dict[str, Any]:
    shares = Counter(fib.load_balances.buckets(entry.lb))
    return {
        "prefix": fib.family.show(entry.prefix, entry.length),
        "load_balance": entry.lb,
        "packets": int(counters[entry.lb].packets) if counters is not None else 0,
        "bytes": int(counters[entry.lb].bytes) if counters is not None else 0,
        "sources": {SOURCES[s]: [path_data(fib, each) for each in entry.sources[s]] for s in sorted(entry.sources)},
        "buckets": [{"adjacency": adjacency_data(fib, index), "count": count} for index, count in shares.items()],
    }


def adjacency_data(fib: Fib, index: int) -> dict[str, Any]:
    adjacency = fib.adjacencies[index]
    link = fib.links.get(adjacency.sw_if_index)
    family = adjacency.family or fib.family
    address = adjacency.address & family.mask(adjacency.length)
    return {
        "index": index,
        "kind": adjacency.kind.name.lower(),
        "interface": link.name if link is not None else None,
        "address": family.show(address, adjacency.length if adjacency.kind == Kind.GLEAN else None),
        "mtu": adjacency.mtu,
        "rewrite": adjacency.rewrite.hex(),
    }
