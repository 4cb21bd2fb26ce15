# SPDX-License-Identifier: Apache-2.0
"""The agent's traffic over the loopback, the frames of the flood, the search for the lossless rate, processor time."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from pyvpp.bench.live import small_packets
from pyvpp.bench.live.agent import Agent as Worker
from pyvpp.bench.live.agent import received, round_trips
from pyvpp.bench.live.cpu import Meter, busy_seconds, process_ns, process_seconds
from pyvpp.bench.live.latency import latency
from pyvpp.bench.live.scenario import Conditions
from pyvpp.bench.live.traffic import Agent, Iperf3, PythonTcp, tcp_generator
from pyvpp.lab.process import LabError

HERE = "127.0.0.1"


class NoSandbox:
    """Starts processes where the test runs."""

    def __init__(self) -> None:
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, namespace: object, command: list[str], output: int, stdin: int) -> subprocess.Popen[bytes]:
        self.processes.append(
            subprocess.Popen(command, stdin=stdin, stdout=output, stderr=output, start_new_session=True)
        )
        return self.processes[-1]


@pytest.fixture
def agents() -> Iterator[tuple[Agent, Agent]]:
    sandbox = NoSandbox()
    here = SimpleNamespace(name="here")
    pair = Agent(sandbox, here), Agent(sandbox, here)  # type: ignore[arg-type]
    yield pair
    for agent in pair:
        agent.close()
    for process in sandbox.processes:
        assert process.wait(10) == 0  # their input ended


@pytest.mark.slow
def test_tcp_by_python(agents: tuple[Agent, Agent]):
    sender, receiver = agents
    meter = Meter([sender.process.pid], [agent.process.pid for agent in agents])
    found = PythonTcp().run(sender, receiver, HERE, 2, 0.2, meter)
    assert found.bits_per_second > 1e7
    assert 0 < found.cpu.pyvpp <= os.cpu_count()  # type: ignore[operator]
    assert sender.call("count")[0] == receiver.call("count")[0] == 0  # stopped and forgotten


IPERF3 = """#!{python}
import json, pathlib, sys, time
tries = pathlib.Path(__file__).with_suffix(".tries")
if "--version" in sys.argv:
    print("iperf 9.9 (cJSON)\\nLinux")
elif "-s" in sys.argv:
    time.sleep(60)
elif not tries.exists():
    tries.touch()
    print(json.dumps({{"error": "unable to connect to server: Connection refused"}}))
elif "127.0.0.1" in sys.argv:
    print(json.dumps({{"end": {{"sum_received": {{"bits_per_second": 4e9}}}}}}))
else:
    print("no route")
"""


@pytest.mark.slow
def test_iperf3_is_taken_where_it_is(agents: tuple[Agent, Agent], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert isinstance(tcp_generator(), PythonTcp)
    program = tmp_path / "iperf3"
    program.write_text(IPERF3.format(python=sys.executable))
    program.chmod(0o755)
    found = tcp_generator()
    assert isinstance(found, Iperf3) and found.name == "iperf 9.9"
    sender, receiver = agents
    assert found.run(sender, receiver, HERE, 1, 0.1, Meter([], [])).bits_per_second == 4e9  # at the second attempt
    with pytest.raises(LabError, match="iperf3: no route"):
        found.run(sender, receiver, "203.0.113.1", 1, 0.1, Meter([], []))


@pytest.mark.slow
def test_latency_counts_every_answer(agents: tuple[Agent, Agent]):
    client, server = agents
    ends = SimpleNamespace(client=client, server=server, server_address=HERE, pyvpps=[])
    found = latency(0)(ends, Conditions(PythonTcp(), 0.1))  # type: ignore[arg-type]
    assert 0 < found["p50"] <= found["p99"] and found["lost"] == 0


@pytest.mark.slow
def test_what_an_agent_cannot_do_is_told(agents: tuple[Agent, Agent]):
    client, _ = agents
    with pytest.raises(LabError, match="here: listen: OSError"):
        client.call("listen", address="203.0.113.1", streams=1)
    with pytest.raises(LabError, match="here: sing: AttributeError"):
        client.call("sing")
    assert client.call("count")[0] == 0  # and goes on


@pytest.mark.slow
def test_an_agent_that_dies_is_told(agents: tuple[Agent, Agent]):
    client, _ = agents
    client.process.kill()
    client.process.wait()
    with pytest.raises(LabError, match="no answer"):
        client.call("count")
    client.process.returncode = 0


def test_requests_nobody_answers(monkeypatch: pytest.MonkeyPatch):
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as deaf:
        deaf.bind((HERE, 0))
        monkeypatch.setattr("pyvpp.bench.live.agent.LOST_AFTER", 0.01)
        found = round_trips(HERE, deaf.getsockname()[1], 0.03, 0)
    assert found["times"] == [] and found["lost"] >= 1


def test_a_command_is_run_and_killed_when_it_takes_too_long():
    worker = Worker()
    worker.begin([sys.executable, "-c", "print('said')"])
    assert worker.end(10) == "said\n"
    worker.begin([sys.executable, "-c", "import time; time.sleep(60)"])
    began = time.monotonic()
    assert worker.end(0.1) == "" and time.monotonic() - began < 10


def test_received_counts_the_loopback():
    before = received("lo")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sending:
        sending.bind((HERE, 0))
        sending.sendto(b"x", sending.getsockname())
        sending.recv(16)
    assert received("lo") > before
    with pytest.raises(OSError, match="no interface nowhere"):
        received("nowhere")


def test_frames_as_scapy_reads_them():
    frames = [bytes.fromhex(frame) for frame in small_packets.small_frames("02:00:00:00:00:01", "02:00:00:00:00:02")]
    assert {len(frame) for frame in frames} == {60}
    ports = set()
    for frame in frames:
        packet = Ether(frame)
        assert (packet.src, packet.dst, packet.type) == ("02:00:00:00:00:01", "02:00:00:00:00:02", 0x800)
        assert (packet[IP].src, packet[IP].dst, packet[IP].len) == ("10.9.1.2", "10.9.2.77", 46)
        fresh = packet[IP].copy()
        del fresh.chksum
        assert bytes(fresh)[10:12] == frame[24:26]
        assert packet[UDP].len == 26
        ports.add(packet[UDP].sport)
    assert len(ports) == small_packets.FLOWS


@pytest.mark.parametrize(
    ("limit", "least", "most"), [(9.0, 4.0, 4.0), (1.0, 0.9, 1.0), (3.1, 2.9, 3.1), (0.0, 0.0, 0.0)]
)
def test_bisection(limit: float, least: float, most: float):
    tried: list[float] = []

    def holds(rate: float) -> bool:
        tried.append(rate)
        return rate <= limit

    assert least <= small_packets.bisected(holds, 4.0) <= most
    assert tried[0] == 4.0 and len(tried) <= small_packets.PACED_STEPS


def test_times_of_linux():
    assert busy_seconds("cpu  100 50 200 9999 30 20 10 7 0 0\ncpu0 1 2 3\n") == pytest.approx(3.8)
    stat = "42 (a (b) c) S 2 7 9 0 -1 0 0 0 0 0 150 50 0 0 20 0 1 0 0 0"
    assert process_seconds(stat) == (2, 9, pytest.approx(2.0))
    assert process_ns(os.getpid()) > 0 and process_ns(1 << 22) == 0


def test_the_meter_sees_what_a_process_takes():
    meter = Meter([os.getpid()], [])
    meter.begin()
    deadline = time.thread_time() + 0.1
    while time.thread_time() < deadline:
        pass
    found = meter.end()
    assert 0.02 < found.pyvpp <= os.cpu_count()  # type: ignore[operator]
