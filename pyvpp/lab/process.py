# SPDX-License-Identifier: Apache-2.0
"""A pyvpp in a namespace of the lab, started by the command line a user types and asked through its CLI socket."""

import contextlib
import signal
import subprocess
import sys
import time
from pathlib import Path

from pyvpp.cli.client import Client, NoServerError
from pyvpp.linux.sandbox import Namespace, Sandbox

START_PATIENCE = 600.0  # the first start compiles
STOP_PATIENCE = 15.0


class LabError(Exception):
    """Something in the lab did not do what it should; the message says what was seen instead."""


class PyvppProcess:
    """`pyvpp OPTIONS` in a namespace. Its runtime directory and its log lie in the lab's directory."""

    def __init__(self, name: str, host: Namespace, directory: Path, *options: str) -> None:
        self.name = name
        self.host = host
        self.options = options
        self.runtime_dir = directory / name
        self.runtime_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.log = directory / f"{name}.log"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def start(self, sandbox: Sandbox, *more: str) -> None:
        """Runs it, with more options of its command line. It is not ready yet."""
        options = (*self.options, *more, "--runtime-dir", str(self.runtime_dir))
        command = [sys.executable, "-m", "pyvpp.main", *options]
        with self.log.open("wb") as output:
            self.process = sandbox.start(self.host, command, output)

    def wait_until_ready(self) -> None:
        """Raises LabError with its last words when it ends instead."""
        assert self.process is not None
        deadline = time.monotonic() + START_PATIENCE
        while "pyvpp: ready" not in self.log.read_text():
            if self.process.poll() is not None:
                raise LabError(f"pyvpp on {self.name} ended with {self.process.returncode}: {self.last_words()}")
            if time.monotonic() > deadline:
                raise LabError(f"pyvpp on {self.name} is not ready after {START_PATIENCE:.0f} s")
            time.sleep(0.05)

    def last_words(self) -> str:
        """The last line of its log."""
        return (self.log.read_text(errors="replace").strip().splitlines() or ["nothing said"])[-1]

    def ctl(self, command: str) -> str:
        """Runs a command and returns what it prints. Raises LabError when it fails."""
        try:
            with contextlib.closing(Client(self.runtime_dir / "cli.sock")) as client:
                answer = client.command(command)
        except NoServerError as error:
            raise LabError(f"{self.name}: {error}") from error
        if answer["status"]:
            raise LabError(f"{self.name}: `{command}`: {answer['error'] or answer['output']}")
        return str(answer["output"] or "")

    def stop(self) -> None:
        """SIGTERM; Linux must have everything back. Raises LabError."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(STOP_PATIENCE)
        except subprocess.TimeoutExpired:
            raise LabError(f"pyvpp on {self.name} does not stop at SIGTERM") from None
        if status:
            raise LabError(f"pyvpp on {self.name} ended with status {status}")
