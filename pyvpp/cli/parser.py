# SPDX-License-Identifier: Apache-2.0
"""The tree of command words: finds a command by VPP's unique abbreviations, runs it, lists and completes its words."""

import contextlib
import inspect
import logging
import re
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from pyvpp.cli.arguments import Arguments, CommandError, Token, alternatives, expectation, interfaces_of, tokenize
from pyvpp.cli.registry import Command, Output
from pyvpp.errors import OperatorError

log = logging.getLogger(__name__)

MAX_NESTING = 16  # files that exec files
_INTERFACE = re.compile(r"\bINTERFACE\b|<interface>|<intfc>|<interface-name>")
_NODE = re.compile(r"\bNODE\b|<node>|<node-name>")
_PLACEHOLDER = re.compile(r"<[^<>]*>")
_KEYWORD = re.compile(r"(?<![\w.-])[a-z][a-z0-9_-]*(?![\w.-])")
_nesting: ContextVar[int] = ContextVar("nesting", default=0)


@dataclass(slots=True)
class Word:
    """One word of the tree; an alias's words are known, but neither listed nor abbreviated."""

    path: str
    children: "dict[str, Word]" = field(default_factory=dict)
    command: Command | None = None
    listed: bool = False

    def visible(self) -> list[str]:
        return sorted(word for word, child in self.children.items() if child.listed)


class CommandTree:
    """Every command there is. Building it reports all clashes of names at once."""

    def __init__(self, commands: Iterable[Command]) -> None:
        self.commands = tuple(commands)
        self._root = Word("", listed=True)
        clashes = [clash for each in self.commands for clash in self._add(each)]
        if clashes:
            raise ValueError(f"commands defined twice: {', '.join(clashes)}")

    def become(self, other: "CommandTree") -> None:
        """Takes another tree's commands for its own, for whoever has this one."""
        self.commands, self._root = other.commands, other._root

    def _add(self, command: Command) -> list[str]:
        clashes = []
        for name in (command.name, *command.aliases):
            at = self._root
            for word in name.split():
                at = at.children.setdefault(word, Word(f"{at.path} {word}".strip()))
                at.listed = at.listed or name == command.name
            if at.command is not None:
                clashes.append(name)
            at.command = command
        return clashes

    # Finding

    def _walk(self, tokens: list[Token]) -> tuple[Word, int]:
        """Follow words as far as they lead; returns where that is and how many words it took."""
        at = self._root
        for taken, token in enumerate(tokens):
            child = None if token.quoted else at.children.get(token.text)
            if child is None and not token.quoted:
                near = [word for word in at.visible() if word.startswith(token.text)]
                if len(near) > 1 and at.command is None:
                    raise CommandError(
                        _after(at.path, f"ambiguous input `{token.text}' (it may be {alternatives(near)})")
                    )
                child = at.children[near[0]] if len(near) == 1 else None
            if child is None:
                return at, taken
            at = child
        return at, len(tokens)

    def find(self, line: str) -> tuple[Command, Arguments, str]:
        """The command that a line asks for, its arguments, and its name as the words led to it."""
        tokens = tokenize(line)
        at, taken = self._walk(tokens)
        if at.command is None:
            word = tokens[taken].text if taken < len(tokens) else ""
            raise CommandError(_after(at.path, f"unknown input `{word}' {expectation(word, at.visible())}"))
        return at.command, Arguments(line, self, tokens[taken:]), at.path

    def ends_with_client(self, line: str) -> bool:
        """Whether the command that a line asks for is cancelled when its client goes away."""
        with contextlib.suppress(CommandError):
            return self.find(line)[0].ends_with_client
        return False

    # Running

    async def run(self, engine: Any, line: str, teller: Callable[[str], None] | None = None) -> Output:
        """Carry out one command. Whatever goes wrong arrives as a CommandError, ready to print.

        `teller` gets what the command has to say before its end.
        """
        line = line.strip()
        if not line or line.startswith("#") or re.match(r"comment\b", line):
            return Output()
        if line.split()[-1] == "?":
            return Output(self.help(line[:-1]))
        command, args, name = self.find(line)
        args.teller = teller
        plugin = engine.plugin_of(command.handler) if hasattr(engine, "plugin_of") else None
        if plugin is not None and plugin.error:
            raise CommandError(_after(name, f"plugin {plugin.name} is disabled: {plugin.error}"))
        configuration = getattr(engine, "configuration", None) if command.lasting else None
        try:
            with configuration.noting(f"{name} {args.left}") if configuration else contextlib.nullcontext():
                result: Any = command.handler(engine, args)
                if inspect.isawaitable(result):
                    result = await result
        except CommandError as error:
            raise CommandError(_after(name, str(error)), error.output) from None
        except OperatorError as error:
            raise CommandError(_after(name, str(error))) from None
        except Exception as error:
            log.exception("command failed: %s", line)
            if plugin is not None:
                engine.blame(command.handler, error)
            raise CommandError(_after(name, f"internal error: {_one_line(error)}; see the log")) from None
        return result if isinstance(result, Output) else Output(result or "")

    async def execute_script(self, engine: Any, text: str, name: str = "script") -> str:
        """Run commands line by line; the first error stops it and is reported as FILE:LINE."""
        level = _nesting.get()
        if level >= MAX_NESTING:
            raise CommandError(f"{name}: files that exec each other more than {MAX_NESTING} deep")
        token = _nesting.set(level + 1)
        printed: list[str] = []
        try:
            for line, statement in statements(text, name):
                try:
                    output = await self.run(engine, statement)
                except CommandError as error:
                    printed.append(error.output)
                    raise CommandError(f"{name}:{line}: {error}", joined(printed)) from None
                printed.append(output.text)
        finally:
            _nesting.reset(token)
        return joined(printed)

    # Telling

    def help(self, line: str = "") -> str:
        """VPP's listing of what may follow; for one command alone, its manual too."""
        tokens = tokenize(line)
        at, taken = self._walk(tokens)
        if taken < len(tokens):
            word = tokens[taken].text
            raise CommandError(_after(at.path, f"unknown input `{word}' {expectation(word, at.visible())}"))
        if at is self._root:
            return "\n".join(f"  {word:<30} {_summary(at.children[word])}" for word in at.visible())
        found = list(_below(at))
        lines = [f"  {each.name[:40]:<40} {each.help}" for each in found]
        if len(found) == 1 and found[0].manual:
            lines += ["", inspect.cleandoc(found[0].manual)]
        return "\n".join(lines)

    def complete(self, line: str, engine: Any = None) -> list[tuple[str, str]]:
        """(word, help) for every word that may stand where the line ends."""
        try:
            tokens = tokenize(line)
            partial = tokens.pop().text if tokens and not line[-1:].isspace() else ""
            if tokens and tokens[0].text in ("help", "?"):
                return self._words_after(tokens[1:], partial)
            found = self._words_after(tokens, partial)
            at, taken = self._walk(tokens)
        except CommandError:
            return []
        if at.command is not None:
            words = [token.text for token in tokens[taken:]]
            known = {word for word, _ in found}
            offered = dict.fromkeys(_arguments(engine, at.command, words))
            found += [(word, "") for word in offered if word.startswith(partial) and word not in known]
        return found

    def _words_after(self, tokens: list[Token], partial: str) -> list[tuple[str, str]]:
        at, taken = self._walk(tokens)
        if taken < len(tokens):
            return []
        return [(word, _summary(at.children[word])) for word in at.visible() if word.startswith(partial)]


def statements(text: str, name: str = "script") -> Iterator[tuple[int, str]]:
    """(line number, command) of a script. A command goes on while a brace is open, or after a backslash at line end."""
    pending: list[str] = []
    first = depth = 0
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("#"):
            continue
        if not pending:
            first = number
        more = line.endswith("\\")
        pending.append(line[:-1] if more else line)
        bare = re.sub(r'"(?:[^"\\]|\\.)*"', "", pending[-1])
        depth += bare.count("{") - bare.count("}")
        if depth <= 0 and not more:
            if statement := "\n".join(pending).strip():
                yield first, statement
            pending, depth = [], 0
    if depth > 0:
        raise CommandError(f"{name}:{first}: `{{' is never closed (expected }})")
    if statement := "\n".join(pending).strip():
        yield first, statement


def joined(outputs: Iterable[str]) -> str:
    """Several commands' outputs, each with a line end of its own."""
    return "".join(each if each.endswith("\n") else each + "\n" for each in outputs if each)


def _after(path: str, message: str) -> str:
    return f"{path}: {message}" if path else message


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__


def _below(at: Word) -> Iterator[Command]:
    for word in at.visible():
        yield from _below(at.children[word])
    if at.command is not None and at.command.name == at.path:
        yield at.command


def _summary(at: Word) -> str:
    if at.command is not None and not at.visible():
        return at.command.help.partition("\n")[0]
    return f"{at.path} commands"


def _arguments(engine: Any, command: Command, words: list[str]) -> Iterator[str]:
    """What a command's help and its completer offer. A completer that fails must not disturb who is typing."""
    try:
        if command.complete is not None:
            yield from command.complete(engine, words)
        if not command.help.startswith(command.name):
            return
        grammar = command.help[len(command.name) :]
        if _INTERFACE.search(grammar):
            yield from (str(interface.name) for interface in interfaces_of(engine))
        if _NODE.search(grammar):
            yield from sorted(str(node.name) for node in engine.graph.nodes)
        yield from (word for word in _KEYWORD.findall(_PLACEHOLDER.sub(" ", grammar)) if word not in words)
    except Exception:
        log.debug("completion of %r failed", command.name, exc_info=True)
