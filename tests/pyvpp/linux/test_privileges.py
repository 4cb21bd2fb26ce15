# SPDX-License-Identifier: Apache-2.0
"""The capabilities that are kept are those that are documented, everywhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pyvpp.errors import OperatorError
from pyvpp.linux import privileges, runtime_dir
from pyvpp.linux.privileges import NEEDED

ROOT = Path(__file__).resolve().parents[3]
NAMES = {capability.name for capability in NEEDED}


def test_the_numbers_are_those_of_linux() -> None:
    """As libcap prints them, where it is installed; the kernel's header does not change."""
    try:
        decoded = subprocess.run(
            ["capsh", f"--decode={privileges.bits(NEEDED):x}"], capture_output=True, text=True, check=True
        ).stdout
    except FileNotFoundError:
        pytest.skip("capsh is not installed")
    assert set(decoded.partition("=")[2].strip().split(",")) == {name.lower() for name in NAMES}


def test_the_unit_grants_what_is_needed() -> None:
    unit = (ROOT / "packaging/systemd/pyvpp.service").read_text()
    (granted,) = re.findall(r"^CapabilityBoundingSet=(.*)$", unit, re.M)
    assert set(granted.split()) == NAMES


def test_what_is_given_up_is_gone_for_children_too() -> None:
    """In a process of its own: it cannot be undone."""
    code = """
import subprocess
from pyvpp.linux import privileges
privileges.reduce(1 << 12 | 1 << 13)
has = privileges.of()
print(has.effective | has.permitted | has.inheritable | has.ambient, has.bounding, has.no_new)
subprocess.run(["grep", "-E", "^(CapPrm|NoNewPrivs)", "/proc/self/status"])
"""
    before = privileges.of()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    mine, children = done.stdout.split("\n", 1)
    assert children.split() == ["CapPrm:", f"{before.permitted & 0x3000:016x}", "NoNewPrivs:", "1"]
    left, bounding, no_new = mine.split()
    assert (int(left), no_new) == (before.permitted & 0x3000, "True")
    if os.geteuid() == 0:
        assert int(bounding) == before.bounding & 0x3000


def test_the_directory_is_made_and_nobody_else_may_write_in_it(tmp_path: Path) -> None:
    directory = tmp_path / "run" / "pyvpp"
    runtime_dir.provide(directory, None)
    assert directory.stat().st_mode & 0o7777 == 0o750
    runtime_dir.provide(directory, str(os.getegid()))
    assert directory.stat().st_mode & 0o7777 == 0o2750
    directory.chmod(0o770)
    with pytest.raises(OperatorError, match=r"others may write in it \(mode 770, expected 750\)"):
        runtime_dir.provide(directory, None)


def test_groups_by_name_and_number() -> None:
    assert runtime_dir.group_number("root") == 0 and runtime_dir.group_number("4242") == 4242
    with pytest.raises(OperatorError, match="--group nobody-has-it: no such group"):
        runtime_dir.group_number("nobody-has-it")
