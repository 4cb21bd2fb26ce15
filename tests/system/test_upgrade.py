# SPDX-License-Identifier: Apache-2.0
"""`pyvpp upgrade` and SIGHUP: another process goes on, and whoever has a connection does not notice."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.system.conftest import Namespace, Pair, Sandbox, differences, environment, wait_for_link_local
from tests.system.process import PATIENCE, Pyvpp, eventually, ping, pyvpp_command, running

INTERVAL = 0.001
NUMBER = struct.Struct("!I")


@dataclass
class Stream:
    """Numbered datagrams, one a millisecond, from one namespace to an address in another."""

    source: Namespace
    target: Namespace
    address: str
    sent: int = 0
    received: list[int] = field(default_factory=list)
    came: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._receiver = self.target.inside(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        self._receiver.bind((self.address, 0))
        self._receiver.settimeout(0.5)
        self._sender = self.source.inside(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        self._sender.connect(self._receiver.getsockname())
        self._threads = [threading.Thread(target=each) for each in (self._send, self._receive)]
        for thread in self._threads:
            thread.start()

    def _send(self) -> None:
        due = time.monotonic()
        while not self._stop.is_set():
            with contextlib.suppress(ConnectionRefusedError):
                self._sender.send(NUMBER.pack(self.sent))
            self.sent += 1
            due = max(due + INTERVAL, time.monotonic() - 10 * INTERVAL)
            time.sleep(max(0.0, due - time.monotonic()))

    def _receive(self) -> None:
        while True:
            try:
                data = self._receiver.recv(100)
            except TimeoutError:
                if self._stop.is_set():
                    return
                continue
            self.received.append(NUMBER.unpack(data)[0])
            self.came.append(time.monotonic())

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._receiver.close()
        self._sender.close()

    @property
    def lost(self) -> int:
        return self.sent - len(set(self.received))

    @property
    def doubled(self) -> int:
        return len(self.received) - len(set(self.received))

    @property
    def longest_wait(self) -> float:
        """Seconds between two that followed each other."""
        return max(b - a for a, b in zip(self.came, self.came[1:], strict=False))


class Echo:
    """A TCP connection that is asked now and then whether it is still there."""

    def __init__(self, source: Namespace, target: Namespace, address: str) -> None:
        listener = target.inside(lambda: socket.create_server((address, 0)))
        with listener:
            listener.settimeout(PATIENCE)
            self._near = source.inside(lambda: socket.create_connection(listener.getsockname(), timeout=PATIENCE))
            self._far, _ = listener.accept()
        self._far.settimeout(PATIENCE)

    def check(self) -> None:
        for one, other in ((self._near, self._far), (self._far, self._near)):
            one.sendall(b"still there?")
            assert other.recv(100) == b"still there?"

    def close(self) -> None:
        self._near.close()
        self._far.close()


POD, FAR_POD = "10.80.1.2", "10.80.2.2"
TUNNELS = {
    "VXLAN": ("create vxlan tunnel src {near} dst {far} vni 7 l3", "vxlan_tunnel0"),
    "IPIP": ("create ipip tunnel src {near} dst {far}", "ipip0"),
}


def add_pod(sandbox: Sandbox, pyvpp: Pyvpp, name: str, address: str) -> Namespace:
    pod = sandbox.namespace(name)
    pyvpp.ctl(f"create tap tun host-ns {pod.name} host-if-name eth0 host-ip4-addr {address}/32")
    return pod


def add_tunnel(pyvpp: Pyvpp, kind: str, near: str, far: str, pod: str) -> None:
    """A tunnel to another node, and the route to its pod."""
    create, name = TUNNELS[kind]
    for line in (
        create.format(near=near, far=far),
        f"set interface state {name} up",
        f"ip route add {pod}/32 via {name}",
    ):
        pyvpp.ctl(line)


@contextlib.contextmanager
def far_pod(sandbox: Pair, kind: str) -> Iterator[Namespace]:
    """The pod at the other end of a tunnel, another pyvpp's."""
    with running(sandbox, sandbox.peer, "--uplink", "eth0") as other:
        pod = add_pod(sandbox, other, "far", FAR_POD)
        add_tunnel(other, kind, "10.77.0.2", "10.77.0.1", POD)
        yield pod


def process_id(pyvpp: Pyvpp) -> int:
    return int(pyvpp.data("show version")["pid"])


@pytest.mark.alone
@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("kind", ["VXLAN", "IPIP"])
def test_nobody_notices(sandbox: Pair, kind: str, workers: str) -> None:
    """Packets of host and pod, a millisecond apart, and connections of both, over two upgrades."""
    host, peer = sandbox.host, sandbox.peer
    with running(sandbox, host, "--uplink", "eth0", "--workers", workers) as pyvpp, far_pod(sandbox, kind) as far:
        pod = add_pod(sandbox, pyvpp, "pod", POD)
        add_tunnel(pyvpp, kind, "10.77.0.1", "10.77.0.2", FAR_POD)
        eventually(lambda: ping(pod, FAR_POD), "the pod reaches the other")
        echoes = [Echo(host, peer, "10.77.0.2"), Echo(pod, far, FAR_POD)]
        ways = [(host, peer, "10.77.0.2"), (peer, host, "10.77.0.1"), (pod, far, FAR_POD), (far, pod, POD)]
        streams = [Stream(*way) for way in ways]
        for _ in range(2):
            before = process_id(pyvpp)
            print(upgrade(pyvpp, host), end="")
            assert process_id(pyvpp) != before
            for echo in echoes:
                echo.check()
        for stream in streams:
            stream.stop()
        for echo in echoes:
            echo.close()
        for stream in streams:
            print(
                f"lost {stream.lost} of {stream.sent}, doubled {stream.doubled}, longest wait "
                f"{1000 * stream.longest_wait:.1f} ms"
            )
        assert all(stream.lost <= 3 and stream.doubled == 0 for stream in streams)


def upgrade(pyvpp: Pyvpp, namespace: Namespace) -> str:
    """`pyvpp upgrade`, which must succeed."""
    return namespace.run(*pyvpp_command("upgrade", "--runtime-dir", pyvpp.runtime_dir)).stdout


def test_everything_is_as_it_was(sandbox: Pair, tmp_path: Path) -> None:
    """Names, numbers and MAC addresses of interfaces, addresses, routes, neighbors, modes; what was undone is not back."""
    script = tmp_path / "setup.cli"
    script.write_text("create loopback interface\nset interface state loop0 up\n")
    with running(sandbox, sandbox.host, "--uplink", "eth0", "--exec", script) as pyvpp:
        for line in (
            "create tap id 4 host-if-name left4",
            "create tap host-if-name tap-left",
            "set interface state tap1 up",
            "set interface ip address tap1 10.99.0.1/24",
            "set ip neighbor tap1 10.99.0.7 02:00:00:00:00:07 static",
            "ip route add 10.98.0.0/16 via 10.99.0.7 tap1",
            "ip route add 10.97.0.0/16 via 10.99.0.7 tap1",
            "ip route del 10.97.0.0/16 via 10.99.0.7 tap1",
            "delete tap tap4",
            "ip table add 5",
            "ip route add 10.96.0.0/16 table 5 via 10.99.0.7 tap1",
            "create loopback interface",
            "set interface ip table loop1 5",
            "set interface ip table loop1 0",
            "ip table del 5",
            "set interface rx-mode tap1 polling",
            "set interface mtu 1400 tap1",
            "create host-interface name lo",
            "set interface rx-mode tap1 interrupt",
        ):
            pyvpp.ctl(line)

        def view() -> list[object]:
            interfaces = [{**each, "counters": None} for each in pyvpp.data("show interface")]
            neighbors = [{**each, "age": None} for each in pyvpp.data("show ip neighbors")]
            fib = re.sub(r"next:\d+|index:\d+|to:\[.*?\]|\[@\d+\]", "", pyvpp.ctl("show ip fib"))
            shown = ("show interface rx-placement", "show interface address", "show configuration")
            return [interfaces, neighbors, fib, *(pyvpp.ctl(line) for line in shown)]

        before = view()
        mac = sandbox.host.ip("link", "show", "tap-left")
        for _ in range(2):
            upgrade(pyvpp, sandbox.host)
            assert view() == before
        assert sandbox.host.ip("link", "show", "tap-left") == mac
        assert "left4" not in sandbox.host.ip("link")
        pyvpp.ctl("delete tap tap1")
        gone = lambda: "tap-left" not in sandbox.host.ip("link")  # noqa: E731
        eventually(gone, "deleted, once the process before has ended and closed it as well")


SUICIDE = """
import os, signal
def start(engine):
    engine.events.on("{event}", lambda extras: {what})
"""


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "the new process ended with status -9 before it was built"),
        ("os._exit(3)", "the new process ended with status 3 before it was built"),
    ],
)
def test_a_new_process_that_fails_leaves_the_old_one_serving(
    sandbox: Pair, tmp_path: Path, what: str, told: str
) -> None:
    plugin = tmp_path / "suicide.py"
    plugin.write_text(SUICIDE.format(event="take-on", what=what))
    before = sandbox.host.snapshot()
    with running(sandbox, sandbox.host, "--uplink", "eth0", "--plugin", plugin) as pyvpp:
        process = process_id(pyvpp)
        stream = Stream(sandbox.peer, sandbox.host, "10.77.0.1")
        assert told in pyvpp.refusal("upgrade")
        pyvpp.ctl("create loopback interface")  # nothing is frozen any more
        stream.stop()
        assert stream.lost == stream.doubled == 0
        assert process_id(pyvpp) == process
        plugin.write_text("")
        upgrade(pyvpp, sandbox.host)
        assert process_id(pyvpp) != process
        assert ping(sandbox.peer, "10.77.0.1")
    assert sandbox.host.snapshot() == before


def test_a_command_that_the_new_process_does_not_know(sandbox: Pair, tmp_path: Path) -> None:
    """Better no upgrade than one that has forgotten something."""
    plugin = tmp_path / "extra.py"
    plugin.write_text(
        "from pyvpp.cli.registry import command\n"
        "@command('set extra', help='set extra N')\n"
        "def set_extra(engine, args):\n"
        "    args.unsigned()\n"
    )
    with running(sandbox, sandbox.host, "--plugin", plugin) as pyvpp:
        pyvpp.ctl("set extra 1")
        plugin.write_text("")
        assert "the new process failed: set extra 1: " in pyvpp.refusal("upgrade")
        assert pyvpp.data("show configuration") == ["set extra 1"]


def test_a_device_that_no_command_made(sandbox: Pair, tmp_path: Path) -> None:
    """It would lie there with nobody to read it."""
    plugin = tmp_path / "maker.py"
    plugin.write_text(
        "from pyvpp.device.interfaces import add_tap\ndef start(engine):\n    add_tap(engine, 'by-plugin')\n"
    )
    with running(sandbox, sandbox.host, "--plugin", plugin) as pyvpp:
        assert "no command makes tap0 again" in pyvpp.refusal("upgrade")
        assert "by-plugin" in sandbox.host.ip("link")
        assert pyvpp.interface("tap0")["link_up"]


def test_killed_while_it_compiles(sandbox: Pair) -> None:
    """As soon as there is a new process."""
    with running(sandbox, sandbox.host) as pyvpp:
        old = process_id(pyvpp)
        children = Path(f"/proc/{old}/task/{old}/children")
        pyvpp.process.send_signal(signal.SIGHUP)
        eventually(lambda: children.read_text().split(), "a new process")
        os.kill(int(children.read_text().split()[0]), signal.SIGKILL)
        eventually(lambda: not children.read_text().split(), "buried")
        assert process_id(pyvpp) == old


def test_sighup_and_what_becomes_of_the_process_that_was_started(sandbox: Pair) -> None:
    """It stays, passes signals on, and ends as the last one does."""
    before = sandbox.host.snapshot()
    pyvpp = Pyvpp(sandbox, sandbox.host, "--uplink", "eth0")
    pyvpp.wait_until_ready()
    first = pyvpp.process.pid
    seen = {first}
    assert process_id(pyvpp) == first
    for _ in range(2):
        pyvpp.process.send_signal(signal.SIGHUP)
        eventually(lambda: process_id(pyvpp) not in seen, "another process")
        seen.add(process_id(pyvpp))
        pyvpp.wait_until_ready()
        eventually(lambda: b"pyvpp.linux.keeper" in Path(f"/proc/{first}/cmdline").read_bytes(), "the keeper")
    eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in seen - {first, process_id(pyvpp)}), "all gone")
    pyvpp.stop()
    assert sandbox.host.snapshot() == before


@pytest.mark.parametrize("victim", ["keeper", "pyvpp"])
def test_the_new_process_has_a_guardian(sandbox: Pair, victim: str) -> None:
    before = sandbox.host.snapshot()
    pyvpp = Pyvpp(sandbox, sandbox.host, "--uplink", "eth0")
    pyvpp.wait_until_ready()
    upgrade(pyvpp, sandbox.host)
    os.kill(pyvpp.process.pid if victim == "keeper" else process_id(pyvpp), signal.SIGKILL)
    pyvpp.process.communicate()
    assert pyvpp.process.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL)
    eventually(lambda: not (pyvpp.runtime_dir / "journal.json").exists(), "the guardian's restore")
    assert sandbox.host.snapshot() == before


def used(pyvpp: Pyvpp) -> list[int]:
    """Buffers that hold a packet or are with Linux, by kind."""
    return [int(row["used"]) for row in pyvpp.data("show buffers")]


@pytest.mark.alone
def test_af_xdp(sandbox: Pair) -> None:
    """An uplink and another interface whose packets Linux writes into pyvpp's memory: all buffers have an owner."""
    host, peer, other = sandbox.host, sandbox.peer, sandbox.namespace("other")
    sandbox.join(host, "port", other, "eth0")
    other.ip("addr", "add", "10.9.0.2/24", "dev", "eth0")
    other.ip("route", "add", "default", "via", "10.9.0.1")
    wait_for_link_local(host, "port")
    before = host.snapshot()
    with running(sandbox, host, "--uplink", "eth0", "--driver", "af-xdp", "--workers", "2") as pyvpp:
        pod = add_pod(sandbox, pyvpp, "pod", POD)
        for line in (
            "create interface af_xdp host-if port",
            "set interface state port/0 up",
            "set interface ip address port/0 10.9.0.1/24",
        ):
            pyvpp.ctl(line)
        eventually(lambda: ping(other, POD) and ping(pod, "10.9.0.2"), "the pod is reached")
        lent = used(pyvpp)
        ways = [(host, peer, "10.77.0.2"), (peer, host, "10.77.0.1"), (pod, other, "10.9.0.2"), (other, pod, POD)]
        with contextlib.ExitStack() as stack:
            echoes = [Echo(*ways[0]), Echo(*ways[2])]
            streams = [Stream(*way) for way in ways]
            for each in (*echoes, *streams):
                stack.callback(each.close if isinstance(each, Echo) else each.stop)
            for _ in range(2):
                old = process_id(pyvpp)
                print(upgrade(pyvpp, host), end="")
                assert process_id(pyvpp) != old
                for echo in echoes:
                    echo.check()
        for stream in streams:
            print(
                f"lost {stream.lost} of {stream.sent}, doubled {stream.doubled}, longest wait "
                f"{1000 * stream.longest_wait:.1f} ms"
            )
        assert all(stream.lost <= 3 and stream.doubled == 0 for stream in streams)
        eventually(lambda: used(pyvpp) == lent, "no buffer is lost")
        assert not pyvpp.counter("port/0-input", "bad descriptor")
        pyvpp.ctl("delete interface af_xdp port/0")
        assert used(pyvpp) < lent
    assert not differences(before, host.snapshot())


def test_af_xdp_when_the_new_process_fails(sandbox: Pair, tmp_path: Path) -> None:
    plugin = tmp_path / "suicide.py"
    plugin.write_text(SUICIDE.format(event="take-on", what="os._exit(3)"))
    options = ("--uplink", "eth0", "--driver", "af-xdp", "--plugin", plugin)
    with running(sandbox, sandbox.host, *options) as pyvpp:
        lent = used(pyvpp)
        stream = Stream(sandbox.peer, sandbox.host, "10.77.0.1")
        assert "the new process ended with status 3 before it was built" in pyvpp.refusal("upgrade")
        stream.stop()
        assert stream.lost == stream.doubled == 0
        eventually(lambda: used(pyvpp) == lent, "what was set apart is back")


def test_a_service_manager_is_told_the_new_process(sandbox: Pair, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(60)
        process = subprocess.Popen(
            sandbox.host.command(*pyvpp_command("--runtime-dir", sandbox.runtime_dir)),
            env={**environment(), "NOTIFY_SOCKET": str(tmp_path / "notify")},
            stdout=subprocess.DEVNULL,
        )
        said: list[str] = []

        def listen_for(word: str) -> str:
            while not said or not said[-1].startswith(word):
                data, descriptors, _, _ = socket.recv_fds(manager, 100, 1)
                said.append(data.decode())
                for descriptor in descriptors:
                    os.close(descriptor)  # which says that we have got so far
            return said[-1]

        try:
            listen_for("READY=1")
            os.kill(process.pid, signal.SIGHUP)
            new = int(listen_for("MAINPID=").partition("=")[2])
            assert new != process.pid
            listen_for("BARRIER=1")
            assert process.wait(PATIENCE) == 0
            said.clear()
            os.kill(new, signal.SIGTERM)
            listen_for("STOPPING=1")
        finally:
            process.kill()
            process.wait()
        eventually(
            lambda: not Path(f"/proc/{new}").exists() or Path(f"/proc/{new}/stat").read_text().split()[2] == "Z", "gone"
        )
