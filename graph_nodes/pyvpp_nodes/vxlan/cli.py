# SPDX-License-Identifier: Apache-2.0
"""Commands about VXLAN tunnels, in VPP's words."""

from typing import Any

from pyvpp.cli.registry import Arguments, CommandError, Output, command
from pyvpp_nodes.ipip.tunnel_table import OCCUPIED, WORDS
from pyvpp_nodes.vxlan.header import MAX_VNI, PORT
from pyvpp_nodes.vxlan.tunnel import VxlanTunnel, VxlanTunnels

DECAP_NODES = {"l2": "ethernet-input", "ip4": "ip4-input"}


def tunnels_of(engine: Any) -> VxlanTunnels:
    """The engine's VXLAN tunnels, made with the first question for them."""
    if getattr(engine.stack, "vxlan", None) is None:
        engine.stack.vxlan = VxlanTunnels(engine)
    found: VxlanTunnels = engine.stack.vxlan
    return found


def read_vni(args: Arguments) -> int:
    vni = args.unsigned(what="a vni")
    if not 0 < vni <= MAX_VNI:
        raise CommandError(f"vni {vni} out of range (expected 1 to {MAX_VNI})")
    return vni


@command(
    "create vxlan tunnel",
    help="create vxlan tunnel src <local-vtep-addr> dst <remote-vtep-addr> vni <nn> [instance <id>] [encap-vrf-id <nn>]"
    " [decap-next [l2|ip4|node <name>]] [l3] [src_port <local-vtep-udp-port>] [dst_port <remote-vtep-udp-port>] [del]",
)
def create_vxlan_tunnel(engine: Any, args: Arguments) -> str | None:
    """Creates (or with `del` deletes) a tunnel to another VTEP; src_port is the UDP port it listens on, 4789 if not
    given. Its interface, vxlan_tunnelN, is up and an Ethernet interface: give it an address, or `set interface l2
    xconnect`. With `l3` it carries bare IP: `ip route add 10.2.0.0/16 via vxlan_tunnelN`. Its MTU follows the
    underlay's (less 50 bytes) until one is set."""
    source = destination = vni = instance = decap_next = None
    table_id, source_port, destination_port, l3, delete = 0, PORT, PORT, False, False
    while args:
        if args.accept("src"):
            source = args.ip4()
        elif args.accept("dst"):
            destination = args.ip4()
        elif args.accept("vni"):
            vni = read_vni(args)
        elif args.accept("instance"):
            instance = args.unsigned(max=16383, what="an instance")
        elif args.accept("encap-vrf-id"):
            table_id = args.unsigned(what="a table id")
        elif args.accept("decap-next"):
            decap_next = args.word() if args.accept("node") else DECAP_NODES[args.expect(*DECAP_NODES)]
        elif args.accept("src_port"):
            source_port = args.unsigned(min=1, max=0xFFFF, what="a port")
        elif args.accept("dst_port", "dst-port"):
            destination_port = args.unsigned(min=1, max=0xFFFF, what="a port")
        elif args.accept("l3"):
            l3 = True
        elif args.accept("del"):
            delete = True
        else:
            words = ("src", "dst", "vni", "instance", "encap-vrf-id", "decap-next", "src_port", "dst_port", "l3", "del")
            raise args.unknown(*words)
    if source is None:
        raise CommandError("tunnel src address not specified")
    if destination is None:
        raise CommandError("tunnel dst address not specified")
    if source == destination:
        raise CommandError("src and dst addresses are identical")
    if vni is None:
        raise CommandError("vni not specified")
    tunnels = tunnels_of(engine)
    if not delete:
        made = tunnels.create(
            source, destination, vni, instance, source_port, destination_port, l3, decap_next, table_id
        )
        return made.interface.name
    tunnel = tunnels.find(source, destination, vni, source_port)
    if tunnel is None:
        raise CommandError("tunnel does not exist...")
    tunnels.delete(tunnel.sw_if_index)
    return None


def format_tunnel(engine: Any, tunnel: VxlanTunnel) -> str:
    text = (
        f"[{tunnel.index}] instance {tunnel.instance} src {tunnel.source} dst {tunnel.destination} "
        f"src_port {tunnel.source_port} dst_port {tunnel.destination_port} vni {tunnel.vni} "
        f"fib-idx {tunnel.fib_index} sw-if-idx {tunnel.sw_if_index} encap-dpo-idx {tunnel.follower.lb} "
    )
    if tunnel.decap_next != "ethernet-input":
        text += f"decap-next-index {engine.graph.index_of(tunnel.decap_next)} "
    return text + ("l3 " if tunnel.l3 else "")


def data_of(tunnel: VxlanTunnel) -> dict[str, Any]:
    return {
        "index": tunnel.index,
        "instance": tunnel.instance,
        "interface": tunnel.interface.name,
        "sw_if_index": tunnel.sw_if_index,
        "src": tunnel.source,
        "dst": tunnel.destination,
        "vni": tunnel.vni,
        "src_port": tunnel.source_port,
        "dst_port": tunnel.destination_port,
        "l3": tunnel.l3,
        "decap_next": tunnel.decap_next,
        "load_balance": tunnel.follower.lb,
        "mtu": tunnel.interface.mtu,
    }


def format_hash_table(keys: Any) -> list[str]:
    """The entries in use, as slots of the table: key words and value."""
    lines = ["Raw IPv4 Hash Table:", "Hash table 'vxlan4'"]
    used = [at for at in range(0, len(keys), WORDS) if keys[at + 3]]
    for at in used:
        source, destination, number, port, value = (int(word) for word in keys[at : at + 5])
        key = f"{source << 32 | destination:016x} {number << 32 | port & ~OCCUPIED:016x}"
        lines.append(f"[{at // WORDS}]: key {key} value {value}")
    return [*lines, f"    {len(used)} active elements {len(keys) // WORDS} slots"]


@command("show vxlan tunnel", help="show vxlan tunnel [raw]")
def show_vxlan_tunnel(engine: Any, args: Arguments) -> Output:
    """Lists the VXLAN tunnels; `raw` adds the table by which received packets are assigned to them."""
    raw = args.accept("raw")
    args.end()
    tunnels = list(tunnels_of(engine))
    lines = [format_tunnel(engine, tunnel) for tunnel in tunnels] or ["No vxlan tunnels configured..."]
    if raw:
        lines += format_hash_table(engine.tables["vxlan_keys"].array)
    return Output("\n".join(lines), [data_of(tunnel) for tunnel in tunnels])
