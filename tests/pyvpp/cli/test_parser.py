# SPDX-License-Identifier: Apache-2.0
"""The word tree: abbreviations, errors in VPP's words, help in VPP's layout, completion, scripts."""

import asyncio
import logging
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyvpp.cli import builtin
from pyvpp.cli.parser import CommandTree, statements
from pyvpp.cli.registry import Arguments, Command, CommandError, Output, command, commands_in
from pyvpp.errors import OperatorError


@command("show interface", help="show interface [INTERFACE [INTERFACE [..]]] [verbose]")
def show_interface(engine: Any, args: Arguments) -> str:
    """Interfaces and their counters."""
    return f"interface {args.rest()}"


@command("show interface address", help="show interface address")
def show_interface_address(engine: Any, args: Arguments) -> str:
    return f"address {args.rest()}"


@command("show ip fib", help="show ip fib [summary] [table <table-id>] [PREFIX]")
def show_ip_fib(engine: Any, args: Arguments) -> Output:
    prefix = str(args.prefix4())
    args.end()
    return Output(f"fib {prefix}", {"prefix": prefix})


@command("show ip neighbors", help="show ip neighbors")
async def show_ip_neighbors(engine: Any, args: Arguments) -> str:
    await asyncio.sleep(0)
    return "neighbors"


@command("ip route", help="ip route add|del PREFIX via ADDRESS", aliases=("route",))
def ip_route(engine: Any, args: Arguments) -> None:
    args.expect("add", "del")
    args.prefix4()
    raise OperatorError("no route today")


@command("test fault", help="test fault")
def fault(engine: Any, args: Arguments) -> str:
    raise ZeroDivisionError("a\nb")


@command("set interface ip source-and-port-range-check", help="checks, and so on")
def long_name(engine: Any, args: Arguments) -> None:
    pass


HERE = [show_interface, show_interface_address, show_ip_fib, show_ip_neighbors, ip_route, fault, long_name]
TREE = CommandTree([*HERE, *commands_in(builtin)])
ENGINE = SimpleNamespace(
    interfaces=[SimpleNamespace(name="tap0"), SimpleNamespace(name="host-eth0")], graph=SimpleNamespace(nodes=[])
)


def run(line: str) -> str:
    return asyncio.run(TREE.run(ENGINE, line)).text


def error(line: str) -> str:
    with pytest.raises(CommandError) as caught:
        run(line)
    return str(caught.value)


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("show interface", "interface "),
        ("sh int", "interface "),
        ("sh int tap0 x", "interface tap0 x"),
        ("sh int addr tap0", "address tap0"),
        ('sh int "addr"', 'interface "addr"'),
        ("sho ip f 10.1.2.3/8", "fib 10.0.0.0/8"),
        ("show ip n", "neighbors"),
        ("  echo   a   b  ", "a   b"),
        ("uncomment { echo x }", "x"),
        ("comment { nothing of this", ""),
        ("# neither", ""),
        ("", ""),
    ],
)
def test_a_line_reaches_its_command(line: str, text: str) -> None:
    assert run(line) == text


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("foo", "unknown input `foo' (expected clear, comment, echo, exec, help, ip, set, show, test or uncomment)"),
        ("s v", "ambiguous input `s' (it may be set or show)"),
        ("show foo", "show: unknown input `foo' (expected cli, interface, ip, logging or version)"),
        ("show intreface", "show: unknown input `intreface' (did you mean interface?)"),
        ("sho ip", "show ip: unknown input `' (expected fib or neighbors)"),
        ("show ip fib 10.0.0.0/33", "show ip fib: invalid prefix length `33' in `10.0.0.0/33' (expected 0 to 32)"),
        ("show ip fib 10.0.0.0/8 x", "show ip fib: unknown input `x' (expected nothing more)"),
        ("ip route", "ip route: unexpected end of input (expected add or del)"),
        ("route add 10.0.0.0/8", "route: no route today"),
        (
            "rout add",
            "unknown input `rout' (expected clear, comment, echo, exec, help, ip, set, show, test or uncomment)",
        ),
        ("exec", "exec: unexpected end of input (expected a file name)"),
        ("exec /nonexistent", "exec: failed to open `/nonexistent': No such file or directory"),
        ('echo "x', "unterminated quote `\"x'"),
        ("help show foo", "help: show: unknown input `foo' (expected cli, interface, ip, logging or version)"),
    ],
)
def test_errors_name_the_word_and_what_was_expected(line: str, message: str) -> None:
    assert error(line) == message


def test_a_fault_is_one_line_here_and_a_traceback_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        assert error("test fault") == "test fault: internal error: ZeroDivisionError: a b; see the log"
    assert caplog.records[0].exc_info is not None


def test_help_has_the_layout_of_vpp() -> None:
    assert run("help").splitlines()[:2] == [
        "  clear                          clear commands",
        "  comment                        comment {TEXT}",
    ]
    assert (
        run("help show ip")
        == run("sh ip ?")
        == (
            "  show ip fib                              show ip fib [summary] [table <table-id>] [PREFIX]\n"
            "  show ip neighbors                        show ip neighbors"
        )
    )
    assert run("help sh int").splitlines() == [
        "  show interface address                   show interface address",
        "  show interface                           show interface [INTERFACE [INTERFACE [..]]] [verbose]",
    ]
    assert run("help set interface") == "  set interface ip source-and-port-range-c checks, and so on"
    assert run("help show version").endswith("\n\npyvpp's version and what it runs on.")
    assert run("?") == run("help")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("sh", ["show"]),
        ("show i", ["interface", "ip"]),
        ("sh ip ", ["fib", "neighbors"]),
        ("sh ip fib ", ["summary", "table"]),
        ("sh ip fib summary t", ["table"]),
        ("sh int ", ["address", "host-eth0", "tap0", "verbose"]),
        ("sh int tap0 h", ["host-eth0"]),
        ("sh foo ", []),
        ("s foo", []),
        ("help sh int ", ["address"]),
        ('echo "', []),
    ],
)
def test_completion(line: str, words: list[str]) -> None:
    assert [word for word, _ in TREE.complete(line, ENGINE)] == words


def test_completion_survives_an_engine_in_pieces() -> None:
    assert TREE.complete("show interface ", None) == [("address", "show interface address")]


def test_two_commands_of_one_name_are_all_reported() -> None:
    with pytest.raises(ValueError, match="show interface, ip route, route"):
        CommandTree([show_interface, show_interface, ip_route, ip_route])


def test_a_command_can_be_called_as_it_is() -> None:
    assert show_ip_fib(None, "10.0.0.1/8") == Output("fib 10.0.0.0/8", {"prefix": "10.0.0.0/8"})


def test_a_script_goes_on_while_a_brace_is_open() -> None:
    script = 'a\n\n# c {\nb {\n x\n# y\n}\nc \\\n d\ncomment { z\n}\ne "{"\n'
    assert list(statements(script)) == [
        (1, "a"),
        (4, "b {\n x\n}"),
        (8, "c \n d"),
        (10, "comment { z\n}"),
        (12, 'e "{"'),
    ]
    with pytest.raises(CommandError, match=r"s:2: `\{' is never closed"):
        list(statements("a\nb {\n", "s"))


def test_a_script_stops_at_its_first_error(tmp_path: Any) -> None:
    inner = tmp_path / "inner"
    inner.write_text("echo in\nshow ip fib {\n}\necho not reached\n")
    outer = tmp_path / "outer"
    outer.write_text(f"echo out\n\nexec {inner}\n")
    with pytest.raises(CommandError) as caught:
        asyncio.run(TREE.execute_script(ENGINE, outer.read_text(), "outer"))
    assert str(caught.value) == f"outer:3: exec: {inner}:2: show ip fib: expected IP4 address/length, got `{{'"
    assert caught.value.output == "out\nin\n"


def test_a_file_that_runs_itself_comes_to_an_end(tmp_path: Any) -> None:
    script = tmp_path / "loop"
    script.write_text(f"exec {script}\n")
    assert "more than 16 deep" in error(f"exec {script}")


def test_a_script_that_is_no_text(tmp_path: Any) -> None:
    (tmp_path / "x").write_bytes(b"\xff\xfe")
    assert "is not a text file" in error(f"exec {tmp_path / 'x'}")


NAMES = [each.name.split() for each in TREE.commands]


@given(st.sampled_from(NAMES), st.data())
def test_an_unambiguous_abbreviation_finds_the_same_command(name: list[str], data: st.DataObject) -> None:
    short = []
    for depth, word in enumerate(name):
        siblings = {n[depth] for n in NAMES if n[:depth] == name[:depth] and len(n) > depth} - {word}
        cut = data.draw(st.integers(1, len(word)))
        while cut < len(word) and any(s.startswith(word[:cut]) for s in siblings):
            cut += 1
        short.append(word[:cut])
    found, args, path = TREE.find(" ".join(short))
    assert (found.name, path, bool(args)) == (" ".join(name), " ".join(name), False)


WORDS = st.sampled_from(
    sorted({word for name in NAMES for word in name} | {"{", "}", '"', "10.0.0.0/8", "?", "#", "tap0"})
)
SAFE: list[Command] = [each for each in TREE.commands if each.name not in ("exec", "set logging level", "test fault")]


@given(st.one_of(st.text(), st.lists(st.one_of(WORDS, st.text(max_size=4))).map(" ".join)))
def test_no_line_gives_more_than_an_error(line: str) -> None:
    tree = CommandTree(SAFE)
    try:
        asyncio.run(tree.run(ENGINE, line))
    except CommandError as caught:
        assert "internal error" not in str(caught)
    assert isinstance(tree.complete(line, ENGINE), list)


@given(st.text())
def test_no_script_gives_more_than_an_error(text: str) -> None:
    try:
        found = list(statements(text))
    except CommandError:
        return
    assert all(statement.strip() for _, statement in found)
