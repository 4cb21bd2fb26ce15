# SPDX-License-Identifier: Apache-2.0
"""pyvpp's own ping, answered by Linux in other namespaces, while others use the command line and packets flow."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from tests.system.conftest import Sandbox, environment
from tests.system.process import Pyvpp, eventually, ping
from tests.system.router import CLIENT, CLIENT6, LEFT, RIGHT, SERVER, SERVER6, Router

NOBODY = "10.61.0.99"


@contextlib.contextmanager
def pyvppctl(pyvpp: Pyvpp, line: str) -> Iterator[subprocess.Popen[str]]:
    """A pyvppctl that runs a command."""
    command = [sys.executable, "-m", "pyvpp.cli.client", "--runtime-dir", str(pyvpp.runtime_dir), *line.split()]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment())
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_linux_answers_and_nobody_waits(make_sandbox: Callable[[], Sandbox]) -> None:
    with Router(make_sandbox()).running() as router:
        pyvpp = router.pyvpp
        for address, source in ((CLIENT, LEFT), (SERVER, RIGHT), (CLIENT6, LEFT), (SERVER6, RIGHT)):
            done = pyvpp.data(f"ping {address} burst 3 repeat 1 interval 30 size 1200 source {source}")
            assert (done["sent"], done["received"], done["duplicates"]) == (3, 3, 0)
            assert sorted((reply["icmp_seq"], reply["from"], reply["bytes"]) for reply in done["replies"]) == [
                (number, address, 1208) for number in (1, 2, 3)
            ]
        assert pyvpp.counter("ip4-icmp-echo-reply", "echo replies to pings of ours") == 6
        assert pyvpp.counter("ip6-icmp-echo-reply", "echo replies to pings of ours") == 6
        assert "100% packet loss" in pyvpp.ctl(f"ping {NOBODY} repeat 2 interval 0.05")

        with pyvppctl(pyvpp, f"ping {CLIENT6} repeat 100000 interval 0.05") as endless, ThreadPoolExecutor(8) as pool:
            assert endless.stdout is not None
            heard = [endless.stdout.readline() for _ in range(2)]
            assert [line.rpartition(" time=")[0] for line in heard] == [
                f"64 bytes from {CLIENT6}: icmp_seq={number} ttl=64" for number in (1, 2)
            ]
            assert "ip6-icmp-echo-reply" in pyvpp.ctl(f"show interface features {LEFT}")
            several = [
                pool.submit(pyvpp.data, f"ping {CLIENT} burst 3 repeat 1 interval 30 size {size}") for size in range(8)
            ]
            assert ping(router.client, SERVER)
            assert pyvpp.ctl("show version").startswith("pyvpp v")
            for size, done in enumerate(each.result() for each in several):
                assert (done["sent"], done["received"]) == (3, 3)
                assert {reply["bytes"] for reply in done["replies"]} == {8 + size}
            endless.send_signal(signal.SIGINT)
            output = endless.communicate(timeout=60)[0]
            assert endless.returncode == 0
            assert "Statistics: " in output and "rtt min/avg/max = " in output
        eventually(
            lambda: "ip6-icmp-echo-reply" not in pyvpp.ctl(f"show interface features {LEFT}"), "nobody listens any more"
        )

        with pyvppctl(pyvpp, f"ping {CLIENT6} repeat 100000 interval 0.05") as killed:
            assert killed.stdout is not None and killed.stdout.readline()
        eventually(
            lambda: "ip6-icmp-echo-reply" not in pyvpp.ctl(f"show interface features {LEFT}"), "it ends with its client"
        )
        eventually(lambda: sum(pool["used"] for pool in pyvpp.data("show buffers")) == 0, "all buffers are back")


def test_a_table_of_its_own(make_sandbox: Callable[[], Sandbox]) -> None:
    """The neighbor is known in one table only; its answers come back there."""
    sandbox = make_sandbox()
    node, peer = sandbox.namespace("node"), sandbox.namespace("peer")
    sandbox.join(peer, "eth0", node, "left")
    peer.ip("addr", "add", "10.61.0.2/24", "dev", "eth0")
    pyvpp = Pyvpp(sandbox, node)
    pyvpp.wait_until_ready()
    pyvpp.ctl("create host-interface name left")
    pyvpp.ctl("ip table add 7")
    pyvpp.ctl(f"set interface ip table {LEFT} 7")
    pyvpp.ctl(f"set interface state {LEFT} up")
    pyvpp.ctl(f"set interface ip address {LEFT} 10.61.0.1/24")
    (link,) = json.loads(peer.ip("-j", "link", "show", "eth0"))
    pyvpp.ctl(f"set ip neighbor {LEFT} {CLIENT} {link['address']} static")
    assert "no route to" in pyvpp.refusal(f"ping {CLIENT}")
    for words in ("table-id 7", f"source {LEFT}"):
        assert pyvpp.data(f"ping {CLIENT} {words} burst 2 repeat 1 interval 30")["received"] == 2
    pyvpp.stop()
