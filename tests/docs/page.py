# SPDX-License-Identifier: Apache-2.0
"""A page of docs/ as a test executes it: its files in an empty folder, its commands one after another."""

import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = {
    "pyvpp": [sys.executable, "-m", "pyvpp.main"],
    "pyvppctl": [sys.executable, "-m", "pyvpp.cli.client"],
    "python": [sys.executable],
    "sed": ["sed"],
}
READY = ("pyvpp: ready\n", "pyvpp lab: ready\n")


def page(name: str) -> Path:
    return ROOT / "docs" / name


def blocks(path: Path) -> Iterator[tuple[str, str, str]]:
    """A page's code: language, file name, text."""
    for found in re.finditer(r"^```(\w+) ?(\S*)\n(.*?)^```$", path.read_text(), re.DOTALL | re.MULTILINE):
        yield found[1], found[2], found[3]


def write_files(path: Path, folder: Path) -> None:
    """All files that a page shows."""
    for _, name, text in blocks(path):
        if name:
            (folder / name).write_text(text)


class Shell:
    """Runs a page's commands in a folder; what ends with & goes on until `close`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        paths = [str(ROOT), str(ROOT / "graph_nodes"), str(ROOT / "plugins")]
        self.environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
        self.running: list[subprocess.Popen[str]] = []

    def run(self, line: str, status: int = 0) -> str:
        program, *arguments = shlex.split(line.removesuffix("&"))
        command = [*PROGRAMS[program], *arguments]
        if line.endswith("&"):
            self.running.append(
                subprocess.Popen(command, cwd=self.folder, env=self.environment, stdout=subprocess.PIPE, text=True)
            )
            stdout = self.running[-1].stdout
            assert stdout and any(said in READY for said in iter(stdout.readline, ""))
            return ""
        ran = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=250
        )
        assert ran.returncode == status, f"{line}: {ran.stdout}{ran.stderr}"
        return ran.stdout + ran.stderr

    def close(self) -> list[tuple[int, str]]:
        """Ends what runs: the exit status of each, and what it has printed since it was ready."""
        ended = []
        for process in self.running:
            process.terminate()
            output = process.communicate(timeout=60)[0]
            ended.append((process.returncode, output))
        self.running.clear()
        return ended


def wait_for_errors(shell: Shell, count: int, socket: str = "run/cli.sock") -> None:
    """Until `show errors` has a counter that has counted so many."""
    deadline = time.monotonic() + 60
    while f" {count} " not in shell.run(f"pyvppctl -s {socket} show errors"):
        assert time.monotonic() < deadline


def check_with_ruff(path: Path, folder: Path) -> None:
    """The page's Python is as the project's own."""
    write_files(path, folder)
    settings = ["--no-cache", "--config", str(ROOT / "pyproject.toml"), *map(str, folder.glob("*.py"))]
    for command in ("check", "format --check --diff"):
        ran = subprocess.run(
            [sys.executable, "-m", "ruff", *command.split(), *settings], capture_output=True, text=True
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
