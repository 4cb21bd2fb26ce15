# SPDX-License-Identifier: Apache-2.0
"""Tunnels to a Linux vxlan device and to a second pyvpp: packets of every size cross, who sends too large ones is told
the MTU, and TCP finds it.

The underlay's MTU is 1500, so that of a VXLAN tunnel is 1450 and that of an IPIP tunnel 1480. A pod's is 1500 here,
more than any tunnel takes, where a test does not say otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.system.conftest import Namespace, Pair
from tests.system.process import Pyvpp, running
from tests.system.traffic import TooBig, learned_mtu, ping, too_big, transfer

HOST, PEER = "10.77.0.1", "10.77.0.2"
POD, PEER_POD = "10.80.1.2", "10.80.2.2"
NEAR, FAR = "10.90.0.1", "10.90.0.2"  # the two ends of a VXLAN tunnel that has addresses
UNDERLAY_MTU, VXLAN_MTU, IPIP_MTU, SMALL_MTU = 1500, 1450, 1480, 1400


@pytest.fixture
def pyvpp(sandbox: Pair) -> Iterator[Pyvpp]:
    """`pyvpp --uplink eth0` in the host's namespace; the peer is the host's gateway."""
    sandbox.host.ip("route", "add", "default", "via", PEER)
    with running(sandbox, sandbox.host, "--uplink", "eth0") as process:
        yield process


def add_pod(sandbox: Pair, pyvpp: Pyvpp, address: str = POD, mtu: int = UNDERLAY_MTU) -> Namespace:
    pod = sandbox.namespace(f"pod-{address}")
    pyvpp.ctl(f"create tap tun host-ns {pod.name} host-if-name eth0 host-ip4-addr {address}/32 host-mtu-size {mtu}")
    return pod


def add_vxlan_device(peer: Namespace, name: str, vni: int, address: str) -> None:
    """Linux's end of a tunnel; its MTU is that of the underlay less 50."""
    words = f"link add {name} type vxlan id {vni} local {PEER} remote {HOST} dstport 4789"
    peer.ip(*words.split())
    peer.ip("addr", "add", address, "dev", name)
    peer.ip("link", "set", name, "up")


@pytest.fixture
def tunnel(sandbox: Pair, pyvpp: Pyvpp) -> Pyvpp:
    """A VXLAN tunnel with addresses to the peer, which reaches the pods through it and tells them that it takes
    segments as large as if there were no tunnel."""
    add_vxlan_device(sandbox.peer, "vx0", 42, f"{FAR}/24")
    sandbox.peer.ip("route", "add", "10.80.0.0/16", "via", NEAR, "advmss", str(UNDERLAY_MTU - 40))
    pyvpp.ctl(f"create vxlan tunnel src {HOST} dst {PEER} vni 42")
    pyvpp.ctl(f"set interface ip address vxlan_tunnel0 {NEAR}/24")
    return pyvpp


def test_packets_of_every_size(sandbox: Pair, tunnel: Pyvpp) -> None:
    pod = add_pod(sandbox, tunnel, mtu=VXLAN_MTU)
    for source, address in ((pod, FAR), (sandbox.peer, POD), (sandbox.host, FAR), (sandbox.peer, NEAR)):
        assert ping(source, address, 84, df=True)
        assert ping(source, address, VXLAN_MTU, df=True)
    for source, address in ((pod, FAR), (sandbox.peer, POD), (sandbox.host, FAR)):
        assert ping(source, address, VXLAN_MTU + 1, df=False)
        assert ping(source, address, 9000, df=False)
    transfer(pod, sandbox.peer, FAR)
    transfer(sandbox.peer, pod, POD)


def test_a_peer_that_comes_back_with_another_mac_is_found(sandbox: Pair, tunnel: Pyvpp) -> None:
    """It knows us and asks for nobody, and no link goes down: only a probe of ours can find it."""
    pod, peer = add_pod(sandbox, tunnel), sandbox.peer
    assert ping(pod, FAR, 84, df=True)
    (ours,) = [line.split() for line in peer.ip("neigh", "show", NEAR, "dev", "vx0").splitlines()]
    peer.ip("link", "del", "vx0")
    add_vxlan_device(peer, "vx0", 42, f"{FAR}/24")
    peer.ip("neigh", "replace", NEAR, "lladdr", ours[ours.index("lladdr") + 1], "dev", "vx0")
    peer.ip("route", "add", "10.80.0.0/16", "via", NEAR)
    tunnel.ctl("set ip neighbor-config ip4 age 1")
    assert ping(pod, FAR, 84, df=True)


def test_a_pod_is_told_the_mtu_of_the_tunnel(sandbox: Pair, tunnel: Pyvpp) -> None:
    pod = add_pod(sandbox, tunnel)
    assert ping(pod, FAR, VXLAN_MTU, df=True)
    assert ping(pod, FAR, UNDERLAY_MTU, df=False)
    assert too_big(pod, FAR, VXLAN_MTU) is None
    assert too_big(pod, FAR, VXLAN_MTU + 1) == TooBig(VXLAN_MTU, HOST)
    assert too_big(pod, FAR, UNDERLAY_MTU) == TooBig(VXLAN_MTU, HOST)


def test_tcp_of_a_pod_finds_the_mtu_of_the_tunnel(sandbox: Pair, tunnel: Pyvpp) -> None:
    pod = add_pod(sandbox, tunnel)
    transfer(pod, sandbox.peer, FAR)
    assert learned_mtu(pod, FAR) == VXLAN_MTU
    pod.ip("route", "flush", "cache")
    transfer(sandbox.peer, pod, POD)
    assert learned_mtu(pod, FAR) == VXLAN_MTU


def test_tcp_of_a_pod_that_looks_for_no_mtu_is_fragmented(sandbox: Pair, tunnel: Pyvpp) -> None:
    """It sends GSO packets without DF, whose segments are too large."""
    pod = add_pod(sandbox, tunnel)
    pod.run("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_no_pmtu_disc")
    transfer(pod, sandbox.peer, FAR, megabytes=2)
    assert tunnel.counter("ip4-frag", "gso packet segmented")
    assert tunnel.counter("ip4-frag", "packet fragmented") > 1000
    assert learned_mtu(pod, FAR) is None


def test_the_peer_is_told_the_mtu_of_a_pod(sandbox: Pair, tunnel: Pyvpp) -> None:
    """Through the tunnel, by the tunnel's address; and on the bare wire, by the uplink's."""
    pod = add_pod(sandbox, tunnel, mtu=SMALL_MTU)
    pod.ip("route", "replace", "default", "dev", "eth0", "advmss", str(UNDERLAY_MTU - 40))
    peer = sandbox.peer
    assert ping(peer, POD, SMALL_MTU, df=True)
    assert ping(peer, POD, VXLAN_MTU, df=False)
    assert too_big(peer, POD, SMALL_MTU + 1) == TooBig(SMALL_MTU, NEAR)
    peer.ip("route", "flush", "cache")
    transfer(peer, pod, POD)
    assert learned_mtu(peer, POD) == SMALL_MTU

    peer.ip("route", "replace", f"{POD}/32", "via", HOST, "advmss", str(UNDERLAY_MTU - 40))
    assert too_big(peer, POD, UNDERLAY_MTU) == TooBig(SMALL_MTU, HOST)
    peer.ip("route", "flush", "cache")
    transfer(peer, pod, POD)
    assert learned_mtu(peer, POD) == SMALL_MTU


def test_the_wire_is_told_the_mtu_of_a_tunnel(sandbox: Pair, pyvpp: Pyvpp) -> None:
    """Of packets that come from the wire and would leave by it, inside."""
    for k, (kind, mtu) in enumerate((("ipip tunnel", IPIP_MTU), ("vxlan tunnel", VXLAN_MTU))):
        words = f" vni 7{' l3'}" if kind == "vxlan tunnel" else ""
        interface = pyvpp.ctl(f"create {kind} src {HOST} dst {PEER}{words}").strip()
        pyvpp.ctl(f"set interface state {interface} up")
        pyvpp.ctl(f"ip route add 10.60.{k}.0/24 via {interface}")
        sandbox.peer.ip("route", "add", f"10.60.{k}.0/24", "via", HOST)
        assert ping(sandbox.peer, HOST, 84, df=True)
        assert too_big(sandbox.peer, f"10.60.{k}.1", mtu) is None
        assert too_big(sandbox.peer, f"10.60.{k}.1", mtu + 1) == TooBig(mtu, HOST)


def test_the_host_is_told_the_mtu_of_the_tunnel(sandbox: Pair, tunnel: Pyvpp) -> None:
    """By the address it sent to: it would not believe a message from its own."""
    assert ping(sandbox.host, FAR, VXLAN_MTU, df=True)
    assert too_big(sandbox.host, FAR, VXLAN_MTU + 1) == TooBig(VXLAN_MTU, FAR)
    sandbox.host.ip("route", "flush", "cache")
    transfer(sandbox.host, sandbox.peer, FAR)
    assert learned_mtu(sandbox.host, FAR) == VXLAN_MTU


@pytest.mark.parametrize("mtu", [VXLAN_MTU, UNDERLAY_MTU])
def test_a_cross_connected_pod(sandbox: Pair, pyvpp: Pyvpp, mtu: int) -> None:
    """No router sees its packets: outer packets that are too large are fragmented, and Linux puts them together."""
    pod, peer = sandbox.namespace("pod"), sandbox.peer
    near, far = "10.91.0.1", "10.91.0.2"
    add_vxlan_device(peer, "vx0", 43, f"{far}/24")
    tap = pyvpp.ctl(
        f"create tap host-ns {pod.name} host-if-name eth0 host-ip4-addr {near}/24 host-mtu-size {mtu}"
    ).strip()
    interface = pyvpp.ctl(f"create vxlan tunnel src {HOST} dst {PEER} vni 43").strip()
    pyvpp.ctl(f"set interface l2 xconnect {tap} {interface}")
    pyvpp.ctl(f"set interface l2 xconnect {interface} {tap}")
    for source, address in ((pod, far), (peer, near)):
        assert ping(source, address, 84, df=True)
        assert ping(source, address, VXLAN_MTU, df=True)
        assert ping(source, address, 9000, df=False)
    assert ping(pod, far, mtu, df=True)
    assert bool(pyvpp.counter("ip4-frag", "packet fragmented")) == (mtu > VXLAN_MTU)
    peer.ip("route", "replace", "10.91.0.0/24", "dev", "vx0", "advmss", str(mtu - 40))
    transfer(pod, peer, far)
    transfer(peer, pod, near)


def test_a_peer_that_changes_its_mac_address(sandbox: Pair, tunnel: Pyvpp) -> None:
    """It asks for ours with the new one in hand; nobody answers at the old one."""
    pod = add_pod(sandbox, tunnel)
    assert ping(pod, FAR, 84, df=True)
    sandbox.peer.ip("link", "set", "eth0", "address", "02:00:00:00:77:99")
    assert ping(sandbox.peer, HOST, 84, df=True)
    assert ping(pod, FAR, 84, df=True)
    assert "02:00:00:00:77:99" in tunnel.ctl("show ip neighbors host-eth0")


@pytest.fixture
def nodes(sandbox: Pair, pyvpp: Pyvpp) -> Iterator[tuple[Pyvpp, Pyvpp]]:
    """The peer runs a pyvpp too."""
    with running(sandbox, sandbox.peer, "--uplink", "eth0") as other:
        yield pyvpp, other


@pytest.mark.parametrize(("kind", "mtu"), [("ipip", IPIP_MTU), ("vxlan", VXLAN_MTU)])
def test_pods_of_two_nodes(sandbox: Pair, nodes: tuple[Pyvpp, Pyvpp], kind: str, mtu: int) -> None:
    ends = ((HOST, PEER, PEER_POD), (PEER, HOST, POD))
    for node, (source, destination, behind) in zip(nodes, ends, strict=True):
        words = " vni 4096 l3" if kind == "vxlan" else ""
        interface = node.ctl(f"create {kind} tunnel src {source} dst {destination}{words}").strip()
        node.ctl(f"set interface state {interface} up")
        node.ctl(f"ip route add {behind}/32 via {interface}")
    pod, peer_pod = add_pod(sandbox, nodes[0], POD), add_pod(sandbox, nodes[1], PEER_POD)
    for source, address, node in ((pod, PEER_POD, HOST), (peer_pod, POD, PEER)):
        assert ping(source, address, mtu, df=True)
        assert ping(source, address, UNDERLAY_MTU, df=False)
        assert ping(source, address, 9000, df=False)
        assert too_big(source, address, mtu) is None
        assert too_big(source, address, mtu + 1) == TooBig(mtu, node)
        source.ip("route", "flush", "cache")
        assert learned_mtu(source, address) is None
    transfer(pod, peer_pod, PEER_POD)
    assert (learned_mtu(pod, PEER_POD), learned_mtu(peer_pod, POD)) == (mtu, mtu)
    transfer(peer_pod, pod, POD)
    transfer(sandbox.host, peer_pod, PEER_POD)
    assert learned_mtu(sandbox.host, PEER_POD) == mtu
