# SPDX-License-Identifier: Apache-2.0
"""A pyvpp that was killed, and the next one: pods keep their devices and connections, and what was configured is back."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.system.conftest import Namespace, Pair, run
from tests.system.process import Pyvpp, eventually, ping, running
from tests.system.test_pod_death import links
from tests.system.test_upgrade import Echo

NODE, PODS = "10.80.0.1", ("10.80.1.2", "10.80.1.3")


def pod_command(pod: Namespace, address: str) -> str:
    return f"create tap tun host-ns {pod.name} host-if-name eth0 host-ip4-addr {address}/32"


NODE_COMMANDS = (
    "create loopback interface",
    "set interface state loop0 up",
    f"set interface ip address loop0 {NODE}/32",
)


def ifindex(pod: Namespace) -> str:
    return pod.ip("-o", "link", "show", "eth0").partition(":")[0]


def stopped(pyvpp: Pyvpp, number: signal.Signals) -> None:
    pyvpp.process.send_signal(number)
    pyvpp.process.communicate()


def view(pyvpp: Pyvpp) -> list[object]:
    return [[{**each, "counters": None} for each in pyvpp.data("show interface")], pyvpp.ctl("show configuration")]


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM])
def test_pods_and_their_connections_survive(sandbox: Pair, ending: signal.Signals, workers: str) -> None:
    """SIGKILL, and SIGTERM with --keep; with an uplink, whose NIC Linux has meanwhile."""
    options = ("--uplink", "eth0", "--keep", "--workers", workers)
    pods = [sandbox.namespace(f"pod{number}") for number in range(2)]
    pyvpp = Pyvpp(sandbox, sandbox.host, *options)
    pyvpp.wait_until_ready()
    for line in (*NODE_COMMANDS, *(pod_command(*each) for each in zip(pods, PODS, strict=True))):
        pyvpp.ctl(line)
    assert ping(pods[0], PODS[1])
    echo = Echo(pods[0], pods[1], PODS[1])
    echo.check()
    journal = pyvpp.runtime_dir / "journal.json"
    before, indexes = view(pyvpp), [ifindex(pod) for pod in pods]
    for _ in range(2):
        stopped(pyvpp, ending)
        eventually(lambda: not journal.exists(), "Linux has its NIC back")
        pyvpp = Pyvpp(sandbox, sandbox.host, *options)
        pyvpp.wait_until_ready()
        assert view(pyvpp) == before
        assert [ifindex(pod) for pod in pods] == indexes
        echo.check()
    echo.close()
    pyvpp.ctl("delete tap tun0")
    assert "eth0" not in links(pods[0])
    run("ip", "netns", "del", pods[1].name)  # this device is opened in there, and must not keep it
    eventually(lambda: not pyvpp.interface("tun1")["link_up"], "the pod's death is noticed")
    pyvpp.stop()


def test_an_orderly_end_leaves_nothing(sandbox: Pair) -> None:
    pod = sandbox.namespace("pod")
    with running(sandbox, sandbox.host) as pyvpp:
        pyvpp.ctl(pod_command(pod, PODS[0]))
        assert (pyvpp.runtime_dir / "state.json").stat().st_mode & 0o777 == 0o600
    assert "eth0" not in links(pod)
    assert not list(pyvpp.runtime_dir.glob("state*"))
    with running(sandbox, sandbox.host) as pyvpp:
        assert pyvpp.data("show configuration") == []


def test_a_pod_that_died_meanwhile_and_one_nobody_wants_again(sandbox: Pair, tmp_path: Path) -> None:
    """The script decides on what it made; the other pod is made anew in no namespace but its own."""
    pods = [sandbox.namespace(f"pod{number}") for number in range(2)]
    script = tmp_path / "setup.cli"
    script.write_text(pod_command(pods[0], PODS[0]))
    pyvpp = Pyvpp(sandbox, sandbox.host, "--exec", script)
    pyvpp.wait_until_ready()
    pyvpp.ctl(pod_command(pods[1], PODS[1]))
    stopped(pyvpp, signal.SIGKILL)
    run("ip", "netns", "del", pods[1].name)
    run("ip", "netns", "add", pods[1].name)
    script.write_text("create loopback interface\n")
    pyvpp = Pyvpp(sandbox, sandbox.host, "--exec", script)
    pyvpp.wait_until_ready()
    assert pyvpp.data("show configuration") == ["create loopback interface"]
    assert "eth0" not in links(pods[0]) and "eth0" not in links(pods[1])
    pyvpp.process.send_signal(signal.SIGTERM)
    _, errors = pyvpp.process.communicate()
    assert f"tun1: its network namespace {pods[1].name} is gone" in errors


def test_another_number_of_queues_makes_the_device_anew(sandbox: Pair) -> None:
    pod = sandbox.namespace("pod")
    pyvpp = Pyvpp(sandbox, sandbox.host)
    pyvpp.wait_until_ready()
    for line in (*NODE_COMMANDS, pod_command(pod, PODS[0])):
        pyvpp.ctl(line)
    stopped(pyvpp, signal.SIGKILL)
    with running(sandbox, sandbox.host, "--workers", "2"):
        eventually(lambda: ping(pod, NODE), "the pod is there")


def test_a_state_file_that_is_spoilt(sandbox: Pair) -> None:
    pyvpp = Pyvpp(sandbox, sandbox.host)
    pyvpp.wait_until_ready()
    pyvpp.ctl("create loopback interface")
    stopped(pyvpp, signal.SIGKILL)
    os.truncate(pyvpp.runtime_dir / "state.json", 20)
    with running(sandbox, sandbox.host) as pyvpp:
        assert pyvpp.data("show configuration") == []
    assert (pyvpp.runtime_dir / "state.bad").exists()


def test_upgraded_then_killed(sandbox: Pair) -> None:
    """What one process handed to the next is found by the third."""
    pod = sandbox.namespace("pod")
    pyvpp = Pyvpp(sandbox, sandbox.host)
    pyvpp.wait_until_ready()
    for line in (*NODE_COMMANDS, pod_command(pod, PODS[0])):
        pyvpp.ctl(line)
    index = ifindex(pod)
    pyvpp.ctl("upgrade")
    assert ping(pod, NODE)
    stopped(pyvpp, signal.SIGKILL)
    with running(sandbox, sandbox.host) as pyvpp:
        assert ping(pod, NODE)
        assert ifindex(pod) == index
        pyvpp.ctl("upgrade")
        assert ping(pod, NODE)
        assert ifindex(pod) == index
    assert "eth0" not in links(pod)
