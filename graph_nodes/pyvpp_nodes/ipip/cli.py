# SPDX-License-Identifier: Apache-2.0
"""Commands about IPIP tunnels, in VPP's words."""

from typing import Any

from pyvpp.cli.registry import Arguments, CommandError, Output, command
from pyvpp_nodes.ipip.tunnel import IpipTunnel, IpipTunnels


def tunnels_of(engine: Any) -> IpipTunnels:
    """The engine's IPIP tunnels, made with the first question for them."""
    if getattr(engine.stack, "ipip", None) is None:
        engine.stack.ipip = IpipTunnels(engine)
    found: IpipTunnels = engine.stack.ipip
    return found


@command(
    "create ipip tunnel",
    help="create ipip tunnel src <address> dst <address> [instance <id>] [outer-table-id <ID>]",
)
def create_ipip_tunnel(engine: Any, args: Arguments) -> str:
    """Creates a tunnel between two nodes that carries IPv4 in IPv4. Its interface, ipipN, is down: `set interface
    state ipipN up`. Routes lead into it: `ip route add 10.2.0.0/16 via ipipN`. Its MTU follows the underlay's (less
    20 bytes) until one is set."""
    source = destination = instance = None
    table_id = 0
    while args:
        if args.accept("src"):
            source = args.ip4()
        elif args.accept("dst"):
            destination = args.ip4()
        elif args.accept("instance"):
            instance = args.unsigned(max=9999, what="an instance")
        elif args.accept("outer-table-id"):
            table_id = args.unsigned(what="a table id")
        elif not args.accept("p2p"):
            raise args.unknown("src", "dst", "instance", "outer-table-id")
    if source is None or destination is None:
        raise CommandError(f"mandatory argument(s) missing: {'src' if source is None else 'dst'}")
    return tunnels_of(engine).create(source, destination, instance, table_id).interface.name


@command("delete ipip tunnel", help="delete ipip tunnel sw_if_index <N>|INTERFACE")
def delete_ipip_tunnel(engine: Any, args: Arguments) -> None:
    """Deletes a tunnel, its interface and every route through it."""
    tunnels = tunnels_of(engine)
    if args.accept("sw_if_index"):
        sw_if_index = args.unsigned(what="a sw_if_index")
    else:
        interface = args.interface(engine)
        sw_if_index = interface.sw_if_index
        if tunnels.get(sw_if_index) is None:
            raise CommandError(f"{interface.name} is no IPIP tunnel (it is {interface.kind})")
    args.end()
    tunnels.delete(sw_if_index)


def format_tunnel(tunnel: IpipTunnel) -> str:
    return (
        f"[{tunnel.index}] instance {tunnel.instance} src {tunnel.source} dst {tunnel.destination} "
        f"table-ID {tunnel.table_id} sw-if-idx {tunnel.sw_if_index} flags [none] dscp CS0"
    )


def data_of(tunnel: IpipTunnel) -> dict[str, Any]:
    return {
        "index": tunnel.index,
        "instance": tunnel.instance,
        "interface": tunnel.interface.name,
        "sw_if_index": tunnel.sw_if_index,
        "src": tunnel.source,
        "dst": tunnel.destination,
        "table_id": tunnel.table_id,
        "mtu": tunnel.interface.mtu,
    }


@command("show ipip tunnel", help="show ipip tunnel [<N>]")
def show_ipip_tunnel(engine: Any, args: Arguments) -> Output:
    """Lists the IPIP tunnels, or the one with an index (the number in brackets)."""
    index = args.unsigned(what="a tunnel index") if args else None
    args.end()
    tunnels = [tunnel for tunnel in tunnels_of(engine) if index is None or tunnel.index == index]
    if index is not None and not tunnels:
        raise CommandError(f"No tunnel with index {index}")
    text = "\n".join(map(format_tunnel, tunnels)) or "No IPIP tunnels configured..."
    return Output(text, [data_of(tunnel) for tunnel in tunnels])
