# SPDX-License-Identifier: Apache-2.0
"""Commands of mss-clamp, in VPP's words."""

from typing import Any

from pyvpp.cli.registry import Arguments, CommandError, Output, command, interfaces_of
from pyvpp_mss_clamp.clamp import MSS_CLAMP

FEATURES = {
    (family, way): (f"{family}-{arc}", f"tcp-mss-clamping-{family}-{way}")
    for family in ("ip4", "ip6")
    for way, arc in (("in", "unicast"), ("out", "output"))
}
DIRECTIONS = {"disable": (), "enable": ("in", "out"), "rx": ("in",), "tx": ("out",)}
SHOWN = {ways: word for word, ways in DIRECTIONS.items()}
LEAST, MOST = 64, 0xFFFF  # an IPv4 packet of 68 bytes is never fragmented (RFC 791)


@command(
    "set interface tcp-mss-clamp",
    help="set interface tcp-mss-clamp INTERFACE [ip4 enable|disable|rx|tx] [ip4-mss SIZE] [ip6 enable|disable|rx|tx]"
    " [ip6-mss SIZE]",
)
def set_interface_tcp_mss_clamp(engine: Any, args: Arguments) -> None:
    """Lower the maximum segment size of TCP connections through an interface to SIZE: of SYNs that arrive (rx), of
    those that leave (tx), or both (enable)."""
    interface = args.interface(engine)
    wanted: dict[str, str] = {}
    sizes: dict[str, int] = {}
    if not args:
        raise args.unknown("ip4", "ip4-mss", "ip6", "ip6-mss")
    while args:
        word = args.expect("ip4", "ip6", "ip4-mss", "ip6-mss")
        if word in ("ip4", "ip6"):
            wanted[word] = args.choice(*DIRECTIONS, what="direction")
        else:
            sizes[word[:3]] = args.unsigned(min=LEAST, max=MOST, what="a segment size")
    row = engine.tables[MSS_CLAMP.name].array[interface.sw_if_index : interface.sw_if_index + 1]
    for family, direction in wanted.items():
        if direction != "disable" and family not in sizes and not row[family][0]:
            raise CommandError(f"{family} {direction} without a segment size (expected {family}-mss SIZE)")
    for family, size in sizes.items():
        row[family] = size
    for family, direction in wanted.items():
        for way in ("in", "out"):
            engine.features.enable(*FEATURES[family, way], interface.sw_if_index, way in DIRECTIONS[direction])


@command("show interface tcp-mss-clamp", help="show interface tcp-mss-clamp [INTERFACE]")
def show_interface_tcp_mss_clamp(engine: Any, args: Arguments) -> Output:
    """Where the maximum segment size is lowered, and to what."""
    chosen = [args.interface(engine)] if args else interfaces_of(engine)
    args.end()
    rows = [row for interface in chosen if (row := _row(engine, interface))]
    return Output("\n".join(map(_line, rows)), rows)


def _row(engine: Any, interface: Any) -> dict[str, Any] | None:
    """None for an interface where nothing is lowered."""
    row: dict[str, Any] = {"interface": interface.name}
    limits = engine.tables[MSS_CLAMP.name].array[interface.sw_if_index]
    for family in ("ip4", "ip6"):
        ways = tuple(
            way for way in ("in", "out")
            if FEATURES[family, way][1] in engine.features.enabled(FEATURES[family, way][0], interface.sw_if_index)
        )  # fmt: skip
        row[family], row[f"{family}_mss"] = SHOWN[ways], int(limits[family]) if ways else 0
    return row if {row["ip4"], row["ip6"]} != {"disable"} else None


def _line(row: dict[str, Any]) -> str:
    told = [
        f"{family}: {row[family]} mss {row[f'{family}_mss']}" if row[family] != "disable" else f"{family}: disable"
        for family in ("ip4", "ip6")
    ]
    return f"{row['interface']}: {' '.join(told)}"
