# SPDX-License-Identifier: Apache-2.0
"""Where compiled code is kept: numba remembers the directory of its first import, and nobody imports it after us."""

import subprocess
import sys
from pathlib import Path


def test_code_is_kept_in_the_directory_of_these_sources_though_numba_was_imported_first(tmp_path: Path) -> None:
    program = (
        "import numba; from pyvpp import cache, jit; print(numba.config.CACHE_DIR == str(cache.directory()) != '')"
    )
    environment = {"PATH": "/usr/bin:/bin", "XDG_CACHE_HOME": str(tmp_path), "PYTHONPATH": ":".join(sys.path)}
    child = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert child.stdout == "True\n", child.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["pyvpp"]
