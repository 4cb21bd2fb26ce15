# SPDX-License-Identifier: Apache-2.0
"""The bench's side of the agents, and TCP by iperf3 where that is installed."""

import contextlib
import json
import math
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pyvpp.bench.live.cpu import CpuTime, Meter
from pyvpp.lab.process import LabError
from pyvpp.linux.sandbox import Namespace, Sandbox

PATIENCE = 15.0
IPERF3_PORT = 5201
WARM_UP = 0.25  # s in which TCP finds its rate; not counted


class Agent:
    """An agent in a namespace; `call` asks it."""

    def __init__(self, sandbox: Sandbox, namespace: Namespace) -> None:
        self.namespace = namespace
        self._socket, theirs = socket.socketpair()
        command = [sys.executable, "-I", "-S", str(Path(__file__).with_name("agent.py"))]
        with theirs:
            self.process = sandbox.start(namespace, command, theirs.fileno(), theirs.fileno())
        self._answers = self._socket.makefile("r")

    def call(self, what: str, patience: float = PATIENCE, **arguments: Any) -> Any:
        """What the agent answers. Raises LabError: it failed, or said nothing in time."""
        self._socket.settimeout(patience)
        try:
            self._socket.sendall(json.dumps({"do": what, **arguments}).encode() + b"\n")
            line = self._answers.readline()
            answer = json.loads(line)
        except (OSError, ValueError) as error:
            raise LabError(f"{self.namespace.name}: {what}: no answer: {error}") from error
        if "error" in answer:
            raise LabError(f"{self.namespace.name}: {what}: {answer['error']}")
        return answer["ok"]

    def close(self) -> None:
        """It ends when its input does."""
        self._answers.close()
        self._socket.close()


@contextlib.contextmanager
def stopping(*agents: Agent) -> Iterator[None]:
    """Whatever happens, the agents end what they were told to begin: the sender first."""
    try:
        yield
    finally:
        for agent in agents:
            agent.call("stop")


@dataclass(frozen=True)
class Throughput:
    bits_per_second: float
    cpu: CpuTime
    """a second"""


class TcpGenerator(Protocol):
    """Who makes TCP load."""

    name: str

    def run(
        self, sender: Agent, receiver: Agent, address: str, streams: int, seconds: float, meter: Meter
    ) -> Throughput: ...


class PythonTcp:
    """TCP by the agents: a thread a stream, 128 KiB a system call, what arrives counted at the receiver."""

    name = "Python's sockets"

    def run(
        self, sender: Agent, receiver: Agent, address: str, streams: int, seconds: float, meter: Meter
    ) -> Throughput:
        with stopping(sender, receiver):
            port = receiver.call("listen", address=address, streams=streams)
            sender.call("connect", address=address, port=port, streams=streams)
            time.sleep(WARM_UP)
            before, began = receiver.call("count")
            meter.begin()
            time.sleep(seconds)
            after, ended = receiver.call("count")
            cpu = meter.end()
        return Throughput((after - before) * 8e9 / (ended - began), cpu)


class Iperf3:
    """TCP by iperf3; it counts whole seconds."""

    def __init__(self, path: str, version: str) -> None:
        self._path = path
        self.name = version

    def run(
        self, sender: Agent, receiver: Agent, address: str, streams: int, seconds: float, meter: Meter
    ) -> Throughput:
        whole = max(1, math.ceil(seconds))
        with stopping(sender, receiver):
            receiver.call("begin", command=[self._path, "-s", "-1", "-B", address, "-p", str(IPERF3_PORT)])
            meter.begin()
            command = [self._path, "-c", address, "-p", str(IPERF3_PORT), "-P", str(streams), "-t", str(whole), "-J"]
            said = self._insist(sender, command, whole + PATIENCE)
            cpu = meter.end()
        return Throughput(float(said["end"]["sum_received"]["bits_per_second"]), cpu)

    @staticmethod
    def _insist(sender: Agent, command: list[str], patience: float) -> dict[str, Any]:
        """Asks again while the server is not listening yet."""
        deadline = time.monotonic() + PATIENCE
        while True:
            sender.call("begin", command=command)
            output = sender.call("end", patience + PATIENCE, within=patience)
            try:
                said: dict[str, Any] = json.loads(output)
            except ValueError:
                said = {"error": output}
            if "error" not in said:
                return said
            if "refused" not in said["error"] or time.monotonic() > deadline:
                raise LabError(f"iperf3: {said['error']}")
            time.sleep(0.02)


def tcp_generator() -> TcpGenerator:
    """iperf3 where it is installed, otherwise Python."""
    if path := shutil.which("iperf3"):
        with contextlib.suppress(OSError, subprocess.SubprocessError, IndexError):
            said = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=PATIENCE)
            if said.returncode == 0:
                return Iperf3(path, " ".join(said.stdout.split()[:2]))
    return PythonTcp()
