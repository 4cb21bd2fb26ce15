# SPDX-License-Identifier: Apache-2.0
"""Interfaces with a device below come and go: no descriptor, thread, mapping or link of Linux stays behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.system.conftest import Namespace, Sandbox
from tests.system.process import Pyvpp, eventually, ping, running

pytestmark = pytest.mark.slow

CYCLES = 30


def held(pyvpp: Pyvpp, *namespaces: Namespace) -> dict[str, Any]:
    """What the process holds of Linux, and what Linux shows of it."""
    process = Path("/proc", str(pyvpp.process.pid))
    return {
        "descriptors": len(list((process / "fd").iterdir())),
        "threads": len(list((process / "task").iterdir())),
        "rings": (process / "maps").read_text().count("socket:"),
        "links": [namespace.ip("-br", "link").count("\n") for namespace in namespaces],
        "interfaces": len(pyvpp.data("show interface")),
        "nodes": len(pyvpp.data("show runtime verbose")[0]["nodes"]),
        "buffers": [pool["used"] for pool in pyvpp.data("show buffers")],
    }


def not_more(now: dict[str, Any], before: dict[str, Any]) -> bool:
    """As before; a connection of `pyvppctl` that was being closed then may have had one descriptor more."""
    return {**now, "descriptors": 0} == {**before, "descriptors": 0} and now["descriptors"] <= before["descriptors"]


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
