# SPDX-License-Identifier: Apache-2.0
"""docs/writing-a-node.md does what it says: its files, in an empty folder, its commands one after another."""

import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from scapy.layers.inet import IP
from scapy.layers.l2 import Ether
from scapy.utils import rdpcap

from pyvpp.jit import COMPILED

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "writing-a-node.md"
PROGRAMS = {
    "pyvpp": [sys.executable, "-m", "pyvpp.main"],
    "pyvppctl": [sys.executable, "-m", "pyvpp.cli.client"],
    "python": [sys.executable],
    "sed": ["sed"],
}
EXPEDITED = 46
PACKETS = 1000

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not COMPILED, reason="an engine runs compiled only")]


def blocks() -> Iterator[tuple[str, str, str]]:
    """The page's code: language, file name, text."""
    for found in re.finditer(r"^```(\w+) ?(\S*)\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE):
        yield found[1], found[2], found[3]


class Shell:
    """Runs the page's commands in a folder; what ends with & goes on until `close`."""

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
            assert stdout and "pyvpp: ready\n" in iter(stdout.readline, "")
            return ""
        ran = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=250
        )
        assert ran.returncode == status, f"{line}: {ran.stdout}{ran.stderr}"
        return ran.stdout + ran.stderr

    def close(self) -> None:
        for process in self.running:
            process.terminate()
            process.communicate(timeout=60)


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    made = Shell(tmp_path)
    yield made
    made.close()


def test_from_an_empty_folder_to_marked_packets(shell):
    said: dict[str, str] = {}
    reloads: list[str] = []
    sent = 0
    for language, name, text in blocks():
        if name:
            (shell.folder / name).write_text(text)
            continue
        assert language in ("console", "refused")
        for line in text.splitlines():
            command = line.removeprefix("$ ")
            refused = language == "refused" and command.startswith("pyvppctl")
            said[command] = shell.run(command, status=1 if refused else 0)
            if command.endswith("enable-stream"):
                sent += PACKETS
                all_packets_left(shell, sent)
            if "plugin reload" in command:
                reloads.append(said[command])
    (checked,) = [text for command, text in said.items() if "plugin check" in command]
    assert checked.startswith("ok    dscp-mark: 50 random frames")
    (shown,) = [text for command, text in said.items() if command.endswith("show plugins")]
    assert "dscp-mark: write an interface's DSCP into each IPv4 packet" in shown
    assert reloads[0].startswith("plugin dscp-mark: version 2 (")
    mistake = (
        f"{shell.folder / 'dscp_mark.py'}:{line_of_mistake(shell)}: node dscp-mark: the name patchd is not defined"
    )
    assert f"plugin dscp-mark: version 2 stays: {mistake}" in reloads[1]
    assert f"refused: {mistake}" in shown
    (back,) = [text for command, text in said.items() if "plugin rollback" in command]
    assert back.startswith("plugin dscp-mark: version 1 (")
    (errors,) = [text for command, text in said.items() if command.endswith("show errors")]
    assert re.search(rf"{sent} +dscp-mark +packets marked", errors)
    (trace,) = [text for command, text in said.items() if command.endswith("show trace")]
    assert "dscp-mark" in trace
    packets = rdpcap(str(shell.folder / "marked.pcap"))
    assert len(packets) == PACKETS
    for packet in packets:
        judged = Ether(bytes(packet))[IP]
        checksum = judged.chksum
        del judged.chksum
        assert (judged.tos >> 2, IP(bytes(judged)).chksum) == (EXPEDITED, checksum)


def all_packets_left(shell: Shell, packets: int) -> None:
    deadline = time.monotonic() + 30
    while f" {packets} " not in shell.run("pyvppctl -s run/cli.sock show errors"):
        assert time.monotonic() < deadline


def line_of_mistake(shell: Shell) -> int:
    lines = (shell.folder / "dscp_mark.py").read_text().splitlines()
    return 1 + next(k for k, line in enumerate(lines) if "patchd(" in line)


def test_the_files_are_as_ruff_wants_them(tmp_path):
    for _, name, text in blocks():
        if name.endswith(".py"):
            (tmp_path / name).write_text(text)
    settings = ["--no-cache", "--config", str(ROOT / "pyproject.toml"), str(tmp_path)]
    for command in ("check", "format --check"):
        ran = subprocess.run(
            [sys.executable, "-m", "ruff", *command.split(), *settings], capture_output=True, text=True
        )
        assert ran.returncode == 0, ran.stdout
