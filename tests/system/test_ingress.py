# SPDX-License-Identifier: Apache-2.0
"""Frames of a taken NIC end at its ingress: packet sockets have them, Linux' own stack does not."""

from __future__ import annotations

import socket

import pytest

from pyvpp.linux import ingress
from tests.system.conftest import Namespace, Pair

PORT, WAIT, ETH_P_ALL = 4000, 0.5, 3


def listener(host: Namespace) -> socket.socket:
    opened = host.inside(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    opened.bind(("", PORT))
    opened.settimeout(WAIT)
    return opened


def watcher(host: Namespace) -> socket.socket:
    """A packet socket on eth0 that takes everything, as pyvpp's do: those of one protocol come after the ingress."""

    def body() -> socket.socket:
        opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        opened.bind(("eth0", ETH_P_ALL))
        opened.settimeout(WAIT)
        return opened

    return host.inside(body)


def send(peer: Namespace, words: bytes) -> None:
    with peer.inside(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sender:
        sender.sendto(words, ("10.77.0.1", PORT))


@pytest.fixture
def dropping(sandbox: Pair) -> Pair:
    sandbox.host.inside(lambda: ingress.drop_all("eth0"))
    sandbox.peer.ip("neigh", "add", "10.77.0.1", "lladdr", mac_of(sandbox.host), "dev", "eth0", "nud", "permanent")
    return sandbox


def mac_of(namespace: Namespace) -> str:
    return namespace.ip("-br", "link", "show", "eth0").split()[2]


def test_packet_sockets_have_it_and_linux_does_not(dropping: Pair) -> None:
    with listener(dropping.host) as udp, watcher(dropping.host) as packets:
        send(dropping.peer, b"over here")
        while not packets.recv(2048).endswith(b"over here"):
            pass  # IPv6 announces itself
        with pytest.raises(TimeoutError):
            udp.recv(2048)


def test_a_device_that_leaves_is_free_of_it(dropping: Pair) -> None:
    home = dropping.namespace("home")
    dropping.host.ip("link", "set", "eth0", "netns", home.name)
    home.ip("link", "set", "eth0", "up")
    home.ip("addr", "add", "10.77.0.1/24", "dev", "eth0")
    with listener(home) as udp:
        send(dropping.peer, b"back again")
        assert udp.recv(2048) == b"back again"


def test_twice_is_as_once(dropping: Pair) -> None:
    dropping.host.inside(lambda: ingress.drop_all("eth0"))
    test_packet_sockets_have_it_and_linux_does_not(dropping)


def test_what_linux_refuses_is_an_error(sandbox: Pair) -> None:
    with pytest.raises(OSError):
        sandbox.host.inside(lambda: ingress.drop_all("x" * 300))
