# SPDX-License-Identifier: Apache-2.0
"""How to add a command.

A command is a function with a label. Write it in the `cli.py` of your package's folder; the loader finds it there.

    from typing import Any

    from pyvpp.cli.registry import Arguments, CommandError, Output, command

    @command("create vxlan tunnel", help="create vxlan tunnel src ADDRESS dst ADDRESS vni N [instance N] [del]")
    def create_vxlan_tunnel(engine: Any, args: Arguments) -> str:
        '''Create a tunnel. (This docstring is what `help create vxlan tunnel` shows under the syntax.)'''
        src = dst = vni = None
        while args:                                  # options in any order, as in VPP
            if args.accept("src"):
                src = args.ip4()
            elif args.accept("dst"):
                dst = args.ip4()
            elif args.accept("vni"):
                vni = args.unsigned(max=0xFFFFFF, what="a vni")
            else:
                raise args.unknown("src", "dst", "vni")
        if vni is None:
            raise CommandError("vni not specified")  # the operator sees: create vxlan tunnel: vni not specified
        return engine.tunnels.create(src, dst, vni).name

**The handler** gets the engine and the words after the command's name. It returns text (str), an `Output(text, data)`,
or None; `async def` is fine. `--json` prints `data`: give every `show` one, built of dict, list, str, int, float, None,
dataclasses, ip addresses or numpy values (bytes would come out as base64: write a MAC as text). `help` repeats the
command and writes its grammar as VPP does: `[optional]`, `a|b`, placeholders in CAPITALS or <angles>; completion offers
the lower-case words in it, and the interfaces' names for INTERFACE, the graph's nodes for NODE.

**Errors.** An operator's mistake is `CommandError("what is wrong `word' (expected ...)")` or any other OperatorError,
which the control plane may raise as well; the command's name is put in front. Any other exception is a bug: the
operator gets "internal error", the log gets the traceback. Read and check everything before the first change, and call
`args.end()` when no word may be left.

**Lasting commands.** One that changes what is configured is given again, with the same words, in the process that goes
on after `pyvpp upgrade` or a crash; every command is taken for such a one whose first word is not in MOMENTARY below.
`lasting=False` says otherwise.

**Long commands.** One that waits is an `async def`; others go on meanwhile. `args.tell(line)` says something before its
end, and answers False where nobody reads it then: return it with the rest. With `ends_with_client=True` it is cancelled
by Ctrl-C in pyvppctl.

**Words.** `show ip fib` is reached by `sh ip fi` too: every word may be shortened while it stays unique. A command may
have sub-commands (`show interface` and `show interface address`): a word that is no sub-command is its argument.
`aliases=("set ip neighbor",)` are further full names, which help does not list and nobody can abbreviate.

**Arguments**, described in pyvpp/cli/arguments.py; each raises CommandError naming the bad word and what was expected:

    while args:                    words are left
    args.peek()                    next word or None              args.accept("via")          consume it if it is next
    args.expect("via")             must be next                   args.choice("up", "down", what="flags")
    args.word() .unsigned(min=, max=) .number()                   args.rest()                 the rest, verbatim
    args.ip4() .ip6() .ip()        ipaddress.IPv4Address ...      args.mac()                  six bytes
    args.prefix4() .prefix6() .prefix()      IPv4Network ...      args.address4() ...         IPv4Interface: 10.1.2.3/24
    args.interface(engine)         the interface object           args.block()                Arguments of a { ... }
    args.attempt(args.ip4)         value, or None and nothing consumed
    args.end()                     nothing may be left            raise args.unknown("via", "table")   in an else branch

**Tests** call it as it is, with a text: `create_vxlan_tunnel(engine, "src 10.0.0.1 dst 10.0.0.2 vni 5")`.
"""

import importlib
import pkgutil
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from pyvpp.cli.arguments import Arguments, CommandError, expectation, interfaces_of

__all__ = [
    "Arguments", "Command", "CommandError", "Output", "command", "commands_in", "commands_of", "expectation",
    "interfaces_of",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Output:
    """What a command has to say: `text` for people, `data` for --json."""

    text: str = ""
    data: Any = None


Result = Output | str | None
Handler = Callable[[Any, Arguments], Result | Awaitable[Result]]
Completer = Callable[[Any, list[str]], Iterable[str]]


MOMENTARY = frozenset((
    "?", "clear", "comment", "echo", "exec", "help", "packet-generator", "pcap", "ping", "plugin", "show", "trace",
    "uncomment", "upgrade",
))  # fmt: skip


@dataclass(frozen=True, slots=True)
class Command:
    """A labelled handler. Nothing is registered by making one: the loader collects them from modules."""

    name: str
    help: str
    handler: Handler
    aliases: tuple[str, ...] = ()
    complete: Completer | None = None
    lasting: bool = True
    ends_with_client: bool = False

    def __call__(self, engine: Any, args: Arguments | str = "") -> Any:
        return self.handler(engine, Arguments(args) if isinstance(args, str) else args)

    @property
    def manual(self) -> str:
        """What `help` shows below the grammar: the handler's docstring."""
        return self.handler.__doc__ or ""


def command(
    name: str, *, help: str, aliases: tuple[str, ...] = (), complete: Completer | None = None,
    lasting: bool | None = None, ends_with_client: bool = False,
) -> Callable[[Handler], Command]:  # fmt: skip
    """Label a handler. `complete(engine, words)` may offer words beyond those that `help` names.

    `lasting`: whether it changes what is configured, so that a process that takes this one's place repeats it. Left
    out, its first word decides: all do but those of MOMENTARY. `ends_with_client`: it is cancelled when its client goes
    away or is interrupted; it may catch the CancelledError and return what it has.
    """

    def label(handler: Handler) -> Command:
        lasts = name.split()[0] not in MOMENTARY if lasting is None else lasting
        return Command(" ".join(name.split()), help, handler, aliases, complete, lasts, ends_with_client)

    return label


def commands_in(module: ModuleType) -> list[Command]:
    """The commands a module defines or imports, in the order it names them."""
    found = (value for value in vars(module).values() if isinstance(value, Command))
    return list({id(each): each for each in found}.values())


def commands_of(package: ModuleType) -> list[Command]:
    """The commands of every module below a package called `cli`, or something_cli; they are imported for it."""
    paths = getattr(package, "__path__", ())
    names = [each.name for each in pkgutil.walk_packages(paths, package.__name__ + ".", onerror=_not_silently)]
    modules = [importlib.import_module(name) for name in names if name.endswith((".cli", "_cli"))]
    found = [each for module in modules for each in commands_in(module)]
    return list({id(each): each for each in found}.values())


def _not_silently(name: str) -> None:
    raise ImportError(f"package {name} cannot be imported, so its commands are missing")  # chained to the reason
