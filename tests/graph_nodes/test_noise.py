# SPDX-License-Identifier: Apache-2.0
"""Noise into every input of a whole engine: nothing crashes, no byte is written where none belongs, all is accounted for.

See noise.py for the packets, lab.py for the engine and for the ledger that `Lab.settle` balances.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.packet import Raw

from pyvpp.buffers import LARGE_ROOM
from tests.graph_nodes.lab import NEIGHBOR_MAC, PG_IP, PG_MAC, RX_SLOTS, Lab
from tests.graph_nodes.noise import Feeder, damaged, ip6_corpus, offloads

pytestmark = pytest.mark.slow

LARGEST_FROM_LINUX = 65535 + 14


def feed(feeder: Feeder, lab: Lab) -> None:
    """Some packets into every input."""
    chance = feeder.chance
    for _ in range(RX_SLOTS):
        frame = feeder.frame(LARGEST_FROM_LINUX)
        lab.from_wire(frame, offloads(chance), chance.choice([None, None, None, 0, 5]))
    for _ in range(40):
        lab.from_host(feeder.frame(LARGEST_FROM_LINUX), offloads(chance))
        lab.from_pod(feeder.packet(65535), offloads(chance))
    for interface in lab.pg:
        make = feeder.packet if interface.p2p else feeder.frame
        lab.from_generator(interface, [make(LARGE_ROOM) or b"\0" for _ in range(60)])


@pytest.fixture
def lab() -> Iterator[Lab]:
    lab = Lab()
    yield lab
    lab.close()


CONDITIONS: dict[str, Callable[[Lab], AbstractContextManager[None]]] = {
    "at rest": lambda lab: nullcontext(),
    "traced": lambda lab: lab.traced(50),
    "without a host": lambda lab: lab.without_host(),
    "without buffers": lambda lab: lab.starved(100),
    "uplink down": lambda lab: lab.down(lab.uplink),
    "tunnels down": lambda lab: lab.down(lab.vxlan, lab.ipip, lab.pg[0]),
    "host and pod down": lambda lab: lab.down(lab.host, lab.pod, lab.pg[2]),
}


@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize("seed", range(2))
def test_noise_into_every_input(lab: Lab, condition: str, seed: int) -> None:
    feeder = Feeder(seed)
    gained: Counter[tuple[str, str]] = Counter()
    for _ in range(6):
        with CONDITIONS[condition](lab):
            feed(feeder, lab)
            gained += lab.settle()
        lab.settle()
        lab.stop_generating()
    lab.check_guards()
    assert len(gained) > 30  # the noise gets everywhere, not only into the first check


def test_damaged_ip6_gets_into_every_node(lab: Lab) -> None:
    chance = random.Random(6)
    header = PG_MAC + NEIGHBOR_MAC + b"\x86\xdd"
    packets = [damaged(chance, packet, LARGE_ROOM - len(header)) for _ in range(10) for packet in ip6_corpus(chance)]
    lab.from_generator(lab.pg[0], [header + packet for packet in packets])
    gained = lab.settle()
    lab.check_guards()
    ends = {"input", "drop", "null", "glean", "discover-neighbor", "rewrite", "icmp-error"}
    assert {node for node, _ in gained} >= {f"ip6-{each}" for each in ends}


def test_tunnels_in_tunnels_until_the_buffer_is_full(lab: Lab) -> None:
    """An operator can stack more of them than a buffer has headroom for."""
    over = lab.add_tunnels_in_tunnels(12)
    packet = IP(src="10.0.0.2", dst=over) / UDP() / Raw(b"too deep")
    lab.from_generator(lab.pg[0], [PG_MAC + NEIGHBOR_MAC + b"\x08\0" + bytes(packet)])
    gained = lab.settle()
    assert gained["ip4-midchain", "no room for another tunnel's header"] == 1
    lab.check_guards()


def test_afterwards_packets_are_forwarded_as_ever(lab: Lab) -> None:
    feed(Feeder(99), lab)
    lab.settle()
    lab.stop_generating()
    echo = IP(src="10.0.0.2", dst=PG_IP) / ICMP(id=1) / Raw(b"ping")
    lab.from_generator(lab.pg[0], [PG_MAC + NEIGHBOR_MAC + b"\x08\0" + bytes(echo)])
    gained = lab.settle()
    assert gained == {("ip4-icmp-echo-request", "echo replies sent"): 1, ("pg-tx", "packets sent"): 1}
