# SPDX-License-Identifier: Apache-2.0
"""Commands about proxy ARP, in VPP's words: for whose addresses we answer, and on which interfaces."""

from ipaddress import IPv4Address
from typing import Any

import numpy as np

from pyvpp.cli.registry import Arguments, CommandError, Output, command
from pyvpp_nodes.arp.tables import PROXY_RANGE


@command("set arp proxy", help="set arp proxy [del] [table-ID <table-ID>] start <start-address> end <end-address>")
def set_arp_proxy(engine: Any, args: Arguments) -> None:
    """Answer ARP requests for the addresses from start to end, on interfaces with `set interface proxy-arp`."""
    delete = bool(args.accept("del"))
    table_id = args.unsigned(what="a table id") if args.accept("table-ID") else 0
    args.expect("start")
    low = args.ip4()
    args.expect("end")
    high = args.ip4()
    args.end()
    vrf = engine.stack.fib4.table(table_id)
    if vrf is None:
        raise CommandError(f"table-ID {table_id} does not exist")
    if high < low:
        raise CommandError(f"end {high} lies before start {low}")
    change = remove_range if delete else add_range
    change(engine, int(low), int(high), vrf.fib_index)


def add_range(engine: Any, low: int, high: int, fib_index: int) -> None:
    """Raises CommandError when the range is there already."""
    table = engine.tables["arp_proxy"]
    if find_range(engine, low, high, fib_index) is not None:
        raise CommandError(f"proxy ARP for {IPv4Address(low)} to {IPv4Address(high)} is on already")
    free = [k for k in range(len(table)) if not table.array["used"][k]]
    if not free:
        free = [len(table)]
        table.grow(len(table) + 1)
    row = table.array[free[0] : free[0] + 1]
    row["low"], row["high"], row["fib_index"] = low, high, fib_index
    row["used"] = 1


def remove_range(engine: Any, low: int, high: int, fib_index: int) -> None:
    """Raises CommandError when there is no such range."""
    k = find_range(engine, low, high, fib_index)
    if k is None:
        raise CommandError(f"no proxy ARP for {IPv4Address(low)} to {IPv4Address(high)}")
    with engine.barrier():
        engine.tables["arp_proxy"].array[k] = np.zeros((), PROXY_RANGE)


def find_range(engine: Any, low: int, high: int, fib_index: int) -> int | None:
    wanted = (low, high, fib_index)
    for k, row in enumerate(engine.tables["arp_proxy"].array):
        if row["used"] and (int(row["low"]), int(row["high"]), int(row["fib_index"])) == wanted:
            return k
    return None


@command("set interface proxy-arp", help="set interface proxy-arp INTERFACE [enable|disable]")
def set_interface_proxy_arp(engine: Any, args: Arguments) -> None:
    """Let an interface answer for the addresses of `set arp proxy`, or no longer."""
    interface = args.interface(engine)
    on = args.expect("enable", "disable") == "enable" if args else True
    args.end()
    engine.tables["arp_proxy_interfaces"].array[interface.sw_if_index] = int(on)


@command("show arp proxy", help="show arp proxy")
def show_arp_proxy(engine: Any, args: Arguments) -> Output:
    """The addresses we answer for, and the interfaces that do."""
    args.end()
    rows = [row for row in engine.tables["arp_proxy"].array if row["used"]]
    answering = engine.tables["arp_proxy_interfaces"].array
    names = [each.name for each in engine.interfaces if answering[each.sw_if_index]]
    ranges = [
        {
            "start": str(IPv4Address(int(row["low"]))),
            "end": str(IPv4Address(int(row["high"]))),
            "fib_index": int(row["fib_index"]),
        }
        for row in rows
    ]
    lines = ["Proxy arps enabled for:"]
    lines += [f"  fib_index {each['fib_index']}  {each['start']} - {each['end']}" for each in ranges]
    lines += ["on: " + (", ".join(names) or "no interface")]
    return Output("\n".join(lines), {"ranges": ranges, "interfaces": names})
