# SPDX-License-Identifier: Apache-2.0
"""Real clients against lists of acl: TCP and UDP services probed port by port, from both sides, while rules change."""

from __future__ import annotations

import contextlib
import selectors
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from tests.system.conftest import Namespace, Sandbox
from tests.system.process import PATIENCE, ping, pyvpp_command
from tests.system.router import CLIENT, CLIENT6, LEFT, RIGHT, SERVER, SERVER6, Router, connected, family_of, listening

PORTS = (22, 53, 80, 443, 1023, 1024, 5000, 8080, 40000, 65535)
WAIT = 0.3
"""Seconds after which a packet that has not come was dropped: it takes a millisecond."""


@contextlib.contextmanager
def services(end: Namespace, address: str) -> Iterator[dict[int, list[socket.socket]]]:
    """A TCP and a UDP socket on every port."""
    with contextlib.ExitStack() as closing:
        yield {
            kind: [closing.enter_context(listening(end, address, port, kind)) for port in PORTS]
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM)
        }


def tcp_reaches(source: Namespace, address: str) -> set[int]:
    """Ports to which a connection comes about."""
    with contextlib.ExitStack() as closing, selectors.DefaultSelector() as selector:
        for port in PORTS:
            client = closing.enter_context(source.inside(lambda: socket.socket(family_of(address), socket.SOCK_STREAM)))
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                client.connect((address, port))
            selector.register(client, selectors.EVENT_WRITE, port)
        reached: set[int] = set()
        deadline = time.monotonic() + WAIT
        while (left := deadline - time.monotonic()) > 0 and len(reached) < len(PORTS):
            for key, _ in selector.select(left):
                assert isinstance(key.fileobj, socket.socket)
                assert key.fileobj.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
                reached.add(key.data)
                selector.unregister(key.fileobj)
        return reached


def udp_reaches(source: Namespace, address: str, servers: list[socket.socket]) -> set[int]:
    """Ports whose datagrams arrive and whose answers come back; the servers answer here."""
    with contextlib.ExitStack() as closing, selectors.DefaultSelector() as selector:
        for port, server in zip(PORTS, servers, strict=True):
            client = closing.enter_context(source.inside(lambda: socket.socket(family_of(address), socket.SOCK_DGRAM)))
            client.connect((address, port))
            client.send(b"knock")
            selector.register(client, selectors.EVENT_READ, (port, None))
            selector.register(server, selectors.EVENT_READ, (port, server))
        reached: set[int] = set()
        deadline = time.monotonic() + WAIT
        while (left := deadline - time.monotonic()) > 0 and len(reached) < len(PORTS):
            for key, _ in selector.select(left):
                port, server = key.data
                if server is None:
                    assert isinstance(key.fileobj, socket.socket)
                    assert key.fileobj.recv(10) == b"come in"
                    reached.add(port)
                    selector.unregister(key.fileobj)
                else:
                    data, peer = server.recvfrom(10)
                    assert data == b"knock"
                    server.sendto(b"come in", peer)
        return reached


@pytest.mark.parametrize("server", [SERVER, SERVER6], ids=["ip4", "ip6"])
def test_services_port_by_port_while_rules_change(make_sandbox: Callable[[], Sandbox], server: str) -> None:
    client = CLIENT if server is SERVER else CLIENT6
    with Router(make_sandbox()).running() as router, services(router.server, server) as open_:
        ctl = router.pyvpp.ctl

        def both() -> tuple[set[int], set[int]]:
            udp = udp_reaches(router.client, server, open_[socket.SOCK_DGRAM])
            return tcp_reaches(router.client, server), udp

        assert both() == (set(PORTS), set(PORTS))

        ctl(
            f"set acl-plugin acl permit src {client} dst {server} proto tcp dport 53-1023, permit proto udp sport 0-65535 dport 1024-65535"
        )
        ctl(f"set acl-plugin interface {LEFT} input acl 0")
        assert both() == ({53, 80, 443, 1023}, {1024, 5000, 8080, 40000, 65535})

        ctl("set acl-plugin port-set open 22 8080-40000")
        ctl(
            "set acl-plugin acl index 0 deny proto tcp dport 8080, permit proto tcp dport @open, permit proto udp dport @open"
        )
        assert both() == ({22, 40000}, {22, 8080, 40000})
        ctl("set acl-plugin port-set open 443")
        assert both() == ({443}, {443})

        ctl(f"set acl-plugin address-set friends {client}")
        ctl("set acl-plugin acl permit src @friends, permit dst @friends")
        ctl(f"set acl-plugin interface {RIGHT} output acl 1")
        ctl(f"set acl-plugin interface {LEFT} input acl 0 del")
        assert both() == (set(PORTS), set(PORTS))
        ctl("set acl-plugin address-set friends 192.0.2.1 2001:db8:dead::1")
        assert both() == (set(), set())
        assert router.pyvpp.counter(f"acl-plugin-out-ip{'6' if ':' in server else '4'}-fa", "ACL deny packets") >= 20


def test_what_a_session_lets_back_in(make_sandbox: Callable[[], Sandbox]) -> None:
    with (
        Router(make_sandbox()).running() as router,
        services(router.server, SERVER) as open_,
        services(router.client, CLIENT) as of_client,
        listening(router.server, SERVER, 7777) as listener,
    ):
        ctl = router.pyvpp.ctl
        ctl("set acl-plugin acl permit+reflect tag inside")
        ctl("set acl-plugin acl deny tag outside")
        ctl(f"set acl-plugin interface {LEFT} output acl 1")
        assert tcp_reaches(router.client, SERVER) == set()  # answers are denied
        ctl(f"set acl-plugin interface {LEFT} input acl 0")
        assert tcp_reaches(router.client, SERVER) == set(PORTS)
        assert udp_reaches(router.client, SERVER, open_[socket.SOCK_DGRAM]) == set(PORTS)
        assert ping(router.client, SERVER) == 1

        assert tcp_reaches(router.server, CLIENT) == set()
        assert udp_reaches(router.server, CLIENT, of_client[socket.SOCK_DGRAM]) == set()
        assert ping(router.server, CLIENT) == 0
        assert router.pyvpp.data("show acl-plugin sessions")["ip4"] >= 2 * len(PORTS)

        with connected(router.client, SERVER, 7777) as client, listener.accept()[0] as server:
            server.settimeout(5)
            ctl("set acl-plugin acl index 0 deny, permit+reflect src 192.0.2.1")
            client.sendall(b"still here")
            assert server.recv(100) == b"still here"  # a session outlives the rule it began by
            assert tcp_reaches(router.client, SERVER) == set()
            ctl("clear acl-plugin sessions")
            client.sendall(b"lost")
            server.settimeout(WAIT)
            with pytest.raises(TimeoutError):
                server.recv(100)


def test_sessions_outlive_an_upgrade(make_sandbox: Callable[[], Sandbox]) -> None:
    """Nothing but its session lets a connection pass by then, whichever process forwards."""
    with Router(make_sandbox()).running() as router, listening(router.server, SERVER, 7777) as listener:
        ctl = router.pyvpp.ctl
        ctl("set acl-plugin acl permit+reflect tag inside")
        ctl("set acl-plugin acl deny tag outside")
        ctl(f"set acl-plugin interface {LEFT} input acl 0")
        ctl(f"set acl-plugin interface {LEFT} output acl 1")
        with connected(router.client, SERVER, 7777) as client, listener.accept()[0] as server:
            server.settimeout(PATIENCE)
            client.settimeout(PATIENCE)
            ctl("set acl-plugin acl index 0 deny, permit+reflect src 192.0.2.1")
            router.node.run(*pyvpp_command("upgrade", "--runtime-dir", router.pyvpp.runtime_dir))
            shown = [[rule["rule"] for rule in acl["rules"]] for acl in router.pyvpp.data("show acl-plugin acl")]
            assert [[rule.split()[1] for rule in rules] for rules in shown] == [["deny", "permit+reflect"], ["deny"]]
            for one, other in ((client, server), (server, client)):
                one.sendall(b"still here")
                assert other.recv(100) == b"still here"
            assert tcp_reaches(router.client, SERVER) == set()
