# SPDX-License-Identifier: Apache-2.0
"""Commands about VLANs, in VPP's words: sub-interfaces of an Ethernet interface."""

from typing import Any

from pyvpp.cli import render
from pyvpp.cli.registry import Arguments, CommandError, Output, command
from pyvpp_nodes.ethernet.header import ETHERNET_QINQ, ETHERNET_VLAN
from pyvpp_nodes.ethernet.sub_interface import FIRST_ID, LAST_ID, PROTOCOLS, SubInterface

DOT1Q, DOT1AD = PROTOCOLS[ETHERNET_VLAN], PROTOCOLS[ETHERNET_QINQ]
MOST_NUMBER = 0xFFFFFFFF
UNSUPPORTED = ("default", "untagged")


@command(
    "create sub-interfaces",
    help="create sub-interfaces INTERFACE N[-N] | N dot1q|dot1ad <vlan-id> [exact-match]",
)
def create_sub_interfaces(engine: Any, args: Arguments) -> Output:
    """Make an interface of the frames with a VLAN tag, named after its parent and the number: host-eth0.100.

    The number is the VLAN id unless `dot1q` or `dot1ad` (the tag of 802.1ad) says another; N-N makes one of each id. A
    sub-interface always matches exactly, with `exact-match` or without: frames with another tag behind its own belong
    to a sub-interface of that one, or to nobody. Tags with id 0, which only tell a priority, are the parent's frames.
    """
    parent = args.interface(engine)
    first, last = _numbers(args)
    tpid, vlan = ETHERNET_VLAN, None
    while args:
        if first == last and vlan is None and args.accept(DOT1Q):
            vlan = _vlan(args, parent)
        elif first == last and vlan is None and args.accept(DOT1AD):
            tpid, vlan = ETHERNET_QINQ, _vlan(args, parent)
        elif vlan is not None and args.accept("exact-match"):
            continue
        elif args.peek() == "inner-dot1q":
            raise _stacked(parent, first)
        elif args.peek() in UNSUPPORTED:
            raise CommandError(f"`{args.peek()}' is not there: frames without a tag are {parent.name}'s own")
        else:
            raise args.unknown(*(("exact-match",) if vlan is not None else (DOT1Q, DOT1AD) if first == last else ()))
    subs = engine.stack.sub_interfaces
    for number in range(first, last + 1):
        subs.check(parent, number, vlan or number)
    made = [subs.create(parent, number, vlan or number, tpid) for number in range(first, last + 1)]
    data = [{"name": each.name, "sw_if_index": each.sw_if_index} for each in made]
    return Output("\n".join(each.name for each in made), data[0] if len(data) == 1 else data)


def _numbers(args: Arguments) -> tuple[int, int]:
    """`100`, or `100-199`."""
    word = args.word("the number of a sub-interface")
    low, dash, high = word.partition("-")
    if not (low.isdecimal() and (high.isdecimal() or not dash)) or len(word) > 21:
        raise CommandError(f"invalid number `{word}' (expected N or N-N)")
    first, last = int(low), int(high) if dash else int(low)
    if dash and not FIRST_ID <= first <= last <= LAST_ID:
        raise CommandError(
            f"`{word}' is no range of VLAN ids (expected from {FIRST_ID}-{FIRST_ID} to {FIRST_ID}-{LAST_ID})"
        )
    if first > MOST_NUMBER:
        raise CommandError(f"{first} out of range (expected a number of at most {MOST_NUMBER})")
    return first, last


def _vlan(args: Arguments, parent: Any) -> int:
    if args.peek() == "any":
        raise CommandError(f"`any' is not there: name each VLAN of {parent.name}, or a range of them (N-N)")
    return args.unsigned(min=FIRST_ID, max=LAST_ID, what="a VLAN id")


def _stacked(parent: Any, number: int) -> CommandError:
    outer = f"{parent.name}.{number}"
    return CommandError(
        f"`inner-dot1q' is not there: a VLAN in a VLAN is a sub-interface of a sub-interface "
        f"(create {outer} without it, then `create sub-interfaces {outer} <inner-vlan-id>')"
    )


@command("delete sub-interface", help="delete sub-interface INTERFACE")
def delete_sub_interface(engine: Any, args: Arguments) -> None:
    """Delete a VLAN of an interface. Its frames are an unknown VLAN's from then on, or the host's on an uplink."""
    interface = args.interface(engine)
    args.end()
    engine.stack.sub_interfaces.delete(interface)


@command("show vlan", help="show vlan [INTERFACE]")
def show_vlan(engine: Any, args: Arguments) -> Output:
    """The VLANs of all Ethernet interfaces, or of one."""
    parent = args.interface(engine) if args else None
    args.end()
    subs: list[SubInterface] = [sub for sub in engine.stack.sub_interfaces if parent in (None, sub.parent)]
    data = [
        {
            "name": sub.interface.name,
            "sw_if_index": sub.interface.sw_if_index,
            "parent": sub.parent.name,
            "protocol": PROTOCOLS[sub.tpid],
            "vlan": sub.vlan,
            "admin_up": sub.interface.admin_up,
        }
        for sub in subs
    ]
    rows = [
        [each["name"], each["parent"], each["protocol"], each["vlan"], "up" if each["admin_up"] else "down"]
        for each in data
    ]
    return Output(render.table(("Name", "Parent", "Tag", "VLAN", "State"), rows, "<<<><") if rows else "No VLANs", data)
