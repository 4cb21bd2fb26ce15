# SPDX-License-Identifier: Apache-2.0
"""AF_XDP against Linux: interfaces by the command line and an uplink, on veth pairs in namespaces of our own."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import pytest

from tests.system.conftest import Namespace, Sandbox
from tests.system.process import Pyvpp, eventually, ping, running

SMALL_BUFFERS = 16384
Router = tuple[Pyvpp, Namespace, Namespace, Namespace]


def small_buffers_used(pyvpp: Pyvpp) -> int:
    return int(pyvpp.data("show buffers")[0]["used"])


def xdp_mode(namespace: Namespace, name: str) -> str | None:
    """Where an XDP program is on a Linux interface: xdp, xdpgeneric, or None when there is none."""
    words = namespace.ip("link", "show", name).split()
    return next((word for word in words if word.startswith("xdp")), None)


@pytest.fixture
def router(make_sandbox: Callable[[], Sandbox]) -> Iterator[Router]:
    """pyvpp without interfaces in a namespace between two others, each at the other end of a veth pair."""
    sandbox = make_sandbox()
    node, left, right = (sandbox.namespace(name) for name in ("node", "left", "right"))
    for number, end in enumerate((left, right), 1):
        sandbox.join(node, f"port{number}", end, "eth0")
        end.ip("addr", "add", f"10.9.{number}.2/24", "dev", "eth0")
        end.ip("route", "add", "10.9.0.0/16", "via", f"10.9.{number}.1")
    with running(sandbox, node) as pyvpp:
        yield pyvpp, node, left, right


def create(pyvpp: Pyvpp, number: int, options: str = "") -> str:
    """An interface on a port, up and with the port's address; its name."""
    name = pyvpp.ctl(f"create interface af_xdp host-if port{number} hw-addr 02:00:00:00:00:0{number} {options}").strip()
    pyvpp.ctl(f"set interface state {name} up")
    pyvpp.ctl(f"set interface ip address {name} 10.9.{number}.1/24")
    return name


@pytest.mark.parametrize(("attach", "mode"), [("auto", "xdpgeneric"), ("native", "xdp"), ("generic", "xdpgeneric")])
def test_an_interface_comes_and_goes(router: Router, attach: str, mode: str) -> None:
    pyvpp, node, left, _ = router
    unused = small_buffers_used(pyvpp)
    name = create(pyvpp, 1, f"rx-queue-size 512 attach {attach}")
    assert name == "port1/0"
    assert xdp_mode(node, "port1") == mode
    eventually(lambda: ping(left, "10.9.1.1"), "the interface answers")
    assert ping(left, "10.9.1.1", 20) == 20
    assert small_buffers_used(pyvpp) == unused + 512, "all that were sent are back"
    pyvpp.ctl(f"delete interface af_xdp {name}")
    assert xdp_mode(node, "port1") is None
    assert small_buffers_used(pyvpp) == unused
    assert create(pyvpp, 1, "rx-queue-size 512") == name, "at once again: Linux lets go of a queue late"
    eventually(lambda: ping(left, "10.9.1.1"), "the interface answers again")


def datagrams(source: Namespace, target: Namespace, address: str, count: int, size: int) -> int:
    """How many of so many UDP datagrams arrived unharmed, sent a few at a time."""
    with target.inside(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as receiver:
        receiver.bind((address, 0))
        receiver.settimeout(2.0)
        arrived = 0
        with source.inside(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sender:
            sender.connect(receiver.getsockname())
            for number in range(count):
                payload = number.to_bytes(4, "big") + bytes((number + k) & 0xFF for k in range(size - 4))
                sender.send(payload)
                try:
                    arrived += receiver.recv(65536) == payload
                except TimeoutError:
                    continue
        return arrived


@pytest.mark.parametrize("attach", ["native", "generic"])
def test_datagrams_are_forwarded_with_a_right_checksum(router: Router, attach: str) -> None:
    """A veth peer leaves the checksum to the device; the other's Linux verifies or is told the same again."""
    pyvpp, _, left, right = router
    for number in (1, 2):
        create(pyvpp, number, f"attach {attach}")
    eventually(lambda: ping(left, "10.9.2.2"), "the way is there")
    for size in (4, 100, 1472):
        assert datagrams(left, right, "10.9.2.2", 20, size) == 20
        assert datagrams(right, left, "10.9.1.2", 20, size) == 20
    assert not pyvpp.counter("af-xdp-input", "bad descriptor")
