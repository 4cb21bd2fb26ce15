# SPDX-License-Identifier: Apache-2.0
"""`pyvpp --uplink eth0` on real packets: the host's connections stay, pods meet through tunnels."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pyvpp import demo
from pyvpp.linux.sandbox import Sandbox as Cables


@pytest.fixture
def two_nodes(tmp_path: Path) -> Iterator[tuple[Cables, list[demo.Node], demo.Namespace]]:
    """Two nodes on a switch, and the switch."""
    cables = Cables(f"pvj-{time.monotonic_ns() % 10**9}")
    try:
        wire = cables.namespace("switch")
        nodes = [demo.Node(cables, number, tmp_path) for number in range(2)]
        for node in nodes:
            node.host.cable("eth0", wire, f"port{node.number + 1}")
        wire.switch("switch", ("port1", "port2"))
        for node in nodes:
            node.host.address("eth0", f"{node.address}/24")
            demo.settled_view(node)
        yield cables, nodes, wire
    finally:
        cables.close()


def wait_until(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


WORKERS = [pytest.param("1", id="1-worker"), pytest.param("2", id="2-workers")]


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("ending", ["SIGTERM", "SIGKILL"])
def test_open_connection_survives(two_nodes, ending: str, workers: str) -> None:
    cables, (node, other), _ = two_nodes
    before = demo.linux_view(node)
    connection = demo.LongConnection(node.host, other.host, other.address)
    node.start(cables, "--workers", workers)
    node.wait_until_ready()
    connection.check("with pyvpp")
    if ending == "SIGTERM":
        node.stop()
    else:
        node.process.kill()
        node.process.wait()

    def restored() -> bool:
        state = node.host.uplink("eth0")
        return state is not None and state.kind == "veth" and demo.linux_view(node) == before

    wait_until(restored)
    connection.check(f"after {ending}")
    connection.close()


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("kind", ["IPIP", "VXLAN"])
def test_pods_meet(two_nodes, kind: str, workers: str, tmp_path: Path) -> None:
    cables, nodes, wire = two_nodes
    for node in nodes:
        node.start(cables, "--workers", workers)
        node.wait_until_ready()
    demo.step_pods(nodes)
    demo.step_tunnel(nodes, wire, kind, tmp_path)
    for node in nodes:
        node.stop()


def test_not_root() -> None:
    done = subprocess.run(
        ["setpriv", "--reuid", "65534", sys.executable, "-c", "from pyvpp.main import main; raise SystemExit(main(['demo']))"],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    if "setpriv" in done.stderr or "ModuleNotFound" in done.stderr or "Permission" in done.stderr:
        pytest.skip("an unprivileged user cannot run this Python")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1 and "needs root" in done.stderr
