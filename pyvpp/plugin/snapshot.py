# SPDX-License-Identifier: Apache-2.0
"""Sources of plugins, version by version: an author may edit a file while it is compiled, and go back to what it was.

A copy lies in the code cache, `versions/<plugin>/<digest>/<file or folder>`. The oldest beyond KEPT are removed,
but for those that this or another process may go back to.
"""

import contextlib
import fcntl
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
        digest = _copy(source, versions)
        while not _hold(versions / digest):  # another process has just removed it
            digest = _copy(source, versions)
    except (OSError, shutil.Error) as error:
        raise OperatorError(f"plugin {plugin.name}: its sources cannot be copied: {error}") from error
    in_use = {digest, plugin.digest, *(each.digest for each in plugin.earlier)}
    _remove_oldest([path for path in versions.glob("[0-9a-f]*") if path.name not in in_use])
    return versions / digest / source.name, digest


def _copy(source: Path, versions: Path) -> str:
    """Makes a copy unless there is one; answers its digest."""
    with tempfile.TemporaryDirectory(dir=versions, prefix=".copying-") as room:
        copied = Path(room) / "sources" / source.name
        copied.parent.mkdir()
        if source.is_dir():
            shutil.copytree(source, copied, ignore=COMPILED)
        else:
            shutil.copy2(source, copied)
        digest = cache.digest(copied)
        with contextlib.suppress(OSError):  # it is there, or another process was faster; `_hold` sees if it is not
            if not (versions / digest).exists():
                copied.parent.rename(versions / digest)
    return digest


def hold(path: Path) -> None:
    """Keeps a version, by the path of its sources, from being removed by another process."""
    _hold(path.parent)


_held: dict[Path, int] = {}
"""locked directories: other processes with the same cache leave them alone"""


def _hold(version: Path) -> bool:
    """Keeps a version from being removed; False when it is not there."""
    if version not in _held:
        descriptor = _opened(version)
        if descriptor is None:
            return False
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        if not any(version.glob("*")):
            os.close(descriptor)
            return False
        _held[version] = descriptor
    os.utime(version)
    return True


def _opened(version: Path) -> int | None:
    try:
        return os.open(version, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None


def _remove_oldest(unused: list[Path]) -> None:
    for version in unused:
        if version in _held:
            os.close(_held.pop(version))
    opened = [(version, descriptor) for version in unused if (descriptor := _opened(version)) is not None]
    opened.sort(key=lambda each: os.fstat(each[1]).st_mtime, reverse=True)
    for k, (version, descriptor) in enumerate(opened):
        with contextlib.suppress(BlockingIOError):  # another process holds it
            if k >= KEPT:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(version, ignore_errors=True)
        os.close(descriptor)


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
