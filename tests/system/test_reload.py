# SPDX-License-Identifier: Apache-2.0
"""A plugin is reloaded again and again while its nodes forward: every packet arrives, and each has met one version.

`left` and `right` are joined by pyvpp in a namespace of its own: 10.1.0.2 - 10.1.0.1 pyvpp 10.2.0.1 - 10.2.0.2. The
plugin's two nodes stamp packets with their version, one after the other; one of its tables has another type in each.
`make reloads` does it PYVPP_RELOADS times, 1000.
"""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.system.conftest import Namespace, Sandbox
from tests.system.ledger import resident
from tests.system.process import Pyvpp, eventually, ping, pyvpp_command

ROUNDS = int(os.environ.get("PYVPP_RELOADS", "25"))
pytestmark = [pytest.mark.slow, pytest.mark.timeout(ROUNDS + 120)]

LEFT, RIGHT, PORT = "10.1.0.2", "10.2.0.2", 5000
FLOWS = 8
SO_NO_CHECK = 11
PATIENCE = 10.0
SETTLED = 20  # rounds after which everything has been used once
GROWTH = 4 << 20  # bytes from then on
SCRIPT = """
create host-interface name left
create host-interface name right
set interface state host-left up
set interface state host-right up
set interface ip address host-left 10.1.0.1/24
set interface ip address host-right 10.2.0.1/24
set interface stamp host-left
set interface stamp host-right
"""
PLUGIN = '''
"""Stamps UDP packets: two nodes, one after the other, write {version} into the first bytes of the payload."""

from typing import Any

import numpy as np
from numba import uint64

from pyvpp.cli.registry import command
from pyvpp.features import Feature, next_feature
from pyvpp.jit import jit, outline, rare_case
from pyvpp.node import NodeCounter, Severity, node
from pyvpp.tables import Table
from pyvpp.typing import U8, U16, U32, U64, Records

ARC = "ip4-unicast"
COUNTED = Table("stamp_counted", np.uint64, 1, per_worker=True)
MOVED = Table("stamp_moved", np.{type}, 1, per_worker=True)


class Counter(NodeCounter):
    {counters}


@outline
def version(length: int) -> int:
    rare_case()
    return {version} + length * 0


@node(name="stamp-first", counters=Counter, features=(Feature(ARC, runs_before=("stamp-second",)),))
@jit
def first(
    heap: U8, meta: Records, frame: U32, nexts: U16, counters: U64, feature_chains: U16, stamp_counted: U64
) -> None:
    for i, b in enumerate(frame):
        m = meta[b]
        if heap[m.cur + 9] == 17:
            heap[m.cur + 28] = version(m.len)
            counters[Counter.STAMPED] += uint64(1)
            stamp_counted[0] += uint64(1)
        nexts[i] = next_feature(feature_chains, m)


@node(name="stamp-second", features=(Feature(ARC),))
@jit
def second(heap: U8, meta: Records, frame: U32, nexts: U16, feature_chains: U16, stamp_moved: Any) -> None:
    for i, b in enumerate(frame):
        m = meta[b]
        if heap[m.cur + 9] == 17:
            heap[m.cur + 29] = version(m.len)
            stamp_moved[0] += 1
        nexts[i] = next_feature(feature_chains, m)


def migrate(name: str, old: Any, new: Any) -> None:
    new[:] = old


@command("set interface stamp", help="set interface stamp INTERFACE")
def set_interface_stamp(engine: Any, args: Any) -> None:
    interface = args.interface(engine)
    for name in ("stamp-first", "stamp-second"):
        engine.features.enable(ARC, name, interface.sw_if_index)


@command("show stamp", help="show stamp")
def show_stamp(engine: Any, args: Any) -> str:
    return " ".join(str(engine.tables[table.name].sum()[0]) for table in (COUNTED, MOVED))
'''
VERSIONS = {
    1: ("uint64", 'STAMPED = 0, "packets stamped", Severity.INFO'),
    2: ("uint32", 'OTHER = 0, "not used"\n    STAMPED = 1, "packets stamped", Severity.INFO'),
}


def sources(version: int) -> str:
    kind, counters = VERSIONS[version]
    return PLUGIN.replace("{version}", str(version)).replace("{type}", kind).replace("{counters}", counters)


@dataclass
class Flow:
    """Sends datagrams one way, no more at a time than surely find room, and awaits each of them."""

    source: Namespace
    target: Namespace
    address: str
    sent: int = 0
    seen: set[int] = field(default_factory=set)
    """versions that packets have met"""
    failure: str = ""
    over: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        senders = [self._socket(self.source) for _ in range(FLOWS)]
        with self._socket(self.target) as receiver:
            receiver.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)  # SO_RCVBUFFORCE
            receiver.bind((self.address, PORT))
            while not self.over.is_set() and not self.failure:
                awaited = set(range(self.sent, self.sent + 8 * FLOWS))
                for number in awaited:
                    senders[number % FLOWS].sendto(struct.pack("!BBI", 0, 0, number), (self.address, PORT))
                self.sent += len(awaited)
                try:
                    while awaited:
                        first, second, number = struct.unpack("!BBI", receiver.recv(100))
                        if first != second or first not in VERSIONS:
                            self.failure = f"packet {number} has met versions {first} and {second}"
                        awaited.remove(number)
                        self.seen.add(first)
                except KeyError:
                    self.failure = f"packet {number} came twice"
                except TimeoutError:
                    self.failure = f"{len(awaited)} packets lost of {self.sent}"
        for sender in senders:
            sender.close()

    @staticmethod
    def _socket(namespace: Namespace) -> socket.socket:
        opened = namespace.inside(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        opened.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, 1)
        opened.settimeout(PATIENCE)
        return opened


@dataclass
class Site:
    pyvpp: Pyvpp
    left: Namespace
    right: Namespace
    router: Namespace
    plugin: Path


@pytest.fixture
def begin(make_sandbox: Callable[[], Sandbox]) -> Iterator[Callable[..., Site]]:
    """Starts pyvpp with the plugin between its two neighbors."""
    sandbox = make_sandbox()

    def started(text: str, *options: str) -> Site:
        left, right, router = (sandbox.namespace(name) for name in ("left", "right", "router"))
        for namespace in (left, right, router):
            namespace.run("sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1")
        for namespace, name, address in ((left, "left", LEFT), (right, "right", RIGHT)):
            sandbox.join(namespace, "eth0", router, name)
            namespace.ip("addr", "add", f"{address}/24", "dev", "eth0")
            namespace.ip("route", "add", "default", "via", address[:-1] + "1")
        plugin, script = sandbox.directory / "stamp.py", sandbox.directory / "setup.cli"
        plugin.write_text(text)
        script.write_text(SCRIPT)
        pyvpp = Pyvpp(sandbox, router, "--workers", "2", "--plugin", plugin, "--exec", script, *options)
        pyvpp.wait_until_ready()
        eventually(lambda: ping(left, RIGHT), "the way is known at both ends")
        return Site(pyvpp, left, right, router, plugin)

    yield started


def test_no_packet_is_lost_or_meets_half_of_two_versions(begin: Callable[..., Site]) -> None:
    site = begin(sources(1))
    pyvpp = site.pyvpp
    flows = [Flow(site.left, site.right, RIGHT), Flow(site.right, site.left, LEFT)]
    threads = [threading.Thread(target=flow.run) for flow in flows]
    for thread in threads:
        thread.start()
    held, memory = [], 0
    try:
        for number in range(ROUNDS):
            before = [flow.sent for flow in flows]
            site.plugin.write_text(sources(2 - number % 2))
            done = pyvpp.data("plugin reload stamp")
            assert done["generation"] == number + 2
            held.append(done["held_seconds"])
            memory = resident(pyvpp) if number == SETTLED else memory
            eventually(
                lambda before=before: all(f.sent > n or f.failure for f, n in zip(flows, before, strict=True)),  # type: ignore[misc]
                "packets between two reloads",
            )
    finally:
        for flow in flows:
            flow.over.set()
        for thread in threads:
            thread.join()
    sent = sum(flow.sent for flow in flows)
    held.sort()
    print(
        f"{ROUNDS} reloads, {sent} packets; exchanged in {1000 * held[len(held) // 2]:.1f} ms, at most {1000 * held[-1]:.1f}"
    )
    assert [flow.failure for flow in flows] == ["", ""]
    assert all(flow.seen == set(VERSIONS) for flow in flows)
    assert pyvpp.counter("stamp-first", "packets stamped") == sent
    assert pyvpp.ctl("show stamp") == f"{sent} {sent}"
    if ROUNDS > 2 * SETTLED:
        assert resident(pyvpp) - memory < GROWTH
    site.plugin.write_text(sources(1).replace("m = meta[b]", "m = meta[c]"))
    assert "the name c is not defined" in pyvpp.refusal("plugin reload stamp")
    assert ping(site.left, RIGHT)
    assert pyvpp.data("plugin rollback stamp")["generation"] == ROUNDS
    assert ping(site.left, RIGHT)
    assert sum(pool["used"] for pool in pyvpp.data("show buffers")) == 0
    pyvpp.stop()


def test_an_upgrade_goes_on_with_the_version_that_runs(begin: Callable[..., Site]) -> None:
    """What an author has written since is not taken up by the way; it can be reloaded afterwards, as ever."""
    site = begin(sources(1))
    pyvpp = site.pyvpp

    def shown() -> dict[str, Any]:
        return dict(next(each for each in pyvpp.data("show plugins") if each["name"] == "stamp"))

    site.plugin.write_text(sources(2))
    pyvpp.ctl("plugin reload stamp")
    runs = shown()
    site.plugin.write_text("raise LookupError('half written')\n")
    for _ in range(2):  # of the second process it is told, not reloaded
        told = site.router.run(*pyvpp_command("upgrade", "--runtime-dir", pyvpp.runtime_dir)).stdout
        assert "; plugin stamp is at version 2, as it was" in told
        assert {key: shown()[key] for key in ("generation", "digest", "error")} == {
            key: runs[key] for key in ("generation", "digest", "error")
        }
        flow = Flow(site.left, site.right, RIGHT)
        thread = threading.Thread(target=flow.run)
        thread.start()
        eventually(lambda flow=flow: flow.seen or flow.failure, "packets meet a version")  # type: ignore[misc]
        flow.over.set()
        thread.join()
        assert (flow.failure, flow.seen) == ("", {2}), pyvpp.ctl("show errors")
    assert "LookupError: half written" in pyvpp.refusal("plugin reload stamp")
    site.plugin.write_text(sources(1))
    assert pyvpp.data("plugin reload stamp")["generation"] == 3
    pyvpp.stop()


def send(site: Site, first: int) -> None:
    with Flow._socket(site.left) as sender:
        sender.sendto(bytes([first]) * 8, (RIGHT, PORT))


def test_what_an_author_has_while_writing(begin: Callable[..., Site]) -> None:
    """Each change is taken by itself; what reads beside an array is named and harms nobody."""
    site = begin(sources(1), "--watch", "--check", "stamp")
    pyvpp = site.pyvpp

    def shown() -> dict[str, Any]:
        return dict(next(each for each in pyvpp.data("show plugins") if each["name"] == "stamp"))

    assert shown()["checked"] and shown()["generation"] == 2
    met = " and ".join(f"heap[m.cur + {k}] == 0xEE" for k in (31, 32, 33))  # in no random frame
    beside = f"stamp_counted[1000 if {met} else 0]"
    site.plugin.write_text(sources(2).replace("stamp_counted[0]", beside))
    eventually(lambda: shown()["generation"] == 3, "the change is taken", 60)
    send(site, 1)
    assert shown()["raised"] == []
    send(site, 0xEE)
    eventually(lambda: shown()["raised"], "what was read beside the table is told")
    assert shown()["raised"] == ["node stamp-first raised IndexError: index is out of bounds 1 times"]
    assert ping(site.left, RIGHT)
    pyvpp.stop()


def test_a_node_that_does_not_return_is_named(begin: Callable[..., Site]) -> None:
    endless = sources(1).replace(
        "            heap[m.cur + 28] =", "            while heap[m.cur + 28] == 0xEE:\n                nexts[i] = 0\n            heap[m.cur + 28] ="
    )  # fmt: skip
    site = begin(endless, "--watchdog", "2")
    send(site, 1)
    assert ping(site.left, RIGHT)
    send(site, 0xEE)
    _, said = site.pyvpp.process.communicate(timeout=PATIENCE)
    assert site.pyvpp.process.returncode == 1
    assert "has stood still in node stamp-first of plugin stamp for 2 s" in said
