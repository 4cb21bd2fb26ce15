# SPDX-License-Identifier: Apache-2.0
"""Where compiled code is kept: a directory keyed by the sources, the numba version and the CPU.

numba's own cache does not see an edit in a file that a kernel only imports, so the key holds a hash of all sources.
NUMBA_CACHE_DIR, when set, is used as it is. A directory that cannot be written is replaced by a temporary one.
"""

import functools
import hashlib
import logging
import os
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, entry_points, version
from pathlib import Path
from types import ModuleType
from weakref import WeakKeyDictionary

log = logging.getLogger(__name__)


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "unknown"
    return next((line for line in lines if line.startswith("model name")), "unknown")


def source_roots() -> list[Path]:
    """Folders of pyvpp and of its packages that hold nodes.

    A plugin of another distribution may lie beside them, in site-packages; installing it compiles nothing else anew.
    """
    here = Path(__file__).resolve().parent
    beside = [here.parent, here.parent / "graph_nodes", here.parent / "plugins"]
    found = [path for root in beside for path in sorted(root.glob("pyvpp_*")) if path.is_dir()]
    others = {
        e.module.partition(".")[0] for e in entry_points(group="pyvpp.plugins") if e.dist and e.dist.name != "pyvpp"
    }
    return [here, *(path for path in found if path.name not in others)]


def key() -> str:
    """Sixteen hex digits that change when compiled code could."""
    digest = hashlib.sha256()
    try:
        digest.update(version("numba").encode())
    except PackageNotFoundError:
        digest.update(b"no numba")
    digest.update(f"{sys.version_info[:3]} {_cpu()}".encode())
    for root in source_roots():
        for path in sorted(root.rglob("*.py")):
            digest.update(str(path.relative_to(root)).encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def covers(module: ModuleType) -> bool:
    """Whether `key` changes with a module's source; it does not with plugins from elsewhere."""
    file = Path(module.__file__ or "").resolve()
    return any(file.is_relative_to(root) for root in _roots())


_roots = functools.cache(source_roots)


_fingerprints: "WeakKeyDictionary[ModuleType, str]" = WeakKeyDictionary()
"""of modules at the top as they were first asked for: later their files may be other than what was imported"""


def fingerprint(module: ModuleType) -> str:
    """Sixteen hex digits that change with the sources of the package that a module is in, or with its one file."""
    top = sys.modules.get(module.__name__.partition(".")[0])
    if top is None or top.__file__ is None:
        top = module
    if top not in _fingerprints:
        file = Path(top.__file__ or "")
        _fingerprints[top] = digest(file.parent if file.name == "__init__.py" else file)
    return _fingerprints[top]


def digest(path: Path) -> str:
    """Sixteen hex digits of a file, or of what is in a folder but for compiled code."""
    found = hashlib.sha256()
    files = [path] if path.is_file() else [file for file in sorted(path.rglob("*")) if file.is_file()]
    for file in files:
        if "__pycache__" in file.parts or file.suffix == ".pyc":
            continue
        found.update(f"{file.relative_to(path)}\0".encode() + file.read_bytes() + b"\0")
    return found.hexdigest()[:16]


BOUNDSCHECK = "NUMBA_BOUNDSCHECK"


def checked_directory() -> Path:
    """Where processes that compile with bounds checks keep their code: a warm cache would hide the checks."""
    return Path(f"{directory()}-{BOUNDSCHECK.lower()}")


def _writable(directory: Path) -> bool:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        probe = directory / f".probe-{os.getpid()}"
        probe.write_bytes(b"1")
        probe.unlink()
    except OSError as error:
        log.warning("code cache %s cannot be used: %s", directory, error)
        return False
    return True


@functools.cache
def directory() -> Path:
    """The directory, made when it is not there."""
    given = os.environ.get("NUMBA_CACHE_DIR")
    if given and _writable(Path(given)):
        return Path(given)
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    chosen = base / "pyvpp" / key()
    if not _writable(chosen):
        chosen = Path(tempfile.mkdtemp(prefix="pyvpp-cache-"))
        log.warning("compiled code is kept in %s and lost when that is removed", chosen)
    os.environ["NUMBA_CACHE_DIR"] = str(chosen)
    return chosen
