# SPDX-License-Identifier: Apache-2.0
"""Noise through a veth into `pyvpp --uplink eth0`, and into a pod's TUN: it stays up, accounts for all, and goes on."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path

import pytest

from tests.graph_nodes.lab import NEIGHBOR_MAC, POD_IP, UPLINK_IP, UPLINK_MAC, VNIS
from tests.graph_nodes.noise import Feeder, offloads
from tests.system.conftest import Pair
from tests.system.ledger import balance
from tests.system.process import eventually, ping, running

pytestmark = pytest.mark.slow

FRAMES = 4000
PEER_IP, LOOP_IP = "192.0.2.200", "10.80.0.1"
SOL_PACKET, PACKET_VNET_HDR = 263, 15
SETUP = f"""
create loopback interface
set interface state loop0 up
set interface ip address loop0 {LOOP_IP}/32
create vxlan tunnel src {UPLINK_IP} dst 192.0.2.2 vni {VNIS["vxlan"]}
set interface ip address vxlan_tunnel0 10.50.0.1/24
create vxlan tunnel src {UPLINK_IP} dst 192.0.2.3 vni {VNIS["vxlan-l3"]} l3
ip route add 10.51.0.0/16 via vxlan_tunnel1
create ipip tunnel src {UPLINK_IP} dst 192.0.2.4
set interface state ipip0 up
ip route add 10.52.0.0/16 via ipip0
ip route add 10.61.0.0/16 via ipip0
ip route add 10.61.0.0/16 via vxlan_tunnel1
ip route add 10.62.0.0/16 via null-send-unreach
"""


def send_noise(sender: socket.socket, packets: list[bytes], headers: list[bytes]) -> int:
    """How many Linux took: it refuses what contradicts its header, and what is too short or too long."""
    taken = 0
    for packet, header in zip(packets, headers, strict=True):
        with contextlib.suppress(OSError):
            sender.send(header + packet)
            taken += 1
    return taken


def raw_socket(name: str) -> socket.socket:
    """A packet socket on an interface; what is sent stands behind its virtio_net_hdr."""
    opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    opened.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    opened.bind((name, 0x0800))
    return opened


def test_noise_from_the_wire_and_from_a_pod(sandbox: Pair, tmp_path: Path) -> None:
    host, peer, pod = sandbox.host, sandbox.peer, sandbox.namespace("pod")
    host.ip("link", "set", "eth0", "address", UPLINK_MAC.hex(":"))
    host.ip("addr", "add", f"{UPLINK_IP}/24", "dev", "eth0")
    peer.ip("addr", "add", f"{PEER_IP}/24", "dev", "eth0")
    for last in (2, 3, 4):
        host.ip("neigh", "add", f"192.0.2.{last}", "lladdr", NEIGHBOR_MAC.hex(":"), "dev", "eth0")
    before = host.snapshot()
    script = tmp_path / "setup"
    script.write_text(SETUP + f"create tap tun host-ns {pod.path} host-if-name eth0 host-ip4-addr {POD_IP}/32\n")
    feeder = Feeder(1)
    with running(sandbox, host, "--uplink", "eth0", "--exec", script) as pyvpp:
        assert ping(peer, UPLINK_IP)
        assert ping(pod, LOOP_IP)
        received = pyvpp.interface("host-eth0")["counters"]["rx packets"]
        with peer.inside(lambda: raw_socket("eth0")) as wire, pod.inside(lambda: raw_socket("eth0")) as tun:
            headers = [offloads(feeder.chance) for _ in range(FRAMES)]
            sent = send_noise(wire, [feeder.frame(9000) for _ in range(FRAMES)], headers)
            sent_by_pod = send_noise(tun, [feeder.packet(9000) for _ in range(FRAMES)], headers)
        assert sent > FRAMES // 4
        assert sent_by_pod > FRAMES // 4

        def arrived() -> bool:
            counters = pyvpp.interface("host-eth0")["counters"]
            return counters["rx packets"] - received + counters.get("rx-miss", 0) >= sent

        eventually(arrived, "every frame is counted, as received or as lost by Linux")
        eventually(lambda: len(set(balance(pyvpp)[:2])) == 1, "in and made = out, dropped and taken")
        assert balance(pyvpp)[2] == 0
        assert len(pyvpp.data("show errors")) > 30
        assert ping(peer, UPLINK_IP)
        assert ping(pod, LOOP_IP)
    assert host.snapshot() == before
