# SPDX-License-Identifier: Apache-2.0
"""Commands of the IPv4 FIB: routes, neighbors, adjacencies, interface addresses."""

import time
from typing import Any

from pyvpp.cli.registry import Arguments, CommandError, Output, command, interfaces_of
from pyvpp_nodes.fib import show as text
from pyvpp_nodes.fib.entry import Path, Source, Via, attached, attached_nexthop, recursive
from pyvpp_nodes.fib.fib import Fib4, Vrf, show
from pyvpp_nodes.fib.tables import Kind

ENDS = {
    "drop": Via.DROP,
    "punt": Via.PUNT,
    "local": Via.RECEIVE,
    "null-send-unreach": Via.UNREACHABLE,
    "null-send-prohibit": Via.PROHIBIT,
}


def _table(fib: Fib4, args: Arguments) -> Vrf:
    number = args.unsigned(what="a table")
    found = fib.table(number)
    if found is None:
        raise CommandError(f"Nonexistent table id {number}")
    return found


def _counters(engine: Any) -> Any:
    try:
        return engine.tables["route_counters"].sum()
    except (KeyError, AttributeError):
        return None


# -- routes


@command(
    "ip route",
    help="ip route [add|del] [count N] PREFIX [table N]"
    " via [NEXT-HOP] [INTERFACE] [weight N] [preference N] [drop|punt|local|null-send-unreach|null-send-prohibit]",
)
def ip_route(engine: Any, args: Arguments) -> str | None:
    """Add or delete routes. Each further `via` is one more path; `add` to an existing route adds to its paths.
    `del` without `via` removes all of them. `count N` does it for N prefixes in a row."""
    fib: Fib4 = engine.stack.fib4
    delete = args.accept("add", "del") == "del"
    count, prefix, vrf, paths = 1, None, fib.vrf(), []
    while args:
        if args.accept("count"):
            count = args.unsigned(min=1, max=1 << 24)
        elif args.accept("table"):
            vrf = _table(fib, args)
        elif args.accept("via"):
            paths.append(_path(engine, args))
        elif prefix is None:
            prefix = args.prefix4()
        else:
            raise args.unknown("via", "table", "count")
    if prefix is None:
        raise CommandError("expected ip4 destination address/length.")
    if not paths and not delete:
        raise CommandError("expected paths.")
    first, length = int(prefix.network_address), prefix.prefixlen
    if first + (count << (32 - length)) > 1 << 32:
        raise CommandError(f"{count} prefixes from {prefix} run past 255.255.255.255")
    began = time.perf_counter()
    for i in range(count):
        _change_route(fib, (first + (i << (32 - length)), length), paths, delete, vrf.fib_index)
    return f"{count / (time.perf_counter() - began):.6e} routes/sec".replace("e+0", "e") if count > 1 else None


def _path(engine: Any, args: Arguments) -> Path:
    """What follows `via`."""
    end = args.accept(*ENDS)
    address = None if end else args.attempt(args.ip4)
    sw_if_index = None
    if not end and args.peek() not in (None, "via", "weight", "preference", "table", "count"):
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
        return Path(ENDS[end], 0, weight=weight, preference=preference)
    if address is None and sw_if_index is None:
        raise args.unknown("NEXT-HOP", "INTERFACE", *ENDS)
    if sw_if_index is None:
        return recursive(int(address or 0), weight, preference)
    if address is None:
        return attached(sw_if_index, weight, preference)
    return attached_nexthop(int(address), sw_if_index, weight, preference)


def _change_route(fib: Fib4, prefix: tuple[int, int], paths: list[Path], delete: bool, fib_index: int) -> None:
    if delete and not paths:
        fib.remove(prefix, Source.CLI, fib_index)
        return
    if delete:
        for path in paths:
            fib.remove_path(prefix, path, Source.CLI, fib_index)
        return
    entry = fib.find(prefix, fib_index)
    before = entry.sources.get(Source.CLI, ()) if entry is not None else ()
    if any(path.via in ENDS.values() for path in (*before, *paths)):
        before = ()
    new = {path.target for path in paths}
    fib.update(prefix, (*(each for each in before if each.target not in new), *paths), Source.CLI, fib_index)


@command("show ip fib", help="show ip fib [summary] [table N] [index N] [ADDRESS|PREFIX]")
def show_ip_fib(engine: Any, args: Arguments) -> Output:
    """The routing table: each prefix with its load balance and the adjacencies behind it. With an address, the
    entry that a packet to it takes, and who made it."""
    fib: Fib4 = engine.stack.fib4
    summary, wanted = False, None
    tables = [vrf for vrf in fib.vrfs if vrf is not None]
    while args:
        if args.accept("summary"):
            summary = True
        elif args.accept("table"):
            number = args.unsigned(what="a table")
            tables = [vrf for vrf in tables if vrf.table_id == number]
        elif args.accept("index"):
            number = args.unsigned(what="a fib index")
            tables = [vrf for vrf in tables if vrf.fib_index == number]
        elif wanted is None:
            if "/" in (args.peek() or ""):
                network = args.prefix4()
                wanted = int(network.network_address), network.prefixlen
            else:
                wanted = int(args.ip4()), 32
        else:
            raise args.unknown("summary", "table", "index")
    counters = _counters(engine)
    lines: list[str] = []
    data = []
    for vrf in tables:
        lines.append(text.table_line(vrf))
        if summary:
            lines += text.summary_lines(vrf)
            counts = {length: len(entries) for length, entries in enumerate(vrf.by_length) if entries}
            data.append({"table": vrf.table_id, "prefixes": counts})
            continue
        if wanted is not None:
            address, length = wanted
            entry = vrf.find(address, length) or vrf.cover(address, length + 1)
            lines += text.entry_detail(fib, entry, counters)
            chosen = [entry]
        else:
            chosen = list(vrf)
            for entry in chosen:
                lines += text.entry_lines(fib, entry, counters)
        entries = [text.entry_data(fib, entry, counters) for entry in chosen]
        data.append({"table": vrf.table_id, "entries": entries})
    return Output("\n".join(lines), data)


@command("show load-balance", help="show load-balance [INDEX]")
def show_load_balance(engine: Any, args: Arguments) -> Output:
    fib: Fib4 = engine.stack.fib4
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
    fib: Fib4 = engine.stack.fib4
    add = args.expect("add", "del") == "add"
    number = args.unsigned(what="a table")
    args.end()
    if add:
        fib.add_table(number)
    else:
        fib.delete_table(number)


@command("show ip table", help="show ip table")
def show_ip_table(engine: Any, args: Arguments) -> Output:
    args.end()
    tables = [vrf for vrf in engine.stack.fib4.vrfs if vrf is not None]
    lines = [f"[{vrf.fib_index}] table_id:{vrf.table_id} ipv4-VRF:{vrf.table_id}" for vrf in tables]
    return Output("\n".join(lines), [{"fib_index": vrf.fib_index, "table": vrf.table_id} for vrf in tables])


@command("show adj", help="show adj [INDEX|nbr|summary] [INTERFACE]", aliases=("show adjacency",))
def show_adj(engine: Any, args: Arguments) -> Output:
    """Adjacencies: neighbors, tunnels, connected subnets to resolve in, addresses of our own."""
    fib: Fib4 = engine.stack.fib4
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


# -- neighbors


@command("set ip neighbor", help="set ip neighbor [del] INTERFACE ADDRESS MAC [static] [no-fib-entry] [count N]")
def set_ip_neighbor(engine: Any, args: Arguments) -> None:
    """Add or delete a neighbor. A static one is never changed by what is heard."""
    delete = bool(args.accept("del"))
    link = args.interface(engine)
    address = int(args.ip4())
    mac = args.mac() if not delete or ":" in (args.peek() or "") else b""
    static, no_fib, count = False, False, 1
    while args:
        if args.accept("static"):
            static = True
        elif args.accept("no-fib-entry"):
            no_fib = True
        elif args.accept("count"):
            count = args.unsigned(min=1, max=1 << 20)
        else:
            raise args.unknown("static", "no-fib-entry", "count")
    table = engine.stack.neighbors
    for i in range(count):
        if delete:
            table.remove(link.sw_if_index, address + i)
        else:
            each = (int.from_bytes(mac) + i & 0xFFFFFFFFFFFF).to_bytes(6)
            table.add(link.sw_if_index, address + i, each, static=static, no_fib=no_fib)


def _centred(value: str, width: int) -> str:
    """VPP's %=N: the odd space goes to the left."""
    left = max(0, width - len(value) + 1) // 2
    return " " * left + value + " " * (width - len(value) - left)


@command("show ip neighbors", help="show ip neighbors [INTERFACE]", aliases=("show ip neighbor", "show ip4 neighbors"))
def show_ip_neighbors(engine: Any, args: Arguments) -> Output:
    """Known neighbors: S static, D dynamic, N without a route of their own."""
    only = args.interface(engine).sw_if_index if args else None
    args.end()
    fib, now = engine.stack.fib4, engine.stack.fib4.clock()
    columns = (("Age", 12), ("IP", 40), ("Flags", 6), ("Ethernet", 20), ("Interface", 24))
    lines, data = ["".join(_centred(*each) for each in columns)], []
    for each in engine.stack.neighbors:
        if only is not None and each.sw_if_index != only:
            continue
        age, mac, name = now - each.updated, each.mac.hex(":"), fib.links[each.sw_if_index].name
        flags = ("S" if each.static else "D") + ("N" if each.no_fib else "")
        shown = f"{age:.4f}".lstrip("0")
        lines.append(f"{shown:>12}{_centred(show(each.address), 40)}{_centred(flags, 6)}{_centred(mac, 20)}{name}")
        data.append({"age": age, "ip": show(each.address), "flags": flags, "mac": mac, "interface": name})
    return Output("\n".join(lines), data)


@command("set ip neighbor-config", help="set ip neighbor-config ip4 [limit N] [age SECONDS] [recycle|norecycle]")
def set_ip_neighbor_config(engine: Any, args: Arguments) -> None:
    table = engine.stack.neighbors
    args.expect("ip4")
    limit, age, recycle = table.limit, table.age, table.recycle
    while args:
        if args.accept("limit"):
            limit = args.unsigned(what="how many neighbors, 0 for any number")
        elif args.accept("age"):
            age = args.unsigned(what="seconds, 0 for ever")
        elif word := args.accept("recycle", "norecycle"):
            recycle = word == "recycle"
        else:
            raise args.unknown("limit", "age", "recycle", "norecycle")
    table.limit, table.age, table.recycle = limit, age, recycle


@command("show ip neighbor-config", help="show ip neighbor-config")
def show_ip_neighbor_config(engine: Any, args: Arguments) -> Output:
    args.end()
    table = engine.stack.neighbors
    data = {"ip4": {"limit": table.limit, "age": int(table.age), "recycle": int(table.recycle)}}
    line = ", ".join(f"{name}:{value}" for name, value in data["ip4"].items())
    return Output(f"ip4:\n  {line}", data)


# -- interfaces


@command("set interface ip address", help="set interface ip address [del] INTERFACE ADDRESS/LENGTH|all")
def set_interface_ip_address(engine: Any, args: Arguments) -> None:
    """Give an interface an address, or take it (`del INTERFACE all` takes all)."""
    fib: Fib4 = engine.stack.fib4
    delete = bool(args.accept("del"))
    link = args.interface(engine)
    if not delete:
        delete = bool(args.accept("del"))
    if delete and args.accept("all"):
        args.end()
        for address, length in list(fib.addresses.get(link.sw_if_index, ())):
            fib.remove_address(link.sw_if_index, address, length)
        return
    wanted = args.address4()
    args.end()
    change = fib.remove_address if delete else fib.add_address
    change(link.sw_if_index, int(wanted.ip), wanted.network.prefixlen)


@command("set interface ip table", help="set interface ip table INTERFACE N")
def set_interface_ip_table(engine: Any, args: Arguments) -> None:
    link = args.interface(engine)
    number = args.unsigned(what="a table")
    args.end()
    fib_index = engine.stack.fib4.set_link_table(link.sw_if_index, number)
    engine.tables["interfaces"].array["fib_index"][link.sw_if_index] = fib_index


@command("show interface address", help="show interface address [INTERFACE]")
def show_interface_address(engine: Any, args: Arguments) -> Output:
    fib: Fib4 = engine.stack.fib4
    links = [args.interface(engine)] if args else interfaces_of(engine)
    args.end()
    lines, data = [], {}
    for link in links:
        have = [show(*each) for each in fib.addresses.get(link.sw_if_index, ())]
        lines.append(f"{link.name} ({'up' if link.admin_up else 'dn'}):")
        lines += [f"  L3 {each}" for each in have]
        data[str(link.name)] = have
    return Output("\n".join(lines), data)
