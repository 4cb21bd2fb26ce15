# SPDX-License-Identifier: Apache-2.0
"""Commands of policer, in VPP's words."""

from collections.abc import Callable
from typing import Any

from pyvpp.cli.registry import Arguments, CommandError, Output, command, interfaces_of
from pyvpp.errors import OperatorError
from pyvpp_policer.meter import CLASSES, Action, Kind
from pyvpp_policer.owner import EVERY_CLASS, INPUT, OUTPUT, Policer, Policers

KINDS = {
    "1r2c": Kind.ONE_RATE_TWO_COLOURS,
    "1r3c": Kind.ONE_RATE,
    "2r3c-2698": Kind.TWO_RATES_2698,
    "2r3c-4115": Kind.TWO_RATES_4115,
}
WORDS = {kind: word for word, kind in KINDS.items()}
COLOURS = ("conform", "exceed", "violate")
ACTIONS = {"drop": Action.DROP, "transmit": Action.TRANSMIT, "mark-and-transmit": Action.MARK}
ACTION_WORDS = {action: word for word, action in ACTIONS.items()}
DSCPS = {
    "CS0": 0, "CS1": 8, "AF11": 10, "AF12": 12, "AF13": 14, "CS2": 16, "AF21": 18, "AF22": 20, "AF23": 22, "CS3": 24,
    "AF31": 26, "AF32": 28, "AF33": 30, "CS4": 32, "AF41": 34, "AF42": 36, "AF43": 38, "CS5": 40, "EF": 46, "CS6": 48,
    "CS7": 56,
}  # fmt: skip
BYTES_OF_KBPS = 125
MOST_KBPS = 100_000_000


def policers_of(engine: Any) -> Policers:
    found: Policers = engine.stack.policers
    return found


def carried_out(change: Callable[..., None], *values: Any) -> None:
    """The owner's refusals become this command's."""
    try:
        change(*values)
    except OperatorError as error:
        raise CommandError(str(error)) from None


@command(
    "policer add",
    help="policer add name NAME [type 1r2c|1r3c|2r3c-2698|2r3c-4115] [rate kbps|pps] cir N cb N [eir N] [eb N] "
    "[conform-action drop|transmit|mark-and-transmit DSCP] [exceed-action ...] [violate-action ...] [color-aware]",
)
def policer_add(engine: Any, args: Arguments) -> None:
    """Make a policer: a committed rate (cir, kbit/s) and burst (cb, bytes), a second one (eir, the peak rate of
    2r3c-2698; eb) where its type has one. By packets, rates are packets a second and bursts packets. A color-aware one
    takes packets marked AFx2 for yellow and AFx3 for red, all others for green, and leaves none better than it was."""
    args.expect("name")
    name = args.word("a policer's name")
    kind, by_packets = Kind.ONE_RATE_TWO_COLOURS, False
    numbers = dict.fromkeys(("cir", "cb", "eir", "eb"), 0)
    actions = [Action.TRANSMIT, Action.TRANSMIT, Action.DROP]
    dscps, aware = [0, 0, 0], False
    while args:
        word = args.expect("type", "rate", *numbers, *(f"{colour}-action" for colour in COLOURS), "color-aware")
        if word == "type":
            kind = KINDS[args.choice(*KINDS, what="type")]
        elif word == "rate":
            by_packets = args.choice("kbps", "pps", what="unit") == "pps"
        elif word == "color-aware":
            aware = True
        elif word in numbers:
            numbers[word] = args.unsigned(max=MOST_KBPS if word[-1] == "r" else 0xFFFFFFFF, what="a rate or a burst")
        else:
            k = COLOURS.index(word.removesuffix("-action"))
            actions[k] = ACTIONS[args.choice(*ACTIONS, what="action")]
            dscps[k] = read_dscp(args) if actions[k] is Action.MARK else 0
    check(kind, numbers)
    unit = 1 if by_packets else BYTES_OF_KBPS
    policer = Policer(
        name, kind, numbers["cir"] * unit, numbers["cb"], numbers["eir"] * unit, numbers["eb"], by_packets,
        tuple(actions), tuple(dscps), aware,
    )  # fmt: skip
    carried_out(policers_of(engine).add, policer)


def check(kind: Kind, numbers: dict[str, int]) -> None:
    """Raises CommandError for rates and bursts that make no sense together."""
    wanted = ["cir", "cb"] + ([] if kind is Kind.ONE_RATE_TWO_COLOURS else ["eb"])
    wanted += ["eir"] if kind > Kind.ONE_RATE else []
    for word, n in numbers.items():
        if word in wanted and not n:
            raise CommandError(f"type {WORDS[kind]} without {word}")
        if word not in wanted and n:
            raise CommandError(f"type {WORDS[kind]} has no {word}")
    if kind is Kind.TWO_RATES_2698 and numbers["eir"] < numbers["cir"]:
        raise CommandError(f"eir {numbers['eir']}, the peak rate, is below cir {numbers['cir']}")


def read_dscp(args: Arguments) -> int:
    word = args.accept(*DSCPS)
    return DSCPS[word] if word else args.unsigned(max=63, what="a DSCP")


@command("policer del", help="policer del name NAME")
def policer_del(engine: Any, args: Arguments) -> None:
    """Delete a policer, also where it is applied."""
    carried_out(policers_of(engine).delete, read_name(args))


@command("policer reset", help="policer reset name NAME")
def policer_reset(engine: Any, args: Arguments) -> None:
    """Fill a policer's buckets and clear its counters."""
    carried_out(policers_of(engine).reset, read_name(args))


def read_name(args: Arguments) -> str:
    args.expect("name")
    name = args.word("a policer's name")
    args.end()
    return name


@command("policer input", help="policer input [apply|unapply] name NAME INTERFACE [dscp DSCP...]")
def policer_input(engine: Any, args: Arguments) -> None:
    """Police the IP packets that arrive on an interface, all of them or those of some DSCPs."""
    apply(engine, args, INPUT)


@command("policer output", help="policer output [apply|unapply] name NAME INTERFACE [dscp DSCP...]")
def policer_output(engine: Any, args: Arguments) -> None:
    """Police the IP packets that are routed out of an interface, all of them or those of some DSCPs."""
    apply(engine, args, OUTPUT)


def apply(engine: Any, args: Arguments, way: str) -> None:
    on = args.accept("apply", "unapply") != "unapply"
    args.expect("name")
    name = args.word("a policer's name")
    interface = args.interface(engine)
    classes: list[int] = []
    if args.accept("dscp"):
        classes.append(read_dscp(args))
        while args:
            classes.append(read_dscp(args))
    args.end()
    carried_out(policers_of(engine).apply, name, interface.sw_if_index, way, classes or EVERY_CLASS, on)


@command("show policer", help="show policer [name NAME]", aliases=("show policers",))
def show_policer(engine: Any, args: Arguments) -> Output:
    """Policers, where they are applied, and what they have let pass."""
    owner = policers_of(engine)
    chosen = list(owner.by_name)
    if args.accept("name"):
        chosen = [args.word("a policer's name")]
        if chosen[0] not in owner.by_name:
            raise CommandError(f"no policer {chosen[0]}")
    args.end()
    lines, rows = [], []
    for name in chosen:
        row = told(engine, owner, owner.by_name[name])
        rows.append(row)
        unit = row["unit"]
        kind = row["type"] + (" color-aware" if row["color_aware"] else "")
        lines.append(f'Name "{name}" type {kind}: cir {row["cir"]} {unit}, eir {row["eir"]} {unit}, '
                     f"cb {row['cb']} bytes, eb {row['eb']} bytes")  # fmt: skip
        for colour in COLOURS:
            of_colour = row[colour]
            passed = f"{of_colour['packets']} packets, {of_colour['bytes']} bytes"
            lines.append(f"  {colour} action {of_colour['action']}: {passed}")
        lines += [f"  {way}: {', '.join(row[way])}" for way in (INPUT, OUTPUT) if row[way]]
    return Output("\n".join(lines), rows)


def told(engine: Any, owner: Policers, policer: Policer) -> dict[str, Any]:
    """A policer in words, rates in the unit they were given in."""
    unit = 1 if policer.by_packets else BYTES_OF_KBPS
    row: dict[str, Any] = {
        "name": policer.name, "type": WORDS[policer.kind], "unit": "pps" if policer.by_packets else "kbps",
        "color_aware": policer.aware,
        "cir": policer.rate // unit, "eir": policer.rate2 // unit, "cb": policer.burst, "eb": policer.burst2,
    }  # fmt: skip
    for k, (packets, n) in enumerate(owner.counts(policer.name)):
        action = ACTION_WORDS[policer.actions[k]]
        action += f" {policer.dscps[k]}" if policer.actions[k] is Action.MARK else ""
        row[COLOURS[k]] = {"action": action, "packets": packets, "bytes": n}
    for way in (INPUT, OUTPUT):
        row[way] = [
            i.name if len(classes) == CLASSES else f"{i.name} dscp {' '.join(map(str, classes))}"
            for i in interfaces_of(engine)
            if (classes := owner.applied(i.sw_if_index, way).get(policer.name))
        ]
    return row
