# SPDX-License-Identifier: Apache-2.0
import asyncio
import dataclasses
from pathlib import Path

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.utils import rdpcap

from pyvpp import dispatch as d
from pyvpp import pcap_cli
from pyvpp.cli.parser import CommandTree
from pyvpp.cli.registry import CommandError, commands_in
from pyvpp.errors import OperatorError
from pyvpp.jit import COMPILED
from pyvpp.pcap import PacketCapture, write


def test_scapy_reads_what_was_written(tmp_path: Path):
    packets = [Ether() / IP(src="10.0.0.1") / UDP(sport=n) / bytes(n) for n in range(1, 60)]
    times = [1_700_000_000_000_000_000 + 1_000_000 * n for n in range(1, 60)]
    path = tmp_path / "t.pcap"
    assert write(path, [(t, bytes(p), len(p)) for t, p in zip(times, packets, strict=True)]) == 59
    read = rdpcap(str(path))
    assert [bytes(p) for p in read] == [bytes(p) for p in packets]
    assert [round(float(p.time) * 1000) for p in read] == [t // 1_000_000 for t in times]


@pytest.fixture
def engine():
    from pyvpp.engine import Engine

    if not COMPILED:
        pytest.skip("the loop runs compiled only")
    made = Engine(buffers=512, hugepages="off")
    yield made
    made.close()


def run(engine, line: str) -> str:
    answer = asyncio.run(CommandTree(commands_in(pcap_cli)).run(engine, line))
    return answer.text if dataclasses.is_dataclass(answer) else str(answer)


def test_drops_are_captured_up_to_max(engine, tmp_path: Path):
    path = tmp_path / "drop.pcap"
    free = engine.buffers.free
    run(engine, f"pcap trace drop max 3 intfc any file {path}")
    for _ in range(5):
        assert engine.inject(b"\x65" + bytes(59), "ip4-input")
    engine.run(2)
    assert "3 of 3 pkts" in run(engine, "pcap trace status")
    assert "Write 3 packets" in run(engine, "pcap trace off")
    assert [bytes(p) for p in rdpcap(str(path))] == [b"\x65" + bytes(59)] * 3
    assert engine.buffers.free == free + 5
    assert engine.workers[0].control[d.CAPTURE_KINDS] == 0


def test_one_interface_only(engine, tmp_path: Path):
    capture = PacketCapture(engine)
    capture.start(d.CAPTURE_DROP, tmp_path / "a", 10, 7, 40)
    engine.inject(b"\x65" + bytes(59), "ip4-input", rx=3)
    engine.inject(b"\x65" + bytes(59), "ip4-input", rx=7)
    engine.run(2)
    assert capture.stop()[0] == 1
    assert [(len(p), p.wirelen) for p in rdpcap(str(tmp_path / "a"))] == [(40, 60)]


def test_mistakes(engine, tmp_path: Path):
    capture = PacketCapture(engine)
    with pytest.raises(OperatorError, match="already disabled"):
        capture.stop()
    with pytest.raises(OperatorError, match="No such file"):
        capture.start(1, tmp_path / "no" / "where", 10, 0, 10)
    with pytest.raises(OperatorError, match="max 0"):
        capture.start(1, tmp_path / "a", 0, 0, 10)
    with pytest.raises(CommandError, match="rx"):
        run(engine, "pcap trace sideways")
