# SPDX-License-Identifier: Apache-2.0
"""Two workers between real devices: every packet is counted once, a flow stays on one worker, a device that takes no
more slows nobody down.

`left` and `right` are joined by pyvpp in a namespace of its own: 10.1.0.2 - 10.1.0.1 pyvpp 10.2.0.1 - 10.2.0.2.
"""

from __future__ import annotations

import os
import re
import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.system.conftest import Namespace, Pair, Sandbox, run
from tests.system.process import Pyvpp, eventually, ping, running
from tests.system.traffic import transfer

LEFT, RIGHT = "10.1.0.2", "10.2.0.2"
SCRIPT = """
create host-interface name left {options}
create host-interface name right {options}
set interface state host-left up
set interface state host-right up
set interface ip address host-left 10.1.0.1/24
set interface ip address host-right 10.2.0.1/24
"""
PORT = 5000
FLOWS, ROUNDS = 32, 40


@dataclass
class Between:
    """pyvpp with its two neighbors."""

    pyvpp: Pyvpp
    sandbox: Sandbox
    left: Namespace
    right: Namespace
    router: Namespace

    def by_worker(self, node: str) -> list[int]:
        """Packets a node has had on each worker; all nodes whose names begin so are taken together."""
        threads = self.pyvpp.data("show runtime")
        return [sum(n["vectors"] for n in thread["nodes"] if n["name"].startswith(node)) for thread in threads]

    def used_buffers(self) -> int:
        return sum(pool["used"] for pool in self.pyvpp.data("show buffers"))

    def refused(self) -> int:
        """Packets lost since a transmit ring was full."""
        return sum(e["count"] for e in self.pyvpp.data("show errors") if e["reason"] == "tx ring full")


@pytest.fixture
def between(make_sandbox: Callable[[], Sandbox]) -> Iterator[Callable[..., Between]]:
    sandbox = make_sandbox()
    started: list[Any] = []

    def start(options: str = "", workers: int = 2) -> Between:
        left, right, router = (sandbox.namespace(name) for name in ("left", "right", "router"))
        for namespace in (left, right, router):
            namespace.run("sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1")
        for namespace, name, address in ((left, "left", LEFT), (right, "right", RIGHT)):
            sandbox.join(namespace, "eth0", router, name)
            namespace.ip("addr", "add", f"{address}/24", "dev", "eth0")
            namespace.ip("route", "add", "default", "via", address[:-1] + "1")
        script = sandbox.directory / "setup.cli"
        script.write_text(SCRIPT.format(options=options))
        context = running(sandbox, router, "--workers", str(workers), "--exec", script)
        pyvpp = context.__enter__()
        started.append(context)
        eventually(lambda: ping(left, RIGHT), "the way is known at both ends")
        return Between(pyvpp, sandbox, left, right, router)

    yield start
    for context in started:
        context.__exit__(None, None, None)


def udp(namespace: Namespace, address: str | None = None) -> socket.socket:
    opened = namespace.inside(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    opened.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)  # SO_RCVBUFFORCE
    opened.settimeout(5)
    if address:
        opened.bind((address, PORT))
    return opened


def queues(traced: dict[str, Any]) -> list[str]:
    """By which queues a traced packet came and left."""
    return re.findall(r"[rt]x-queue (\d)", " ".join(node["text"][0] for node in traced["nodes"]))


def test_flows_are_spread_and_stay_in_order(between: Callable[..., Between]) -> None:
    there = between()
    there.pyvpp.ctl("set graph fusion off")  # ip4-rewrite is to count them all
    before = there.by_worker("ip4-rewrite"), there.by_worker("host-left-input"), there.pyvpp.interface("host-right")
    there.pyvpp.ctl("trace add host-left-input 40")
    there.pyvpp.ctl("trace add host-left-input-1 40")
    senders = [udp(there.left) for _ in range(FLOWS)]
    with udp(there.right, RIGHT) as receiver:
        for number in range(ROUNDS):
            for flow, sender in enumerate(senders):
                sender.sendto(struct.pack("!II", flow, number), (RIGHT, PORT))
        numbers: dict[int, list[int]] = {flow: [] for flow in range(FLOWS)}
        for _ in range(FLOWS * ROUNDS):
            flow, number = struct.unpack("!II", receiver.recv(100))
            numbers[flow].append(number)
    for sender in senders:
        sender.close()
    assert all(each == list(range(ROUNDS)) for each in numbers.values())

    rewritten = [b - a for a, b in zip(before[0], there.by_worker("ip4-rewrite"), strict=True)]
    received = [b - a for a, b in zip(before[1], there.by_worker("host-left-input"), strict=True)]
    assert sum(rewritten) == FLOWS * ROUNDS and all(each % ROUNDS == 0 and each for each in rewritten)
    assert received == rewritten or sum(received) > FLOWS * ROUNDS  # ARP comes between
    traced = there.pyvpp.data("show trace")
    assert {(each["thread"], *queues(each)) for each in traced} == {(1, "0", "0"), (2, "1", "1")}
    counters = there.pyvpp.interface("host-right")["counters"]
    assert counters["tx packets"] - before[2]["counters"]["tx packets"] >= FLOWS * ROUNDS
    eventually(lambda: there.used_buffers() == 0, "no buffer stays behind")


def test_tcp_while_queues_move_and_tables_grow(between: Callable[..., Between]) -> None:
    """Barriers stop both workers again and again; nothing is lost that TCP would not notice."""
    there = between("num-rx-queues 3")
    placed = there.pyvpp.data("show interface rx-placement host-left")
    assert sorted(each["queue"] for each in placed) == [0, 1, 2]
    for step in range(6):
        for name in ("host-left", "host-right"):
            there.pyvpp.ctl(f"set interface rx-placement {name} queue {step % 3} worker {step % 2}")
            there.pyvpp.ctl(f"set interface rx-mode {name} {('polling', 'interrupt', 'adaptive')[step % 3]}")
        there.pyvpp.ctl(f"create tap host-if-name tap{step}")
        there.pyvpp.ctl(f"ip route add 10.{100 + step}.0.0/16 via {RIGHT} host-right")
        transfer(there.left, there.right, RIGHT, megabytes=2)
    assert not [each for each in there.pyvpp.data("show errors") if each["severity"] == "error"]


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs")
def test_workers_stay_on_their_cpus(make_sandbox: Callable[[], Sandbox]) -> None:
    sandbox = make_sandbox()
    first, second = map(str, sorted(os.sched_getaffinity(0))[:2])
    with running(sandbox, sandbox.namespace("router"), "--corelist-workers", f"{second},{first}") as pyvpp:
        assert [thread["cpus"] for thread in pyvpp.data("show threads")[1:]] == [second, first]


def test_rings_are_shown(between: Callable[..., Between]) -> None:
    there = between("rx-ring-size 64 tx-ring-size 32 qdisc-bypass")
    (shown,) = there.pyvpp.data("show hardware-interfaces host-left")
    assert [ring["frames"] for ring in shown["rx_rings"]] == [64, 64]
    assert [(ring["frames"], ring["available"]) for ring in shown["tx_rings"]] == [(32, 32)] * 2
    assert shown["fanout"] is not None and "qdisc-bpass-enabled" in shown["features"]
    assert sum(ring["packets"] for ring in shown["rx_rings"]) >= 1
    text = there.pyvpp.ctl("show hardware-interfaces host-left")
    assert "    0     vpp_wk_0 (1)   adaptive" in text and "available:32 request:0 sending:0 wrong:0 total:32" in text


def test_an_uplink_s_rings_are_as_told(sandbox: Pair) -> None:
    sizes = ("--num-rx-queues", "1", "--rx-ring-size", "256", "--tx-ring-size", "64", "--qdisc-bypass")
    with running(sandbox, sandbox.host, "--uplink", "eth0", "--workers", "2", *sizes) as pyvpp:
        (shown,) = pyvpp.data("show hardware-interfaces host-eth0")
        assert [ring["frames"] for ring in shown["rx_rings"]] == [256]
        assert [ring["frames"] for ring in shown["tx_rings"]] == [64, 64]
        assert "qdisc-bpass-enabled" in shown["features"] and shown["fanout"] is None
        transfer(sandbox.peer, sandbox.host, "10.77.0.1", megabytes=4)


def test_an_uplink_s_af_xdp_rings_are_as_told(sandbox: Pair) -> None:
    sizes = ("--driver", "af-xdp", "--num-rx-queues", "1", "--rx-ring-size", "256", "--tx-ring-size", "64")
    with running(sandbox, sandbox.host, "--uplink", "eth0", *sizes) as pyvpp:
        (shown,) = pyvpp.data("show hardware-interfaces host-eth0")
        assert [(each["rx_size"], each["tx_size"]) for each in shown["sockets"]] == [(256, 64)]
        transfer(sandbox.peer, sandbox.host, "10.77.0.1", megabytes=4)


def test_a_device_that_takes_no_more_slows_nobody_down(between: Callable[..., Between]) -> None:
    """The way to the right carries 64 kbit/s and keeps what waits: soon its ring is full, whose slots Linux holds."""
    there = between("tx-ring-size 64")
    shaped = "qdisc add dev right root tbf rate 64kbit burst 3000 limit 4000000"
    run("tc", "-n", there.router.name, *shaped.split())
    sent = 2000
    with udp(there.left) as sender:
        for number in range(sent):
            sender.sendto(struct.pack("!I", number) + bytes(996), (RIGHT, PORT))
    eventually(lambda: there.refused() > sent // 2, "most packets find the ring full")
    assert ping(there.left, "10.1.0.1", 20) == 20  # another way through the same workers
    eventually(lambda: there.used_buffers() == 0, "no buffer stays behind")
    assert there.pyvpp.interface("host-right")["counters"]["drops"] == there.refused()
