# SPDX-License-Identifier: Apache-2.0
"""`pyvpp lab`: packets to try a plugin on. pyvpp routes between two Linux ends, which send to each other all the time.

    client 10.1.0.2 -- host-client [pyvpp] host-server -- 10.2.0.2 server

All of it is in network namespaces that are gone afterwards. Datagrams are numbered, so each that is lost is known, and
their receiver is told the DSCP that each came with.
"""

import argparse
import os
import socket
import struct
import threading
import time
from collections import Counter
from pathlib import Path

from pyvpp.demo import ping
from pyvpp.errors import OperatorError
from pyvpp.lab.place import workplace
from pyvpp.lab.process import LabError, PyvppProcess
from pyvpp.linux.sandbox import Namespace, Sandbox

ENDS = {"client": "10.1.0.2", "server": "10.2.0.2"}
PORT = 4000
NUMBER = struct.Struct("!Q")
MOST_RATE = 20_000
TURN = 0.01  # seconds between two bursts
PATIENCE = 5.0  # for the last packets on their way
ROOM = 8 << 20


class Flow:
    """Numbered datagrams from one end to the other, so many a second."""

    def __init__(self, source: Namespace, target: Namespace, address: str, rate: int) -> None:
        self._rate = rate
        self._address = address
        self._over = threading.Event()
        self.sent = 0
        self.arrived: set[int] = set()
        self.twice = 0
        self.classes: Counter[int] = Counter()
        """by DSCP, how many datagrams came with it"""
        self._sender = source.inside(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        self._receiver = target.inside(self._listening)
        self._threads = [threading.Thread(target=each, daemon=True) for each in (self._send, self._receive)]

    def _listening(self) -> socket.socket:
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, ROOM)
        made.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
        made.bind((self._address, PORT))
        made.settimeout(0.1)
        return made

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def _send(self) -> None:
        began = time.monotonic()
        while not self._over.wait(TURN):
            due = int((time.monotonic() - began) * self._rate)
            for _ in range(min(due - self.sent, self._rate)):
                self._sender.sendto(NUMBER.pack(self.sent), (self._address, PORT))
                self.sent += 1

    def _receive(self) -> None:
        until = None
        while until is None or (time.monotonic() < until and len(self.arrived) < self.sent):
            if self._over.is_set() and until is None:
                until = time.monotonic() + PATIENCE
            try:
                data, ancillary, _, _ = self._receiver.recvmsg(64, 64)
            except TimeoutError:
                continue
            (number,) = NUMBER.unpack(data)
            self.twice += number in self.arrived
            self.arrived.add(number)
            self.classes.update(value[0] >> 2 for _, kind, value in ancillary if kind == socket.IP_TOS)

    def stop(self) -> None:
        """Sends no more, and waits for what is on its way."""
        self._over.set()
        for thread in self._threads:
            thread.join()
        self._sender.close()
        self._receiver.close()

    @property
    def lost(self) -> int:
        return self.sent - len(self.arrived)

    def __str__(self) -> str:
        classes = ", ".join(f"{count} with DSCP {dscp}" for dscp, count in sorted(self.classes.items()))
        twice = f", {self.twice} of them twice" if self.twice else ""
        return f"{self.sent} sent, {len(self.arrived)} arrived{twice} ({classes}), {self.lost} lost"


def build(sandbox: Sandbox, directory: Path, options: argparse.Namespace) -> tuple[PyvppProcess, dict[str, Namespace]]:
    """The ends, and a pyvpp between them that knows the way. Raises LabError."""
    node = sandbox.namespace("node")
    ends = {name: sandbox.namespace(name) for name in ENDS}
    for name, end in ends.items():
        end.cable("eth0", node, name)
        node.up(name)
        end.address("eth0", f"{ENDS[name]}/24", gateway=gateway_of(name))
    runtime_dir = Path(options.runtime_dir or directory / "run").resolve()
    plugins = [word for path in options.plugin for word in ("--plugin", path)]
    watch = ["--watch"] if options.watch else []
    pyvpp = PyvppProcess(runtime_dir.name, node, runtime_dir.parent, *plugins, *watch)
    pyvpp.log = directory / "pyvpp.log"
    pyvpp.start(sandbox)
    pyvpp.wait_until_ready()
    for name in ENDS:
        pyvpp.ctl(f"create host-interface name {name}")
        pyvpp.ctl(f"set interface state host-{name} up")
        pyvpp.ctl(f"set interface ip address host-{name} {gateway_of(name)}/24")
    if options.script:
        pyvpp.ctl(f"exec {Path(options.script).resolve()}")
    deadline = time.monotonic() + 30
    while not ping(ends["client"], ENDS["server"], count=1, patience=1.0):  # neighbors are asked for
        if time.monotonic() > deadline:
            raise LabError(f"the client cannot reach {ENDS['server']}; pyvpp's last words: {pyvpp.last_words()}")
    return pyvpp, ends


def gateway_of(end: str) -> str:
    return ENDS[end].rpartition(".")[0] + ".1"


def run(sandbox: Sandbox, directory: Path, options: argparse.Namespace) -> int:
    """Until it is told to stop; the exit status. Raises LabError."""
    pyvpp, ends = build(sandbox, directory, options)
    flows = {
        f"{name} to {other}": Flow(ends[name], ends[other], ENDS[other], options.rate)
        for name, other in (("client", "server"), ("server", "client"))
    }
    print(f"pyvpp lab: pyvppctl --runtime-dir {pyvpp.runtime_dir} ... ; Ctrl-C ends it", flush=True)
    for flow in flows.values():
        flow.start()
    print("pyvpp lab: ready", flush=True)
    try:
        while pyvpp.process is not None and pyvpp.process.poll() is None:
            time.sleep(0.2)
        raise LabError(f"pyvpp ended: {pyvpp.last_words()}")
    except KeyboardInterrupt:
        for flow in flows.values():
            flow.stop()
        for name, flow in flows.items():
            print(f"pyvpp lab: {name}: {flow}", flush=True)
        pyvpp.stop()
    return 1 if any(flow.lost or flow.twice for flow in flows.values()) else 0


def main(argv: list[str]) -> int:
    """0 when no packet was lost."""
    from pyvpp.options import Parser

    parser = Parser(prog="pyvpp lab", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--plugin", action="append", default=[], metavar="PATH", help="a plugin to try")
    parser.add_argument("--watch", action="store_true", help="reload it when its sources change")
    parser.add_argument("--exec", dest="script", metavar="FILE", help="commands to run once the lab stands")
    parser.add_argument("--runtime-dir", metavar="DIR", help="where pyvppctl finds it; in a directory that it prints")
    parser.add_argument("--rate", type=int, default=1000, metavar="N", help="packets a second each way; 1000")
    options = parser.parse_args(argv)
    if os.geteuid() != 0:
        raise OperatorError("the lab needs root: it builds network namespaces")
    if not 1 <= options.rate <= MOST_RATE:
        raise OperatorError(f"--rate {options.rate}: from 1 to {MOST_RATE}")
    with workplace("pyvpp-lab") as (sandbox, directory):
        try:
            return run(sandbox, directory, options)
        except KeyboardInterrupt:
            return 130
        except LabError as error:
            raise OperatorError(str(error)) from None
