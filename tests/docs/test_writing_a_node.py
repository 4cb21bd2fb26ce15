# SPDX-License-Identifier: Apache-2.0
"""docs/writing-a-node.md does what it says: its files, in an empty folder, its commands one after another."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from scapy.layers.inet import IP
from scapy.layers.l2 import Ether
from scapy.utils import rdpcap

from pyvpp.jit import COMPILED
from tests.docs.page import Shell, blocks, check_with_ruff, page, wait_for_errors

PAGE = page("writing-a-node.md")
EXPEDITED = 46
PACKETS = 1000

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not COMPILED, reason="an engine runs compiled only")]


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    made = Shell(tmp_path)
    yield made
    made.close()


def test_from_an_empty_folder_to_marked_packets(shell):
    said: dict[str, str] = {}
    reloads: list[str] = []
    sent = 0
    for language, name, text in blocks(PAGE):
        if name:
            (shell.folder / name).write_text(text)
            continue
        if language == "live":  # needs root: tests/system/test_tutorial.py
            continue
        assert language in ("console", "refused")
        for line in text.splitlines():
            command = line.removeprefix("$ ")
            refused = language == "refused" and command.startswith("pyvppctl")
            said[command] = shell.run(command, status=1 if refused else 0)
            if command.endswith("enable-stream"):
                sent += PACKETS
                wait_for_errors(shell, sent)
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


def line_of_mistake(shell: Shell) -> int:
    lines = (shell.folder / "dscp_mark.py").read_text().splitlines()
    return 1 + next(k for k, line in enumerate(lines) if "patchd(" in line)


def test_the_files_are_as_ruff_wants_them(tmp_path):
    check_with_ruff(PAGE, tmp_path)
