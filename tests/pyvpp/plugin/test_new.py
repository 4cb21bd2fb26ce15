# SPDX-License-Identifier: Apache-2.0
"""`pyvpp plugin new`: what it makes passes its own tests, and names that cannot be are refused in one line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pyvpp.jit import COMPILED
from pyvpp.main import main
from pyvpp.plugin.find import PATHS

ROOT = Path(__file__).resolve().parents[3]


def child(*arguments: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    """Another Python that finds pyvpp in this checkout, and its compiled code where ours is."""
    paths = [str(ROOT), str(ROOT / "graph_nodes"), str(ROOT / "plugins")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    environment.pop(PATHS, None)
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=280
    )


@pytest.mark.slow
@pytest.mark.skipif(not COMPILED, reason="an engine runs compiled only")
def test_what_is_made_passes_its_tests_and_the_linters(tmp_path, capsys):
    assert main(["plugin", "new", "ttl-guard", "--directory", str(tmp_path)]) == 0
    project = tmp_path / "pyvpp-ttl-guard"
    assert f"{project} has the node ttl-guard" in capsys.readouterr().out
    ran = child("-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=project)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "6 passed" in ran.stdout
    for linter in (("check",), ("format", "--check")):
        ran = child("-m", "ruff", *linter, "--no-cache", ".", cwd=project)
        assert ran.returncode == 0, ran.stdout


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("TTL_Guard", "a name is words of a-z and 0-9 with - between (did you mean ttl-guard?)"),
        ("2fast", "a name is words of a-z and 0-9 with - between (did you mean fast?)"),
        ("-", "a name is words of a-z and 0-9 with - between (expected such as ttl-guard)"),
        ("../up", "a name is words of a-z and 0-9 with - between (did you mean up?)"),
        ("pyvpp-acl", "the package is called pyvpp-... anyway (expected acl)"),
        ("x" * 31, "31 letters (expected at most 30)"),
        ("class", "a word that Python or the package needs itself"),
        ("cli", "a word that Python or the package needs itself"),
        ("ip4-lookup", "there is a node of that name (pyvpp_nodes.ip4.lookup)"),
        ("state", "there is a command `set interface state' already"),
    ],
)
def test_a_name_that_cannot_be(tmp_path, capsys, name, said):
    assert main(["plugin", "new", "--directory", str(tmp_path), "--", name]) == 1
    assert capsys.readouterr() == ("", f"pyvpp: plugin new {name}: {said}\n")
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_stays(tmp_path, capsys):
    (tmp_path / "pyvpp-ttl-guard").mkdir()
    assert main(["plugin", "new", "ttl-guard", "--directory", str(tmp_path)]) == 1
    assert "pyvpp-ttl-guard exists already" in capsys.readouterr().err
    (tmp_path / "file").touch()
    assert main(["plugin", "new", "ttl-guard", "--directory", str(tmp_path / "file")]) == 1
    assert "plugin new ttl-guard: " in capsys.readouterr().err
