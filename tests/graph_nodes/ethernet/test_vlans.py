# SPDX-License-Identifier: Apache-2.0
"""VLANs through the whole graph, set up by commands: sub-interfaces of two ports, and what becomes of tagged frames."""

import re
from collections.abc import Iterator

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Dot1AD, Dot1Q, Ether

from pyvpp.cli.arguments import CommandError
from pyvpp.errors import OperatorError
from pyvpp.packet_generator import Stream
from tests.graph_nodes.test_churn import MAC, Console

pytestmark = pytest.mark.slow

MAC1 = "02:fe:00:00:00:02"
SENDER_MAC, NEXT_HOP_MAC = "02:00:00:00:00:12", "02:00:00:00:00:22"
BROADCAST = "ff:ff:ff:ff:ff:ff"
FROM_SENDER = Ether(src=SENDER_MAC, dst=MAC)
TO_SENDER = Ether(src=MAC, dst=SENDER_MAC)


class Lab(Console):
    """pg0.100 (10.100.0.1/24, 2001:db8:100::1/64) and pg1.200 (10.200.0.1/24, 2001:db8:200::1/64), all up."""

    def __init__(self) -> None:
        super().__init__()
        self.pg1 = self.generator.create_interface("pg1", bytes.fromhex(MAC1.replace(":", "")))
        self.engine.interfaces.set_admin(self.pg1, True)
        self.left: dict[str, list[bytes]] = {"pg0": [], "pg1": []}
        self.generator.capture(self.pg0, self.left["pg0"].append)
        self.generator.capture(self.pg1, self.left["pg1"].append)
        for line in (
            "create sub-interfaces pg0 100",
            "create sub-interfaces pg1 7 dot1q 200 exact-match",
            "set interface state pg0.100 up",
            "set interface state pg1.7 up",
            "set interface ip address pg0.100 10.100.0.1/24",
            "set interface ip address pg1.7 10.200.0.1/24",
            "set interface ip address pg0.100 2001:db8:100::1/64",
            "set interface ip address pg1.7 2001:db8:200::1/64",
            f"set ip neighbor pg1.7 10.200.0.2 {NEXT_HOP_MAC} static",
            f"set ip neighbor pg1.7 2001:db8:200::2 {NEXT_HOP_MAC} static",
        ):
            self(line)

    def send(self, *frames: Ether, by: str = "pg0") -> dict[str, list[bytes]]:
        """What has left since; every buffer is back in the end."""
        free = self.engine.buffers.free
        for left in self.left.values():
            left.clear()
        interface = self.engine.interfaces.by_name(by)
        self.generator.add(Stream("sent", [bytes(each) for each in frames], interface, limit=len(frames)))
        self.generator.set_enabled("sent", True)
        for _ in range(3):
            self.engine.run(4)
            self.engine.drain_punts()
        self.generator.delete("sent")
        assert self.engine.buffers.free == free
        return {name: list(left) for name, left in self.left.items()}

    def errors(self) -> dict[tuple[str, str], int]:
        """What `show errors` says was dropped, by node and reason."""
        rows = re.findall(r"^\s*(\d+)\s+(\S+)\s+(.*?)\s+error\s*$", self("show errors"), re.MULTILINE)
        return {(node, reason): int(count) for count, node, reason in rows}

    def counted(self, interface: str) -> dict[str, int]:
        rows = re.findall(r"(rx|tx|drops|ip4|ip6) *(packets|bytes|) +(\d+)$", self(f"show interface {interface}"), re.M)
        return {f"{name} {what}".strip(): int(count) for name, what, count in rows}


@pytest.fixture
def lab() -> Iterator[Lab]:
    made = Lab()
    yield made
    made.close()


def aged(packet: IP | IPv6) -> bytes:
    """One hop older, as scapy writes it."""
    older = type(packet)(bytes(packet))
    if isinstance(older, IP):
        older.ttl -= 1
        del older.chksum
    else:
        older.hlim -= 1
    return bytes(older)


def tagged(vlan: int, packet: IP | IPv6) -> bytes:
    """As it leaves for the next hop."""
    frame = Ether(src=MAC1, dst=NEXT_HOP_MAC) / Dot1Q(vlan=vlan) / packet
    return bytes(frame)[:18] + aged(packet)


@pytest.mark.parametrize("fusion", ["on", "off"])
def test_from_vlan_to_vlan(lab, fusion):
    lab(f"set graph fusion {fusion}")
    packets = [IP(src="10.100.0.2", dst="10.200.0.2", ttl=n) / UDP(sport=n) / bytes(n) for n in range(2, 60)]
    packets6 = [
        IPv6(src="2001:db8:100::2", dst="2001:db8:200::2", hlim=n) / UDP(sport=n) / bytes(n) for n in range(2, 9)
    ]
    frames = [FROM_SENDER / Dot1Q(vlan=100, prio=n % 8) / each for n, each in enumerate([*packets, *packets6])]
    left = lab.send(*frames)
    assert left["pg0"] == []
    assert sorted(left["pg1"]) == sorted(tagged(200, each) for each in (*packets, *packets6))
    size = sum(len(bytes(frame)) for frame in frames)
    assert lab.counted("pg0.100") == {
        "rx packets": len(frames), "rx bytes": size, "ip4": len(packets), "ip6": len(packets6),
    }  # fmt: skip
    assert lab.counted("pg0") == {"rx packets": len(frames), "rx bytes": size}
    assert lab.counted("pg1.7") == lab.counted("pg1") == {"tx packets": len(frames), "tx bytes": size}


def test_arp_and_ping_in_a_vlan(lab):
    who = (
        Ether(src=SENDER_MAC, dst=BROADCAST)
        / Dot1Q(vlan=100)
        / ARP(hwsrc=SENDER_MAC, psrc="10.100.0.2", pdst="10.100.0.1")
    )
    (answer,) = lab.send(who)["pg0"]
    assert Ether(answer)[Dot1Q].vlan == 100
    assert (Ether(answer)[ARP].op, Ether(answer)[ARP].hwsrc, Ether(answer)[ARP].psrc) == (2, MAC, "10.100.0.1")
    assert Ether(answer).dst == SENDER_MAC
    assert "10.100.0.2" in lab("show ip neighbor")
    (reply,) = lab.send(FROM_SENDER / Dot1Q(vlan=100, prio=5) / IP(src="10.100.0.2", dst="10.100.0.1") / ICMP(id=7))[
        "pg0"
    ]
    assert bytes(TO_SENDER / Dot1Q(vlan=100))[:16] == reply[:16]
    assert (Ether(reply)[ICMP].type, Ether(reply)[ICMP].id, Ether(reply)[IP].dst) == (0, 7, "10.100.0.2")


def test_a_neighbor_is_asked_for_in_its_vlan(lab):
    left = lab.send(FROM_SENDER / Dot1Q(vlan=100) / IP(src="10.100.0.2", dst="10.200.0.77") / UDP())
    (question,) = left["pg1"]
    assert (Ether(question)[Dot1Q].vlan, Ether(question)[ARP].pdst, Ether(question)[ARP].psrc) == (
        200, "10.200.0.77", "10.200.0.1",
    )  # fmt: skip
    answer = Ether(src=NEXT_HOP_MAC, dst=MAC1) / Dot1Q(vlan=200) / ARP(
        op=2, hwsrc=NEXT_HOP_MAC, psrc="10.200.0.77", hwdst=MAC1, pdst="10.200.0.1"
    )  # fmt: skip
    lab.send(answer, by="pg1")
    left = lab.send(FROM_SENDER / Dot1Q(vlan=100) / IP(src="10.100.0.2", dst="10.200.0.77") / UDP())
    assert [Ether(frame)[IP].dst for frame in left["pg1"]] == ["10.200.0.77"]


def test_what_is_nobodys(lab):
    packet = IP(src="10.100.0.2", dst="10.200.0.2") / UDP()
    left = lab.send(
        FROM_SENDER / Dot1Q(vlan=101) / packet,
        FROM_SENDER / Dot1Q(vlan=200) / packet,
        FROM_SENDER / Dot1AD(vlan=100) / packet,
        FROM_SENDER / Dot1Q(vlan=100) / Dot1Q(vlan=3) / packet,
        Ether(src=SENDER_MAC, dst="02:00:00:00:00:77") / Dot1Q(vlan=100) / packet,
    )
    assert left == {"pg0": [], "pg1": []}
    assert lab.errors() == {("ethernet-input", "unknown vlan"): 4, ("ethernet-input", "l3 mac mismatch"): 1}


def test_untagged_and_priority_frames_are_the_parents(lab):
    ping = IP(src="10.0.0.2", dst="10.0.0.1") / ICMP()
    replies = lab.send(FROM_SENDER / ping, FROM_SENDER / Dot1Q(vlan=0, prio=6) / ping)["pg0"]
    assert [Ether(reply).type for reply in replies] == [0x0800, 0x0800]
    assert lab.counted("pg0.100") == {}


def test_a_vlan_in_a_vlan(lab):
    for line in (
        "create sub-interfaces pg1 30 dot1ad 300",
        "create sub-interfaces pg1.30 5",
        "set interface state pg1.30.5 up",
        "set interface ip address pg1.30.5 10.5.0.1/24",
        f"set ip neighbor pg1.30.5 10.5.0.2 {NEXT_HOP_MAC} static",
    ):
        lab(line)
    packet = IP(src="10.100.0.2", dst="10.5.0.2") / UDP() / b"twice"
    frame = FROM_SENDER / Dot1Q(vlan=100) / packet
    assert lab.send(frame)["pg1"] == []  # what it is on is down
    lab("set interface state pg1.30 up")
    expected = bytes(Ether(src=MAC1, dst=NEXT_HOP_MAC) / Dot1AD(vlan=300) / Dot1Q(vlan=5) / packet)[:22] + aged(packet)
    assert lab.send(frame)["pg1"] == [expected]
    back = (
        Ether(src=NEXT_HOP_MAC, dst=MAC1)
        / Dot1AD(vlan=300)
        / Dot1Q(vlan=5)
        / IP(src="10.5.0.2", dst="10.5.0.1")
        / ICMP()
    )
    (reply,) = lab.send(back, by="pg1")["pg1"]
    assert [Ether(reply)[Dot1AD].vlan, Ether(reply)[Dot1Q].vlan] == [300, 5]
    with pytest.raises(OperatorError, match="2 VLAN tags already"):
        lab("create sub-interfaces pg1.30.5 6")


def test_state_follows_the_parent(lab):
    frame = FROM_SENDER / Dot1Q(vlan=100) / IP(src="10.100.0.2", dst="10.200.0.2") / UDP()
    assert len(lab.send(frame)["pg1"]) == 1
    lab("set interface state pg1 down")
    assert "down" in lab("show interface pg1.7")
    assert "10.200.0.0/24" not in lab("show ip fib")
    assert lab.send(frame)["pg1"] == []
    lab("set interface state pg1 up")
    assert len(lab.send(frame)["pg1"]) == 1
    lab("set interface state pg1.7 down")
    lab("set interface state pg1 down")
    lab("set interface state pg1 up")
    assert lab.send(frame)["pg1"] == []
    lab("set interface state pg1 down")
    lab("set interface state pg1.7 up")  # as soon as there is something to be up on
    assert "down" in lab("show interface pg1.7")
    lab("set interface state pg1 up")
    assert len(lab.send(frame)["pg1"]) == 1
    lab("set interface state pg0.100 down")
    assert lab.send(frame)["pg1"] == []
    assert lab.errors()["ethernet-input", "subinterface down"] == 1
    assert lab.counted("pg0.100")["drops"] == 3  # twice there was no way out


def test_mac_and_mtu_follow_the_parent(lab):
    lab("set interface mac address pg1 02:fe:00:00:00:99")
    frame = FROM_SENDER / Dot1Q(vlan=100) / IP(src="10.100.0.2", dst="10.200.0.2") / UDP()
    assert [Ether(left).src for left in lab.send(frame)["pg1"]] == ["02:fe:00:00:00:99"]
    lab("set interface mac address pg1.7 02:fe:00:00:00:98")
    lab("set interface mac address pg1 02:fe:00:00:00:97")
    assert [Ether(left).src for left in lab.send(frame)["pg1"]] == ["02:fe:00:00:00:98"]
    lab("set interface mtu 1400 pg1")
    assert "1400" in lab("show interface pg1.7")
    lab("set interface mtu 1300 pg1.7")
    lab("set interface mtu 1500 pg1")
    assert "1300" in lab("show interface pg1.7")


def test_features_are_the_sub_interfaces_own(lab):
    """A feature of pg1.7 sees the frames of that VLAN, with their tag, and no others of pg1."""
    lab("set interface ip address pg1 10.1.0.1/24")
    lab(f"set ip neighbor pg1 10.1.0.2 {NEXT_HOP_MAC} static")
    lab("set interface feature gso pg1.7")
    packets = [IP(src="10.100.0.2", dst=dst) / UDP() for dst in ("10.200.0.2", "10.1.0.2", "10.200.0.2")]
    left = lab.send(*[FROM_SENDER / Dot1Q(vlan=100) / packet for packet in packets])["pg1"]
    assert sorted(Ether(frame).type for frame in left) == [0x0800, 0x8100, 0x8100]
    assert re.search(r"^gso +\S+( +\S+)? +1 +2 ", lab("show runtime"), re.MULTILINE)


def test_deleting(lab):
    frame = FROM_SENDER / Dot1Q(vlan=100) / IP(src="10.100.0.2", dst="10.200.0.2") / UDP()
    lab("create sub-interfaces pg0 101")
    lab("delete sub-interface pg0.100")
    assert lab.send(frame)["pg1"] == []
    assert lab.errors() == {("ethernet-input", "unknown vlan"): 1}
    assert "10.100.0.0/24" not in lab("show ip fib")
    lab("delete sub-interface pg0.101")
    lab("create sub-interfaces pg0 100")
    lab("set interface state pg0.100 up")
    lab("set interface ip address pg0.100 10.100.0.1/24")
    assert len(lab.send(frame)["pg1"]) == 1
    with pytest.raises(CommandError, match="pg0 is no sub-interface"):
        lab("delete sub-interface pg0")


def test_what_is_on_an_interface_goes_with_it(lab):
    lab("create loopback interface")
    lab("create sub-interfaces loop0 5")
    lab("create sub-interfaces loop0.5 6")
    lab("delete loopback interface intfc loop0")
    assert "loop0" not in lab("show interface")
    assert "loop0" not in lab("show vlan")
    lab("create loopback interface")
    lab("create sub-interfaces loop0 5")
    assert "loop0.5" in lab("show vlan loop0")
    assert "pg0.100" not in lab("show vlan loop0")


def test_a_range(lab):
    made = lab("create sub-interfaces pg0 300-303")
    assert made.split() == ["pg0.300", "pg0.301", "pg0.302", "pg0.303"]
    assert re.search(r"^pg0\.302 +pg0 +dot1q +302 +down$", lab("show vlan"), re.MULTILINE)
    with pytest.raises(OperatorError, match=r"vlan 303 of pg0 is pg0\.303 already"):
        lab("create sub-interfaces pg0 303-310")
    assert "pg0.304" not in lab("show vlan")  # all or none


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("create sub-interfaces pg0 100", r"vlan 100 of pg0 is pg0\.100 already"),
        ("create sub-interfaces pg0 5 dot1ad 100", r"vlan 100 of pg0 is pg0\.100 already"),
        ("create sub-interfaces pg0 100 dot1q 5", r"interface pg0\.100 exists already"),
        ("create sub-interfaces pg0 0", "vlan 0: must be from 1 to 4094"),
        ("create sub-interfaces pg0 4095", "vlan 4095: must be from 1 to 4094"),
        ("create sub-interfaces pg0 5 dot1q 4095", "4095 out of range"),
        ("create sub-interfaces pg0 5 dot1q any", "name each VLAN"),
        ("create sub-interfaces pg0 5 dot1q 5 inner-dot1q 6", "sub-interface of a sub-interface"),
        ("create sub-interfaces pg0 5 default", "frames without a tag are pg0's own"),
        ("create sub-interfaces pg0 5 exact-match", r"unknown input `exact-match' \(expected dot1ad or dot1q\)"),
        ("create sub-interfaces pg0 9-5", "no range of VLAN ids"),
        ("create sub-interfaces pg0 5-6 dot1q 7", "unknown input `dot1q'"),
        ("create sub-interfaces pg0 five", "invalid number `five'"),
        ("create sub-interfaces pg0", "unexpected end of input"),
        ("create sub-interfaces local0 5", "local0 has no Ethernet frames"),
        ("create sub-interfaces nosuch 5", "unknown interface `nosuch'"),
        ("set interface l2 xconnect pg0.100 pg1", r"pg0\.100 cannot be cross-connected"),
    ],
)
def test_refusals(lab, line, error):
    with pytest.raises(OperatorError, match=error):
        lab(line)


def test_the_configuration_can_be_given_again(lab):
    """Commands are noted once each, and those of what is deleted are forgotten."""
    lines = [entry.line for entry in lab.engine.configuration.entries]
    assert "create sub-interfaces pg0 100" in lines
    lab("delete sub-interface pg0.100")
    assert not [
        entry.line for entry in lab.engine.configuration.entries if "pg0.100" in entry.line or " 100" in entry.line
    ]
