# SPDX-License-Identifier: Apache-2.0
"""A sandbox of network namespaces and what lies between them, for the demo and the bench; `close` leaves nothing."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, TypeVar

from pyroute2 import IPRoute

from pyvpp.linux import netns
from pyvpp.linux.capture import UplinkState, find_link, read_uplink
from pyvpp.linux.ethtool import Offload, switch

T = TypeVar("T")

NAMED = Path("/run/netns")  # where `ip netns` looks
NUD_PERMANENT = 0x80
VXLAN_PORT = 4789
PATIENCE = 10.0


def link_index(ip: IPRoute, name: str) -> int:
    """Raises ValueError when there is no link of that name."""
    link = find_link(ip, name)
    if link is None:
        raise ValueError(f"no link {name}")
    return int(link["index"])


class Namespace:
    """A named network namespace."""

    def __init__(self, name: str) -> None:
        NAMED.mkdir(mode=0o755, exist_ok=True)
        self.name = name
        self.path = NAMED / name
        self.descriptor = netns.create_kept(self.path)

    def inside(self, function: Callable[[], T]) -> T:
        """What the function returns when it runs in here; sockets it opens stay in here."""
        return netns.run_in(self.descriptor, function)

    def up(self, name: str) -> None:
        def body() -> None:
            with IPRoute() as ip:
                ip.link("set", index=link_index(ip, name), state="up")

        self.inside(body)

    def address(self, name: str, address: str, gateway: str | None = None) -> None:
        """Gives an interface an address (and a default route) and brings it up."""
        local, length = address.split("/")

        def body() -> None:
            with IPRoute() as ip:
                index = link_index(ip, name)
                ip.link("set", index=index, state="up")
                ip.addr("add", index=index, address=local, prefixlen=int(length))
                if gateway:
                    ip.route("add", dst="default", gateway=gateway)

        self.inside(body)

    def cable(self, name: str, other: Namespace, other_name: str) -> None:
        """A veth pair between here and another namespace."""

        def body() -> None:
            with IPRoute() as ip:
                ip.link(
                    "add", ifname=name, kind="veth", peer={"ifname": other_name, "net_ns_fd": other.descriptor}
                )  # fmt: skip

        self.inside(body)

    def sysctl(self, name: str, value: int) -> None:
        """Sets what stands at /proc/sys/net/<name> for this namespace: it inherits some of it from the machine."""
        self.inside(lambda: Path("/proc/sys/net", name).write_text(str(value)))

    def route(self, destination: str, gateway: str) -> None:
        def body() -> None:
            with IPRoute() as ip:
                ip.route("add", dst=destination, gateway=gateway)

        self.inside(body)

    def neighbor(self, name: str, address: str, mac: str) -> None:
        """An entry that stays, so that nobody is asked."""

        def body() -> None:
            with IPRoute() as ip:
                ip.neigh("replace", dst=address, lladdr=mac, ifindex=link_index(ip, name), state=NUD_PERMANENT)

        self.inside(body)

    def mtu(self, name: str, mtu: int) -> None:
        def body() -> None:
            with IPRoute() as ip:
                ip.link("set", index=link_index(ip, name), mtu=mtu)

        self.inside(body)

    def vxlan(self, name: str, vni: int, local: str, remote: str) -> None:
        """A VXLAN tunnel of Linux's own to one other end."""

        def body() -> None:
            with IPRoute() as ip:
                ip.link(
                    "add", ifname=name, kind="vxlan", vxlan_id=vni, vxlan_local=local, vxlan_group=remote,
                    vxlan_port=VXLAN_PORT,
                )  # fmt: skip

        self.inside(body)

    def segmentation(self, name: str, on: bool) -> None:
        """Whether an interface takes packets larger than its MTU from the stack, TCP's and all others', to cut them."""

        def body() -> None:
            for offload in (Offload.TSO, Offload.GSO):
                switch(name, offload, on)

        self.inside(body)

    def switch(self, name: str, ports: tuple[str, ...]) -> None:
        """A Linux bridge with its ports, all up."""

        def body() -> None:
            with IPRoute() as ip:
                ip.link("add", ifname=name, kind="bridge")
                bridge = link_index(ip, name)
                for port in ports:
                    ip.link("set", index=link_index(ip, port), master=bridge, state="up")
                ip.link("set", index=bridge, state="up")

        self.inside(body)

    def uplink(self, name: str) -> UplinkState | None:
        """What Linux knows of a link."""

        def body() -> UplinkState | None:
            with IPRoute() as ip:
                link = find_link(ip, name)
                return read_uplink(ip, link) if link else None

        return self.inside(body)

    def mac(self, name: str) -> str:
        """Raises ValueError when there is no link of that name."""
        state = self.uplink(name)
        if state is None:
            raise ValueError(f"no link {name}")
        return state.mac

    def close(self) -> None:
        os.close(self.descriptor)
        netns.release_kept(self.path)


class Sandbox:
    """The namespaces and processes of one run."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self._namespaces: list[Namespace] = []
        self._processes: list[subprocess.Popen[bytes]] = []

    def namespace(self, name: str) -> Namespace:
        made = Namespace(f"{self.prefix}-{name}")
        self._namespaces.append(made)
        made.up("lo")
        return made

    def start(
        self,
        namespace: Namespace,
        command: list[str],
        output: IO[bytes] | int,
        stdin: int = subprocess.DEVNULL,
    ) -> subprocess.Popen[bytes]:
        """A process inside a namespace, in a session of its own: a Ctrl-C at the terminal is not for it."""
        process = namespace.inside(
            lambda: subprocess.Popen(command, stdin=stdin, stdout=output, stderr=output, start_new_session=True)
        )
        self._processes.append(process)
        return process

    def close(self) -> None:
        """Ends the processes, then removes the namespaces."""
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + PATIENCE
        for process in self._processes:
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                time.sleep(1)  # its guardian restores
        for namespace in reversed(self._namespaces):
            with contextlib.suppress(OSError):
                namespace.close()
