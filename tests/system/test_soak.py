# SPDX-License-Identifier: Apache-2.0
"""Hours in miniature: mixed TCP, UDP and fragments through an uplink and tunnels, while links and interfaces flap.

`make soak` goes on for PYVPP_SOAK_SECONDS, 1200; ordinarily it is three rounds. A round is traffic under flaps, traffic
in peace, and pods that come and go. No TCP stream may break or get a wrong byte. After each round nothing may be left in
a buffer, every packet must be accounted for, by pyvpp's own counters and beside Linux' at the other ends, and in the
end the process may hold no more than after the first rounds.

    pod-v -- VXLAN -- peer (Linux)            10.80.1.2, 10.90.0.1 -- 10.90.0.2
    pod-i -- IPIP  -- far pod (pyvpp)         10.80.2.2 -- 10.80.3.2, the outer packets through the peer
    host  -- uplink -- peer                   10.77.0.1 -- 10.77.0.2, IPv4 and IPv6
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.system.conftest import Namespace, Pair, wait_for_link_local
from tests.system.ledger import balance, held, resident
from tests.system.load import Datagrams, Load, Stream
from tests.system.process import Pyvpp, eventually, ping, running

SECONDS = float(os.environ.get("PYVPP_SOAK_SECONDS", "0"))
pytestmark = [pytest.mark.slow, pytest.mark.timeout(SECONDS + 300)]

ROUNDS = 3  # at least
CALM = 1.0
DOWN = 0.2  # a link is
RECOVERY = 0.3
CHURN = 3
HOST, PEER, HOST6, PEER6 = "10.77.0.1", "10.77.0.2", "2001:db8:77::1", "2001:db8:77::2"
FAR, FAR_GATEWAY = "10.78.0.2", "10.78.0.1"
NEAR_END, FAR_END = "10.90.0.1", "10.90.0.2"
POD_V, POD_I, FAR_POD = "10.80.1.2", "10.80.2.2", "10.80.3.2"
SETTLED = 2  # rounds after which everything has been used once
GROWTH = 4 << 20  # bytes


@dataclass
class Site:
    """Both pyvpps with everything around them."""

    sandbox: Pair
    far: Namespace
    pyvpp: Pyvpp
    far_pyvpp: Pyvpp
    pod_v: Namespace
    pod_i: Namespace
    far_pod: Namespace
    visitor: Namespace
    """for pods that come and go"""

    @property
    def pyvpps(self) -> tuple[Pyvpp, Pyvpp]:
        return self.pyvpp, self.far_pyvpp

    @property
    def namespaces(self) -> list[Namespace]:
        return [self.sandbox.host, self.sandbox.peer, self.pod_v, self.pod_i, self.far_pod]

    def load(self) -> tuple[Load, list[Stream | Datagrams]]:
        """TCP and datagrams over each path, both ways; they begin with `with load`."""
        load = Load()
        host, peer = self.sandbox.host, self.sandbox.peer
        paths = (
            (host, peer, HOST, PEER), (host, peer, HOST6, PEER6), (self.pod_v, peer, POD_V, FAR_END),
            (self.pod_i, self.far_pod, POD_I, FAR_POD),
        )  # fmt: skip
        flows: list[Stream | Datagrams] = []
        for left, right, left_address, right_address in paths:
            for kind in (Stream, Datagrams):
                flows += [kind(load, left, right, right_address), kind(load, right, left, left_address)]
        return load, flows

    def wait_for_the_way(self) -> None:
        """Returns when every path is open again: a neighbor that was asked for in vain is asked for again soon."""
        for source, address in (
            (self.sandbox.host, PEER), (self.pod_v, FAR_END), (self.sandbox.peer, POD_V), (self.pod_i, FAR_POD),
            (self.far_pod, POD_I),
        ):  # fmt: skip
            eventually(lambda source=source, address=address: ping(source, address), f"the way to {address}")  # type: ignore[misc]


@pytest.fixture
def site(sandbox: Pair) -> Iterator[Site]:
    host, peer, far = sandbox.host, sandbox.peer, sandbox.namespace("far")
    sandbox.join(peer, "far", far, "eth0")
    for namespace in (host, peer, far):
        namespace.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.eth0.keep_addr_on_down=1")
    peer.ip("addr", "add", f"{FAR_GATEWAY}/24", "dev", "far")
    far.ip("addr", "add", f"{FAR}/24", "dev", "eth0")
    far.ip("route", "add", "default", "via", FAR_GATEWAY)
    host.ip("route", "add", "default", "via", PEER)
    peer.ip(*f"link add vx0 type vxlan id 42 local {PEER} remote {HOST} dstport 4789".split())
    peer.ip("addr", "add", f"{FAR_END}/24", "dev", "vx0")
    peer.ip("link", "set", "vx0", "up")
    peer.ip("route", "add", "10.80.1.0/24", "via", NEAR_END)
    wait_for_link_local(far)
    with (
        running(sandbox, host, "--uplink", "eth0", "--workers", "2") as pyvpp,
        running(sandbox, far, "--uplink", "eth0") as far_pyvpp,
    ):
        pods = []
        for there, address in ((pyvpp, POD_V), (pyvpp, POD_I), (far_pyvpp, FAR_POD)):
            pod = sandbox.namespace(f"pod-{address}")
            there.ctl(f"create tap tun host-ns {pod.name} host-if-name eth0 host-ip4-addr {address}/32")
            pods.append(pod)
        pyvpp.ctl(f"create vxlan tunnel src {HOST} dst {PEER} vni 42")
        pyvpp.ctl(f"set interface ip address vxlan_tunnel0 {NEAR_END}/24")
        for there, ours, theirs, pod_address in ((pyvpp, HOST, FAR, FAR_POD), (far_pyvpp, FAR, HOST, POD_I)):
            there.ctl(f"create ipip tunnel src {ours} dst {theirs}")
            there.ctl("set interface state ipip0 up")
            there.ctl(f"ip route add {pod_address}/32 via ipip0")
        made = Site(sandbox, far, pyvpp, far_pyvpp, *pods, sandbox.namespace("visitor"))
        made.wait_for_the_way()
        yield made


def flap_a_pod(site: Site) -> None:
    for pod in (site.pod_v, site.pod_i):
        pod.ip("link", "set", "eth0", "down")
    time.sleep(DOWN)
    for pod in (site.pod_v, site.pod_i):
        pod.ip("link", "set", "eth0", "up")
        pod.ip("route", "replace", "default", "dev", "eth0")


def flap_the_carrier(site: Site) -> None:
    site.sandbox.peer.ip("link", "set", "eth0", "down")
    time.sleep(DOWN)
    site.sandbox.peer.ip("link", "set", "eth0", "up")


def flap_the_uplink(site: Site) -> None:
    site.pyvpp.ctl("set interface state host-eth0 down")
    time.sleep(DOWN)
    site.pyvpp.ctl("set interface state host-eth0 up")


def flap_the_tunnels(site: Site) -> None:
    for name in ("ipip0", "vxlan_tunnel0"):
        site.pyvpp.ctl(f"set interface state {name} down")
    time.sleep(DOWN)
    for name in ("ipip0", "vxlan_tunnel0"):
        site.pyvpp.ctl(f"set interface state {name} up")


def move_the_queues(site: Site) -> None:
    for name in ("host-eth0", "tap0"):
        for step in range(4):
            site.pyvpp.ctl(f"set interface rx-placement {name} queue {step % 2} worker {step // 2}")
            site.pyvpp.ctl(f"set interface rx-mode {name} {('polling', 'interrupt', 'adaptive')[step % 3]}")


FLAPS: tuple[Callable[[Site], None], ...] = (
    flap_a_pod, flap_the_carrier, flap_the_uplink, flap_the_tunnels, move_the_queues,
)  # fmt: skip


def churn(site: Site) -> None:
    """Pods, tunnels and routes that come, are used and go."""
    for number in range(CHURN):
        where = f"host-ns {site.visitor.name} host-if-name eth0 host-ip4-addr 10.81.{number}.2/32"
        pod = site.pyvpp.ctl(f"create tap tun {where}").strip()
        ends = f"src {HOST} dst {FAR} vni {100 + number}"
        tunnel = site.pyvpp.ctl(f"create vxlan tunnel {ends}").strip()
        route = f"10.82.{number}.0/24 via {tunnel}"
        site.pyvpp.ctl(f"ip route add {route}")
        assert ping(site.visitor, NEAR_END)
        site.pyvpp.ctl(f"ip route del {route}")
        site.pyvpp.ctl(f"create vxlan tunnel {ends} del")
        site.pyvpp.ctl(f"delete tap {pod}")


def at_rest(pyvpp: Pyvpp, offset: int) -> bool:
    """No buffer holds a packet, and every packet that came in or was made has ended somewhere."""
    began, ended, used = balance(pyvpp)
    return used == 0 and began - ended == offset


def offset_of(pyvpp: Pyvpp) -> int:
    """What deleted nodes have taken of the sums with them."""
    began, ended, _ = balance(pyvpp)
    return began - ended


def counted(namespace: Namespace, name: str, direction: str) -> int:
    """Packets of an interface, as Linux counts them."""
    (link,) = json.loads(namespace.ip("-s", "-j", "link", "show", name))
    return int(link["stats64"][direction]["packets"])


def devices(site: Site) -> dict[str, tuple[int, int]]:
    """Packets that passed so far, as pyvpp counts them and as Linux does at the other ends.

    What comes in by an uplink is left out: there Linux joins packets before it hands them on.
    """
    found = {}
    for pyvpp, uplink, hosts in (
        (site.pyvpp, "eth0", {"tap0": site.sandbox.host, "tun0": site.pod_v, "tun1": site.pod_i}),
        (site.far_pyvpp, "far", {"tap0": site.far, "tun0": site.far_pod}),
    ):
        ours = {name: pyvpp.interface(name)["counters"] for name in ("host-eth0", *hosts)}
        sent = int(ours["host-eth0"]["tx packets"])
        found[f"to the wire at {uplink}"] = sent, counted(site.sandbox.peer, uplink, "rx")
        for what, direction, other in (("to", "tx", "rx"), ("from", "rx", "tx")):
            packets = sum(int(ours[name][f"{direction} packets"]) for name in hosts)
            theirs = sum(counted(namespace, "eth0", other) for namespace in hosts.values())
            found[f"{what} host and pods at {uplink}"] = packets, theirs
    return found


def settled(site: Site) -> dict[str, tuple[int, int]]:
    """The same once nothing is on its way: the counters are read one after the other."""
    seen = [devices(site)]

    def stands_still() -> bool:
        seen.append(devices(site))
        return seen[-1] == seen[-2]

    eventually(stands_still, "no packet on its way")
    return seen[-1]


def contradictions(before: dict[str, tuple[int, int]], after: dict[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
    """Where not both sides have counted the same meanwhile."""
    counted = {each: (after[each][0] - before[each][0], after[each][1] - before[each][1]) for each in after}
    return {each: (ours, theirs) for each, (ours, theirs) in counted.items() if ours != theirs}


def damaged(namespaces: list[Namespace]) -> dict[str, str]:
    """Packets that the stacks of Linux found wrong."""
    found = {}
    for namespace in namespaces:
        lines = namespace.run("cat", "/proc/net/snmp").stdout.splitlines()
        for names, values in zip(lines[::2], lines[1::2], strict=True):
            for name, value in zip(names.split(), values.split(), strict=True):
                if name in ("InCsumErrors", "InHdrErrors") and value != "0" and not names.startswith("Icmp"):
                    found[f"{namespace.name} {names.split()[0]} {name}"] = value
    return found


def one_round(site: Site) -> str:
    """What passed in peace."""
    offsets = {pyvpp: offset_of(pyvpp) for pyvpp in site.pyvpps}
    load, _ = site.load()
    with load:
        for flap in FLAPS:
            flap(site)
            time.sleep(RECOVERY)
    site.wait_for_the_way()
    before = settled(site)
    load, flows = site.load()
    with load:
        time.sleep(CALM)
    for flow in flows:
        assert flow.received > flow.sent // 2, f"{flow.name}: {flow.received} of {flow.sent}"
    for pyvpp, offset in offsets.items():
        eventually(lambda pyvpp=pyvpp, offset=offset: at_rest(pyvpp, offset), "all packets accounted for")  # type: ignore[misc]
    assert contradictions(before, settled(site)) == {}
    assert damaged(site.namespaces) == {}
    churn(site)
    streams, datagrams = ([flow for flow in flows if isinstance(flow, kind)] for kind in (Stream, Datagrams))
    return (
        f"{sum(each.received for each in streams) >> 20} MiB by TCP, {sum(each.received for each in datagrams)} of "
        f"{sum(each.sent for each in datagrams)} datagrams"
    )


def test_soak(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    ends = time.monotonic() + SECONDS
    memory: list[list[int]] = []
    holds: list[dict[str, Any]] = []
    while len(holds) < ROUNDS or time.monotonic() < ends:
        passed = one_round(site)
        memory.append([resident(pyvpp) for pyvpp in site.pyvpps])
        holds.append(held(site.pyvpp, *site.namespaces))
        if SECONDS:
            with capsys.disabled():
                print(
                    f"round {len(holds)}: {passed}; {[each >> 10 for each in memory[-1]]} KiB; {holds[-1]}", flush=True
                )
    del holds[-1]["buffers"], holds[SETTLED - 1]["buffers"]  # a packet may just be there; after each round none was
    assert holds[-1] == {**holds[SETTLED - 1], "descriptors": holds[-1]["descriptors"]}
    assert holds[-1]["descriptors"] <= holds[SETTLED - 1]["descriptors"] + 1  # a connection of pyvppctl's
    # Half way all code was loaded: that which makes the routing trie's blocks anew, say, after a hundred changes or so.
    for then, now in zip(memory[max(SETTLED - 1, len(memory) // 2)], memory[-1], strict=True):
        assert now - then < GROWTH, f"{(now - then) >> 10} KiB more"
    for pyvpp in site.pyvpps:
        assert [each for each in pyvpp.data("show logging") if each["level"] in ("err", "crit")] == []
