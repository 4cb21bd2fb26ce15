# SPDX-License-Identifier: Apache-2.0
"""Commands of the neighbors of both families: who has which MAC address on a link."""

from typing import Any

from pyvpp.cli.registry import Arguments, CommandError, Output, command
from pyvpp_nodes.fib.cli import fib_of
from pyvpp_nodes.fib.neighbor import NeighborTable


def _neighbors(engine: Any, version: int) -> NeighborTable:
    table: NeighborTable = engine.stack.neighbors if version == 4 else engine.stack.neighbors6
    return table


@command("set ip neighbor", help="set ip neighbor [del] INTERFACE ADDRESS MAC [static] [no-fib-entry] [count N]")
def set_ip_neighbor(engine: Any, args: Arguments) -> None:
    """Add or delete a neighbor. A static one is never changed by what is heard."""
    delete = bool(args.accept("del"))
    link = args.interface(engine)
    address = args.ip()
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
    if int(address) + count > 1 << address.max_prefixlen:
        raise CommandError(f"{count} neighbors from {address} run past the last address")
    table = _neighbors(engine, address.version)
    if delete:
        if not any([table.remove(link.sw_if_index, int(address) + i) for i in range(count)]):
            raise CommandError(f"no such neighbor {address} on {link.name}")
    else:
        for i in range(count):
            each = (int.from_bytes(mac) + i & 0xFFFFFFFFFFFF).to_bytes(6)
            table.add(link.sw_if_index, int(address) + i, each, static=static, no_fib=no_fib)


def _centred(value: str, width: int) -> str:
    """VPP's %=N: the odd space goes to the left."""
    left = max(0, width - len(value) + 1) // 2
    return " " * left + value + " " * (width - len(value) - left)


@command("show ip neighbors", help="show ip neighbors [INTERFACE]", aliases=("show ip neighbor",))
def show_ip_neighbors(engine: Any, args: Arguments) -> Output:
    """Known neighbors of both families: S static, D dynamic, N without a route of their own."""
    return _show_neighbors(engine, args, (4, 6))


@command("show ip4 neighbors", help="show ip4 neighbors [INTERFACE]", aliases=("show ip4 neighbor",))
def show_ip4_neighbors(engine: Any, args: Arguments) -> Output:
    return _show_neighbors(engine, args, (4,))


@command("show ip6 neighbors", help="show ip6 neighbors [INTERFACE]", aliases=("show ip6 neighbor",))
def show_ip6_neighbors(engine: Any, args: Arguments) -> Output:
    return _show_neighbors(engine, args, (6,))


def _show_neighbors(engine: Any, args: Arguments, versions: tuple[int, ...]) -> Output:
    only = args.interface(engine).sw_if_index if args else None
    args.end()
    columns = (("Age", 12), ("IP", 40), ("Flags", 6), ("Ethernet", 20), ("Interface", 24))
    lines, data = ["".join(_centred(*each) for each in columns)], []
    for version in versions:
        fib, now = fib_of(engine, version), fib_of(engine, version).clock()
        for each in _neighbors(engine, version):
            if only is not None and each.sw_if_index != only:
                continue
            age, mac, name = now - each.updated, each.mac.hex(":"), fib.links[each.sw_if_index].name
            flags = ("S" if each.static else "D") + ("N" if each.no_fib else "")
            shown, address = f"{age:.4f}".lstrip("0"), fib.family.show(each.address)
            lines.append(f"{shown:>12}{_centred(address, 40)}{_centred(flags, 6)}{_centred(mac, 20)}{name}")
            data.append({"age": age, "ip": address, "flags": flags, "mac": mac, "interface": name})
    return Output("\n".join(lines), data)


@command("set ip neighbor-config", help="set ip neighbor-config ip4|ip6 [limit N] [age SECONDS] [recycle|norecycle]")
def set_ip_neighbor_config(engine: Any, args: Arguments) -> None:
    table = _neighbors(engine, 4 if args.expect("ip4", "ip6") == "ip4" else 6)
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
    lines, data = [], {}
    for version in (4, 6):
        table = _neighbors(engine, version)
        data[f"ip{version}"] = {"limit": table.limit, "age": int(table.age), "recycle": int(table.recycle)}
        values = ", ".join(f"{name}:{value}" for name, value in data[f"ip{version}"].items())
        lines += [f"ip{version}:", f"  {values}"]
    return Output("\n".join(lines), data)
