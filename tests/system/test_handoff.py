# SPDX-License-Identifier: Apache-2.0
"""Devices of one queue each, and two workers: the flows of their packets are spread, both ways meet, all arrive.

`left` and `right` hold a TAP each of pyvpp's, or one end of a veth whose other end it drives by AF_PACKET or AF_XDP:
10.1.0.2 - 10.1.0.1 pyvpp 10.2.0.1 - 10.2.0.2. The first worker reads both.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable

import pytest

from pyvpp.device.af_xdp_socket import RX_SLOTS
from tests.system.conftest import Sandbox
from tests.system.process import Pyvpp, eventually, ping, running
from tests.system.traffic import transfer

LEFT, RIGHT, PORT = "10.1.0.2", "10.2.0.2", 5000
FLOWS, ROUNDS = 32, 40
SCRIPT = """
create tap id 0 host-ns {left} host-if-name eth0 host-ip4-addr 10.1.0.2/24 num-rx-queues 1
create tap id 1 host-ns {right} host-if-name eth0 host-ip4-addr 10.2.0.2/24 num-rx-queues 1
set interface state tap0 up
set interface state tap1 up
set interface ip address tap0 10.1.0.1/24
set interface ip address tap1 10.2.0.1/24
set interface rx-placement tap0 worker 0
set interface rx-placement tap1 worker 0
set interface handoff tap0 workers 0-1 symmetrical
set interface handoff tap1 workers 0-1 symmetrical
set graph fusion off
"""


NICS = """
create {left_nic}
create {right_nic}
set interface state {left} up
set interface state {right} up
set interface ip address {left} 10.1.0.1/24
set interface ip address {right} 10.2.0.1/24
set interface rx-placement {left} worker 0
set interface rx-placement {right} worker 0
set interface handoff {left} workers 1 symmetrical
set interface handoff {right} workers 1 symmetrical
"""


def used_buffers(pyvpp: Pyvpp) -> int:
    """At this moment: a worker has one at hand while it looks for packets of a TAP."""
    return sum(pool["used"] for pool in pyvpp.data("show buffers"))


@pytest.mark.parametrize("driver", ["af_packet", "af_xdp"])
def test_what_one_worker_receives_another_forwards(make_sandbox: Callable[[], Sandbox], driver: str) -> None:
    """Segments of TCP in large buffers, AF_XDP's in those it was lent: all come back to where they belong."""
    sandbox = make_sandbox()
    left, right, router = (sandbox.namespace(name) for name in ("left", "right", "router"))
    for namespace, name, address in ((left, "left", LEFT), (right, "right", RIGHT)):
        namespace.run("sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1")
        sandbox.join(namespace, "eth0", router, name)
        namespace.ip("addr", "add", f"{address}/24", "dev", "eth0")
        namespace.ip("route", "add", "default", "via", address[:-1] + "1")
    by_packet = driver == "af_packet"
    create = "host-interface name {} num-rx-queues 1" if by_packet else "interface af_xdp host-if {}"
    names = {name: f"host-{name}" if by_packet else f"{name}/0" for name in ("left", "right")}
    nics = {f"{name}_nic": create.format(name) for name in names}
    script = sandbox.directory / "setup.cli"
    script.write_text(NICS.format(**names, **nics))
    with running(sandbox, router, "--workers", "2", "--exec", script) as pyvpp:
        eventually(lambda: ping(left, RIGHT), "the way is known at both ends")
        for source, target, address in ((left, right, RIGHT), (right, left, LEFT)):
            transfer(source, target, address, megabytes=16)
        assert ping(left, RIGHT, 5) == 5
        threads = pyvpp.data("show runtime")
        sent = [sum(n["vectors"] for n in each["nodes"] if n["name"].endswith("-tx")) for each in threads[-2:]]
        ((there, back), _) = [pyvpp.data("show handoff queues")[key] for key in ("rings", "interfaces")]
        assert sent[0] == 0 and there["packets"] >= sent[1] > 200 and back["packets"] == 0
        lent = 0 if by_packet else 2 * RX_SLOTS
        eventually(lambda: used_buffers(pyvpp) == lent, "only the receive rings' buffers are not free")


def test_flows_of_a_tap_are_spread_over_workers(make_sandbox: Callable[[], Sandbox]) -> None:
    sandbox = make_sandbox()
    left, right, router = (sandbox.namespace(name) for name in ("left", "right", "router"))
    script = sandbox.directory / "setup.cli"
    script.write_text(SCRIPT.format(left=left.name, right=right.name))
    with running(sandbox, router, "--workers", "2", "--exec", script) as pyvpp:
        left.ip("route", "add", "default", "via", "10.1.0.1")
        right.ip("route", "add", "default", "via", "10.2.0.1")
        eventually(lambda: ping(left, RIGHT), "the way is known at both ends")

        def rewritten() -> list[int]:
            threads = pyvpp.data("show runtime")
            return [sum(n["vectors"] for n in each["nodes"] if n["name"] == "ip4-rewrite") for each in threads]

        before = rewritten()
        receiver = right.inside(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        receiver.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)  # SO_RCVBUFFORCE
        receiver.settimeout(5)
        receiver.bind((RIGHT, PORT))
        senders = [left.inside(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(FLOWS)]
        numbers: dict[int, list[int]] = {flow: [] for flow in range(FLOWS)}
        for number in range(ROUNDS):
            for flow, sender in enumerate(senders):
                sender.sendto(struct.pack("!II", flow, number), (RIGHT, PORT))
            for _ in senders:
                flow, found = struct.unpack("!II", receiver.recv(100))
                numbers[flow].append(found)
        for each in (*senders, receiver):
            each.close()
        assert all(each == list(range(ROUNDS)) for each in numbers.values())
        spread = [after - first for first, after in zip(before, rewritten(), strict=True)][-2:]
        assert sum(spread) == FLOWS * ROUNDS and all(each % ROUNDS == 0 and each for each in spread)
        assert pyvpp.counter("worker-handoff", "congestion drop") == 0

        for source, target, address in ((left, right, RIGHT), (right, left, LEFT)):
            transfer(source, target, address, megabytes=8)
        ((there, back), interfaces) = [pyvpp.data("show handoff queues")[key] for key in ("rings", "interfaces")]
        assert there["packets"] >= spread[1] and back["packets"] == 0
        assert [each["interface"] for each in interfaces] == ["tap0", "tap1"]
        pyvpp.ctl("set interface handoff tap0 disable")
        pyvpp.ctl("set interface handoff tap1 disable")
        assert ping(left, RIGHT, 5) == 5
        eventually(lambda: used_buffers(pyvpp) == 0, "all buffers are free")
