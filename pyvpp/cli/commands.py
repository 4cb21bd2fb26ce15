# SPDX-License-Identifier: Apache-2.0
"""Commands about interfaces: their state, MTU and MAC address, their counters."""

from typing import Any

from pyvpp.cli import hardware, render
from pyvpp.cli.arguments import Arguments, CommandError, interfaces_of
from pyvpp.cli.registry import Output, command

MTU_MIN, MTU_MAX = 68, 65535
COUNTER_TABLES = (
    "interface_rx", "interface_tx", "interface_drops", "interface_punts", "interface_ip4", "interface_ip6",
    "interface_rx_miss",
)  # fmt: skip


@command("set interface state", help="set interface state INTERFACE up|down")
def set_interface_state(engine: Any, args: Arguments) -> None:
    """Let an interface carry packets, or not."""
    interface = args.interface(engine)
    up = args.choice("up", "down", what="flags") == "up"
    args.end()
    engine.interfaces.set_admin(interface, up)


@command("set interface mtu", help="set interface mtu [packet] N INTERFACE")
def set_interface_mtu(engine: Any, args: Arguments) -> None:
    """Set the largest layer 3 packet an interface takes."""
    args.accept("packet")
    mtu = args.unsigned(min=MTU_MIN, max=MTU_MAX, what="an MTU")
    interface = args.interface(engine)
    args.end()
    engine.interfaces.set_mtu(interface, mtu)


@command("set interface mac address", help="set interface mac address INTERFACE MAC")
def set_interface_mac_address(engine: Any, args: Arguments) -> None:
    """Give an interface another MAC address."""
    interface = args.interface(engine)
    word = args.peek() or ""
    mac = args.mac()
    args.end()
    if mac[0] & 1:
        raise CommandError(f"`{word}' is a multicast address (expected a MAC address whose first byte is even)")
    engine.interfaces.set_mac(interface, mac)


@command("show interface", help="show interface [INTERFACE [INTERFACE [..]]]")
def show_interface(engine: Any, args: Arguments) -> Output:
    """Interfaces with their state, MTU and the counters that are not zero."""
    lines = [render.INTERFACE_HEADING]
    data = []
    totals = interface_totals(engine)
    for interface in _asked_for(engine, args):
        counters = interface_counters(totals, interface.sw_if_index)
        up = bool(interface.admin_up)
        mtu = f"{interface.mtu}/0/0/0"
        lines += render.interface_lines(interface.name, interface.sw_if_index, up, mtu, counters)
        data.append(
            {
                "name": interface.name,
                "sw_if_index": interface.sw_if_index,
                "admin_up": up,
                "link_up": bool(interface.link_up),
                "mtu": interface.mtu,
                "mac": mac_text(interface.mac),
                "counters": counters,
            }
        )
    return Output("\n".join(lines), data)


@command("show hardware-interfaces", help="show hardware-interfaces [brief] [INTERFACE [INTERFACE [..]]]")
def show_hardware_interfaces(engine: Any, args: Arguments) -> Output:
    """Interfaces with their link, their queues and what they are made of: an af_packet interface's rings, and what
    Linux received and dropped there."""
    brief = args.accept("brief")
    lines = [render.HARDWARE_HEADING]
    data = []
    for interface in _asked_for(engine, args):
        mac = mac_text(interface.mac)
        kind = str(interface.kind)
        lines.append(render.hardware_line(interface.name, interface.sw_if_index, bool(interface.link_up)))
        details: dict[str, Any] = {}
        if not brief:
            queues, details = hardware.queues(engine, interface)
            rings, of_driver = hardware.driver(engine, interface)
            details |= of_driver
            lines += [*queues, *([f"  Ethernet address {mac}"] if mac else []), *rings]
        data.append(
            {
                "name": interface.name,
                "sw_if_index": interface.sw_if_index,
                "link_up": bool(interface.link_up),
                "mac": mac,
                "kind": kind,
                **details,
            }
        )
    return Output("\n".join(lines), data)


@command("clear interfaces", help="clear interfaces")
def clear_interfaces(engine: Any, args: Arguments) -> None:
    """Set the counters of all interfaces to zero."""
    args.end()
    with engine.barrier():  # a worker that was adding meanwhile would bring the old ones back
        for name in COUNTER_TABLES:
            for array in engine.tables[name].arrays:
                array[:] = 0


def interface_totals(engine: Any) -> list[Any]:
    """The counters of all interfaces, the workers' taken together, in the order of COUNTER_TABLES."""
    return [engine.tables[name].sum() for name in COUNTER_TABLES]


def interface_counters(totals: list[Any], sw_if_index: int) -> dict[str, int]:
    """One interface's counters by VPP's names."""
    rx, tx, drops, punts, ip4, ip6, rx_miss = (total[sw_if_index] for total in totals)
    return {
        "rx packets": int(rx["packets"]),
        "rx bytes": int(rx["bytes"]),
        "tx packets": int(tx["packets"]),
        "tx bytes": int(tx["bytes"]),
        "drops": int(drops),
        "punt": int(punts),
        "ip4": int(ip4),
        "ip6": int(ip6),
        "rx-miss": int(rx_miss),
    }


def mac_text(mac: Any) -> str | None:
    """A MAC address as people write it; None for an interface that has none."""
    if not mac:
        return None
    if isinstance(mac, str):
        return mac
    return (mac if isinstance(mac, bytes) else int(mac).to_bytes(6, "big")).hex(":")


def _asked_for(engine: Any, args: Arguments) -> list[Any]:
    """The interfaces named by the rest of the words; all when there are none."""
    named = []
    while args:
        named.append(args.interface(engine))
    return named or interfaces_of(engine)
