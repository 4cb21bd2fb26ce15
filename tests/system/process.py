# SPDX-License-Identifier: Apache-2.0
"""The command `pyvpp` as a process in a namespace, and `pyvppctl` to talk to it."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pyvpp import demo
from pyvpp.cli.client import Client
from tests.system.conftest import Namespace, Sandbox

PATIENCE = 20.0


def eventually(condition: Callable[[], Any], what: str, seconds: float = PATIENCE) -> None:
    """Returns as soon as the condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.02)


def ping(source: Namespace, address: str, count: int = 1) -> int:
    """How many of so many echo requests were answered."""
    return len(demo.ping(source, address, count))  # type: ignore[arg-type]


def pyvpp_command(*options: str | Path) -> tuple[str | Path, ...]:
    return (sys.executable, "-m", "pyvpp.main", *options)


class Pyvpp:
    """A running `pyvpp`; made by `running`."""

    def __init__(
        self, sandbox: Sandbox, namespace: Namespace, *options: str | Path, command: tuple[str | Path, ...] = ()
    ) -> None:
        self.runtime_dir = sandbox.directory / f"run-{namespace.name}"
        command = command or pyvpp_command()
        self.process = sandbox.start(namespace, *command, "--runtime-dir", self.runtime_dir, *options)

    def wait_until_ready(self) -> None:
        """Reads on over what the commands of `--exec` print."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line == "pyvpp: ready\n":
                return
        raise AssertionError(self.process.communicate()[1])

    def ctl(self, line: str) -> str:
        """What a command printed; it must succeed."""
        response = self._ask(line)
        assert response["status"] == 0, f"{line}: {response['error']}"
        return str(response["output"])

    def refusal(self, line: str) -> str:
        """The error of a command that must fail."""
        response = self._ask(line)
        assert response["status"] != 0, f"{line}: {response['output']}"
        return str(response["error"])

    def data(self, line: str) -> Any:
        """A command's output as JSON."""
        return json.loads(self._ask(line, as_json=True)["output"])

    def _ask(self, line: str, *, as_json: bool = False) -> dict[str, Any]:
        with contextlib.closing(Client(self.runtime_dir / "cli.sock")) as client:
            return client.command(line, as_json)

    def counter(self, node: str, reason: str) -> int:
        """A counter of `show errors`; 0 when it is not listed."""
        found = [each["count"] for each in self.data("show errors") if (each["node"], each["reason"]) == (node, reason)]
        return int(found[0]) if found else 0

    def interface(self, name: str) -> dict[str, Any]:
        """A row of `show interface`."""
        (row,) = self.data(f"show interface {name}")
        return dict(row)

    def stop(self) -> str:
        """SIGTERM, as systemd sends it; everything must have been given back. What it printed."""
        self.process.send_signal(signal.SIGTERM)
        output, errors = self.process.communicate(timeout=PATIENCE)
        assert self.process.returncode == 0, errors
        return output


@contextlib.contextmanager
def running(sandbox: Sandbox, namespace: Namespace, *options: str | Path) -> Iterator[Pyvpp]:
    """A `pyvpp` that is ready; told to stop at the end, which must succeed."""
    pyvpp = Pyvpp(sandbox, namespace, *options)
    pyvpp.wait_until_ready()
    yield pyvpp
    pyvpp.stop()
