# SPDX-License-Identifier: Apache-2.0
"""docs/plugin-kit.md does what it says: senders are counted, packets leave by GRE, and come back."""

import json
import re
import socket
import time
import urllib.request
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import GRE, Ether
from scapy.utils import rdpcap

from pyvpp.jit import COMPILED
from tests.docs.page import Shell, blocks, check_with_ruff, page, wait_for_errors, write_files

PAGE = page("plugin-kit.md")
PACKETS, SENDERS, BACK = 1000, 10, 50

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not COMPILED, reason="an engine runs compiled only")]


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    made = Shell(tmp_path)
    yield made
    made.close()


def ctl(shell: Shell, line: str) -> str:
    return shell.run(f"pyvppctl -s run/cli.sock {line}")


def test_the_page_as_it_stands(shell):
    write_files(PAGE, shell.folder)
    port = free_port()
    settings = shell.folder / "pyvpp.toml"
    settings.write_text(settings.read_text().replace("19482", str(port)))
    said: dict[str, str] = {}
    for line in "".join(text for language, name, text in blocks(PAGE) if language == "console").splitlines():
        command = line.removeprefix("$ ")
        said[command] = shell.run(command)
        if command.endswith("enable-stream"):
            wait_for_errors(shell, PACKETS)
    output = "\n".join(said.values())
    assert "ok    census: 50 random frames" in output and "ok    gre4-input: 50 random frames" in output
    assert "ok    census-newcomer: kind slow" in output and "ok    census-process: kind process" in output
    assert "census: a newcomer" in output
    assert "gre0 src 10.2.0.1 dst 10.2.0.2" in output
    assert "node census-newcomer, type slow, state event wait" in output
    assert re.search(r"census-process +any wait", output)

    counted = json.loads(ctl(shell, "--json show census"))
    assert counted["new"] == SENDERS
    assert counted["senders"] == [
        {"sender": str(IPv4Address("10.1.0.2") + k), "packets": PACKETS // SENDERS} for k in range(SENDERS)
    ]
    assert f"{SENDERS} newcomers, {SENDERS} senders" in ctl(shell, "show census")
    alone = json.loads(ctl(shell, "--json show census sender 10.1.0.5"))
    assert alone["senders"] == [{"sender": "10.1.0.5", "packets": PACKETS // SENDERS}]

    told(port)
    packets = [Ether(bytes(packet)) for packet in rdpcap(str(shell.folder / "sent.pcap"))]
    assert len(packets) == PACKETS
    for packet in packets:
        outer, inner = packet[IP], packet[GRE].payload
        checksum = outer.chksum
        del outer.chksum
        assert IP(bytes(outer)).chksum == checksum
        assert (outer.src, outer.dst, outer.ttl, outer.len) == ("10.2.0.1", "10.2.0.2", 63, 24 + inner.len)
        assert (inner.dst, inner.ttl, inner[UDP].dport) == ("198.18.0.1", 63, 4000)
    come_back(shell)
    ctl(shell, "delete gre tunnel gre0")
    assert ctl(shell, "show gre tunnel") == ""
    assert "gre0" not in ctl(shell, "show interface")


def free_port() -> int:
    """The page's own may be somebody's."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def told(port: int) -> None:
    """What Prometheus gets, where the file says."""
    deadline = time.monotonic() + 60
    while f"\npyvpp_census_senders {SENDERS:.1f}\n" not in scraped(port):
        assert time.monotonic() < deadline
    text = scraped(port)
    assert f'pyvpp_interface_rx_packets_total{{interface="pg0"}} {PACKETS:.1f}' in text
    assert re.search(r'pyvpp_node_counter_total{node="census",reason="packets counted",severity="info"} 1000.0', text)


def scraped(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        return str(answer.read().decode())


def come_back(shell: Shell) -> None:
    """The other end sends through the tunnel, and once what it should not."""
    outer = Ether(src="02:00:00:00:02:02", dst="02:fe:00:00:00:02") / IP(src="10.2.0.2", dst="10.2.0.1")
    inner = IP(src="198.18.0.1", dst="10.1.0.2", ttl=9) / UDP(sport=4000, dport=1234) / b"back"
    with_key = outer / GRE(key_present=1, key=7) / inner
    stranger = (
        Ether(src="02:00:00:00:02:02", dst="02:fe:00:00:00:02") / IP(src="10.2.0.3", dst="10.2.0.1") / GRE() / inner
    )
    ctl(shell, "packet-generator capture pg0 pcap heard.pcap")
    for name, limit, packet in (("back", BACK, outer / GRE() / inner), ("key", 1, with_key), ("stranger", 1, stranger)):
        stream = f"name {name} limit {limit} interface pg1 data {{ hex 0x{bytes(packet).hex()} }}"
        ctl(shell, f"packet-generator new {{ {stream} }}")
        ctl(shell, f"packet-generator enable-stream {name}")
    counted = ((BACK, "packets decapsulated"), (1, "no tunnel"), (1, "gre header not supported"))
    deadline = time.monotonic() + 60
    while not all(
        re.search(rf" {count} +gre4-input +{reason}", errors)
        for errors in [ctl(shell, "show errors")]
        for count, reason in counted
    ):
        assert time.monotonic() < deadline, ctl(shell, "show errors")
    ctl(shell, "packet-generator capture pg0 disable")
    heard = [Ether(bytes(packet)) for packet in rdpcap(str(shell.folder / "heard.pcap"))]
    assert [(packet[IP].src, packet[IP].dst, packet[IP].ttl) for packet in heard] == [
        ("198.18.0.1", "10.1.0.2", 8)
    ] * BACK


def test_the_files_are_as_ruff_wants_them(tmp_path):
    check_with_ruff(PAGE, tmp_path)
