# SPDX-License-Identifier: Apache-2.0
"""A pod's namespace that goes away takes its TUN along; pyvpp notices, sleeps on, and makes room for the next pod."""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.system.conftest import Namespace, Sandbox, run
from tests.system.process import Pyvpp, eventually, ping, running

NODE, POD = "10.80.0.1", "10.80.1.2"
POD_TUN = f"create tap tun host-ns {{pod}} host-if-name eth0 host-ip4-addr {POD}/32"


def links(namespace: Namespace) -> list[str]:
    """The names of all interfaces."""
    return [line.split()[0].partition("@")[0] for line in namespace.ip("-br", "link").splitlines()]


def loops_of(pyvpp: Pyvpp, seconds: float) -> int:
    """Rounds of the worker's loop in so many seconds."""

    def loops() -> int:
        return int(pyvpp.data("show threads")[1]["loops"])

    before = loops()
    time.sleep(seconds)
    return loops() - before


def test_a_deleted_namespace_takes_its_tun_along(make_sandbox: Callable[[], Sandbox]) -> None:
    sandbox = make_sandbox()
    node, pod, next_pod = (sandbox.namespace(name) for name in ("node", "pod", "next"))
    sandbox.join(node, "witness", pod, "other")  # a veth dies with the namespace of its other end
    with running(sandbox, node) as pyvpp:
        for line in (
            "create loopback interface",
            "set interface state loop0 up",
            f"set interface ip address loop0 {NODE}/32",
        ):
            pyvpp.ctl(line)
        assert pyvpp.ctl(POD_TUN.format(pod=pod.path)).strip() == "tun0"
        assert ping(pod, NODE)
        assert pyvpp.interface("tun0")["link_up"]

        run("ip", "netns", "del", pod.name)
        eventually(lambda: "witness" not in links(node), "the namespace is gone: nothing of pyvpp keeps it")
        eventually(lambda: pyvpp.counter("tun0-input", "linux interface is gone"), "counted")
        assert loops_of(pyvpp, 0.5) < 500  # asleep: a worker that spins makes hundreds of thousands
        eventually(lambda: not pyvpp.interface("tun0")["link_up"], "link down")
        assert pyvpp.counter("tun0-input", "linux interface is gone") == 1
        assert pyvpp.counter("tun0-input", "read failed") == 0

        pyvpp.ctl("set interface rx-placement tun0 worker 0")
        eventually(lambda: pyvpp.counter("tun0-input", "linux interface is gone") == 2, "found out anew")
        assert loops_of(pyvpp, 0.5) < 500
        assert pyvpp.counter("tun0-input", "linux interface is gone") == 2

        drops = pyvpp.interface("tun0")["counters"]["drops"]
        pyvpp.ctl(f"ping {POD} repeat 2 interval 0.01")
        assert pyvpp.counter("tun0-tx", "link is down") == 2
        assert pyvpp.interface("tun0")["counters"]["drops"] == drops + 2

        assert pyvpp.ctl(POD_TUN.format(pod=next_pod.path)).strip() == "tun1"
        pyvpp.ctl("delete tap tun0")
        assert "unknown interface `tun0'" in pyvpp.refusal("show interface tun0")
        assert ping(next_pod, NODE)  # the address is the new pod's, its route stayed
        assert pyvpp.ctl(POD_TUN.format(pod="/proc/self/ns/net").replace("eth0", "pod0")).strip() == "tun0"
        pyvpp.ctl("delete tap tun0")
        pyvpp.ctl("delete tap tun1")
        assert "eth0" not in links(next_pod)
        assert POD not in pyvpp.ctl("show ip fib")


def test_a_name_that_the_namespace_has_already(make_sandbox: Callable[[], Sandbox]) -> None:
    sandbox = make_sandbox()
    node, pod = sandbox.namespace("node"), sandbox.namespace("pod")
    sandbox.join(node, "port", pod, "eth0")
    before = links(node), links(pod)
    with running(sandbox, node) as pyvpp:
        refusal = pyvpp.refusal(POD_TUN.format(pod=pod.path))
        assert refusal.count("\n") == 0 and "interface eth0 exists already" in refusal
        assert "tun0" not in pyvpp.ctl("show interface")
        assert (links(node), links(pod)) == before
