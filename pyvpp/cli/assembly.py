# SPDX-License-Identifier: Apache-2.0
"""Every command there is, in one tree: the engine's and those of the packages that were loaded."""

from collections.abc import Iterable
from types import ModuleType

from pyvpp import packet_generator_cli, pcap_cli
from pyvpp.cli import af_xdp_commands, builtin, commands, engine_commands, rx_commands
from pyvpp.cli.parser import CommandTree
from pyvpp.cli.registry import commands_in, commands_of

MODULES = (builtin, commands, engine_commands, rx_commands, af_xdp_commands, packet_generator_cli, pcap_cli)


def command_tree(packages: Iterable[ModuleType]) -> CommandTree:
    """The engine's commands and those in modules called `cli` below the packages. Raises ValueError on a clash."""
    found = [command for module in MODULES for command in commands_in(module)]
    found += [command for package in packages for command in commands_of(package)]
    return CommandTree(found)
