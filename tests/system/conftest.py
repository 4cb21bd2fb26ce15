# SPDX-License-Identifier: Apache-2.0
"""Sandboxes of network namespaces for the system tests; every one cleans up after itself whatever happens.

`sandbox` joins namespace `host` (eth0, 10.77.0.1/24, 2001:db8:77::1/64) to namespace `peer` (eth0, .2 and ::2) by a veth pair.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from pyvpp.linux import ethtool, netns
from pyvpp.linux.ethtool import Offload
from tests.system import summary

T = TypeVar("T")

ROOT = Path(__file__).resolve().parents[2]
_numbers = itertools.count()
_MOMENTARY = {
    "link": {"ifindex", "stats", "stats64", "link_index", "link_netnsid"},
    "addr": {"ifindex", "valid_life_time", "preferred_life_time", "link_index", "link_netnsid"},
    "route": {"expires", "used", "users", "age"},
}


def environment() -> dict[str, str]:
    """The environment of processes in a sandbox: they import what is tested here from anywhere."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(str(ROOT / name) for name in (".", "graph_nodes", "plugins"))}


def run(*command: str | Path, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command and return its output; a failure shows what it printed."""
    line = [str(word) for word in command]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, env=environment(), **options)
    assert not check or done.returncode == 0, (
        f"{' '.join(map(str, command))}: {done.returncode}\n{done.stdout}{done.stderr}"
    )
    return done


def _without_momentary(value: Any, kind: str) -> Any:
    if isinstance(value, dict):
        return {key: _without_momentary(item, kind) for key, item in value.items() if key not in _MOMENTARY[kind]}
    return [_without_momentary(item, kind) for item in value] if isinstance(value, list) else value


class Namespace:
    """A named network namespace."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.path = Path("/run/netns", name)

    def ip(self, *words: str, check: bool = True) -> str:
        """Run `ip` inside."""
        return run("ip", "-n", self.name, *words, check=check).stdout

    def tc(self, what: str, name: str = "eth0") -> str:
        """The queueing disciplines, classes or filters that somebody set on an interface; Linux's have no handle."""
        lines = run("tc", "-n", self.name, what, "show", "dev", name, check=False).stdout.splitlines()
        return "".join(
            re.sub(r" (refcnt|direct_packets_stat) \d+", "", line) + "\n" for line in lines if " 0: " not in line
        )

    def command(self, *words: str | Path) -> list[str]:
        """A command line that runs in here (and in the ordinary mount namespace)."""
        return ["nsenter", f"--net={self.path}", *map(str, words)]

    def run(self, *words: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command inside."""
        return run(*self.command(*words), check=check)

    def pids(self) -> list[int]:
        """Processes in here."""
        return [int(pid) for pid in run("ip", "netns", "pids", self.name).stdout.split()]

    def inside(self, function: Callable[[], T]) -> T:
        """What a function returns when it runs in here; a socket it opens stays in here."""
        descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return netns.run_in(descriptor, function)
        finally:
            os.close(descriptor)

    def snapshot(self, *, sysctls_of: str = "eth0") -> dict[str, Any]:
        """What `ip -j` shows, without interface indexes, counters and the ticking of lifetimes."""
        shown: dict[str, Any] = {}
        for kind, words in {
            "link": ("-d", "link"),
            "addr": ("addr",),
            "route": ("-4", "route", "show", "table", "all"),
            "route6": ("-6", "route", "show", "table", "all"),
        }.items():
            shown[kind] = _without_momentary(json.loads(self.ip("-j", *words) or "[]"), kind.rstrip("6"))
        for kind, text in {
            "neigh": self.ip("neigh", "show", "nud", "permanent"),
            "proxy": self.ip("neigh", "show", "proxy") + self.ip("-6", "neigh", "show", "proxy"),
            "rule": self.ip("rule") + self.ip("-6", "rule"),
            "maddr": "\n".join(line for line in self.ip("maddr", "show").splitlines() if "static" in line),
            "nexthop": re.sub(r"unbalanced_time \S+", "", self.ip("nexthop")),
            "token": self.ip("token"),
            "tc": "".join(self.tc(what) for what in ("qdisc", "class", "filter")),
        }.items():
            shown[kind] = sorted(text.splitlines())
        read = "import pathlib,sys; [print(p, p.read_text().strip()) for k in sys.argv[2:] for p in sorted(pathlib.Path('/proc/sys/net', k, sys.argv[1]).glob('*')) if p.name not in ('stable_secret',)]"
        kinds = ("ipv4/conf", "ipv6/conf", "ipv4/neigh", "ipv6/neigh")
        shown["sysctl"] = self.run(sys.executable, "-c", read, sysctls_of, *kinds).stdout.splitlines()
        return shown

    def gro(self, interface: str) -> bool:
        """Whether an interface coalesces what it receives."""
        return self.inside(lambda: ethtool.read(interface, Offload.GRO))


class Sandbox:
    """Namespaces and processes of one test."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._prefix = f"pvt{os.getpid()}-{next(_numbers)}"
        self._namespaces: list[Namespace] = []
        self._processes: list[subprocess.Popen[str]] = []
        self.runtime_dir = directory / "run"

    def namespace(self, name: str) -> Namespace:
        """Make a namespace with its loopback up."""
        namespace = Namespace(f"{self._prefix}-{name}")
        run("ip", "netns", "add", namespace.name)
        self._namespaces.append(namespace)
        namespace.ip("link", "set", "lo", "up")
        return namespace

    def join(self, left: Namespace, left_name: str, right: Namespace, right_name: str) -> None:
        """Join two namespaces by a veth pair, up on both sides."""
        left.ip("link", "add", left_name, "type", "veth", "peer", "name", right_name, "netns", right.name)
        left.ip("link", "set", left_name, "up")
        right.ip("link", "set", right_name, "up")

    def start(self, namespace: Namespace, *words: str | Path, **options: Any) -> subprocess.Popen[str]:
        """Start a process inside a namespace; it is killed at the end at the latest."""
        process = subprocess.Popen(
            namespace.command(*words),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(),
            **{"stdin": subprocess.DEVNULL, **options},
        )
        self._processes.append(process)
        return process

    def close(self) -> None:
        """End the processes, undo mounts, remove the namespaces."""
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.communicate()
        for namespace in self._namespaces:  # those that stay by design: guardians
            for pid in run("ip", "netns", "pids", namespace.name, check=False).stdout.split():
                try:
                    os.kill(int(pid), signal.SIGKILL)
                except ProcessLookupError:
                    continue
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            if (mounted := line.split()[4]).startswith(str(self.directory) + "/"):
                run("umount", "-l", mounted, check=False)
        for namespace in self._namespaces:
            run("ip", "netns", "del", namespace.name, check=False)


class Pair(Sandbox):
    """A host with an uplink and a peer at its other end."""

    host: Namespace
    peer: Namespace

    @contextlib.contextmanager
    def as_joined(self) -> Iterator[Pair]:
        """Made, and taken away in the end."""
        try:
            self.host, self.peer = self.namespace("host"), self.namespace("peer")
            self.join(self.host, "eth0", self.peer, "eth0")
            for namespace, last in ((self.host, 1), (self.peer, 2)):
                namespace.ip("addr", "add", f"10.77.0.{last}/24", "brd", "+", "dev", "eth0")
                namespace.ip("addr", "add", f"2001:db8:77::{last}/64", "dev", "eth0", "nodad")
            wait_for_link_local(self.host)
            yield self
        finally:
            self.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What a test found goes with its report."""
    made = yield
    if call.when == "call":
        made.user_properties.extend((summary.KEY, entry) for entry in summary.take())
    return made


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    for key, entry in report.user_properties:
        if key == summary.KEY:
            summary.collect(entry)  # type: ignore[arg-type]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What was measured."""
    for title, lines in summary.sections().items():
        terminalreporter.section(title)
        for line in lines:
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def compiled() -> None:
    """The JIT is warm."""
    if os.geteuid() == 0:
        command = [sys.executable, "-m", "pyvpp.main", "warmup"]
        subprocess.run(command, check=True, capture_output=True, timeout=600, env=environment())


@pytest.fixture
def make_sandbox(tmp_path: Path) -> Iterator[Callable[[], Sandbox]]:
    """Empty sandboxes on demand."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    made: list[Sandbox] = []

    def make() -> Sandbox:
        made.append(Sandbox(tmp_path))
        return made[-1]

    try:
        yield make
    finally:
        for sandbox in made:
            sandbox.close()


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Pair]:
    """A host and its peer, joined by a veth pair."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    with Pair(tmp_path).as_joined() as pair:
        yield pair


def wait_for_link_local(namespace: Namespace, name: str = "eth0") -> None:
    """Wait until an interface has its link-local address and duplicate address detection is over on every one."""
    show = f"ip -n {namespace.name} -6 addr show"
    run("timeout", "5", "sh", "-c", f"until {show} dev {name} | grep -q 'inet6 fe80'; do sleep .05; done")
    wait_for_addresses(namespace)


def wait_for_addresses(namespace: Namespace) -> None:
    """Wait until duplicate address detection is over on every interface."""
    show = f"ip -n {namespace.name} -6 addr show"
    run("timeout", "8", "sh", "-c", f"while {show} | grep -q ' tentative'; do sleep .05; done")


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """What is not the same. Where equal IPv6 routes of several interfaces stand among each other is not the uplink's to say."""
    found = []
    for kind, value in before.items():
        now = after[kind]
        if kind == "route6":
            own = [[route for route in routes if "eth0" in str(route)] for routes in (value, now)]
            found += ["route6: order differs"] if own[0] != own[1] else []
            value, now = sorted(value, key=str), sorted(now, key=str)
        if value != now:
            found += [f"{kind} - {item}" for item in value if item not in now]
            found += [f"{kind} + {item}" for item in now if item not in value]
            found.append(f"{kind}: order or content differs")
    return found


def tap_view(snapshot: dict[str, Any]) -> dict[str, Any]:
    """What must be the same on the TAP as it was on the NIC: all but the kind of the link."""
    kept = {"ifname", "mtu", "txqlen", "group", "ifalias", "altnames", "address", "operstate"}
    links = [{key: value for key, value in link.items() if key in kept} for link in snapshot["link"]]
    addresses = [{"ifname": link["ifname"], "addr_info": link["addr_info"]} for link in snapshot["addr"]]
    by_name = lambda link: link["ifname"]  # noqa: E731
    # The place among the routes of other interfaces follows the index.
    routes = {kind: sorted(snapshot[kind], key=str) for kind in ("route", "route6")}
    return {**snapshot, **routes, "link": sorted(links, key=by_name), "addr": sorted(addresses, key=by_name)}
