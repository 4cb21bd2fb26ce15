# SPDX-License-Identifier: Apache-2.0
"""A pyvpp that routes between two namespaces, `client` and `server`, each joined to it by a veth pair; IPv4 and IPv6.

It has no uplink: `host-left` and `host-right` are its interfaces. Its neighbors are static, so that the first packet passes like any other.
"""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator
from functools import partial

from pyvpp.linux import ethtool
from pyvpp.linux.ethtool import Offload
from tests.system.conftest import Namespace, Sandbox
from tests.system.process import running

LEFT, RIGHT = "host-left", "host-right"
CLIENT, SERVER = "10.61.0.2", "10.62.0.2"
CLIENT6, SERVER6 = "2001:db8:61::2", "2001:db8:62::2"
MTU = 1500


class Router:
    """The two ends and the pyvpp between them."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.client, self.node, self.server = (sandbox.namespace(name) for name in ("client", "node", "server"))
        sandbox.join(self.client, "eth0", self.node, "left")
        sandbox.join(self.server, "eth0", self.node, "right")

    @contextlib.contextmanager
    def running(self, *, offload: bool = True) -> Iterator[Router]:
        """Ready to route. Without offload the ends compute their checksums themselves."""
        if not offload:
            for end in (self.client, self.server):
                for each in (Offload.TX_CHECKSUM, Offload.TSO, Offload.GSO):
                    end.inside(partial(ethtool.switch, "eth0", each, False))
        with running(self.sandbox, self.node) as self.pyvpp:
            for name, end, network, network6 in (
                ("left", self.client, "10.61.0", "2001:db8:61:"), ("right", self.server, "10.62.0", "2001:db8:62:"),
            ):  # fmt: skip
                self._interface(name, end, network, network6)
            yield self

    def _interface(self, name: str, end: Namespace, network: str, network6: str) -> None:
        ctl, interface = self.pyvpp.ctl, f"host-{name}"
        (link,) = json.loads(end.ip("-j", "link", "show", "eth0"))
        ctl(f"create host-interface name {name}")
        ctl(f"set interface state {interface} up")
        ctl(f"set interface ip address {interface} {network}.1/24")
        ctl(f"set interface ip address {interface} {network6}:1/64")
        for address in (f"{network}.2", f"{network6}:2"):
            ctl(f"set ip neighbor {interface} {address} {link['address']} static")
        end.ip("addr", "add", f"{network}.2/24", "dev", "eth0")
        end.ip("addr", "add", f"{network6}:2/64", "dev", "eth0", "nodad")
        end.ip("route", "add", "default", "via", f"{network}.1")
        own = str(self.pyvpp.interface(interface)["mac"])
        end.ip("neigh", "add", f"{network6}:1", "lladdr", own, "dev", "eth0")
        end.ip("-6", "route", "add", "default", "via", f"{network6}:1")


def listening(end: Namespace, address: str, port: int, kind: int = socket.SOCK_STREAM) -> socket.socket:
    """A server's socket in a namespace."""

    def opened() -> socket.socket:
        made = socket.socket(family_of(address), kind)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((address, port))
        if kind == socket.SOCK_STREAM:
            made.listen(64)
        made.settimeout(5)
        return made

    return end.inside(opened)


def connected(end: Namespace, address: str, port: int, seconds: float = 5.0) -> socket.socket:
    """A client's TCP connection from a namespace. Raises OSError when there is none in time."""

    def opened() -> socket.socket:
        made = socket.socket(family_of(address), socket.SOCK_STREAM)
        made.settimeout(seconds)
        try:
            made.connect((address, port))
        except BaseException:
            made.close()
            raise
        return made

    return end.inside(opened)


def family_of(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET
