# SPDX-License-Identifier: Apache-2.0
"""How every test runs: where compiled kernels are cached, how long hypothesis searches, who may run the system tests.

numba's cache does not see an edit in another file (an inlined helper keeps its old code), and a warm cache hides
NUMBA_BOUNDSCHECK. So the cache directory is named after a hash of all sources and of the mode. It is set here, before
any kernel is imported; child processes inherit it through the environment.
"""

import hashlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent
SYSTEM_TESTS = ROOT / "tests" / "system"
SOURCE_ROOTS = ("pyvpp", "graph_nodes", "plugins")
KEEP_CACHES_SECONDS = 3 * 24 * 3600


def source_hash() -> str:
    digest = hashlib.sha256()
    for root in SOURCE_ROOTS:
        for path in sorted((ROOT / root).rglob("*.py")):
            digest.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def cache_root() -> Path:
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pyvpp-tests"
    try:
        home.mkdir(parents=True, exist_ok=True)
        if os.access(home, os.W_OK):
            return home
    except OSError:
        pass
    fallback = Path(tempfile.gettempdir()) / f"pyvpp-tests-{os.getuid()}"
    fallback.mkdir(mode=0o700, exist_ok=True)
    return fallback


def drop_old_caches(root: Path) -> None:
    for path in root.iterdir():
        if path.is_dir() and time.time() - path.stat().st_mtime > KEEP_CACHES_SECONDS:
            shutil.rmtree(path, ignore_errors=True)


def use_cache_of_these_sources() -> None:
    """Name the cache, unless somebody did: xdist's workers inherit the name, a person may choose one."""
    if "NUMBA_CACHE_DIR" not in os.environ:
        root = cache_root()
        drop_old_caches(root)
        mode = "-bounds" if os.environ.get("NUMBA_BOUNDSCHECK", "0") not in ("", "0") else ""
        directory = root / (source_hash() + mode)
        directory.mkdir(exist_ok=True)
        os.utime(directory)
        os.environ["NUMBA_CACHE_DIR"] = str(directory)
    if "numba" in sys.modules:
        sys.modules["numba"].config.CACHE_DIR = os.environ["NUMBA_CACHE_DIR"]


use_cache_of_these_sources()

PLAIN_PYTHON = os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0")
settings.register_profile(
    "pyvpp",
    deadline=None,  # the first example compiles
    derandomize=os.environ.get("CI") == "true",
    max_examples=15 if PLAIN_PYTHON else 50,
    suppress_health_check=[HealthCheck.too_slow],  # a busy machine is not a badly written strategy
)
settings.load_profile("pyvpp")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--compile-first",
        action="store_true",
        help="compile all kernels before the first test, each once; without it every xdist worker compiles what it meets",
    )


def pytest_sessionstart(session: pytest.Session) -> None:
    if session.config.getoption("--compile-first") and not hasattr(session.config, "workerinput"):
        from pyvpp.warmup import warm_up

        warm_up()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    needs_root = pytest.mark.skip(reason="tests/system makes network namespaces and devices: run as root")
    for item in items:
        if item.path.is_relative_to(SYSTEM_TESTS):
            item.add_marker(pytest.mark.system)
            if os.geteuid() != 0:
                item.add_marker(needs_root)


@pytest.fixture(autouse=True, scope="session")
def engines_run_compiled_only() -> Iterator[None]:
    """As plain Python kernels run one by one; the worker's loop, and so an engine, exists compiled only."""
    if os.environ.get("NUMBA_DISABLE_JIT", "0") == "0":
        yield
        return
    from pyvpp.engine import Engine

    def skip(self: Engine, *args: object, **kwargs: object) -> None:
        pytest.skip("an engine runs compiled only")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Engine, "__init__", skip)
        yield
