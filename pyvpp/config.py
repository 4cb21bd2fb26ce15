# SPDX-License-Identifier: Apache-2.0
"""The file of `pyvpp --config`: TOML, with the command line's options at the top and a table for each plugin.

    workers = 2
    uplink = ["eth0"]

    [plugin.census]
    lifetime = 60

A plugin declares its keys at module level, as a frozen msgspec.Struct with a default for each, and asks the engine for
what the file says, in `start` or whenever it needs it:

    class Keys(msgspec.Struct, frozen=True):
        lifetime: int = 30

    CONFIG = Config("census", Keys)

    def start(engine: Engine) -> None:
        lifetime = engine.settings(CONFIG).lifetime

A key that nobody knows, or a value of another type, is told before anything is taken over.
"""

import argparse
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from pyvpp.errors import OperatorError
from pyvpp.faults import meant

PLUGIN = "plugin"


@dataclass(frozen=True)
class Config:
    """Declares the keys of the table `[plugin.NAME]`: a msgspec.Struct with defaults."""

    name: str
    keys: type[msgspec.Struct]

    def read(self, table: Mapping[str, Any]) -> Any:
        """An instance of `keys` from a table of the file. Raises OperatorError."""
        where = f"[{PLUGIN}.{self.name}]"
        known = {each.encode_name for each in msgspec.structs.fields(self.keys)}
        for key in table:
            if key not in known:
                raise OperatorError(f"{where}: unknown key `{key}'{meant(key, known)}")
        try:
            return msgspec.convert(dict(table), self.keys)
        except msgspec.ValidationError as error:
            raise OperatorError(f"{where}: {error}") from None


def read_file(path: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a file says of options, and of plugins by their names. Raises OperatorError."""
    try:
        content = tomllib.loads(Path(path).read_text())
    except OSError as error:
        raise OperatorError(f"--config {path}: {error.strerror}") from None
    except ValueError as error:
        raise OperatorError(f"--config {path}: {error}") from None
    plugins = content.pop(PLUGIN, {})
    if not isinstance(plugins, dict) or not all(isinstance(table, dict) for table in plugins.values()):
        raise OperatorError(f"--config {path}: {PLUGIN} is no table of tables (expected [{PLUGIN}.NAME])")
    return content, plugins


def as_arguments(path: str, options: Mapping[str, Any], parser: argparse.ArgumentParser) -> list[str]:
    """Options as words of a command line, to be read before those that were given. Raises OperatorError."""
    known = {name.removeprefix("--") for action in parser._actions for name in action.option_strings}
    words: list[str] = []
    for key, value in options.items():
        if key not in known or key == "config":
            raise OperatorError(f"--config {path}: unknown key `{key}'{meant(key, known - {'config', 'help', '-h'})}")
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, dict):
                raise OperatorError(f"--config {path}: {key} is a table (expected a value, or [{PLUGIN}.{key}])")
            if isinstance(each, bool):
                words += [f"--{key}"] if each else []
            else:
                words += [f"--{key}", str(each)]
    return words


def check_plugins(path: str, plugins: Mapping[str, Any], declared: Iterable[Config]) -> None:
    """Raises OperatorError where a table is no plugin's, or does not fit."""
    configs = {config.name: config for config in declared}
    for name, table in plugins.items():
        if name not in configs:
            raise OperatorError(f"--config {path}: no plugin has keys in [{PLUGIN}.{name}]{meant(name, configs)}")
        try:
            configs[name].read(table)
        except OperatorError as error:
            raise OperatorError(f"--config {path}: {error}") from None
