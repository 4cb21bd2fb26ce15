# SPDX-License-Identifier: Apache-2.0
"""What is asked of a process that compiles plugins (`pyvpp.plugin.builder`), and the end of it that asks."""

import contextlib
import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass


@dataclass
class Request:
    """Builds `plugin`, among versions that were reloaded before: their sources by the plugins' names."""

    plugin: str
    versions: dict[str, str]
    frames: int
    patience: float
    """seconds that a kernel may take for its random frames"""
    checked: bool
    """whether it is to run with bounds checks afterwards"""


@dataclass
class Answer:
    error: str = ""
    seconds: float = 0.0


class Builder:
    """The other end of a `pyvpp.plugin.builder` process, started when first needed."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = environment
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> "subprocess.Popen[str]":
        if self._process is None or self._process.poll() is not None:
            self.close()
            self._process = subprocess.Popen(
                [sys.executable, "-m", "pyvpp.plugin.builder"], env={**os.environ, **self._environment},
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
        return self._process

    def build(self, request: Request) -> Answer:
        """Waits for the answer: for a thread of its own."""
        process = self.start()
        assert process.stdin and process.stdout
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(json.dumps(asdict(request)) + "\n")
            process.stdin.flush()
        line = process.stdout.readline()
        return Answer(**json.loads(line)) if line else Answer(f"the compiler process ended: status {process.wait()}")

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                assert pipe
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
            self._process = None
