# SPDX-License-Identifier: Apache-2.0
"""What a host gets from its network goes on through an uplink that is taken over: DHCP leases, router advertisements."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet6 import ICMPv6ND_RA, ICMPv6NDOptPrefixInfo, ICMPv6NDOptSrcLLAddr, IPv6
from scapy.layers.l2 import Ether

from tests.system.conftest import Pair, environment, wait_for_addresses, wait_for_link_local
from tests.system.process import Pyvpp, eventually, ping, pyvpp_command, running

DHCP = Path(__file__).with_name("dhcp.py")
SERVER, LEASED = "10.77.0.2", "10.77.0.100"
LEASE_SECONDS = 600
ROUTE_KEYS = ("dst", "gateway", "dev", "metric", "pref", "flags")
ALL_NODES = "33:33:00:00:00:01"


@pytest.fixture(scope="module", autouse=True)
def compiled() -> None:
    """No lease expires meanwhile."""
    command = [str(word) for word in pyvpp_command("warmup")]
    subprocess.run(command, check=True, capture_output=True, timeout=600, env=environment())


class Client:
    """The host's DHCP client."""

    def __init__(self, pair: Pair) -> None:
        self._process = pair.start(pair.host, sys.executable, DHCP, "client", stdin=subprocess.PIPE)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n", self._process.communicate()[1]

    def says(self, line: str) -> str:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().rstrip("\n") or self._process.communicate()[1]


def address_of(pair: Pair, local: str) -> dict[str, Any]:
    """An address of the host's uplink, with its lifetimes; empty when it is not there."""
    for link in json.loads(pair.host.ip("-j", "addr", "show", "dev", "eth0")):
        for each in link["addr_info"]:
            if each["local"] == local:
                return dict(each)
    return {}


def lend(pair: Pair, seconds: int) -> None:
    """What a client does with an acknowledgement."""
    lifetimes = ("valid_lft", str(seconds), "preferred_lft", str(seconds))
    pair.host.ip("addr", "replace", f"{LEASED}/24", "brd", "+", "dev", "eth0", *lifetimes)


def test_dhcp_by_broadcast_and_unicast(sandbox: Pair) -> None:
    """The only address of the uplink is leased: before the take-over by Linux, meanwhile by broadcast and renewed by
    unicast, and after pyvpp's end; its lifetime goes on from one to the other."""
    host, peer = sandbox.host, sandbox.peer
    host.ip("addr", "flush", "dev", "eth0", "scope", "global")
    server = sandbox.start(peer, sys.executable, DHCP, "server", SERVER, LEASED, str(LEASE_SECONDS))
    assert server.stdout is not None and server.stdout.readline() == "serving\n", server.communicate()[1]
    heard = server.stdout.readline
    client = Client(sandbox)
    assert client.says("lease") == f"ack {LEASED}"
    assert (heard(), heard()) == tuple(
        f"{kind} 0.0.0.0 255.255.255.255 to it alone\n" for kind in ("discover", "request")
    )
    lend(sandbox, 300)
    with running(sandbox, host, "--uplink", "eth0"):
        assert ping(peer, LEASED) == 1
        assert 200 < address_of(sandbox, LEASED)["valid_life_time"] <= 300
        assert client.says(f"renew {LEASED} {SERVER}") == f"ack {LEASED}"
        assert heard() == f"request {LEASED} {SERVER} to it alone\n"
        lend(sandbox, LEASE_SECONDS)
        for how, said in (("lease", "to it alone"), ("lease broadcast", "to everybody")):
            assert client.says(how) == f"ack {LEASED}"
            for kind in ("discover", "request"):
                assert heard() == f"{kind} 0.0.0.0 255.255.255.255 {said}\n"
    assert LEASE_SECONDS - 100 < address_of(sandbox, LEASED)["valid_life_time"] <= LEASE_SECONDS
    assert client.says(f"renew {LEASED} {SERVER}") == f"ack {LEASED}"
    assert heard() == f"request {LEASED} {SERVER} to it alone\n"


def advertise(pair: Pair, prefix: str, valid: int = 3600, router: int = 1800) -> None:
    """A router advertisement of the peer, to all nodes."""
    link_local = re.search(r"inet6 (fe80\S+)/64", pair.peer.ip("addr", "show", "dev", "eth0"))
    assert link_local is not None

    def send() -> None:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
            wire.bind(("eth0", 0))
            mac = wire.getsockname()[4].hex(":")
            wire.send(
                bytes(
                    Ether(src=mac, dst=ALL_NODES)
                    / IPv6(src=link_local[1], dst="ff02::1", hlim=255)
                    / ICMPv6ND_RA(routerlifetime=router, chlim=57)
                    / ICMPv6NDOptPrefixInfo(prefix=prefix, prefixlen=64, validlifetime=valid, preferredlifetime=valid)
                    / ICMPv6NDOptSrcLLAddr(lladdr=mac)
                )
            )

    pair.peer.inside(send)


def slaac(pair: Pair, prefix: str) -> list[dict[str, Any]]:
    """The host's addresses that come from a prefix."""
    shown = json.loads(pair.host.ip("-j", "-6", "addr", "show", "dev", "eth0"))
    return [each for link in shown for each in link["addr_info"] if each["local"].startswith(prefix)]


def default_routes(pair: Pair) -> list[dict[str, Any]]:
    return list(json.loads(pair.host.ip("-j", "-6", "route", "show", "default")))


def settled(pair: Pair, prefix: str, number: int) -> list[dict[str, Any]]:
    """So many addresses from a prefix, usable."""
    eventually(lambda: len(slaac(pair, prefix)) == number, f"{number} addresses in {prefix}")
    wait_for_addresses(pair.host)
    return slaac(pair, prefix)


def hears(pair: Pair, address: str) -> bool:
    """Whether a datagram of the peer arrives at the address, and its answer there."""
    datagram = lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)  # noqa: E731
    with pair.host.inside(datagram) as host, pair.peer.inside(datagram) as peer:
        for each in (host, peer):
            each.settimeout(10)
        host.bind((address, 7300))
        peer.sendto(b"question", (address, 7300))
        question, sender = host.recvfrom(100)
        host.sendto(b"answer to " + question, sender)
        return peer.recv(100) == b"answer to question"


def stop(pyvpp: Pyvpp) -> tuple[str, str]:
    """What it has said."""
    pyvpp.process.terminate()
    said = pyvpp.process.communicate(timeout=20)
    assert pyvpp.process.returncode == 0, said
    return said


def test_router_advertisements_and_slaac(sandbox: Pair) -> None:
    """Advertisements from before, new ones meanwhile, and the same ones again: addresses, lifetimes, default route."""
    host, peer = sandbox.host, sandbox.peer
    wait_for_link_local(peer)
    host.inside(lambda: Path("/proc/sys/net/ipv6/conf/eth0/use_tempaddr").write_text("2"))
    advertise(sandbox, "2001:db8:a::", valid=1000)
    first = settled(sandbox, "2001:db8:a:", 2)
    (stable,) = (each["local"] for each in first if "temporary" not in each)
    (temporary,) = (each["local"] for each in first if "temporary" in each)
    (route,) = default_routes(sandbox)
    pyvpp = Pyvpp(sandbox, host, "--uplink", "eth0")
    pyvpp.wait_until_ready()
    assert {each["local"] for each in slaac(sandbox, "2001:db8:a:")} == {stable, temporary}
    (kept,) = default_routes(sandbox)
    assert [kept.get(key) for key in ROUTE_KEYS] == [route.get(key) for key in ROUTE_KEYS]
    advertise(sandbox, "2001:db8:a::", valid=3600)
    again = settled(sandbox, "2001:db8:a:", 3)
    lifetimes = {each["local"]: each["valid_life_time"] for each in again}
    assert lifetimes[stable] > 3000 and lifetimes[temporary] <= 1000
    assert [each["local"] for each in again if "temporary" in each] != [temporary], "Linux made a new one, as is said"
    advertise(sandbox, "2001:db8:b::")
    meanwhile = {each["local"] for each in settled(sandbox, "2001:db8:b:", 2)}
    peer.ip("addr", "add", "2001:db8:b::ffff/64", "dev", "eth0", "nodad")
    assert all(hears(sandbox, address) for address in meanwhile)
    (renewed,) = default_routes(sandbox)
    assert renewed["metrics"] == route["metrics"], "the router's hop limit, which it has told again"
    _, errors = stop(pyvpp)
    assert "temporary addresses stay" in errors and errors.count("\n") == 1
    assert {each["local"] for each in slaac(sandbox, "2001:db8:b:")} == meanwhile
    assert address_of(sandbox, stable)["valid_life_time"] > 3000
    advertise(sandbox, "2001:db8:b::", valid=7200)
    eventually(
        lambda: any(each["valid_life_time"] > 3600 for each in slaac(sandbox, "2001:db8:b:")), "a longer lifetime"
    )
    (restored,) = default_routes(sandbox)
    assert [restored.get(key) for key in ROUTE_KEYS] == [route.get(key) for key in ROUTE_KEYS]
    assert all(hears(sandbox, address) for address in meanwhile)
    advertise(sandbox, "2001:db8:b::", router=0)
    eventually(lambda: default_routes(sandbox) == [], "the router says it is none any more")
