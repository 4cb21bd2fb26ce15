# SPDX-License-Identifier: Apache-2.0
"""Commands of the FIB of both families: routes, tables, adjacencies."""

import time
from itertools import islice, pairwise
from typing import Any

from pyvpp.cli.registry import Arguments, CommandError, Output, command, expectation
from pyvpp_nodes.fib import show as text
from pyvpp_nodes.fib.entry import Path, Source, Sources, Via, attached, attached_nexthop, recursive
from pyvpp_nodes.fib.fib import Fib, with_paths, without
from pyvpp_nodes.fib.tables import Kind
from pyvpp_nodes.fib.trie.owner import Prefixes
from pyvpp_nodes.fib.vrf import Vrf

SHOWN = 10_000  # entries, when nobody says how many: a million take gigabytes, and a reader's patience
ENDS = {
    "drop": Via.DROP,
    "punt": Via.PUNT,
    "local": Via.RECEIVE,
    "null-send-unreach": Via.UNREACHABLE,
    "null-send-prohibit": Via.PROHIBIT,
}


def fib_of(engine: Any, version: int) -> Fib:
    fib: Fib = engine.stack.fib4 if version == 4 else engine.stack.fib6
    return fib


def _table(fib: Fib, number: int) -> Vrf:
    found = fib.table(number)
    if found is None:
        raise CommandError(f"Nonexistent table id {number}")
    return found


def _counters(engine: Any) -> Any:
    try:
        return engine.tables["route_counters"].sum()
    except (KeyError, AttributeError):
        return None


@command(
    "ip route",
    help="ip route [add|del] [count N] PREFIX [table N]"
    " via [NEXT-HOP] [INTERFACE] [weight N] [preference N] [drop|punt|local|null-send-unreach|null-send-prohibit]",
)
def ip_route(engine: Any, args: Arguments) -> str | None:
    """Add or delete routes. Each further `via` is one more path; `add` to an existing route adds to its paths.
    `del` without `via` removes all of them. `count N` does it for N prefixes in a row, which then share a load balance
    and its counter."""
    delete = args.accept("add", "del") == "del"
    count, prefix, table, paths, versions = 1, None, 0, [], set()
    while args:
        if args.accept("count"):
            count = args.unsigned(min=1, max=1 << 24)
        elif args.accept("table"):
            table = args.unsigned(what="a table")
        elif args.accept("via"):
            path, version = _path(engine, args)
            paths.append(path)
            versions.add(version)
        elif prefix is None:
            prefix = args.prefix()
        else:
            raise args.unknown("via", "table", "count")
    if prefix is None:
        raise CommandError("expected ip4 destination address/length.")
    if not paths and not delete:
        raise CommandError("expected paths.")
    if versions - {0, prefix.version}:
        raise CommandError(f"the next hops of {prefix} must be IP{prefix.version} addresses")
    fib = fib_of(engine, prefix.version)
    vrf = _table(fib, table)
    first, length, bits = int(prefix.network_address), prefix.prefixlen, fib.family.bits
    if first + (count << (bits - length)) > 1 << bits:
        raise CommandError(f"{count} prefixes from {prefix} run past {fib.family.show(fib.family.ones)}")

    deleted: list[Sources] = []

    def change(sources: Sources, _: int = 0) -> Sources:
        if not delete:
            return _with_paths(sources, paths)
        left = _without_paths(sources, paths)
        deleted.extend([sources] if left != sources else [])
        return left

    began = time.perf_counter()
    if count == 1:
        fib.change((first, length), change, vrf.fib_index)
    else:
        fib.change_many(Prefixes.row(bits, first, length, count), change, vrf.fib_index)
    if delete and not deleted:
        raise _nothing_deleted(fib, (first, length), vrf.fib_index)
    if count == 1:
        return None
    return f"{count / (time.perf_counter() - began):.6e} routes/sec".replace("e+0", "e")


def _path(engine: Any, args: Arguments) -> tuple[Path, int]:
    """What follows `via`, and the next hop's IP version; 0 when there is none."""
    end = args.accept(*ENDS)
    address = None if end else args.attempt(args.ip)
    sw_if_index = None
    word = args.peek()
    if not end and word is not None and word not in ("via", "weight", "preference", "table", "count"):
        names = [str(interface.name) for interface in engine.interfaces]
        if address is None and word not in names:
            expected = ["an IP address", *names, *ENDS]
            raise CommandError(f"unknown next hop `{word}' {expectation(word, expected)}")
        sw_if_index = args.interface(engine).sw_if_index
    weight, preference = 1, 0
    while True:
        if args.accept("weight"):
            weight = args.unsigned(min=1, max=255)
        elif args.accept("preference"):
            preference = args.unsigned(max=255)
        else:
            break
    if end:
        return Path(ENDS[end], 0, weight=weight, preference=preference), 0
    if sw_if_index is None:
        if address is None:
            raise args.unknown("NEXT-HOP", "INTERFACE", *ENDS)
        return recursive(int(address), weight, preference), address.version
    if address is None:
        return attached(sw_if_index, weight, preference), 0
    return attached_nexthop(int(address), sw_if_index, weight, preference), address.version


def _nothing_deleted(fib: Fib, prefix: tuple[int, int], fib_index: int) -> CommandError:
    entry, shown = fib.find(prefix, fib_index), fib.family.show(*prefix)
    if entry is None:
        return CommandError(f"no such route {shown}")
    if Source.CLI not in entry.sources:
        return CommandError(f"route {shown} is not of the command line (expected one that `ip route add' made)")
    return CommandError(f"route {shown} has no such path")


def _with_paths(sources: Sources, paths: list[Path]) -> Sources:
    """More paths for the operator's source; what ends here stands alone."""
    if any(path.via in ENDS.values() for path in (*sources.get(Source.CLI, ()), *paths)):
        return {**sources, Source.CLI: tuple(paths)}
    return with_paths(sources, Source.CLI, tuple(paths))


def _without_paths(sources: Sources, paths: list[Path]) -> Sources:
    """The operator's source without these paths, or without any when none are named."""
    targets = {path.target for path in paths}
    kept = tuple(each for each in sources.get(Source.CLI, ()) if paths and each.target not in targets)
    return {**sources, Source.CLI: kept} if kept else without(sources, Source.CLI)


@command(
    "show ip fib", help="show ip fib [summary] [table N] [index N] [max N] [ADDRESS|PREFIX]", aliases=("show ip4 fib",)
)
def show_ip_fib(engine: Any, args: Arguments) -> Output:
    """The routing table (10,000 entries unless you say how many): each prefix with its load balance and the adjacencies
    behind it. With an address, the entry that a packet to it takes, and who made it. Prefixes added in bulk share a
    load balance and its counter."""
    return _show_fib(engine, engine.stack.fib4, args)


@command("show ip6 fib", help="show ip6 fib [summary] [table N] [index N] [max N] [ADDRESS|PREFIX]")
def show_ip6_fib(engine: Any, args: Arguments) -> Output:
    """The IPv6 routing table, as `show ip fib`."""
    return _show_fib(engine, engine.stack.fib6, args)


def _show_fib(engine: Any, fib: Fib, args: Arguments) -> Output:
    summary, wanted, most = False, None, SHOWN
    tables = [vrf for vrf in fib.vrfs if vrf is not None]
    while args:
        if args.accept("summary"):
            summary = True
        elif args.accept("max"):
            most = args.unsigned(min=1, what="how many entries")
        elif args.accept("table"):
            tables = [_table(fib, args.unsigned(what="a table"))]
        elif args.accept("index"):
            number = args.unsigned(what="a fib index")
            tables = [vrf for vrf in tables if vrf.fib_index == number]
        elif wanted is None:
            if "/" in (args.peek() or ""):
                network = args.prefix4() if fib.family.bits == 32 else args.prefix6()
                wanted = int(network.network_address), network.prefixlen
            else:
                wanted = int(args.ip4() if fib.family.bits == 32 else args.ip6()), fib.family.bits
        else:
            raise args.unknown("summary", "table", "index", "max")
    counters = _counters(engine)
    lines: list[str] = []
    data = []
    for vrf in tables:
        lines.append(text.table_line(vrf))
        if summary:
            lines += text.summary_lines(vrf)
            data.append({"table": vrf.table_id, "prefixes": vrf.by_length()})
            continue
        if wanted is not None:
            address, length = wanted
            entry = vrf.find(address, length) or vrf.cover(address, length + 1)
            lines += text.entry_detail(fib, entry, counters)
            chosen, left = [entry], 0
        else:
            chosen, left = list(islice(vrf, most)), max(0, len(vrf) - most)
            for entry in chosen:
                lines += text.entry_lines(fib, entry, counters)
            if left:
                lines.append(f"... {left} more entries (expected max N, an address, a prefix or summary to see others)")
        entries = [text.entry_data(fib, entry, counters) for entry in chosen]
        data.append({"table": vrf.table_id, "entries": entries, "left_out": left})
    return Output("\n".join(lines), data)


@command("show load-balance", help="show load-balance [INDEX]")
def show_load_balance(engine: Any, args: Arguments) -> Output:
    fib: Fib = engine.stack.fib4
    wanted = args.unsigned(what="a load balance") if args else None
    args.end()
    if wanted is not None and wanted not in fib.load_balances:
        raise CommandError(f"no load balance {wanted}")
    counters = _counters(engine)
    indices = list(fib.load_balances) if wanted is None else [wanted]
    lines = [
        line.removeprefix("[@0]: ") for index in indices for line in text.load_balance_lines(fib, index, counters, "")
    ]
    return Output("\n".join(lines), {index: fib.load_balances.buckets(index) for index in indices})


@command("ip table", help="ip table add|del N")
def ip_table(engine: Any, args: Arguments) -> None:
    _change_table(engine, engine.stack.fib4, args)


@command("ip6 table", help="ip6 table add|del N")
def ip6_table(engine: Any, args: Arguments) -> None:
    _change_table(engine, engine.stack.fib6, args)


def _change_table(engine: Any, fib: Fib, args: Arguments) -> None:
    add = args.expect("add", "del") == "add"
    number = args.unsigned(what="a table")
    args.end()
    if add:
        fib.add_table(number)
    else:
        fib.delete_table(number)
        engine.configuration.forget(lambda words: _is_about_table(words, fib is engine.stack.fib6, str(number)))


def _is_about_table(words: list[str], ip6: bool, number: str) -> bool:
    """Whether a command says something of a table: a route in it, or that it was an interface's."""
    if words[:3] == ["set", "interface", "ip6" if ip6 else "ip"]:
        return words[3] == "table" and words[5] == number
    in_table = words[:2] == ["ip", "route"] and ("table", number) in pairwise(words)
    return in_table and any(":" in word for word in words) == ip6


@command("show ip table", help="show ip table", aliases=("show ip4 table",))
def show_ip_table(engine: Any, args: Arguments) -> Output:
    return _show_tables(engine.stack.fib4, args)


@command("show ip6 table", help="show ip6 table")
def show_ip6_table(engine: Any, args: Arguments) -> Output:
    return _show_tables(engine.stack.fib6, args)


def _show_tables(fib: Fib, args: Arguments) -> Output:
    args.end()
    tables = [vrf for vrf in fib.vrfs if vrf is not None]
    lines = [f"[{vrf.fib_index}] table_id:{vrf.table_id} {fib.family.title}-VRF:{vrf.table_id}" for vrf in tables]
    return Output("\n".join(lines), [{"fib_index": vrf.fib_index, "table": vrf.table_id} for vrf in tables])


@command("show adj", help="show adj [INDEX|nbr|summary] [INTERFACE]", aliases=("show adjacency",))
def show_adj(engine: Any, args: Arguments) -> Output:
    """Adjacencies: neighbors, tunnels, connected subnets to resolve in, addresses of our own."""
    fib: Fib = engine.stack.fib4
    every = list(fib.adjacencies)
    if args.accept("summary"):
        args.end()
        counted = f"Number of adjacencies: {len(every)}\nPer-adjacency counters: disabled"
        return Output(counted, {"adjacencies": len(every)})
    neighbors, wanted = bool(args.accept("nbr")), None
    if args and (args.peek() or "").isdigit():
        wanted = args.unsigned(what="an adjacency")
        if fib.adjacencies.get(wanted) is None:
            raise CommandError(f"no adjacency {wanted}")
    elif args:
        sw_if_index = args.interface(engine).sw_if_index
        every = [each for each in every if each.sw_if_index == sw_if_index]
    args.end()
    if neighbors:
        every = [each for each in every if each.kind in (Kind.ARP, Kind.REWRITE, Kind.MIDCHAIN)]
    if wanted is not None:
        every = [fib.adjacencies[wanted]]
    gap = "  " if neighbors else " "
    lines = [f"[@{each.index}]{gap}{text.adjacency_text(fib, each, 2)}" for each in every]
    if wanted is not None:
        only = every[0]
        lines += ["   flags:None", "   counts:[0:0]", f"   locks:{only.locks + len(only.users) + len(only.stacked)}"]
        lines += [
            " delegates:",
            " children:",
            "  " + "".join(f"{{load-balance:{each}}}" for each in sorted(only.users)),
        ]
    return Output("\n".join(lines), [text.adjacency_data(fib, each.index) for each in every])
