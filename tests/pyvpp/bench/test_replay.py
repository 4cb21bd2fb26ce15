# SPDX-License-Identifier: Apache-2.0
"""A capture of the user's through a configuration of the user's."""

from ipaddress import IPv4Address
from pathlib import Path

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.utils import wrpcap

from pyvpp.bench import replay as module
from pyvpp.bench.replay import mac_asked_for, read, replay
from pyvpp.bench.scenario import IN_MAC
from pyvpp.errors import OperatorError
from tests.pyvpp.test_pcap_read import pcap

pytestmark = pytest.mark.slow

MAGIC = 0xA1B2C3D4
ROUTER = "02:00:00:00:77:01"
SETUP = """\
# the network of the capture
set interface ip address pg0 10.1.0.1/24
set interface ip address pg1 10.2.0.1/24
set ip neighbor pg1 10.2.0.2 02:00:00:00:02:02 static
ip route add 10.9.0.0/16 via 10.2.0.2 pg1
"""


def frame(i: int, destination: str) -> Ether:
    packet = IP(src="10.1.0.2", dst=destination) / UDP(sport=1000 + i, dport=9) / bytes(i % 40)
    return Ether(dst=ROUTER, src="02:00:00:00:00:05") / packet


@pytest.fixture
def few_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RUNS", 3)


def test_where_the_packets_of_a_capture_go(tmp_path: Path, few_runs: None):
    frames = [frame(i, str(IPv4Address("10.9.0.0") + i)) for i in range(90)] + [
        frame(i, "172.16.0.1") for i in range(10)
    ]
    wrpcap(str(tmp_path / "c.pcap"), frames)
    (tmp_path / "setup").write_text(SETUP)
    found = replay(tmp_path / "c.pcap", tmp_path / "setup", 0.01, frame=50)
    assert found["pg0_mac"] == ROUTER and found["capture_packets"] == 100
    assert (found["verified"], found["routes"], found["vector_size"]) == (None, None, 50)
    fate = found["fate"]
    assert fate["arrived"] == 100 and fate["sent"] == {"pg1": 90}
    assert fate["dropped"] == 10 and fate["slow_path"] == 0 and fate["held"] == 0
    assert fate["counters"]["pg1-tx: packets sent"] == 90
    shares = {node["name"]: node["share"] for node in found["nodes"]}
    assert shares["ethernet-input"] == 1 and shares["error-drop"] == pytest.approx(0.1, abs=0.02)


def test_a_capture_of_bare_ip_arrives_where_ip_does(tmp_path: Path, few_runs: None):
    (tmp_path / "c.pcap").write_bytes(pcap("<", MAGIC, 101, [bytes(frame(i, "10.9.0.1").payload) for i in range(20)]))
    (tmp_path / "setup").write_text(
        SETUP.replace("set interface ip address pg0 10.1.0.1/24\n", "set interface ip address pg0 10.1.0.1/32\n")
    )
    found = replay(tmp_path / "c.pcap", tmp_path / "setup", 0.01)
    assert found["pg0_mac"] is None and found["fate"]["sent"] == {"pg1": 20}
    assert "ethernet-input" not in {node["name"] for node in found["nodes"]}


def test_without_a_configuration_everything_is_dropped(tmp_path: Path, few_runs: None):
    wrpcap(str(tmp_path / "c.pcap"), [frame(i, "10.9.0.1") for i in range(20)])
    fate = replay(tmp_path / "c.pcap", None, 0.01)["fate"]
    assert (fate["arrived"], fate["sent"], fate["dropped"]) == (20, {}, 20)


def test_pg0_has_the_mac_address_most_frames_are_for():
    a, b, everybody = bytes([2] * 6), bytes([4] * 6), b"\xff" * 6
    rest = bytes(8)
    assert mac_asked_for([a + rest, b + rest, b + rest, *[everybody + rest] * 5]) == b
    assert mac_asked_for([everybody + rest, b"short", bytes(14)]) == IN_MAC


@pytest.mark.parametrize("link_type", [113, 0])
def test_link_types_that_cannot_arrive_are_refused(tmp_path: Path, link_type: int):
    (tmp_path / "c.pcap").write_bytes(pcap("<", MAGIC, link_type, [bytes(frame(1, "10.9.0.1"))]))
    with pytest.raises(OperatorError, match=f"link type {link_type}, expected Ethernet"):
        read(tmp_path / "c.pcap")


def test_files_that_cannot_be_used(tmp_path: Path):
    wrpcap(str(tmp_path / "c.pcap"), [frame(1, "10.9.0.1")])
    empty = tmp_path / "empty.pcap"
    empty.write_bytes((tmp_path / "c.pcap").read_bytes()[:24])
    with pytest.raises(OperatorError, match="no packets in it"):
        read(empty)
    with pytest.raises(OperatorError, match="No such file"):
        replay(tmp_path / "c.pcap", tmp_path / "nothing", 0.01)
    (tmp_path / "wrong").write_text("ip route add 10.0.0.0/8 via 1.2.3.4\nip rout ad\n")
    with pytest.raises(OperatorError, match="wrong:2: "):
        replay(tmp_path / "c.pcap", tmp_path / "wrong", 0.01)
