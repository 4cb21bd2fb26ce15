# SPDX-License-Identifier: Apache-2.0
"""Commands that put interfaces on AF_XDP sockets and take them off."""

from typing import Any

from pyvpp.cli.arguments import Arguments, CommandError
from pyvpp.cli.device_commands import created, delete, linux_name, unicast_mac
from pyvpp.cli.registry import Output, command
from pyvpp.device.af_xdp import MOST_QUEUES
from pyvpp.device.af_xdp_interface import KIND, add_af_xdp_interface
from pyvpp.device.af_xdp_socket import LEAST_SLOTS, MOST_SLOTS, Attach, Copy, Options


@command(
    "create interface af_xdp",
    help="create interface af_xdp host-if IFNAME [name NAME] [num-rx-queues N|all] [rx-queue-size N] "
    "[tx-queue-size N] [mode auto|copy|zero-copy] [attach auto|native|generic] [no-multi-buffer] [hw-addr MAC]",
)
def create_interface_af_xdp(engine: Any, args: Arguments) -> Output:
    """Put an interface on a Linux network device through AF_XDP sockets, which take all its packets from Linux.

    It is called IFNAME/0 unless a name is given. One receive queue is served unless num-rx-queues says otherwise;
    packets of the others go to Linux. mode zero-copy and attach native insist, auto takes the best there is.
    """
    name = host = mac = None
    queues, rx_slots, tx_slots = 1, Options.rx_slots, Options.tx_slots
    copy, attach, multi_buffer = Copy.AUTO, Attach.AUTO, True
    while args:
        if args.accept("host-if"):
            host = linux_name(args)
        elif args.accept("name"):
            name = args.word("a name")
        elif args.accept("num-rx-queues"):
            queues = (
                0 if args.accept("all") else args.unsigned(min=1, max=MOST_QUEUES, what="a number of queues or all")
            )
        elif args.accept("rx-queue-size"):
            rx_slots = _slots(args)
        elif args.accept("tx-queue-size"):
            tx_slots = _slots(args)
        elif args.accept("mode"):
            copy = Copy(args.choice(*(each.value for each in Copy), what="mode"))
        elif args.accept("attach"):
            attach = Attach(args.choice(*(each.value for each in Attach), what="place"))
        elif args.accept("no-multi-buffer"):
            multi_buffer = False
        elif args.accept("hw-addr"):
            mac = unicast_mac(args)
        else:
            raise args.unknown(
                "host-if", "name", "num-rx-queues", "rx-queue-size", "tx-queue-size", "mode", "attach",
                "no-multi-buffer", "hw-addr",
            )  # fmt: skip
    if host is None:
        raise CommandError("missing host interface name")
    options = Options(queues, rx_slots, tx_slots, copy, attach, multi_buffer)
    return created(add_af_xdp_interface(engine, host, name=name, options=options, mac=mac))


@command("delete interface af_xdp", help="delete interface af_xdp INTERFACE")
def delete_interface_af_xdp(engine: Any, args: Arguments) -> None:
    """Take an AF_XDP interface off its Linux network device, whose packets go to Linux again."""
    interface = args.interface(engine)
    args.end()
    if interface.kind != KIND:
        raise CommandError(f"{interface.name} is no af_xdp interface (it is {interface.kind})")
    delete(engine, interface)


def _slots(args: Arguments) -> int:
    slots = args.unsigned(min=LEAST_SLOTS, max=MOST_SLOTS, what="a queue size")
    if slots & (slots - 1):
        raise CommandError(f"invalid queue size `{slots}' (expected a power of two)")
    return slots
