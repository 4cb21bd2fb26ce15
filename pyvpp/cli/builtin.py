# SPDX-License-Identifier: Apache-2.0
"""Commands about the command line itself: help, exec, show version, show cli, logging."""

import logging
import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pyvpp import __version__
from pyvpp.cli.arguments import Arguments, CommandError, expectation
from pyvpp.cli.logbuffer import LEVELS, class_name, level_name, log_buffer, logger_names
from pyvpp.cli.registry import Output, command
from pyvpp.linux import privileges


@command("help", help="help [COMMAND]", aliases=("?",))
def help_(engine: Any, args: Arguments) -> str:
    """List commands, or what one of them takes. `?` at the end of a line does the same."""
    assert args.tree is not None
    return args.tree.help(args.rest())


@command("comment", help="comment {TEXT}")
def comment(engine: Any, args: Arguments) -> None:
    """Do nothing. Lines that start with # are comments too."""


@command("uncomment", help="uncomment {COMMAND}")
async def uncomment(engine: Any, args: Arguments) -> Output:
    """Run what is within the braces."""
    assert args.tree is not None
    inner = args.block()
    args.end()
    return await args.tree.run(engine, inner.rest())


@command("echo", help="echo TEXT")
def echo(engine: Any, args: Arguments) -> str:
    """Print the text: a mark in the output of a script."""
    return args.rest()


@command("exec", help="exec FILE")
async def exec_(engine: Any, args: Arguments) -> str:
    """Run the commands of a file, one per line, until the first error."""
    assert args.tree is not None
    name = args.word("a file name")
    args.end()
    return await args.tree.execute_script(engine, read_script(name), name)


def read_script(name: str) -> str:
    try:
        return Path(name).read_text()
    except OSError as error:
        raise CommandError(f"failed to open `{name}': {error.strerror or error}") from None
    except ValueError:
        raise CommandError(f"`{name}' is not a text file (expected commands in UTF-8)") from None


@command("show version", help="show version [verbose]")
def show_version(engine: Any, args: Arguments) -> Output:
    """pyvpp's version and what it runs on."""
    verbose = args.accept("verbose")
    args.end()
    rights = privileges.of()
    data = {
        "version": __version__,
        "python": platform.python_version(),
        "numba": _version("numba"),
        "numpy": _version("numpy"),
        "kernel": platform.release(),
        "host": platform.node(),
        "pid": os.getpid(),
        "capabilities": rights.names(),
        "no_new_privileges": rights.no_new,
    }
    if not verbose:
        return Output(f"pyvpp v{data['version']} on Python {data['python']}, numba {data['numba']}", data)
    rows = [
        ("Version:", f"v{data['version']}"),
        ("Python:", f"{data['python']} ({sys.executable})"),
        ("numba:", data["numba"]),
        ("NumPy:", data["numpy"]),
        ("Linux:", data["kernel"]),
        ("Host:", data["host"]),
        ("Current PID:", data["pid"]),
        ("Capabilities:", " ".join(rights.names()) or "none"),
        ("No new privileges:", "yes" if rights.no_new else "no"),
    ]
    return Output("\n".join(f"{label:<25} {value}" for label, value in rows), data)


@command("show cli", help="show cli")
def show_cli(engine: Any, args: Arguments) -> Output:
    """The names of all commands."""
    assert args.tree is not None
    args.end()
    names = sorted(each.name for each in args.tree.commands)
    return Output("\n".join(names), names)


@command("show logging", help="show logging")
def show_logging(engine: Any, args: Arguments) -> Output:
    """The latest log messages, oldest first."""
    args.end()
    entries = log_buffer.entries()
    text = "\n".join(f"{each['time']} {each['level']:<10} {each['class']:<14} {each['message']}" for each in entries)
    return Output(text, entries)


@command("show logging configuration", help="show logging configuration")
def show_logging_configuration(engine: Any, args: Arguments) -> Output:
    """The buffer's size and the level of every class of messages."""
    args.end()
    levels = {class_name(name): level_name(logging.getLogger(name).getEffectiveLevel()) for name in logger_names()}
    data = {
        "buffer_size": log_buffer.size,
        "default": level_name(logging.getLogger("pyvpp").getEffectiveLevel()),
        "classes": levels,
    }
    lines = [
        f"Buffer Size:         {log_buffer.size} entries",
        "Defaults:",
        f"  Log Level:         {data['default']}",
        "",
        "Class                  Level          ",
    ]
    lines += [f"{name:<22} {level:<14} " for name, level in levels.items()]
    return Output("\n".join(lines), data)


@command("clear logging", help="clear logging")
def clear_logging(engine: Any, args: Arguments) -> None:
    """Forget the log messages that `show logging` lists."""
    args.end()
    log_buffer.clear()


@command("set logging class", help="set logging class CLASS level emerg|alert|crit|err|warn|notice|info|debug|disabled")
def set_logging_class(engine: Any, args: Arguments) -> None:
    """Set the level from which messages of one class, and of those below it, are logged."""
    name = args.word("a log class")
    classes = {class_name(each): each for each in logger_names()}
    if name not in classes:
        raise CommandError(f"unknown log class `{name}' {expectation(name, classes)}")
    args.expect("level")
    level = args.choice(*LEVELS, what="log level")
    args.end()
    logging.getLogger(classes[name]).setLevel(LEVELS[level])


@command("set logging level", help="set logging level emerg|alert|crit|err|warn|notice|info|debug|disabled")
def set_logging_level(engine: Any, args: Arguments) -> None:
    """Set the level from which messages of every class are logged."""
    level = args.choice(*LEVELS, what="log level")
    args.end()
    for name in logger_names():
        logging.getLogger(name).setLevel(logging.NOTSET)
    logging.getLogger("pyvpp").setLevel(LEVELS[level])
    logging.getLogger("pyvpp_nodes").setLevel(LEVELS[level])


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
