# SPDX-License-Identifier: Apache-2.0
"""Compiler processes: all that is asked for gets done, and what goes wrong in one is told and holds nobody up."""

import logging
import sys
from pathlib import Path

import pytest

from pyvpp.compile import compile_in_parallel, uncompiled
from pyvpp.node import Node
from pyvpp_nodes.drop.error_drop import error_drop
from pyvpp_nodes.drop.error_punt import error_punt


@pytest.fixture
def nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Node]:
    """Two nodes, and a cache with nothing in it."""
    directory = tmp_path / "cache"
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(directory))  # for the compiler processes
    monkeypatch.setattr("pyvpp.cache.directory", lambda: directory)
    return [error_drop, error_punt]


def compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Lets a shell script stand in for the compiler process."""
    path = tmp_path / "compiler"
    path.write_text("#!/bin/sh\n" + script)
    path.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(path))


@pytest.mark.parametrize("processes", [1, 2, 7])
def test_each_name_goes_to_one_process(
    nodes: list[Node], processes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler(tmp_path, monkeypatch, f'while read name; do echo "$name" | tee -a {tmp_path}/handed; done\n')
    told: list[tuple[int, int, str]] = []
    count = compile_in_parallel(nodes, lambda *step: told.append(step), processes, native=("fib", "acl"))
    names = ["<acl>", "<fib>", "<loop>", "error-drop", "error-punt"]
    assert count == 5 and [step[:2] for step in told] == [(k, 5) for k in range(1, 6)]
    assert sorted(step[2] for step in told) == names
    handed = (tmp_path / "handed").read_text().split()
    assert sorted(handed) == names
    if processes == 1:
        assert all(name.startswith("<") for name in handed[:3])  # what takes longest goes first


def test_what_cannot_be_compiled_is_told_and_the_rest_done(
    nodes: list[Node], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    compiler(
        tmp_path,
        monkeypatch,
        'while read name; do case $name in error-drop) echo "$name cannot be typed";; *) echo "$name";; esac; done\n',
    )
    told: list[str] = []
    with caplog.at_level(logging.WARNING):
        compile_in_parallel(nodes, lambda done, total, name: told.append(name), 1)
    assert sorted(told) == ["<loop>", "error-punt"]
    assert "cannot be typed" in caplog.text


def test_a_compiler_that_dies_is_told(
    nodes: list[Node], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    compiler(tmp_path, monkeypatch, "read name; echo no memory left >&2; exit 3\n")
    with caplog.at_level(logging.WARNING):
        compile_in_parallel(nodes, lambda done, total, name: pytest.fail(f"{name} is not done"), 2)
    assert caplog.text.count("no memory left") == 2


@pytest.mark.slow
def test_what_is_compiled_is_not_compiled_again(nodes: list[Node]) -> None:
    told: list[str] = []
    assert compile_in_parallel(nodes, lambda done, total, name: told.append(name), 2) == 3
    assert sorted(told) == ["<loop>", "error-drop", "error-punt"]
    assert uncompiled(nodes) == []
    assert compile_in_parallel(nodes, lambda done, total, name: pytest.fail(f"{name} again"), 2) == 0
