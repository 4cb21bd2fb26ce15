# SPDX-License-Identifier: Apache-2.0
"""IPv6 through the whole graph, set up by commands: what leaves, what comes back, what is dropped and by what name."""

import re
from collections.abc import Iterator

import pytest
from scapy.layers.inet import UDP
from scapy.layers.inet6 import ICMPv6DestUnreach, ICMPv6PacketTooBig, ICMPv6TimeExceeded, IPv6
from scapy.layers.l2 import Ether

from pyvpp.packet_generator import Stream
from tests.graph_nodes.forwarding import ethernet, ip6, udp
from tests.graph_nodes.test_churn import MAC, Console

pytestmark = pytest.mark.slow

MAC1 = "02:fe:00:00:00:02"
SENDER, NEXT_HOP = "2001:db8:1::2", "2001:db8:2::2"
SENDER_MAC, NEXT_HOP_MAC = "02:00:00:00:00:12", "02:00:00:00:00:22"


class Lab(Console):
    """A sender behind pg0, a next hop behind pg1 with a route through it."""

    def __init__(self) -> None:
        super().__init__()
        self.pg1 = self.generator.create_interface("pg1", bytes.fromhex(MAC1.replace(":", "")))
        self.engine.interfaces.set_admin(self.pg1, True)
        self.left: dict[str, list[bytes]] = {"pg0": [], "pg1": []}
        self.generator.capture(self.pg0, self.left["pg0"].append)
        self.generator.capture(self.pg1, self.left["pg1"].append)
        for line in (
            "set interface ip address pg0 2001:db8:1::1/64",
            "set interface ip address pg1 2001:db8:2::1/64",
            f"set ip neighbor pg0 {SENDER} {SENDER_MAC} static",
            f"set ip neighbor pg1 {NEXT_HOP} {NEXT_HOP_MAC} static",
            f"ip route add 2001:db8:99::/48 via {NEXT_HOP} pg1",
        ):
            self(line)

    def send(self, *packets: bytes) -> None:
        """Ethernet frames from the sender; every buffer is back in the end."""
        free = self.engine.buffers.free
        frames = [ethernet(packet, MAC, SENDER_MAC, ethertype=0x86DD) for packet in packets]
        self.generator.add(Stream("sent", frames, self.pg0, limit=len(frames)))
        self.generator.set_enabled("sent", True)
        for _ in range(3):
            self.engine.run(4)
            self.engine.drain_punts()
        self.generator.delete("sent")
        assert self.engine.buffers.free == free

    def errors(self) -> dict[tuple[str, str], int]:
        """What `show errors` says was dropped, by node and reason."""
        rows = re.findall(r"^\s*(\d+)\s+(\S+)\s+(.*?)\s+error\s*$", self("show errors"), re.MULTILINE)
        return {(node, reason): int(count) for count, node, reason in rows}


@pytest.fixture
def lab() -> Iterator[Lab]:
    made = Lab()
    yield made
    made.close()


def test_a_packet_goes_on_one_hop_older(lab):
    packets = [ip6(udp(b"hello"), SENDER, f"2001:db8:99::{n}", hops=n) for n in range(2, 10)]
    lab.send(*packets)
    older = [packet[:7] + bytes([packet[7] - 1]) + packet[8:] for packet in packets]
    assert lab.left == {"pg0": [], "pg1": [ethernet(each, NEXT_HOP_MAC, MAC1, ethertype=0x86DD) for each in older]}
    assert re.search(r"ip6 +8\b", lab("show interface pg0"))
    assert "2001:db8:99::/48" in lab("show ip6 fib 2001:db8:99::5")


def test_padding_is_cut_off(lab):
    lab.send(ip6(udp(b"x"), SENDER, "2001:db8:99::1") + bytes(9))
    assert [len(frame) for frame in lab.left["pg1"]] == [14 + 40 + 8 + 1]


def quoted(answer: Ether, sent: list[bytes]) -> bytes:
    """Which packet the message is about."""
    quotation = bytes(answer[IPv6])[48:]
    return next(packet for packet in sent if packet[:1232] == quotation)


def test_the_sender_is_told(lab):
    """Expired, no way, too big: the messages come from pg0's own address, quote the packet and are right to scapy."""
    lab("ip route add 2001:db8:77::/48 via null-send-unreach")
    lab("ip route add 2001:db8:78::/48 via null-send-prohibit")
    lab("set interface mtu packet 1280 pg1")
    sent = [
        ip6(udp(b"a"), SENDER, "2001:db8:99::1", hops=1),
        ip6(udp(b"b"), SENDER, "2001:db8:77::1"),
        ip6(udp(b"c"), SENDER, "2001:db8:78::1"),
        ip6(udp(bytes(1300)), SENDER, "2001:db8:99::2"),
    ]
    lab.send(*sent)
    answers = sorted((Ether(frame) for frame in lab.left["pg0"]), key=lambda each: sent.index(quoted(each, sent)))
    kinds = [ICMPv6TimeExceeded, ICMPv6DestUnreach, ICMPv6DestUnreach, ICMPv6PacketTooBig]
    for answer, packet, kind in zip(answers, sent, kinds, strict=True):
        assert (answer.dst, answer[IPv6].src, answer[IPv6].dst, answer[IPv6].hlim) == (
            SENDER_MAC, "2001:db8:1::1", SENDER, 255
        )  # fmt: skip
        assert quoted(answer, sent) == packet and kind in answer
        again = answer[IPv6].copy()
        del again[kind].cksum
        assert bytes(again) == bytes(answer[IPv6])
    assert [answers[i][ICMPv6DestUnreach].code for i in (1, 2)] == [0, 1]
    assert answers[3][ICMPv6PacketTooBig].mtu == 1280
    assert not lab.left["pg1"]


def test_what_is_dropped_has_a_name(lab):
    lab("ip route add 2001:db8:98::/48 via 2001:db8:2::9 pg1")
    lab.send(
        ip6(udp(), SENDER, "2001:db8:2::3"),
        ip6(udp(), SENDER, "2001:db8:98::1"),
        ip6(udp(), SENDER, "2001:db8:1::1"),
        ip6(udp(), SENDER, "3ffe::1"),
        ip6(udp(), SENDER, "ff02::1"),
        ip6(udp(), "fe80::1", "2001:db8:99::1"),
        ip6(udp(), "::1", "2001:db8:99::1"),
        ip6(udp(), SENDER, "2001:db8:99::1")[:30],
    )
    assert lab.errors() == {
        ("ip6-glean", "ip6 neighbor not known"): 1,
        ("ip6-discover-neighbor", "ip6 neighbor not known"): 1,
        ("ip6-drop", "ip6 drop"): 2,
        ("ip6-input", "ip6 multicast not routed"): 1,
        ("ip6-input", "ip6 link-local not routed"): 1,
        ("ip6-input", "ip6 martian address"): 1,
        ("ip6-input", "ip6 length < 40 bytes"): 1,
    }
    assert lab.left == {"pg0": [], "pg1": []}


def test_flows_share_the_paths(lab):
    """Both next hops get flows, and each flow stays with its own."""
    lab("set ip neighbor pg1 2001:db8:2::3 02:00:00:00:00:33 static")
    lab(f"ip route add 2001:db8:66::/48 via {NEXT_HOP} pg1 via 2001:db8:2::3 pg1")
    flows = [ip6(udp(b"x", source_port=port), SENDER, "2001:db8:66::1") for port in range(64)]
    lab.send(*flows, *flows)
    hops = [(Ether(frame)[UDP].sport, Ether(frame).dst) for frame in lab.left["pg1"]]
    assert len(hops) == 128 and len(set(hops)) == 64
    assert {hop for _, hop in hops} == {NEXT_HOP_MAC, "02:00:00:00:00:33"}
    assert 16 < sum(hop == NEXT_HOP_MAC for _, hop in hops) / 2 < 48


def test_the_trace_names_each_step(lab):
    lab("trace add pg-input 1")
    lab.send(ip6(udp(b"x"), SENDER, "2001:db8:99::1"))
    text = lab("show trace")
    nodes = re.findall(r"^\d\d:\d\d:\d\d:\d{6}: (\S+)$", text, re.MULTILINE)
    assert nodes == ["pg-input", "ethernet-input", "ip6-input", "ip6-lookup", "ip6-rewrite", "pg1-output", "pg1-tx"]
    assert f"UDP: {SENDER} -> 2001:db8:99::1" in text and "hop limit 63" in text
    assert f"ipv6 via {NEXT_HOP} pg1" in text


def test_an_interface_has_a_table_of_each_family(lab):
    """Bound to another IPv6 table, pg0 finds other routes; its IPv4 packets go as before."""
    lab("set interface ip address del pg0 2001:db8:1::1/64")
    lab("ip6 table add 7")
    lab("set interface ip6 table pg0 7")
    lab(f"ip route add table 7 2001:db8:55::/48 via {NEXT_HOP} pg1")
    lab.send(ip6(udp(b"x"), SENDER, "2001:db8:99::1"), ip6(udp(b"y"), SENDER, "2001:db8:55::1"))
    assert [Ether(frame)[IPv6].dst for frame in lab.left["pg1"]] == ["2001:db8:55::1"]
    assert lab.engine.tables["interfaces"].array["fib_index"][lab.pg0.sw_if_index] == 0
    lab("set interface ip6 table pg0 0")
    lab.send(ip6(udp(b"x"), SENDER, "2001:db8:99::1"))
    assert Ether(lab.left["pg1"][1])[IPv6].dst == "2001:db8:99::1"


def test_a_neighbor_that_goes_takes_its_packets_along(lab):
    packet = ip6(udp(b"x"), SENDER, "2001:db8:99::1")
    lab(f"set ip neighbor del pg1 {NEXT_HOP} {NEXT_HOP_MAC}")
    lab.send(packet)
    lab(f"set ip neighbor pg1 {NEXT_HOP} {NEXT_HOP_MAC} static")
    lab.send(packet)
    assert lab.errors() == {("ip6-discover-neighbor", "ip6 neighbor not known"): 1}
    assert len(lab.left["pg1"]) == 1
