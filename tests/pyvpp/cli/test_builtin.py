# SPDX-License-Identifier: Apache-2.0
"""Commands about the command line: version, logging, and how commands are collected."""

import importlib
import logging
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from pyvpp import __version__
from pyvpp.cli import builtin, logbuffer
from pyvpp.cli.registry import CommandError, command, commands_in, commands_of


@pytest.fixture
def log() -> Iterator[logging.Logger]:
    """A class of messages whose levels are put back."""
    logger = logging.getLogger("pyvpp.test.example")
    touched = [logging.getLogger(name) for name in logbuffer.logger_names()]
    before = [each.level for each in touched]
    logging.getLogger().addHandler(logbuffer.log_buffer)
    logbuffer.log_buffer.clear()
    yield logger
    logging.getLogger().removeHandler(logbuffer.log_buffer)
    for each, level in zip(touched, before, strict=True):
        each.setLevel(level)


def test_show_version() -> None:
    short = builtin.show_version(None)
    assert short.text.startswith(f"pyvpp v{__version__} on Python 3.")
    long = builtin.show_version(None, "verbose")
    assert long.text.splitlines()[0] == f"Version:                  v{__version__}"
    assert long.data["version"] == __version__
    with pytest.raises(CommandError, match="unknown input `x'"):
        builtin.show_version(None, "x")


def test_levels_decide_what_is_remembered(log: logging.Logger) -> None:
    builtin.set_logging_class(None, "test/example level debug")
    log.debug("shown %d", 1)
    builtin.set_logging_class(None, "test/example level err")
    log.warning("not shown")
    builtin.set_logging_class(None, "test/example level disabled")
    log.critical("not shown either")
    (entry,) = builtin.show_logging(None).data
    assert (entry["class"], entry["level"], entry["message"]) == ("test/example", "debug", "shown 1")
    assert builtin.show_logging(None).text == f"{entry['time']} debug      test/example   shown 1"
    assert builtin.show_logging_configuration(None).data["classes"]["test/example"] == "disabled"
    builtin.set_logging_level(None, "notice")
    assert builtin.show_logging_configuration(None).data["classes"]["test/example"] == "info"
    builtin.clear_logging(None)
    assert builtin.show_logging(None).data == []


def test_wrong_classes_and_levels(log: logging.Logger) -> None:
    with pytest.raises(CommandError, match=r"unknown log class `test/exampel' \(did you mean test/example\?\)"):
        builtin.set_logging_class(None, "test/exampel level debug")
    with pytest.raises(CommandError, match=r"unknown log level `loud' \(expected emerg,"):
        builtin.set_logging_level(None, "loud")


def test_the_buffer_is_bounded_and_survives_wrong_calls() -> None:
    buffer = logbuffer.LogBuffer(size=2)
    for number in range(3):
        buffer.handle(logging.LogRecord("pyvpp.x", logging.INFO, "", 0, "message %d %d", (number,), None))
    assert [entry["message"] for entry in buffer.entries()] == ["message %d %d"] * 2


def test_commands_are_collected_once_each() -> None:
    module = ModuleType("example")

    @command("show  x", help="show x")
    def show_x(engine: object, args: object) -> None:
        pass

    module.__dict__.update(show_x=show_x, again=show_x, other=7)
    assert commands_in(module) == [show_x]
    assert show_x.name == "show x"


def test_commands_of_a_package_come_from_its_cli_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "example_stack" / "part"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").touch()
    (folder / "__init__.py").touch()
    (folder / "other.py").write_text("raise SystemExit")
    source = (
        "from pyvpp.cli.registry import command\n@command('show part', help='show part')\ndef show(engine, args): ...\n"
    )
    (folder / "cli.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    package = importlib.import_module("example_stack")
    assert [each.name for each in commands_of(package)] == ["show part"]
    (folder.parent / "broken").mkdir()
    (folder.parent / "broken" / "__init__.py").write_text("import nosuchmodule")
    importlib.invalidate_caches()
    with pytest.raises(ImportError, match=r"package example_stack\.broken cannot be imported"):
        commands_of(package)
