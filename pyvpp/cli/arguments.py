# SPDX-License-Identifier: Apache-2.0
"""The words after a command's name, read one by one in VPP's style (`unformat`).

Every reader takes the next word or raises CommandError, which names that word and what was expected instead.
"""

import difflib
import ipaddress
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from pyvpp.errors import OperatorError

if TYPE_CHECKING:
    from pyvpp.cli.parser import CommandTree

T = TypeVar("T")
IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPPrefix = ipaddress.IPv4Network | ipaddress.IPv6Network
IPAddressWithLength = ipaddress.IPv4Interface | ipaddress.IPv6Interface

_TOKEN = re.compile(r'\s*(?:(?P<quoted>"(?:[^"\\]|\\.)*")|(?P<open>")|(?P<brace>[{}])|(?P<word>[^\s{}"]+))', re.DOTALL)
_UNSIGNED = re.compile(r"[0-9]{1,20}|0[xX][0-9a-fA-F]{1,16}")
_NUMBER = re.compile(r"[0-9]{1,20}(?:\.[0-9]{0,20})?(?:[eE][+-]?[0-9]{1,2})?|\.[0-9]{1,20}(?:[eE][+-]?[0-9]{1,2})?")
_MAC = re.compile(
    r"(?:[0-9a-fA-F]{2}([:-]))(?:[0-9a-fA-F]{2}\1){4}[0-9a-fA-F]{2}|(?:[0-9a-fA-F]{4}\.){2}[0-9a-fA-F]{4}"
)
_SHOWN = 12  # an error lists so many alternatives at most


class CommandError(OperatorError):
    """The operator's words cannot be carried out; the dispatcher puts the command's name in front of the message."""

    def __init__(self, message: str, output: str = "") -> None:
        super().__init__(message)
        self.output = output  # what a script printed before this error


@dataclass(frozen=True, slots=True)
class Token:
    """A word of a command, and where it stood."""

    text: str
    start: int
    end: int
    quoted: bool = False


def tokenize(text: str) -> list[Token]:
    """Words are separated by white space; braces are words of their own; "double quotes" keep spaces and braces."""
    tokens = []
    position = 0
    while (found := _TOKEN.match(text, position)) is not None:
        position = found.end()
        if found["open"]:
            raise CommandError(f"unterminated quote `{text[found.start('open') :]}'")
        kind = str(found.lastgroup)
        word = found[kind]
        if kind == "quoted":
            word = re.sub(r"\\(.)", r"\1", word[1:-1], flags=re.DOTALL)
        tokens.append(Token(word, found.start(kind), position, kind == "quoted"))
    return tokens


def alternatives(words: Iterable[str]) -> str:
    """`a`, `a or b`, `a, b or c`, ... cut where it grows too long to read."""
    listed = list(dict.fromkeys(words))
    if len(listed) > _SHOWN:
        return ", ".join(listed[:_SHOWN]) + ", ..."
    return " or ".join(filter(None, [", ".join(listed[:-1]), listed[-1]])) if listed else "nothing more"


def expectation(word: str, candidates: Iterable[str]) -> str:
    """The parenthesis that ends an error: the word the operator probably meant, else what would have been accepted."""
    listed = sorted(candidates)
    near = difflib.get_close_matches(word, listed, n=1, cutoff=0.7) if word else []
    return f"(did you mean {near[0]}?)" if near else f"(expected {alternatives(listed)})"


class Arguments:
    """A reader over the words that follow a command's name."""

    def __init__(self, text: str, tree: "CommandTree | None" = None, tokens: list[Token] | None = None) -> None:
        self._text = text
        self._tokens = tokenize(text) if tokens is None else tokens
        self._at = 0
        self.tree = tree  # for commands about commands: help, exec
        self.teller: Callable[[str], None] | None = None

    def __bool__(self) -> bool:
        """True while words are left, so `while args:` reads a command's options in any order."""
        return self._at < len(self._tokens)

    def tell(self, text: str) -> bool:
        """Says something while the command still runs; False where nobody reads before its end."""
        if self.teller is None:
            return False
        self.teller(text)
        return True

    # Looking and keywords

    def peek(self, ahead: int = 0) -> str | None:
        """The next word (or one further on), not consumed; None at the end."""
        at = self._at + ahead
        return self._tokens[at].text if at < len(self._tokens) else None

    def accept(self, *keywords: str) -> str | None:
        """Consume and return the one of these keywords that comes next, else None. `l2 xconnect` means both words."""
        for keyword in keywords:
            words = keyword.split()
            if [t.text for t in self._tokens[self._at : self._at + len(words)]] == words:
                self._at += len(words)
                return keyword
        return None

    def expect(self, *keywords: str) -> str:
        """As accept, but one of the keywords must be there."""
        found = self.accept(*keywords)
        if found is None:
            raise self.unknown(*keywords)
        return found

    def choice(self, *keywords: str, what: str = "input") -> str:
        """One of the keywords; the error calls it `what`: unknown flags `sideways' (expected up or down)."""
        found = self.accept(*keywords)
        if found is None:
            raise CommandError(f"unknown {what} `{self.peek() or ''}' (expected {alternatives(keywords)})")
        return found

    def attempt(self, reader: Callable[..., T], *values: Any, **options: Any) -> T | None:
        """`args.attempt(args.ip4)`: what the reader gives, or None, and nothing consumed, where it would complain."""
        mark = self._at
        try:
            return reader(*values, **options)
        except CommandError:
            self._at = mark
            return None

    # Values

    def word(self, what: str = "a word") -> str:
        """Any word."""
        return self._next(what).text

    def unsigned(self, min: int = 0, max: int = 0xFFFFFFFF, what: str = "a number") -> int:
        """A decimal or 0x-hexadecimal number within min..max."""
        word = self._next(what).text
        if not _UNSIGNED.fullmatch(word):
            raise CommandError(f"invalid number `{word}' (expected {what} from {min} to {max})")
        value = int(word, 16 if word[:2] in ("0x", "0X") else 10)
        if not min <= value <= max:
            raise CommandError(f"{word} out of range (expected {what} from {min} to {max})")
        return value

    def number(self, min: float = 0.0, max: float = 1e18, what: str = "a number") -> float:
        """A number that may have a fraction or an exponent: 0.2, 1e6."""
        word = self._next(what).text
        if not _NUMBER.fullmatch(word):
            raise CommandError(f"invalid number `{word}' (expected {what})")
        value = float(word)
        if not min <= value <= max:
            raise CommandError(f"{word} out of range (expected {what} from {min:g} to {max:g})")
        return value

    def ip4(self) -> ipaddress.IPv4Address:
        """An IPv4 address."""
        return self._parse("an IP4 address", ipaddress.IPv4Address)

    def ip6(self) -> ipaddress.IPv6Address:
        """An IPv6 address, without a scope."""
        return self._parse("an IP6 address", _ip6)

    def ip(self) -> IPAddress:
        """An address of either family."""
        return self._parse(
            "an IP4/IP6 address", lambda word: _ip6(word) if ":" in word else ipaddress.IPv4Address(word)
        )

    def prefix4(self) -> ipaddress.IPv4Network:
        """10.1.2.0/24; bits beyond the length are cleared, as VPP does."""
        return self.address4().network

    def prefix6(self) -> ipaddress.IPv6Network:
        """An IPv6 prefix; bits beyond the length are cleared."""
        return self.address6().network

    def prefix(self) -> IPPrefix:
        """A prefix of either family; bits beyond the length are cleared."""
        return self.address().network

    def address4(self) -> ipaddress.IPv4Interface:
        """10.1.2.3/24, an interface's address: the address is kept (.ip), with its prefix (.network)."""
        return self._with_length("IP4", ipaddress.IPv4Interface, 32)

    def address6(self) -> ipaddress.IPv6Interface:
        """An IPv6 address with the length of its prefix."""
        return self._with_length("IP6", ipaddress.IPv6Interface, 128)

    def address(self) -> IPAddressWithLength:
        """An address of either family with the length of its prefix."""
        if ":" in (self.peek() or ""):
            return self._with_length("IP4/IP6", ipaddress.IPv6Interface, 128)
        return self._with_length("IP4/IP6", ipaddress.IPv4Interface, 32)

    def mac(self) -> bytes:
        """02:00:00:00:00:01 (or with dashes, or 0200.0000.0001) as six bytes; `.hex(":")` prints them."""
        word = self._next("a MAC address such as 02:00:00:00:00:01").text
        if not _MAC.fullmatch(word):
            raise CommandError(f"invalid MAC address `{word}' (expected six bytes such as 02:00:00:00:00:01)")
        return bytes.fromhex(re.sub(r"[:.-]", "", word))

    def interface(self, engine: Any) -> Any:
        """An interface of the engine, by its name."""
        name = self._next("an interface").text
        try:
            found = engine.interfaces.by_name(name)
        except LookupError:
            found = None
        if found is None:
            names = [str(interface.name) for interface in interfaces_of(engine)]
            raise CommandError(f"unknown interface `{name}' {expectation(name, names)}")
        return found

    # Several words

    def block(self) -> "Arguments":
        """The words of a `{ ... }` that comes next, as Arguments of their own."""
        first = self._next("{")
        if first.text != "{" or first.quoted:
            raise CommandError(f"unknown input `{first.text}' (expected {{)")
        start = self._at
        depth = 1
        while depth:
            token = self._next("}")
            if not token.quoted:
                depth += (token.text == "{") - (token.text == "}")
        return Arguments(self._text, self.tree, self._tokens[start : self._at - 1])

    @property
    def left(self) -> str:
        """Everything left, verbatim; it stays there."""
        return self._text[self._tokens[self._at].start : self._tokens[-1].end] if self else ""

    def rest(self) -> str:
        """Everything left, verbatim."""
        text = self.left
        self._at = len(self._tokens)
        return text

    def end(self) -> None:
        """Complain about any word that is left. Call it before doing anything."""
        if self:
            raise CommandError(f"unknown input `{self.peek()}' (expected nothing more)")

    # Errors to raise

    def unknown(self, *expected: str) -> CommandError:
        """`else: raise args.unknown("via", "table")` names the next word, or says that the input ended too early."""
        word = self.peek()
        if word is None:
            return CommandError(f"unexpected end of input (expected {alternatives(expected)})")
        return CommandError(f"unknown input `{word}' {expectation(word, expected) if expected else ''}".rstrip())

    def _next(self, expected: str) -> Token:
        if not self:
            raise CommandError(f"unexpected end of input (expected {expected})")
        self._at += 1
        return self._tokens[self._at - 1]

    def _parse(self, what: str, convert: Callable[[str], T]) -> T:
        word = self._next(what).text
        try:
            return convert(word)
        except ValueError:
            raise CommandError(f"invalid address `{word}' (expected {what})") from None

    def _with_length(self, family: str, convert: Callable[[str], T], most: int) -> T:
        word = self._next(f"{family} address/length").text
        address, slash, length = word.partition("/")
        if not slash or "%" in address:
            raise CommandError(f"expected {family} address/length, got `{word}'")
        try:
            convert(address)
        except ValueError:
            raise CommandError(f"invalid address `{address}' in `{word}' (expected {family} address/length)") from None
        if not re.fullmatch("[0-9]{1,3}", length) or int(length) > most:
            raise CommandError(f"invalid prefix length `{length}' in `{word}' (expected 0 to {most})")
        return convert(word)


def interfaces_of(engine: Any) -> list[Any]:
    """The engine's interfaces, in the order of their names."""
    return sorted(engine.interfaces, key=lambda interface: str(interface.name))


def _ip6(word: str) -> ipaddress.IPv6Address:
    if "%" in word:
        raise ValueError("a scope is a host's own affair")
    return ipaddress.IPv6Address(word)
