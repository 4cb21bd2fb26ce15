# SPDX-License-Identifier: Apache-2.0
"""docs/from-a-vpp-plugin.md does what it says: each packet comes back with its MAC addresses swapped."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from scapy.layers.inet import IP
from scapy.layers.l2 import Ether
from scapy.utils import rdpcap

from pyvpp.jit import COMPILED
from tests.docs.page import Shell, blocks, check_with_ruff, page, wait_for_errors, write_files

PAGE = page("from-a-vpp-plugin.md")
PACKETS = 1000
SENDER, OURS = "02:00:00:00:01:02", "02:fe:00:00:00:01"

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not COMPILED, reason="an engine runs compiled only")]


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    made = Shell(tmp_path)
    yield made
    made.close()


def test_each_packet_comes_back_with_its_addresses_swapped(shell):
    write_files(PAGE, shell.folder)
    said: dict[str, str] = {}
    for line in "".join(text for language, name, text in blocks(PAGE) if language == "console").splitlines():
        command = line.removeprefix("$ ")
        said[command] = shell.run(command)
        if command.endswith("enable-stream"):
            wait_for_errors(shell, PACKETS)
    (checked,) = [text for command, text in said.items() if "plugin check" in command]
    assert checked.startswith("ok    sample: 50 random frames")
    (errors,) = [text for command, text in said.items() if command.endswith("show errors")]
    assert re.search(rf"{PACKETS} +sample +Mac swap packets processed", errors)
    (trace,) = [text for command, text in said.items() if command.endswith("show trace")]
    assert f"SAMPLE: sw_if_index 1, next pg0-output\n    new src {OURS} -> new dst {SENDER}" in trace
    packets = [Ether(bytes(packet)) for packet in rdpcap(str(shell.folder / "back.pcap"))]
    assert len(packets) == PACKETS
    for packet in packets:
        assert (packet.src, packet.dst) == (OURS, SENDER)
        assert (packet[IP].src, packet[IP].ttl) == ("10.1.0.2", 64)
    shell.run("pyvppctl -s run/cli.sock sample macswap pg0 disable")
    assert "sample" not in shell.run("pyvppctl -s run/cli.sock show interface features pg0")


def test_the_files_are_as_ruff_wants_them(tmp_path):
    check_with_ruff(PAGE, tmp_path)
