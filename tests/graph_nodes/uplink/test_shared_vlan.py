# SPDX-License-Identifier: Apache-2.0
"""A VLAN of the host on an uplink, through the whole graph: what pyvpp owns in there is taken, the rest is the host's.

The packet generator's interfaces play the uplink (pg0) and the host's TAP (pg1); behind pg2 is a pod.
"""

from collections.abc import Iterator
from ipaddress import IPv4Interface
from socket import AF_INET
from types import SimpleNamespace

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import ARP, Dot1Q, Ether

from pyvpp.errors import OperatorError
from pyvpp.interface import HOST, UPLINK
from pyvpp.packet_generator import Stream
from pyvpp_nodes.fib.entry import Source, attached
from tests.graph_nodes.test_churn import MAC, Console

pytestmark = pytest.mark.slow

POD, GATEWAY, GATEWAY_MAC, ELSEWHERE = "10.80.0.2", "10.5.0.254", "02:00:00:00:00:54", "192.0.2.9"
OWN = "10.5.0.1"
IN, OUT = Ether(src=GATEWAY_MAC, dst=MAC), Ether(src=MAC, dst=GATEWAY_MAC)
TAG = Dot1Q(vlan=5)


class Lab(Console):
    """The host's VLAN 5 has 10.5.0.1/24 and, in there, its default route."""

    def __init__(self) -> None:
        super().__init__()
        mac = bytes.fromhex(MAC.replace(":", ""))
        self.host = self.generator.create_interface("pg1", mac)
        self.pod = self.generator.create_interface("pg2", None, bare_ip=True)
        interfaces = self.engine.interfaces
        for each, flags in ((self.pg0, UPLINK), (self.host, HOST), (self.pod, 0)):
            interfaces.set_admin(each, True)
            interfaces.set_flags(each, flags, True)
        interfaces.set_peer(self.pg0, self.host)
        interfaces.set_peer(self.host, self.pg0)
        self.engine.events.fire("uplink-added", self.pg0, self.host, SimpleNamespace(
            addresses=[], routes=[], vlans=[SimpleNamespace(id=5, tpid=0x8100, state=SimpleNamespace(
                mac=MAC, mtu=1500, is_up=True, addresses=[SimpleNamespace(family=AF_INET, interface=IPv4Interface(f"{OWN}/24"))],
                routes=[SimpleNamespace(table=254, destination="0.0.0.0/0", gateway=GATEWAY)],
            ))],
        ))  # fmt: skip
        self.engine.stack.fib4.update(f"{POD}/32", [attached(self.pod.sw_if_index)], source=Source.API)
        self.shared = self.engine.require_interface("pg0.5")
        self.left: dict[str, list[bytes]] = {"pg0": [], "pg1": [], "pg2": []}
        for each in (self.pg0, self.host, self.pod):
            self.generator.capture(each, self.left[each.name].append)

    def send(self, by: str, *packets: Ether | IP) -> dict[str, list[bytes]]:
        """What has left by each interface that anything has left by."""
        for left in self.left.values():
            left.clear()
        interface = self.engine.require_interface(by)
        node = {"pg0": "uplink-input", "pg1": "host-input", "pg2": "ip4-input"}[by]
        self.generator.add(Stream("sent", [bytes(each) for each in packets], interface, node, limit=len(packets)))
        self.generator.set_enabled("sent", True)
        for _ in range(3):
            self.engine.run(4)
            self.engine.drain_punts()
        self.generator.delete("sent")
        return {name: list(left) for name, left in self.left.items() if left}

    def learn_gateway(self) -> None:
        reply = ARP(op=2, hwsrc=GATEWAY_MAC, psrc=GATEWAY, hwdst=MAC, pdst=OWN)
        assert self.send("pg0", IN / TAG / reply) == {"pg1": [bytes(IN / TAG / reply)]}


@pytest.fixture
def lab() -> Iterator[Lab]:
    made = Lab()
    yield made
    made.close()


def test_what_is_for_a_pod_is_taken(lab):
    left = lab.send(
        "pg0", IN / TAG / IP(src=ELSEWHERE, dst=POD) / UDP() / b"x", IN / Dot1Q(vlan=6) / IP(dst=POD) / UDP()
    )
    assert IP(left["pg2"][0]).ttl == 63 and bytes(IP(left["pg2"][0])[UDP].payload) == b"x"
    assert left["pg1"] == [bytes(IN / Dot1Q(vlan=6) / IP(dst=POD) / UDP())]


def test_pods_reach_the_gateway_in_the_vlan(lab):
    packet = IP(src=POD, dst=ELSEWHERE) / UDP() / b"out"
    (question,) = lab.send("pg2", packet)["pg0"]
    assert (Ether(question)[Dot1Q].vlan, Ether(question)[ARP].pdst, Ether(question)[ARP].psrc) == (5, GATEWAY, OWN)
    lab.learn_gateway()
    (frame,) = lab.send("pg2", packet)["pg0"]
    assert frame[:18] == bytes(OUT / TAG / IP())[:18]
    assert IP(frame[18:])[UDP].payload.load == b"out"


def test_everything_else_is_the_hosts_unchanged(lab):
    frames = [
        IN / TAG / IP(src=ELSEWHERE, dst=OWN) / UDP(dport=53),
        Ether(src=GATEWAY_MAC, dst="ff:ff:ff:ff:ff:ff") / TAG / ARP(psrc=GATEWAY, pdst="10.5.0.77"),
        IN / Dot1Q(vlan=4094) / IP(dst=POD) / UDP(),
        IN / Dot1Q(vlan=5, prio=7) / Dot1Q(vlan=9) / IP(dst=POD) / UDP(),
    ]
    assert lab.send("pg0", *frames) == {"pg1": [bytes(frame) for frame in frames]}


def test_the_host_reaches_pods_and_the_wire(lab):
    to_pod = OUT / TAG / IP(src=OWN, dst=POD) / UDP() / b"to the pod"
    others = [OUT / TAG / IP(src=OWN, dst=ELSEWHERE) / UDP(), OUT / Dot1Q(vlan=6) / IP(dst=POD) / UDP(), OUT / ARP()]
    left = lab.send("pg1", to_pod, *others)
    assert [IP(packet)[UDP].payload.load for packet in left["pg2"]] == [b"to the pod"]
    assert left["pg0"] == [bytes(frame) for frame in others]


def test_while_it_is_down_it_is_the_hosts_alone(lab):
    frame = IN / TAG / IP(src=ELSEWHERE, dst=POD) / UDP()
    lab("set interface state pg0.5 down")
    assert lab.send("pg0", frame) == {"pg1": [bytes(frame)]}
    lab("set interface state pg0.5 up")
    assert set(lab.send("pg0", frame)) == {"pg2"}


def test_it_stays_as_long_as_the_uplink(lab):
    with pytest.raises(OperatorError, match=r"pg0\.5 is a VLAN of the host"):
        lab("delete sub-interface pg0.5")
    with pytest.raises(OperatorError, match="pg1 is the host's end of an uplink: put the VLAN on the uplink"):
        lab("create sub-interfaces pg1 7")
