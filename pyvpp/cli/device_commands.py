# SPDX-License-Identifier: Apache-2.0
"""Commands that make interfaces of Linux's devices and others, and tie two of them together."""

import os
from typing import Any

from pyvpp.cli.arguments import Arguments, CommandError
from pyvpp.cli.registry import Output, command
from pyvpp.device import interfaces as devices
from pyvpp.device.af_packet_socket import Options
from pyvpp.device.nic_options import LEAST_SLOTS, MOST_QUEUES, MOST_SLOTS
from pyvpp.interface import HOST, L2, UPLINK

MTU_MIN, MTU_MAX = 68, 65535
TAP_MTU_MAX = 65521  # Linux counts the Ethernet header
LOOPBACK_MTU = 9000
LONGEST_LINUX_NAME = 15
TAP_WORDS = (
    "id", "tun", "host-ns", "host-if-name", "host-ip4-addr", "host-mtu-size", "num-rx-queues", "hw-addr"
)  # fmt: skip


@command(
    "create host-interface",
    help="create host-interface name IFNAME [num-rx-queues N] [rx-ring-size N] [tx-ring-size N] [qdisc-bypass] "
    "[hw-addr MAC]",
)
def create_host_interface(engine: Any, args: Arguments) -> Output:
    """Put an interface on a Linux network device, next to Linux: `host-` and the device's name.

    There is a receive queue for each worker unless num-rx-queues says otherwise. The sizes are packets a queue holds.
    With qdisc-bypass Linux queues nothing that is sent: what the device does not take at once is dropped.
    """
    name = mac = None
    chosen: dict[str, Any] = {"rx_queues": len(engine.workers)}
    while args:
        if args.accept("name"):
            name = linux_name(args)
        elif args.accept("num-rx-queues"):
            chosen["rx_queues"] = args.unsigned(min=1, max=MOST_QUEUES, what="a number of queues")
        elif args.accept("rx-ring-size"):
            chosen["rx_slots"] = _ring_size(args, "rx-ring-size")
        elif args.accept("tx-ring-size"):
            chosen["tx_slots"] = _ring_size(args, "tx-ring-size")
        elif args.accept("qdisc-bypass"):
            chosen["qdisc_bypass"] = True
        elif args.accept("hw-addr"):
            mac = unicast_mac(args)
        else:
            raise args.unknown("name", "num-rx-queues", "rx-ring-size", "tx-ring-size", "qdisc-bypass", "hw-addr")
    if name is None:
        raise CommandError("missing host interface name")
    return created(devices.add_host_interface(engine, name, mac=mac, options=Options(**chosen)))


def _ring_size(args: Arguments, key: str) -> int:
    """A power of two, as VPP wants it."""
    n = args.unsigned(what="a number of packets")
    if not LEAST_SLOTS <= n <= MOST_SLOTS or n & (n - 1):
        raise CommandError(f"{key} {n}: a power of two from {LEAST_SLOTS} to {MOST_SLOTS}")
    return n


@command("delete host-interface", help="delete host-interface name IFNAME")
def delete_host_interface(engine: Any, args: Arguments) -> None:
    """Take an interface off its Linux network device."""
    args.expect("name")
    name = args.word("the name of a Linux interface")
    args.end()
    interface = engine.interfaces.by_name(f"host-{name}")
    if interface is None or interface.kind != "af-packet":
        raise CommandError(f"no host-interface on `{name}'")
    delete(engine, interface)


@command(
    "create tap",
    help="create tap [id N] [tun] [host-ns NS] host-if-name NAME [host-ip4-addr ADDRESS/LENGTH] [host-mtu-size N] "
    "[num-rx-queues N] [hw-addr MAC]",
)
def create_tap(engine: Any, args: Arguments) -> Output:
    """Make a TAP, or with tun a TUN, whose other end is a Linux interface.

    A tun with host-ns and host-ip4-addr is a pod's: its end gets the address as a /32 and the default route, and the
    route to the pod is added here. The host's end is a namespace's name, a path to one, or the number of a process.
    There is a queue for each worker unless num-rx-queues says otherwise.
    """
    instance = namespace = name = address = mtu = mac = None
    tun = False
    queues = len(engine.workers)
    while args:
        if args.accept("id"):
            instance = args.unsigned(max=0xFFFF, what="an id")
        elif args.accept("tun"):
            tun = True
        elif args.accept("host-ns"):
            namespace = args.word("a network namespace")
        elif args.accept("host-if-name"):
            name = linux_name(args)
        elif args.accept("host-ip4-addr"):
            address = args.address4()
        elif args.accept("host-mtu-size"):
            mtu = args.unsigned(min=MTU_MIN, max=MTU_MAX, what="an MTU")
        elif args.accept("num-rx-queues"):
            queues = args.unsigned(min=1, max=MOST_QUEUES, what="a number of queues")
        elif args.accept("hw-addr"):
            mac = unicast_mac(args)
        else:
            raise args.unknown(*TAP_WORDS)
    if name is None:
        raise CommandError("host-if-name not specified")
    if not tun and mtu and mtu > TAP_MTU_MAX:
        raise CommandError(f"host-mtu-size {mtu} out of range (expected at most {TAP_MTU_MAX} for a tap)")
    if tun and mac:
        raise CommandError("a tun has no MAC address (expected no hw-addr with tun)")
    if tun and namespace and address:
        if address.network.prefixlen != 32:
            raise CommandError(f"a pod's address is one address, got `{address}' (expected {address.ip}/32)")
        pod_mtu = mtu or devices.DEFAULT_TUN_MTU
        pod = devices.add_pod(engine, namespace, name, address.ip, instance=instance, mtu=pod_mtu, queues=queues)
        return created(pod)
    interface = devices.add_tap(
        engine, name, instance=instance, namespace=namespace, mac=mac, mtu=mtu, tun=tun, queues=queues, address=address
    )
    return created(interface)


@command("delete tap", help="delete tap INTERFACE")
def delete_tap(engine: Any, args: Arguments) -> None:
    """Delete a TAP or TUN, and with it the Linux interface at its other end."""
    interface = args.interface(engine)
    args.end()
    if interface.kind not in ("tap", "tun"):
        raise CommandError(f"{interface.name} is no tap (it is {interface.kind})")
    delete(engine, interface)


@command(
    "create loopback interface",
    help="create loopback interface [mac MAC] [instance N]",
    aliases=("loopback create-interface", "loopback create"),
)
def create_loopback_interface(engine: Any, args: Arguments) -> Output:
    """Make an interface that leads to itself: a place for an address that is always up. It begins down."""
    mac = instance = None
    while args:
        if args.accept("mac"):
            mac = unicast_mac(args)
        elif args.accept("instance"):
            instance = args.unsigned(max=0xFFFF, what="an instance")
        else:
            raise args.unknown("mac", "instance")
    name = engine.interfaces.free_name("loop", instance)
    number = int(name.removeprefix("loop"))
    made = engine.interfaces.create(
        name, kind="loopback", mac=mac or b"\xde\xad" + number.to_bytes(4, "big"), mtu=LOOPBACK_MTU, admin_up=False,
        output="interface-output", tx="loopback-tx",
    )  # fmt: skip
    return created(made)


@command(
    "delete loopback interface",
    help="delete loopback interface intfc INTERFACE",
    aliases=("loopback delete-interface", "loopback delete"),
)
def delete_loopback_interface(engine: Any, args: Arguments) -> None:
    """Delete a loopback interface."""
    args.expect("intfc")
    interface = args.interface(engine)
    args.end()
    if interface.kind != "loopback":
        raise CommandError(f"{interface.name} is no loopback interface (it is {interface.kind})")
    delete(engine, interface)


@command("set interface l2 xconnect", help="set interface l2 xconnect INTERFACE INTERFACE")
def set_interface_l2_xconnect(engine: Any, args: Arguments) -> None:
    """Send every frame of the first interface out of the second. Connect the second to the first for the way back."""
    interface = args.interface(engine)
    peer = args.interface(engine)
    args.end()
    if interface is peer:
        raise CommandError(f"{interface.name} cannot be connected to itself")
    for each in (interface, peer):
        # what leaves by a loopback comes back by it: two of them, connected, would never let go of a frame
        # and of a sub-interface the tag would have to be taken off
        if each.p2p or each.kind in ("local", "loopback", "sub-interface") or each.flags & (UPLINK | HOST):
            raise CommandError(
                f"{each.name} cannot be cross-connected (expected an Ethernet interface, no loopback, no sub-interface "
                "and no uplink)"
            )
    with engine.barrier():
        engine.interfaces.set_peer(interface, peer)
        engine.interfaces.set_flags(interface, L2, True)


@command("set interface l3", help="set interface l3 INTERFACE")
def set_interface_l3(engine: Any, args: Arguments) -> None:
    """End a cross-connect: the interface's frames go to IP again."""
    interface = args.interface(engine)
    args.end()
    if not interface.flags & L2:
        return  # an uplink has a peer too, which it keeps
    with engine.barrier():
        engine.interfaces.set_flags(interface, L2, False)
        engine.interfaces.set_peer(interface, None)


def created(interface: Any) -> Output:
    return Output(interface.name, {"name": interface.name, "sw_if_index": interface.sw_if_index})


def delete(engine: Any, interface: Any) -> None:
    if interface.flags & (UPLINK | HOST):
        raise CommandError(f"{interface.name} belongs to an uplink, which stays as long as pyvpp runs")
    engine.interfaces.delete(interface)


def linux_name(args: Arguments) -> str:
    name = args.word("the name of a Linux interface")
    if len(os.fsencode(name)) > LONGEST_LINUX_NAME or "/" in name or name in (".", ".."):
        raise CommandError(f"invalid interface name `{name}' (expected 1 to {LONGEST_LINUX_NAME} bytes without /)")
    return name


def unicast_mac(args: Arguments) -> bytes:
    word = args.peek() or ""
    mac = args.mac()
    if mac[0] & 1 or not any(mac):
        raise CommandError(f"`{word}' is no unicast address (expected a MAC address whose first byte is even)")
    return mac
