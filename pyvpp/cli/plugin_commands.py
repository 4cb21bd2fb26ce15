# SPDX-License-Identifier: Apache-2.0
"""Commands about plugins."""

from typing import Any

from pyvpp.cli.arguments import Arguments, CommandError
from pyvpp.cli.registry import Output, command


@command("show plugins", help="show plugins")
def show_plugins(engine: Any, args: Arguments) -> Output:
    """Plugins in the order they were loaded, and of those that are disabled why. The log has the traceback.

    Of one that was reloaded: the number of the version in place and a digest of its sources, those that `plugin
    rollback` goes back to, the next first, and why the last version was refused.
    """
    args.end()
    plugins = engine.declarations.plugins
    lines = [" Plugin path is: entry points pyvpp.plugins and --plugin, plugins shown in load order", ""]
    lines.append(f"     {'Plugin':<40} {'Version':<32} Description")
    for number, plugin in enumerate(plugins, 1):
        lines.append(f"{number:>3}. {plugin.name:<40} {plugin.version:<32} {plugin.description}".rstrip())
        if plugin.error:
            lines.append(f"     disabled: {plugin.error}")
        if plugin.generation > 1 or plugin.earlier:
            earlier = ", ".join(f"{each.generation} ({each.digest[:8]})" for each in reversed(plugin.earlier))
            rollback = f"; rollback to {earlier}" if earlier else ""
            lines.append(f"     reloaded: version {plugin.generation} ({plugin.digest[:8]}){rollback}")
        if engine.reloader is not None and plugin.name in engine.reloader.watcher.names:
            lines.append("     watched: it is reloaded when its sources change")
        if plugin.checked:
            raised = _raised(engine, plugin)
            lines.append(f"     runs with bounds checks: {'; '.join(raised) or 'none was needed'}")
        if plugin.refused:
            lines.append(f"     refused: {plugin.refused}")
    data = [
        {
            "name": plugin.name,
            "source": plugin.source,
            "version": plugin.version,
            "description": plugin.description,
            "state": "disabled" if plugin.error else "enabled",
            "error": plugin.error,
            "generation": plugin.generation,
            "digest": plugin.digest,
            "earlier": [each.generation for each in plugin.earlier],
            "refused": plugin.refused,
            "checked": plugin.checked,
            "raised": _raised(engine, plugin),
            "nodes": [node.name for node in engine.declarations.nodes.values() if plugin.owns(node.module)],
        }
        for plugin in plugins
    ]
    return Output("\n".join(lines), data)


def _raised(engine: Any, plugin: Any) -> list[str]:
    """What a plugin's kernels have raised since they run with bounds checks."""
    if engine.reloader is None:
        return []
    nodes = {node.name for node in engine.declarations.nodes_of(plugin)}
    counts = engine.reloader.raised.items()
    return [f"node {node} raised {text} {count} times" for (node, text), count in counts if node in nodes]


def _names(engine: Any, words: list[str]) -> list[str]:
    return [] if words else [plugin.name for plugin in engine.declarations.plugins]


@command("plugin reload", help="plugin reload NAME [check]", complete=_names)
async def plugin_reload(engine: Any, args: Arguments) -> Output:
    """Put a plugin's sources, as they are now, in the place of its version in use, while packets flow.

    They are compiled in the background and tried on random frames; then every node of the plugin is exchanged between
    two rounds of the workers. A version that does not compile, does not fit or fails when tried is refused, and the old
    one stays. Tables stay where their types did; others are filled by the plugin's `migrate(name, old, new)`.

    With check its kernels run with bounds checks, at some cost, until it is reloaded without: one that reads or writes
    beside an array is named in the log and in `show plugins`, and drops the rest of its frame.
    """
    name = args.word("a plugin")
    checked = bool(args.accept("check"))
    args.end()
    return _told(await _reloader(engine).reload(name, checked))


@command("plugin watch", help="plugin watch NAME [off]", complete=_names)
async def plugin_watch(engine: Any, args: Arguments) -> None:
    """Reload a plugin whenever its sources change, while it is being written. What came of it is in `show plugins`."""
    name = args.word("a plugin")
    off = args.accept("off")
    args.end()
    watcher = _reloader(engine).watcher
    if off:
        watcher.leave(_reloader(engine).plugin(name).name)
    else:
        watcher.watch(name)


@command("plugin rollback", help="plugin rollback NAME", complete=_names)
async def plugin_rollback(engine: Any, args: Arguments) -> Output:
    """Put the version of a plugin that was in use before in place again, and so on back to the one it started with."""
    name = args.word("a plugin")
    args.end()
    return _told(await _reloader(engine).rollback(name))


def _reloader(engine: Any) -> Any:
    if engine.reloader is None:
        raise CommandError("this engine's plugins cannot be reloaded")
    return engine.reloader


def _told(reloaded: Any) -> Output:
    return Output(
        str(reloaded),
        {
            "name": reloaded.plugin.name,
            "generation": reloaded.plugin.generation,
            "digest": reloaded.plugin.digest,
            "compiled_seconds": reloaded.compiled,
            "held_seconds": reloaded.held,
            "notes": list(reloaded.notes),
        },
    )
