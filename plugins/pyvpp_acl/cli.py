# SPDX-License-Identifier: Apache-2.0
"""Commands of acl, in VPP's words; sets of addresses and ports are pyvpp's own."""

from collections.abc import Callable
from ipaddress import ip_network
from typing import Any, TypeVar

from pyvpp.cli.registry import Arguments, CommandError, Output, command, interfaces_of
from pyvpp.errors import OperatorError
from pyvpp_acl.owner import ANY, INPUT, OUTPUT, SECOND, AclPlugin
from pyvpp_acl.rules import (
    ACTION_WORDS,
    ALL_PORTS,
    ANY_PROTOCOL,
    ICMP,
    ICMP6,
    TCP,
    UDP,
    Network,
    Rule,
    rule_text,
)
from pyvpp_acl.sessions import TCP_IDLE, TCP_TRANSIENT, UDP_IDLE
from pyvpp_acl.tables import ACL_TIMEOUTS

T = TypeVar("T")
ACTIONS = {word: action for action, word in ACTION_WORDS.items()}
PROTOCOLS = {"icmp": ICMP, "tcp": TCP, "udp": UDP, "icmp6": ICMP6}
WITH_PORTS = (ICMP, TCP, UDP, ICMP6)
MOST_ICMP = 255
KINDS = {"udp idle": UDP_IDLE, "tcp idle": TCP_IDLE, "tcp transient": TCP_TRANSIENT}
RULE_WORDS = ("src", "dst", "proto", "sport", "dport", "tcpflags", "tag")
SHOWN = 100
LONGEST_TIMEOUT = 7 * 86400


def acl_of(engine: Any) -> AclPlugin:
    found: AclPlugin = engine.stack.acl
    return found


def carried_out(change: Callable[..., T], *values: Any) -> T:
    """The owner's refusals become this command's."""
    try:
        return change(*values)
    except OperatorError as error:
        raise CommandError(str(error)) from None


@command(
    "set acl-plugin acl",
    help="set acl-plugin acl [index N] permit|deny|permit+reflect [src PREFIX|@SET] [dst PREFIX|@SET] "
    "[proto tcp|udp|icmp|icmp6|N] [sport X[-Y]|@SET] [dport X[-Y]|@SET] [tcpflags N mask N] [tag WORD] [, ...]",
)
def set_acl_plugin_acl(engine: Any, args: Arguments) -> Output:
    """A list of rules, with commas between them; with index, the one to be replaced. The first rule that matches wins.

    Of ICMP, sport means types and dport codes. A set is named with @ in front; `set acl-plugin address-set` and
    `port-set` say what is in it. permit+reflect lets answers pass without a rule of their own.
    """
    index = args.unsigned(what="an acl index") if args.accept("index") else None
    if index is not None and index not in acl_of(engine).state.acls:
        raise CommandError(f"no acl {index} to be replaced")
    rules, tag = [], ""
    for text in args.rest().split(","):
        rule, named = read_rule(Arguments(text))
        rules.append(rule)
        tag = named or tag
    made = carried_out(acl_of(engine).set_acl, index, rules, tag)
    return Output(f"ACL index:{made}", {"acl_index": made})


def read_rule(args: Arguments) -> tuple[Rule, str]:
    """A rule and a tag, which may be empty."""
    action = ACTIONS[args.choice(*ACTIONS, what="action")]
    source = destination = None
    protocol, ports, tag = ANY_PROTOCOL, {"sport": ALL_PORTS, "dport": ALL_PORTS}, ""
    flags = mask = 0
    while args:
        word = args.expect(*RULE_WORDS)
        if word == "src":
            source = read_network(args)
        elif word == "dst":
            destination = read_network(args)
        elif word == "proto":
            name = args.accept(*PROTOCOLS)
            protocol = PROTOCOLS[name] if name else args.unsigned(max=255, what="a protocol")
        elif word in ports:
            ports[word] = read_ports(args)  # type: ignore[assignment]
        elif word == "tcpflags":
            flags = args.unsigned(max=255, what="TCP flags")
            args.expect("mask")
            mask = args.unsigned(max=255, what="a mask")
        else:
            tag = args.word("a tag")
    check_conditions(protocol, ports, flags, mask)
    versions = {end.version for end in (source, destination) if end is not None and not isinstance(end, str)}
    if len(versions) > 1:
        raise CommandError("source and destination are of two IP versions")
    everything = ip_network("::/0" if versions == {6} else "0.0.0.0/0") if versions else ANY
    rule = Rule(
        action, everything if source is None else source, everything if destination is None else destination, protocol,
        ports["sport"], ports["dport"], flags, mask,
    )  # fmt: skip
    return rule, tag


def check_conditions(protocol: int, ports: dict[str, Any], flags: int, mask: int) -> None:
    """Raises CommandError for conditions that no packet of the protocol can meet."""
    limited = [word for word, range_ in ports.items() if range_ != ALL_PORTS]
    if limited and protocol not in WITH_PORTS:
        raise CommandError(f"{limited[0]} without a protocol that has ports (expected proto tcp, udp, icmp or icmp6)")
    for word in limited:
        if protocol in (ICMP, ICMP6) and not isinstance(ports[word], str) and ports[word][1] > MOST_ICMP:
            raise CommandError(
                f"{word} {ports[word][1]} out of range (expected an ICMP type or code up to {MOST_ICMP})"
            )
    if mask and protocol != TCP:
        raise CommandError("tcpflags without proto tcp")
    if flags & ~mask:
        raise CommandError(f"tcpflags {flags} are not within mask {mask}")


def read_network(args: Arguments) -> Network | str:
    word = args.peek() or ""
    if word.startswith("@"):
        return args.word()[1:]
    return args.prefix() if "/" in word else ip_network(args.ip())


def read_ports(args: Arguments) -> tuple[int, int] | str:
    word = args.word("a port or a range of them")
    if word.startswith("@"):
        return word[1:]
    low, dash, high = word.partition("-")
    if not low.isdecimal() or (dash and not high.isdecimal()):
        raise CommandError(f"invalid ports `{word}' (expected such as 80 or 1024-65535)")
    ports = int(low), int(high or low)
    if not ports[0] <= ports[1] <= ALL_PORTS[1]:
        raise CommandError(f"invalid ports `{word}' (expected 0 to 65535, the lower first)")
    return ports


@command("delete acl-plugin acl", help="delete acl-plugin acl index N")
def delete_acl_plugin_acl(engine: Any, args: Arguments) -> None:
    """Delete a list that is applied nowhere."""
    args.expect("index")
    index = args.unsigned(what="an acl index")
    args.end()
    carried_out(acl_of(engine).delete_acl, index)


@command("set acl-plugin interface", help="set acl-plugin interface INTERFACE input|output acl N [del]")
def set_acl_plugin_interface(engine: Any, args: Arguments) -> None:
    """Apply a list to packets that arrive on an interface or leave by it, behind those that are; or take it off."""
    interface = args.interface(engine)
    way = args.choice(INPUT, OUTPUT, what="direction")
    args.expect("acl")
    index = args.unsigned(what="an acl index")
    on = args.accept("del") is None
    args.end()
    carried_out(acl_of(engine).apply, interface.sw_if_index, way, index, on)


@command("set acl-plugin address-set", help="set acl-plugin address-set NAME PREFIX... | del")
def set_acl_plugin_address_set(engine: Any, args: Arguments) -> None:
    """Let a set hold these addresses and no others. Rules that name it as @NAME follow in the same moment."""
    name = set_name(args)
    if args.accept("del"):
        args.end()
        return carried_out(acl_of(engine).delete_set, name)
    members: list[Network] = []
    while args:
        members.append(args.prefix() if "/" in (args.peek() or "") else ip_network(args.ip()))
    return carried_out(acl_of(engine).set_addresses, name, members)


@command("set acl-plugin port-set", help="set acl-plugin port-set NAME X[-Y]... | del")
def set_acl_plugin_port_set(engine: Any, args: Arguments) -> None:
    """Let a set hold these ports and no others. Rules that name it as @NAME follow in the same moment."""
    name = set_name(args)
    if args.accept("del"):
        args.end()
        return carried_out(acl_of(engine).delete_set, name)
    members = []
    while args:
        ports = read_ports(args)
        if isinstance(ports, str):
            raise CommandError(f"a set holds no other set, got `@{ports}'")
        members.append(ports)
    return carried_out(acl_of(engine).set_ports, name, members)


def set_name(args: Arguments) -> str:
    name = args.word("a set's name").removeprefix("@")
    if not name.replace("-", "").replace("_", "").isalnum() or name == ANY:
        raise CommandError(f"invalid name `{name}' of a set (expected letters, digits, - and _; {ANY} is taken)")
    return name


@command(
    "set acl-plugin session timeout", help="set acl-plugin session timeout udp idle|tcp idle|tcp transient SECONDS"
)
def set_acl_plugin_session_timeout(engine: Any, args: Arguments) -> None:
    """How long a session lives after its last packet."""
    kind = KINDS[args.choice(*KINDS, what="kind of session")]
    seconds = args.unsigned(min=1, max=LONGEST_TIMEOUT, what="seconds")
    args.end()
    acl_of(engine).set_timeout(kind, seconds)


@command("show acl-plugin acl", help="show acl-plugin acl [index N]")
def show_acl_plugin_acl(engine: Any, args: Arguments) -> Output:
    """The lists, and how many packets each of their rules has decided about."""
    chosen = args.unsigned(what="an acl index") if args.accept("index") else None
    args.end()
    owner, lines, rows = acl_of(engine), [], []
    for index, acl in sorted(owner.state.acls.items()):
        if chosen not in (None, index):
            continue
        lines.append(f"acl-index {index} count {len(acl.rules)} tag {{{acl.tag}}}")
        hits = owner.hits(acl)
        rules = []
        for k, rule in enumerate(acl.rules):
            lines.append(f"{k:>11}: {rule_text(rule)} hits {hits[k][0]}")
            rules.append({"rule": rule_text(rule), "packets": hits[k][0], "bytes": hits[k][1]})
        rows.append({"acl_index": index, "tag": acl.tag, "rules": rules})
    return Output("\n".join(lines), rows)


@command("show acl-plugin interface", help="show acl-plugin interface [INTERFACE]")
def show_acl_plugin_interface(engine: Any, args: Arguments) -> Output:
    """Which lists are applied where, in the order they are looked through."""
    chosen = [args.interface(engine)] if args else interfaces_of(engine)
    args.end()
    lines, rows = [], []
    applied = acl_of(engine).state.applied
    for interface in chosen:
        acls = {way: list(applied.get((interface.sw_if_index, way), ())) for way in (INPUT, OUTPUT)}
        if any(acls.values()):
            lines.append(f"sw_if_index {interface.sw_if_index}: {interface.name}")
            lines += [f"  {way} acl(s): {', '.join(map(str, acls[way]))}" for way in acls if acls[way]]
            rows.append({"interface": interface.name, **acls})
    return Output("\n".join(lines), rows)


@command("show acl-plugin sets", help="show acl-plugin sets")
def show_acl_plugin_sets(engine: Any, args: Arguments) -> Output:
    """The sets that rules may name, and what they hold."""
    args.end()
    sets = acl_of(engine).state.sets
    members = {name: [str(each) for each in held] for name, held in sets.addresses.items() if name != ANY}
    members |= {name: [f"{low}-{high}" for low, high in held] for name, held in sets.ports.items()}
    return Output("\n".join(f"@{name}: {' '.join(held)}" for name, held in sorted(members.items())), members)


@command("show acl-plugin sessions", help="show acl-plugin sessions")
def show_acl_plugin_sessions(engine: Any, args: Arguments) -> Output:
    """How many sessions live, and the first of them."""
    args.end()
    owner = acl_of(engine)
    found = {version: owner.sessions(version, SHOWN) for version in (4, 6)}
    timeouts = engine.tables[ACL_TIMEOUTS.name].array
    lines = [f"sessions: {found[4][0]} ipv4, {found[6][0]} ipv6"]
    lines += [f"timeout {word}: {int(timeouts[kind]) // SECOND} s" for word, kind in KINDS.items()]
    rows = [owner.told(session, version) for version in (4, 6) for session in found[version][1]]
    lines += [
        f"{row['interface']}: {row['low']} <-> {row['high']} proto {row['protocol']} packets {row['packets']}"
        for row in rows
    ]  # fmt: skip
    return Output("\n".join(lines), {"ip4": found[4][0], "ip6": found[6][0], "sessions": rows})


@command("clear acl-plugin sessions", help="clear acl-plugin sessions")
def clear_acl_plugin_sessions(engine: Any, args: Arguments) -> Output:
    """End every session: what goes on is judged by the rules again."""
    args.end()
    n = acl_of(engine).clear_sessions()
    return Output(f"{n} sessions ended", {"ended": n})
