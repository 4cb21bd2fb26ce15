# SPDX-License-Identifier: Apache-2.0
"""The readers: what they take, how they complain, and that nothing an operator can type is more than an error."""

import ipaddress
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyvpp.cli.arguments import Arguments, CommandError, tokenize


class Interfaces(list[Any]):
    def by_name(self, name: str) -> Any:
        return {each.name: each for each in self}[name]


ENGINE = SimpleNamespace(interfaces=Interfaces(SimpleNamespace(name=name) for name in ("local0", "host-eth0", "tap0")))


def complaint(read: Any) -> str:
    with pytest.raises(CommandError) as caught:
        read()
    return str(caught.value)


def test_words_braces_and_quotes() -> None:
    words = [token.text for token in tokenize(' new {name x} "a { b" "say \\"hi\\"" -5 UDP:  1.2.3.4\n')]
    assert words == ["new", "{", "name", "x", "}", "a { b", 'say "hi"', "-5", "UDP:", "1.2.3.4"]
    assert complaint(lambda: tokenize('echo "x')) == "unterminated quote `\"x'"


def test_options_in_any_order() -> None:
    args = Arguments("vni 0x10 src 10.0.0.1 l2 xconnect")
    assert args.accept("src") is None
    assert args.accept("src", "vni") == "vni"
    assert args.unsigned() == 16
    assert args.expect("src") == "src"
    assert args.ip4() == ipaddress.IPv4Address("10.0.0.1")
    assert args.accept("l2 bridge", "l2 xconnect") == "l2 xconnect"
    assert not args
    args.end()


def test_addresses() -> None:
    assert Arguments("10.1.2.3/24").prefix4() == ipaddress.IPv4Network("10.1.2.0/24")
    assert str(Arguments("10.1.2.3/24").address4()) == "10.1.2.3/24"
    assert str(Arguments("fd00::1/64").address()) == "fd00::1/64"
    assert str(Arguments("fd00::1/64").prefix6()) == "fd00::/64"
    assert Arguments("::1").ip() == ipaddress.IPv6Address("::1")
    for text in ("02:00:00:00:00:0a", "02-00-00-00-00-0A", "0200.0000.000a"):
        assert Arguments(text).mac() == b"\2\0\0\0\0\x0a"


@pytest.mark.parametrize(
    ("text", "reader", "message"),
    [
        ("", "ip4", "unexpected end of input (expected an IP4 address)"),
        ("10.9.9.300", "ip4", "invalid address `10.9.9.300' (expected an IP4 address)"),
        ("fe80::1%eth0", "ip6", "invalid address `fe80::1%eth0' (expected an IP6 address)"),
        ("nosuchhost", "ip", "invalid address `nosuchhost' (expected an IP4/IP6 address)"),
        ("10.1.1.1", "address4", "expected IP4 address/length, got `10.1.1.1'"),
        ("10.9.9.0/99", "prefix4", "invalid prefix length `99' in `10.9.9.0/99' (expected 0 to 32)"),
        (
            "10.9.9.0/255.0.0.0",
            "prefix4",
            "invalid prefix length `255.0.0.0' in `10.9.9.0/255.0.0.0' (expected 0 to 32)",
        ),
        (
            "10.9.9.300/24",
            "prefix",
            "invalid address `10.9.9.300' in `10.9.9.300/24' (expected IP4/IP6 address/length)",
        ),
        (
            "02:00:00:00:00",
            "mac",
            "invalid MAC address `02:00:00:00:00' (expected six bytes such as 02:00:00:00:00:01)",
        ),
        ("99999999999", "unsigned", "99999999999 out of range (expected a number from 0 to 4294967295)"),
        ("-1", "unsigned", "invalid number `-1' (expected a number from 0 to 4294967295)"),
        ("nan", "number", "invalid number `nan' (expected a number)"),
        ("bogus x", "end", "unknown input `bogus' (expected nothing more)"),
        ("x", "block", "unknown input `x' (expected {)"),
        ("{ a { b }", "block", "unexpected end of input (expected })"),
    ],
)
def test_complaints(text: str, reader: str, message: str) -> None:
    assert complaint(getattr(Arguments(text), reader)) == message


def test_choices_and_unknown_words() -> None:
    assert complaint(lambda: Arguments("sideways").choice("up", "down", what="flags")) == (
        "unknown flags `sideways' (expected up or down)"
    )
    assert str(Arguments("tabel 7").unknown("via", "table")) == "unknown input `tabel' (did you mean table?)"
    assert str(Arguments("7").unknown("via", "table")) == "unknown input `7' (expected table or via)"
    assert str(Arguments("").unknown("via", "table")) == "unexpected end of input (expected via or table)"


def test_an_interface_is_found_or_named() -> None:
    assert Arguments("tap0 up").interface(ENGINE).name == "tap0"
    assert complaint(lambda: Arguments("nosuch up").interface(ENGINE)) == (
        "unknown interface `nosuch' (expected host-eth0, local0 or tap0)"
    )
    assert complaint(lambda: Arguments("host-eth1").interface(ENGINE)) == (
        "unknown interface `host-eth1' (did you mean host-eth0?)"
    )


def test_an_attempt_consumes_nothing_when_it_fails() -> None:
    args = Arguments("host-eth0 10.0.0.1")
    assert args.attempt(args.ip4) is None
    found: Any = args.attempt(args.interface, ENGINE)
    assert found.name == "host-eth0"
    assert str(args.attempt(args.ip4)) == "10.0.0.1"


def test_blocks_nest_and_the_rest_is_verbatim() -> None:
    args = Arguments("new { name x  data { a  b } } limit 1")
    assert args.word() == "new"
    block = args.block()
    assert args.rest() == "limit 1"
    assert (block.word(), block.word(), block.expect("data")) == ("name", "x", "data")
    inner = block.block()
    assert not block
    assert inner.rest() == "a  b"
    assert not inner


READERS = [
    "word", "unsigned", "number", "ip4", "ip6", "ip", "prefix4", "prefix6", "prefix", "address4", "address6", "address",
    "mac", "block", "rest", "end",
]  # fmt: skip


@given(st.text(), st.lists(st.sampled_from(READERS)))
def test_whatever_is_typed_is_read_or_refused(text: str, readers: list[str]) -> None:
    try:
        args = Arguments(text)
        for reader in readers:
            getattr(args, reader)()
    except CommandError as error:
        assert "\n" in text or "\n" not in str(error)


@given(st.lists(st.text(alphabet='abc{}"\\ 0./:', min_size=1)))
def test_quoting_keeps_any_word(words: list[str]) -> None:
    line = " ".join('"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"' for word in words)
    assert [token.text for token in tokenize(line)] == words


@given(st.ip_addresses(), st.integers(0, 128))
def test_prefixes_agree_with_ipaddress(address: ipaddress.IPv4Address | ipaddress.IPv6Address, length: int) -> None:
    length = min(length, address.max_prefixlen)
    text = f"{address}/{length}"
    assert Arguments(text).prefix() == ipaddress.ip_network(text, strict=False)
    assert Arguments(text).address() == ipaddress.ip_interface(text)


@given(st.integers(0, 1 << 65), st.integers(0, 1 << 33))
def test_numbers_in_range(value: int, most: int) -> None:
    for text in (str(value), hex(value)):
        if value <= most:
            assert Arguments(text).unsigned(max=most) == value
        else:
            with pytest.raises(CommandError):
                Arguments(text).unsigned(max=most)
