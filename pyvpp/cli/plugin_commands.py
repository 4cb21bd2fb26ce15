# SPDX-License-Identifier: Apache-2.0
"""Commands about plugins."""

from typing import Any

from pyvpp.cli.arguments import Arguments
from pyvpp.cli.registry import Output, command


@command("show plugins", help="show plugins")
def show_plugins(engine: Any, args: Arguments) -> Output:
    """Plugins in the order they were loaded, and of those that are disabled why. The log has the traceback."""
    args.end()
    plugins = engine.declarations.plugins
    lines = [" Plugin path is: entry points pyvpp.plugins and --plugin, plugins shown in load order", ""]
    lines.append(f"     {'Plugin':<40} {'Version':<32} Description")
    for number, plugin in enumerate(plugins, 1):
        lines.append(f"{number:>3}. {plugin.name:<40} {plugin.version:<32} {plugin.description}".rstrip())
        if plugin.error:
            lines.append(f"     disabled: {plugin.error}")
    data = [
        {
            "name": plugin.name,
            "source": plugin.source,
            "version": plugin.version,
            "description": plugin.description,
            "state": "disabled" if plugin.error else "enabled",
            "error": plugin.error,
            "nodes": [node.name for node in engine.declarations.nodes.values() if plugin.owns(node.module)],
        }
        for plugin in plugins
    ]
    return Output("\n".join(lines), data)
