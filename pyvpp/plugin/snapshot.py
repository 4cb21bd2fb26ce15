# SPDX-License-Identifier: Apache-2.0
"""Sources of plugins, version by version: an author may edit a file while it is compiled, and go back to what it was.

A copy lies in the code cache, `versions/<plugin>/<digest>/<file or folder>`. The oldest beyond KEPT are removed.
"""

import importlib.util
import os
import shutil
import sys
import tempfile
from pathlib import Path
from types import ModuleType

from pyvpp import cache
from pyvpp.errors import OperatorError
from pyvpp.plugin.find import Plugin

KEPT = 16
COMPILED = shutil.ignore_patterns("__pycache__", "*.pyc")


def origin(plugin: Plugin) -> Path:
    """The file or folder that its author edits. Raises OperatorError where there is none."""
    if plugin.is_path:
        path = Path(plugin.source)
    else:
        spec = importlib.util.find_spec(plugin.source) if plugin.origin is None else None
        path = plugin.origin or Path((spec and spec.origin) or "")
        path = path.parent if path.name == "__init__.py" else path
    if "." in plugin.module or not path.exists():
        raise OperatorError(f"plugin {plugin.name}: its sources {path} are not there")
    return path


def keep(plugin: Plugin) -> tuple[Path, str]:
    """Copies a plugin's sources as they are now; answers where, and their digest. Raises OperatorError."""
    source = origin(plugin)
    versions = cache.directory() / "versions" / plugin.name
    try:
        versions.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=versions, prefix=".copying-") as room:
            copied = Path(room) / "sources" / source.name
            copied.parent.mkdir()
            if source.is_dir():
                shutil.copytree(source, copied, ignore=COMPILED)
            else:
                shutil.copy2(source, copied)
            digest = cache.digest(copied)
            if not (versions / digest).exists():
                copied.parent.rename(versions / digest)
    except (OSError, shutil.Error) as error:
        raise OperatorError(f"plugin {plugin.name}: its sources cannot be copied: {error}") from error
    os.utime(versions / digest)
    in_use = {each.digest for each in (plugin, *plugin.earlier)}
    by_age = sorted(versions.glob("[0-9a-f]*"), key=lambda path: path.stat().st_mtime, reverse=True)
    for old in by_age[KEPT:]:
        if old.name not in in_use:
            shutil.rmtree(old, ignore_errors=True)
    return versions / digest / source.name, digest


def withdraw(name: str) -> dict[str, ModuleType]:
    """Takes a package's modules out of the import system; answers them, so that they can be put back."""
    found = {each: module for each, module in sys.modules.items() if each == name or each.startswith(f"{name}.")}
    for each in found:
        del sys.modules[each]
    return found


def put_back(name: str, modules: dict[str, ModuleType]) -> None:
    """Undoes `withdraw`, and whatever was imported since."""
    withdraw(name)
    sys.modules.update(modules)
