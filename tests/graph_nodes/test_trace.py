# SPDX-License-Identifier: Apache-2.0
"""`show trace` of a packet that is routed from one generator's interface to another."""

import re

import pytest

from pyvpp.engine import Engine
from pyvpp.packet_generator import Stream, generator_of
from tests.graph_nodes.forwarding import ethernet, ip4, udp
from tests.graph_nodes.test_churn import Console

pytestmark = pytest.mark.slow


@pytest.fixture
def console():
    made = Console()
    pg1 = made.generator.create_interface("pg1", bytes.fromhex("02fe00000002"))
    made.engine.interfaces.set_admin(pg1, True)
    made("set interface ip address pg1 10.1.0.1/24")
    made("set ip neighbor pg1 10.1.0.2 02:fe:00:00:00:77 static")
    yield made
    made.close()


def send(engine: Engine, packet: bytes) -> None:
    generator = generator_of(engine)
    generator.add(Stream("one", [packet], engine.require_interface("pg0"), limit=1))
    generator.set_enabled("one", True)
    engine.run(4)
    generator.delete("one")


def test_the_way_of_a_packet(console):
    console("trace add pg-input 1")
    send(console.engine, ethernet(ip4(udp(b"abcd"), destination="10.1.0.2"), "02:fe:00:00:00:01"))
    text = console("show trace")
    nodes = re.findall(r"^\d\d:\d\d:\d\d:\d{6}: (\S+)$", text, re.MULTILINE)
    assert nodes == ["pg-input", "ethernet-input", "ip4-input", "ip4-lookup", "ip4-rewrite", "pg1-output", "pg1-tx"]
    rewrite = re.search(r"dpo-idx \d+ : (.*) flow hash: 0x00000000", text)
    assert rewrite and re.fullmatch(
        r"ipv4 via 10\.1\.0\.2 pg1: mtu:\d+ next:\d+ flags:\[\] 02fe0000007702fe000000020800", rewrite[1]
    )
    last = text[text.index("pg1-tx") :]
    assert "pg: hw_if_index 2 tx-queue 0, pg1 46 bytes" in last
    assert "flags 0x00 gso_type 0x00" in last and "UDP: " in last


def test_an_adjacency_that_is_gone_is_named_so(console):
    console("trace add pg-input 1")
    send(console.engine, ethernet(ip4(udp(b"abcd"), destination="10.1.0.2"), "02:fe:00:00:00:01"))
    console("set interface ip address del pg1 10.1.0.1/24")
    console("set ip neighbor del pg1 10.1.0.2 02:fe:00:00:00:77")
    assert re.search(r"dpo-idx \d+ : deleted flow hash", console("show trace"))
