# SPDX-License-Identifier: Apache-2.0
"""Interfaces with a device below come and go: no descriptor, thread, mapping or link of Linux stays behind."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.system.conftest import Namespace, Sandbox
from tests.system.ledger import held, not_more
from tests.system.process import Pyvpp, eventually, ping, running

pytestmark = pytest.mark.slow

CYCLES = 30


def come_and_go(pyvpp: Pyvpp, node: Namespace, pod: Namespace, number: int) -> None:
    """A pod, a TAP here and an interface on a veth, all alive together for a moment."""
    lines = (
        f"create tap tun host-ns {pod.path} host-if-name eth0 host-ip4-addr 10.80.{number}.2/32",
        f"create tap id {number} host-if-name tap{number} host-ip4-addr 10.81.{number}.1/24",
        "create host-interface name port",
        "set interface state host-port up",
    )
    tun, tap, *_ = [pyvpp.ctl(line).strip() for line in lines]
    assert ping(pod, "10.80.0.1")
    for line in (f"delete tap {tap}", "delete host-interface name port", f"delete tap {tun}"):
        pyvpp.ctl(line)


def test_devices_come_and_go(make_sandbox: Callable[[], Sandbox]) -> None:
    sandbox = make_sandbox()
    node, pod, other = (sandbox.namespace(name) for name in ("node", "pod", "other"))
    sandbox.join(node, "port", other, "eth0")
    with running(sandbox, node) as pyvpp:
        for line in (
            "create loopback interface",
            "set interface state loop0 up",
            "set interface ip address loop0 10.80.0.1/32",
        ):
            pyvpp.ctl(line)
        come_and_go(pyvpp, node, pod, 0)
        before = held(pyvpp, node, pod)
        for number in range(1, CYCLES):
            come_and_go(pyvpp, node, pod, number)
        eventually(lambda: not_more(held(pyvpp, node, pod), before), "all that was held is given back")
