# SPDX-License-Identifier: Apache-2.0
"""`pyvpp` at a tenth of the price: a process that has imported and loaded everything, and forks for each command.

For tests that start it hundreds of times. What a command does is what it does otherwise, in the namespace given; only
that importing and loading is over.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.system.conftest import Namespace, environment

HOOKS = Path(__file__).parent / "fatal"
# Reads commands as JSON, a line each; answers the pid of the process that runs it, and later its end.
SERVER = """
import ctypes, functools, gc, json, os, select, signal, sys, traceback
from pyvpp import compile, daemon, main
from pyvpp.engine import Engine
from pyvpp.loader import load
from pyvpp.warmup import warm_up
import pyvpp.linux.guardian, pyvpp.linux.keeper, pyvpp.cli.assembly, pyvpp.cli.server, pyvpp.device.interfaces
import sitecustomize
declarations = load()
warm_up(declarations)
compile.load_entry = functools.cache(compile.load_entry)
daemon.warm_up = lambda declarations: None
engine = Engine(declarations, hugepages="off", buffers=1024)
engine.graph.load_templates()
engine.close()
del engine
gc.collect()
gc.freeze()
print("warm", flush=True)
ended, waker = os.pipe2(os.O_NONBLOCK)
signal.set_wakeup_fd(waker)
signal.signal(signal.SIGCHLD, lambda *_: None)

def run(words, output, netns, environment, plan, runtime_dir):
    os.setsid()
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
    for number in (1, 2):
        os.dup2(file, number)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.closerange(3, 256)
    home = os.open(netns, os.O_RDONLY)
    assert ctypes.CDLL(None, use_errno=True).setns(home, 0x40000000) == 0
    os.close(home)
    os.environ.clear()
    os.environ.update(environment)
    sitecustomize.arm("restore" if words[0] == "restore" else "dataplane", plan, runtime_dir)
    return main.main(words)

while True:
    ready = select.select([sys.stdin, ended], [], [])[0]
    if ended in ready:
        os.read(ended, 4096)
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if not pid:
                break
            print(json.dumps([pid, os.waitstatus_to_exitcode(status)]), flush=True)
    if sys.stdin in ready:
        line = sys.stdin.readline()
        if not line:
            break
        child = os.fork()
        if child == 0:
            status = 1
            try:
                status = run(**json.loads(line))
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status)
        print(json.dumps([child, None]), flush=True)
"""


@dataclass
class Process:
    """A command that was started. What it says goes to the file `output`."""

    pid: int
    output: Path
    server: Server

    def wait(self) -> int:
        """Its exit status, negative for a signal."""
        return self.server.status_of(self.pid)

    @property
    def said(self) -> str:
        return self.output.read_text()

    def is_over(self) -> bool:
        return self.server.is_over(self.pid)


class Server:
    """The process that forks; by `served`."""

    def __init__(self) -> None:
        usual = environment()
        self.environment = {**usual, "PYTHONPATH": os.pathsep.join((str(HOOKS), usual["PYTHONPATH"]))}
        self._process = subprocess.Popen(
            [sys.executable, "-c", SERVER],
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._ends: dict[int, int] = {}
        assert self._process.stdout is not None and self._process.stdout.readline() == "warm\n"

    def start(self, namespace: Namespace, output: Path, runtime_dir: Path, plan: str, *words: str) -> Process:
        """`plan` says where it and its guardian die (`fatal/sitecustomize.py`)."""
        variables = {"PYVPP_FATAL": plan, "PYVPP_FATAL_DIR": str(runtime_dir)}
        order = {
            "words": words, "output": str(output), "netns": str(namespace.path), "plan": plan,
            "runtime_dir": str(runtime_dir), "environment": {**self.environment, **variables},
        }  # fmt: skip
        output.write_text("")
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        while (told := self._listen())[1] is not None:
            pass
        self._ends.pop(told[0], None)  # another's, which had the number before
        return Process(int(told[0]), output, self)

    def _listen(self) -> list[Any]:
        assert self._process.stdout is not None
        told: list[Any] = json.loads(self._process.stdout.readline())
        if told[1] is not None:
            self._ends[told[0]] = told[1]
        return told

    def status_of(self, pid: int) -> int:
        while pid not in self._ends:
            self._listen()
        return self._ends[pid]

    def is_over(self, pid: int) -> bool:
        return pid in self._ends or not Path(f"/proc/{pid}").exists() or " Z " in Path(f"/proc/{pid}/stat").read_text()

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


@contextmanager
def served() -> Iterator[Server]:
    """Closed in the end, however that comes."""
    server = Server()
    try:
        yield server
    finally:
        server.close()
