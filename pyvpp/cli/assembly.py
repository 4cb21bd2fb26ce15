# SPDX-License-Identifier: Apache-2.0
"""Every command there is, in one tree: the engine's and those of the packages that were loaded."""

from collections.abc import Callable, Iterable
from types import ModuleType

from pyvpp import packet_generator_cli, pcap_cli, uplink_cli
from pyvpp.cli import (
    af_xdp_commands,
    builtin,
    commands,
    confirm_commands,
    device_commands,
    engine_commands,
    feature_commands,
    metrics_commands,
    plugin_commands,
    rx_commands,
    trace_commands,
    upgrade_commands,
)
from pyvpp.cli.parser import CommandTree
from pyvpp.cli.registry import commands_in, commands_of

MODULES = (
    builtin, commands, engine_commands, feature_commands, metrics_commands, trace_commands, plugin_commands,
    device_commands, rx_commands, af_xdp_commands, packet_generator_cli, pcap_cli, uplink_cli, upgrade_commands,
    confirm_commands,
)  # fmt: skip


def command_tree(
    packages: Iterable[ModuleType], blame: Callable[[ModuleType, Exception], bool] = lambda package, error: False
) -> CommandTree:
    """The engine's commands and those below the packages, in modules called `cli` or something_cli.

    A plugin that is one module has them in it. Raises ValueError on a clash, unless `blame`, told of the later package,
    answers that the others do without it.
    """
    found = [command for module in MODULES for command in commands_in(module)]
    tree = CommandTree(found)
    for package in packages:
        theirs = commands_of(package) if hasattr(package, "__path__") else commands_in(package)
        try:
            tree = CommandTree([*found, *theirs])
        except ValueError as error:
            if not blame(package, error):
                raise
        else:
            found += theirs
    return tree
