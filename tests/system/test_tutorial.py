# SPDX-License-Identifier: Apache-2.0
"""docs/writing-a-node.md ends on live traffic: the node marks what Linux sends, is reloaded, and no packet is lost."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.page import Shell, blocks, page, write_files
from tests.system.process import eventually

PAGE = page("writing-a-node.md")
ENDED = r"pyvpp lab: {}: (\d+) sent, (\d+) arrived \((.*)\), 0 lost"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    made = Shell(tmp_path)
    yield made
    made.close()


def marked(shell: Shell) -> int:
    found = re.search(r"(\d+) +dscp-mark +packets marked", shell.run("pyvppctl -s live/cli.sock show errors"))
    return int(found[1]) if found else 0


def test_from_an_empty_folder_to_a_node_on_live_traffic(shell: Shell) -> None:
    write_files(PAGE, shell.folder)
    said: dict[str, str] = {}
    for language, _, text in blocks(PAGE):
        for line in text.splitlines():
            command = line.removeprefix("$ ")
            if language == "live" or command.startswith("sed "):  # what the page's other commands do to the file
                said[command] = shell.run(command)
            if language == "live" and ("dscp-mark host-client" in command or "plugin reload" in command):
                before = marked(shell)
                eventually(lambda before=before: marked(shell) > before + 100, "packets are marked")  # type: ignore[misc]
    (reloaded,) = [text for command, text in said.items() if "plugin reload" in command]
    assert reloaded.startswith("plugin dscp-mark: version 2 (")
    (trace,) = [text for command, text in said.items() if command.endswith("show trace")]
    assert ": dscp-mark" in trace
    ((status, output),) = shell.close()
    assert status == 0, output
    there, back = (re.search(ENDED.format(way), output) for way in ("client to server", "server to client"))
    assert there and back, output
    assert re.search(r"\d+ with DSCP 46", there[3])
    assert back[3] == f"{back[1]} with DSCP 0"
