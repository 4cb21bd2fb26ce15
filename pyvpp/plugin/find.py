# SPDX-License-Identifier: Apache-2.0
"""Plugins: where they are found, and how each is imported.

A distribution installed by pip names its package in the entry point group `pyvpp.plugins`; `pyvpp --plugin PATH` adds
a single file, a package's folder, or the folder of a project that names one. Paths are handed to compiler processes in
the environment variable PYVPP_PLUGINS.
"""

import importlib
import importlib.util
import json
import logging
import os
import sys
import tomllib
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from pyvpp import __version__
from pyvpp.errors import OperatorError

GROUP = "pyvpp.plugins"
PATHS = "PYVPP_PLUGINS"
RUNNING = "PYVPP_RUNNING"
"""In the environment of a process that takes another's place: `Reloader.running` of that one, JSON."""
FIRST = "nodes"  # the stack: what others stand on is loaded before them
CHECKOUT = Path(__file__).resolve().parent.parent.parent

log = logging.getLogger(__name__)


@dataclass(eq=False)
class Plugin:
    """A plugin that was found. `error` says why it is disabled, and is empty while it is not."""

    name: str
    source: str
    """the package's name, or a path"""
    version: str = ""
    package: ModuleType | None = None
    error: str = ""
    path: Path | None = None
    """where this version's sources are kept; None for what was imported at start, from where `source` says"""
    origin: Path | None = None
    """the file that was imported at start"""
    generation: int = 1
    digest: str = ""
    """of the sources, see `snapshot.keep`"""
    checked: bool = False
    """whether its kernels run with bounds checks"""
    refused: str = ""
    """why the last attempt to reload it failed"""
    earlier: list[Any] = field(default_factory=list)
    """`reload.Earlier` versions that it can be rolled back to, oldest first"""

    @property
    def is_path(self) -> bool:
        return os.sep in self.source

    @property
    def description(self) -> str:
        """The first line of the package's docstring."""
        lines = ((self.package.__doc__ if self.package else None) or "").strip().splitlines()
        return lines[0].rstrip(".") if lines else ""

    @property
    def module(self) -> str:
        """The name its package or file is imported by."""
        return module_name(Path(self.source)) if self.is_path else self.source

    @property
    def root(self) -> Path | None:
        """The file or the package's folder that its version in place is imported from."""
        if self.path is not None or self.is_path:
            return self.path or Path(self.source)
        spec = importlib.util.find_spec(self.source) if self.package is None else self.package.__spec__
        file = Path((spec and spec.origin) or "")
        return file.parent if file.name == "__init__.py" else file if file.name else None

    def owns(self, module: str) -> bool:
        """Whether a module, by its full name, is part of the plugin."""
        name = self.package.__name__ if self.package else None
        return name is not None and (module == name or module.startswith(f"{name}."))

    def load(self) -> ModuleType:
        """Imports the package. Raises whatever it does."""
        if self.path is not None:
            known = sys.modules.get(self.module)
            is_it = known is not None and getattr(known, "__file__", None) == str(_file_of(self.path))
            self.package = known if known is not None and is_it else _import_as(self.module, self.path)
        else:
            self.package = import_path(Path(self.source)) if self.is_path else importlib.import_module(self.source)
            self.origin = Path(self.package.__file__ or "")
        self.version = self.version or str(getattr(self.package, "__version__", ""))
        return self.package


def find_plugins() -> list[Plugin]:
    """Plugins in the order they are loaded: pyvpp's own, installed ones by name, then those given by path."""
    entries = sorted(entry_points(group=GROUP), key=lambda entry: (not _is_ours(entry), entry.name))
    installed = {e.module: Plugin(e.name, e.module, e.dist.version if e.dist else "") for e in entries}
    found = {plugin.source: plugin for plugin in _of_checkout()} | installed
    in_order = sorted(found.values(), key=lambda plugin: plugin.name != FIRST)
    return _as_they_ran([*in_order, *(Plugin(name_of(path), str(path)) for path in given_paths())])


def _as_they_ran(plugins: list[Plugin]) -> list[Plugin]:
    """Plugins that were reloaded in the process whose place this one takes go on with the version that ran there."""
    running = json.loads(os.environ.get(RUNNING) or "{}")
    for plugin in plugins:
        kept, generation = running.get(plugin.name, ("", 0))
        if not kept:
            continue
        if not Path(kept).exists():
            log.warning("plugin %s: version %d is no more kept: its sources are taken", plugin.name, generation)
            continue
        if not plugin.is_path:
            spec = importlib.util.find_spec(plugin.source)
            plugin.origin = Path((spec and spec.origin) or "")
        plugin.path, plugin.generation, plugin.digest = Path(kept), generation, Path(kept).parent.name
    return plugins


def _is_ours(entry: EntryPoint) -> bool:
    return entry.dist is not None and entry.dist.name == "pyvpp"


def _of_checkout() -> list[Plugin]:
    """pyvpp's own plugins in a checkout, installed or not: those that pyproject.toml announces and Python finds.

    What pip knows of an editable install is as old as the install, and a plugin may have joined since.
    """
    try:
        project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
    except (OSError, ValueError):
        return []
    if project.get("project", {}).get("name") != "pyvpp":
        return []
    announced = sorted(_announced(project).items())
    return [Plugin(name, module, __version__) for name, module in announced if importlib.util.find_spec(module)]


def _announced(project: dict[str, Any]) -> dict[str, str]:
    """Packages by the names of their plugins, in a project's pyproject.toml."""
    return dict(project.get("project", {}).get("entry-points", {}).get(GROUP, {}))


def given_paths() -> list[Path]:
    """Plugins given by path, in this process or in the one that started it."""
    return [Path(word) for word in os.environ.get(PATHS, "").split(os.pathsep) if word]


def give_path(path: str) -> Path:
    """Adds a plugin by its path, for this process and its children. Raises OperatorError where there is none."""
    found = locate(Path(path))
    known = given_paths()
    if found not in known:
        os.environ[PATHS] = os.pathsep.join(map(str, [*known, found]))
    return found


def locate(path: Path) -> Path:
    """The file or the package's folder that a path leads to; raises OperatorError."""
    path = path.resolve()
    if path.is_dir() and not (path / "__init__.py").exists() and (path / "pyproject.toml").exists():
        path = _package_of_project(path)
    if not path.exists():
        raise OperatorError(f"plugin {path}: there is no such file or folder")
    if path.is_dir() and not (path / "__init__.py").exists():
        raise OperatorError(f"plugin {path}: no package, and no project that names one (expected __init__.py)")
    if path.is_file() and path.suffix != ".py":
        raise OperatorError(f"plugin {path}: no Python file (expected its name to end with .py)")
    if not path.stem.replace("-", "_").isidentifier():
        raise OperatorError(f"plugin {path}: `{path.stem}' is no name for a module (expected letters, digits and _)")
    return path


def _package_of_project(folder: Path) -> Path:
    """The package that a project's pyproject.toml announces."""
    try:
        project = tomllib.loads((folder / "pyproject.toml").read_text())
    except (OSError, ValueError) as error:
        raise OperatorError(f"plugin {folder}: pyproject.toml cannot be read: {error}") from None
    names = list(_announced(project).values())
    if len(names) != 1:
        raise OperatorError(f'plugin {folder}: pyproject.toml names {len(names)} packages in "{GROUP}" (expected one)')
    roots = (folder, folder / "src")
    return next((root / names[0] for root in roots if (root / names[0]).exists()), folder / names[0])


def name_of(path: Path) -> str:
    return path.stem.removeprefix("pyvpp_").replace("_", "-")


def import_path(path: Path) -> ModuleType:
    """Imports a file or a package's folder, once. Raises ImportError when the module's name is another's."""
    file = path / "__init__.py" if path.is_dir() else path
    name = module_name(path)
    known = sys.modules.get(name)
    if known is not None:
        if Path(getattr(known, "__file__", None) or "").resolve() == file:
            return known
        raise ImportError(f"the name {name} is taken by {getattr(known, '__file__', 'another module')}")
    return _import_as(name, path)


def module_name(path: Path) -> str:
    """By which a file or a package's folder is imported. A path that is no more there is a file's by its suffix."""
    return "pyvpp_plugin_" + path.stem.replace("-", "_") if path.suffix == ".py" else path.name


def _file_of(path: Path) -> Path:
    return path / "__init__.py" if path.is_dir() else path


def _import_as(name: str, path: Path) -> ModuleType:
    file = _file_of(path)
    folders = [str(path)] if path.is_dir() else None
    spec = importlib.util.spec_from_file_location(name, file, submodule_search_locations=folders)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # first: numba imports a kernel's module by its name
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
