# SPDX-License-Identifier: Apache-2.0
"""Commands of what an interface has of both families: its addresses, and the table its packets are routed by."""

from typing import Any

from pyvpp.cli.registry import Arguments, Output, command, interfaces_of
from pyvpp_nodes.fib.cli import fib_of
from pyvpp_nodes.fib.fib import Fib


@command("set interface ip address", help="set interface ip address [del] INTERFACE ADDRESS/LENGTH|all")
def set_interface_ip_address(engine: Any, args: Arguments) -> None:
    """Give an interface an address, or take it (`del INTERFACE all` takes all)."""
    delete = bool(args.accept("del"))
    link = args.interface(engine)
    if not delete:
        delete = bool(args.accept("del"))
    if delete and args.accept("all"):
        args.end()
        for fib in (engine.stack.fib4, engine.stack.fib6):
            for address, length in list(fib.addresses.get(link.sw_if_index, ())):
                fib.remove_address(link.sw_if_index, address, length)
        return
    wanted = args.address()
    args.end()
    fib = fib_of(engine, wanted.version)
    change = fib.remove_address if delete else fib.add_address
    change(link.sw_if_index, int(wanted.ip), wanted.network.prefixlen)


@command("set interface ip table", help="set interface ip table INTERFACE N")
def set_interface_ip_table(engine: Any, args: Arguments) -> None:
    """Let a table route the IPv4 packets that come in on an interface."""
    sw_if_index, fib_index = _bind(engine, engine.stack.fib4, args)
    engine.tables["interfaces"].array["fib_index"][sw_if_index] = fib_index


@command("set interface ip6 table", help="set interface ip6 table INTERFACE N")
def set_interface_ip6_table(engine: Any, args: Arguments) -> None:
    """Let a table route the IPv6 packets that come in on an interface."""
    sw_if_index, fib_index = _bind(engine, engine.stack.fib6, args)
    engine.tables["ip6_fib_index"].array[sw_if_index] = fib_index


def _bind(engine: Any, fib: Fib, args: Arguments) -> tuple[int, int]:
    """The interface named, bound to the table named: sw_if_index and fib_index."""
    link = args.interface(engine)
    number = args.unsigned(what="a table")
    args.end()
    return link.sw_if_index, fib.set_link_table(link.sw_if_index, number)


@command("show interface address", help="show interface address [INTERFACE]")
def show_interface_address(engine: Any, args: Arguments) -> Output:
    links = [args.interface(engine)] if args else interfaces_of(engine)
    args.end()
    lines, data = [], {}
    for link in links:
        have = [
            fib.family.show(*each)
            for fib in (engine.stack.fib4, engine.stack.fib6)
            for each in fib.addresses.get(link.sw_if_index, ())
        ]
        lines.append(f"{link.name} ({'up' if link.admin_up else 'dn'}):")
        lines += [f"  L3 {each}" for each in have]
        data[str(link.name)] = have
    return Output("\n".join(lines), data)
