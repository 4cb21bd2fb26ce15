# SPDX-License-Identifier: Apache-2.0
"""The packet generator in an engine without threads: what goes in, what comes out, and its commands."""

import struct
from collections.abc import Iterator
from typing import Any

import pytest
from scapy.layers.inet import UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

from pyvpp.cli.registry import CommandError
from pyvpp.engine import Engine
from pyvpp.errors import OperatorError
from pyvpp.packet_generator import PacketGenerator, Stream, generator_of
from pyvpp.packet_generator_cli import (
    capture,
    create_interface,
    delete,
    disable_stream,
    enable_stream,
    new,
    show,
)


@pytest.fixture
def engine() -> Iterator[Engine]:
    made = Engine(buffers=2048, hugepages="off")
    yield made
    made.close()


@pytest.fixture
def generator(engine: Engine) -> PacketGenerator:
    found = generator_of(engine)
    for name in ("pg0", "pg1"):
        engine.interfaces.set_admin(found.create_interface(name), True)
    return found


def received(engine: Engine, generator: PacketGenerator, rounds: int = 20) -> list[bytes]:
    got: list[bytes] = []
    generator.capture(engine.require_interface("pg1"), got.append)
    for _ in range(rounds):
        engine.run(1)
        engine.drain_punts()
    engine.run(1)
    return got


def straight(engine: Engine, name: str, packets: list[bytes], **options: Any) -> Stream:
    """A stream whose packets go out of pg1 at once."""
    return Stream(name, packets, engine.require_interface("pg0"), node="pg1-output", **options)


def test_packets_leave_as_they_were_built_until_the_limit(engine: Engine, generator: PacketGenerator) -> None:
    free = engine.buffers.free
    packets = [bytes([i]) * (60 + i) for i in range(7)]
    generator.add(straight(engine, "s", packets, limit=1000))
    generator.set_enabled("s", True)
    got = received(engine, generator)
    assert got == [packets[i % 7] for i in range(1000)]
    assert not generator.enabled(generator.streams["s"])
    assert engine.buffers.free == free
    rx = engine.tables["interface_rx"].sum()[engine.require_interface("pg0").sw_if_index]
    assert (int(rx["packets"]), int(rx["bytes"])) == (1000, sum(map(len, got)))


def test_a_packet_larger_than_a_small_buffer(engine: Engine, generator: PacketGenerator) -> None:
    packets = [bytes(range(256)) * 35]
    generator.add(straight(engine, "s", packets, limit=3))
    generator.set_enabled("s", True)
    assert received(engine, generator) == packets * 3


def test_streams_share_a_frame(engine: Engine, generator: PacketGenerator) -> None:
    for name in ("a", "b"):
        generator.add(straight(engine, name, [name.encode() * 64], limit=600))
    generator.set_enabled(None, True)
    got = received(engine, generator, 30)
    assert (got.count(b"a" * 64), got.count(b"b" * 64)) == (600, 600)


def test_streams_of_the_same_list_share_it(engine: Engine, generator: PacketGenerator) -> None:
    both, own = [b"x" * 64, b"y" * 65], [b"z" * 66]
    for name, packets in (("a", both), ("b", own), ("c", both)):
        generator.add(straight(engine, name, packets, limit=3))
    rows = engine.tables["pg_streams"].array
    assert (rows["first"][:3].tolist(), rows["variations"][:3].tolist()) == ([0, 2, 0], [2, 1, 2])
    generator.delete("a")
    assert (rows["first"][:2].tolist(), rows["variations"][:2].tolist()) == ([0, 1], [1, 2])
    generator.set_enabled(None, True)
    assert sorted(received(engine, generator)) == [both[0]] * 2 + [both[1]] + own * 3


def test_vector_size(engine: Engine, generator: PacketGenerator) -> None:
    generator.add(straight(engine, "s", [bytes(64)], frame=16))
    generator.set_enabled("s", True)
    engine.run(5)
    assert generator.sent(generator.streams["s"]) == 80


def test_a_rate_that_is_slow_lets_nothing_out_at_once(engine: Engine, generator: PacketGenerator) -> None:
    generator.add(straight(engine, "s", [bytes(64)], rate=1.0))
    generator.set_enabled("s", True)
    engine.run(10)
    assert generator.sent(generator.streams["s"]) == 0


def test_without_buffers_the_stream_waits(engine: Engine, generator: PacketGenerator) -> None:
    generator.add(straight(engine, "s", [bytes(64)]))
    generator.set_enabled("s", True)
    pool = engine.workers[0].pool
    kept = pool[:2].copy()
    pool[:2] = 0
    engine.run(2)
    assert generator.sent(generator.streams["s"]) == 0
    pool[:2] = kept
    engine.run(2)
    assert generator.sent(generator.streams["s"]) == 512


def test_polled_only_while_a_stream_runs(engine: Engine, generator: PacketGenerator) -> None:
    def polled() -> int:
        return int(engine.workers[0].rows[engine.graph.index_of("pg-input")]["polled"])

    generator.add(straight(engine, "s", [bytes(64)], limit=10))
    assert polled() == 0
    generator.set_enabled("s", True)
    assert polled() == 2
    engine.run(2)
    engine.tick()
    assert polled() == 0


def test_a_stream_keeps_its_count_while_others_come_and_go(engine: Engine, generator: PacketGenerator) -> None:
    generator.add(straight(engine, "a", [b"x" * 64]))
    generator.add(straight(engine, "b", [b"a" * 64, b"b" * 65], limit=7))
    generator.set_enabled("b", True)
    engine.run(2)
    generator.delete("a")
    assert generator.sent(generator.streams["b"]) == 7
    generator.set_enabled("b", True)
    assert received(engine, generator, 3) == ([b"a" * 64, b"b" * 65] * 4)[:7]


def test_a_deleted_interface_takes_its_streams(engine: Engine, generator: PacketGenerator) -> None:
    generator.add(straight(engine, "s", [bytes(64)]))
    generator.set_enabled("s", True)
    engine.interfaces.delete(engine.require_interface("pg0"))
    engine.run(2)
    assert not generator.streams


NEW = (
    "{ name s1 limit 100 rate 1e3 size 64-64 interface pg0 data { IP4: 02:00:00:00:00:99 -> 02:00:00:00:00:01"
    " UDP: 192.168.0.2 -> 10.40.224.72 UDP: 1234 -> 2345 incrementing 22 } }"
)


def test_the_packet_vpp_makes_of_the_same_words(engine: Engine, generator: PacketGenerator) -> None:
    """Compared with VPP's trace of its own generator."""
    assert new(engine, NEW) is None
    (packet,) = generator.streams["s1"].packets
    assert packet == bytes.fromhex(
        "020000000001020000000099080045000032000000004011cfa0c0a800020a28e04804d20929001ed822"
    ) + bytes(range(22))


def test_show_as_vpp(engine: Engine, generator: PacketGenerator) -> None:
    assert show(engine).text == "no streams currently defined"
    new(engine, NEW)
    text = show(engine).text.splitlines()
    assert text[0] == "Name               Enabled        Count     Parameters"
    assert text[1] == (
        "s1                   No             0       limit 100, rate 1.00e3 pps, size 64-64, buffer-size 2048, worker 0, "
    )
    assert show(engine).data[0]["name"] == "s1"


def test_ranges(engine: Engine, generator: PacketGenerator) -> None:
    new(
        engine,
        "{ name r interface pg0 size 60-62 data { IP4: 1.2.3 -> 00:00:00:00:00:01 - 00:00:00:00:00:02"
        " UDP: 10.0.0.1 -> 10.1.0.0 + 10.1.255.255 UDP: 7 -> 8 hex 0xdeadbeef } }",
    )
    packets = generator.streams["r"].packets
    assert packets[0][6:12] == bytes.fromhex("000100020003")
    assert {packet[5] for packet in packets} == {1, 2}
    assert {len(packet) for packet in packets} == {60, 61, 62}
    assert len({packet[30:34] for packet in packets}) > 900
    assert all(packet[42:46] == b"\xde\xad\xbe\xef" and packet[30:32] == b"\x0a\x01" for packet in packets)


IP6 = "{ name six interface %s data { %sUDP: 2001:db8::1 -> 2001:db8::2 - 2001:db8::3 UDP: 7 -> 9 hex 0xabcd } }"


def test_ip6_packets(engine: Engine, generator: PacketGenerator) -> None:
    """As scapy makes them, checksum included."""
    new(engine, IP6 % ("pg0", "IP6: 02:00:00:00:00:01 -> 02:00:00:00:00:02 "))
    made = generator.streams["six"]
    assert made.node == "ethernet-input"
    expected = [
        Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / IPv6(src="2001:db8::1", dst=f"2001:db8::{last}")
        / UDP(sport=7, dport=9) / b"\xab\xcd"
        for last in (2, 3)
    ]  # fmt: skip
    assert made.packets == [bytes(each) for each in expected]


def test_a_bare_ip6_packet_goes_to_ip6_input(engine: Engine, generator: PacketGenerator) -> None:
    assert create_interface(engine, "pg7 mode ip6") == "pg7"
    new(engine, IP6 % ("pg7", "ttl 3 "))
    six = generator.streams["six"]
    assert (six.node, six.packets[0][0], six.packets[0][7]) == ("ip6-input", 0x60, 3)
    new(engine, "{ name four interface pg7 data { UDP: 10.0.0.1 -> 10.0.0.2 } }")
    assert generator.streams["four"].node == "ip4-input"


def test_commands_run_a_stream_into_a_file(engine: Engine, tmp_path: Any) -> None:
    for name in ("pg0", "pg1"):
        assert create_interface(engine, name) == name
        engine.interfaces.set_admin(engine.require_interface(name), True)
    path = tmp_path / "out.pcap"
    new(engine, NEW.replace("rate 1e3", "node pg1-output"))
    capture(engine, f"pg1 pcap {path} count 5")
    enable_stream(engine, "s1")
    engine.run(3)
    engine.drain_punts()
    disable_stream(engine, "")
    capture(engine, "pg1 disable")
    data = path.read_bytes()
    assert struct.unpack("<IHHiIII", data[:24]) == (0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    assert len(data) == 24 + 5 * (16 + 64)
    assert data[40:104] == generator_of(engine).streams["s1"].packets[0]
    delete(engine, "s1")
    assert not generator_of(engine).streams


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("{ limit 1 interface pg0 data { hex 00 } }", "name not specified"),
        ("{ name x data { hex 00 } }", "interface not specified"),
        ("{ name x interface pg0 }", "no packet data given"),
        ("{ name x interface pg9 data { hex 00 } }", "unknown interface `pg9'"),
        ("{ name x interface pg0 size 9-1 data { hex 00 } }", "invalid size"),
        ("{ name x interface pg0 size 0 data { hex 00 } }", "invalid size"),
        ("{ name x interface pg0 data { hex 0 } }", "invalid hex data"),
        ("{ name x interface pg0 data { IP4: 1.2.3 } }", "expected ->"),
        ("{ name x interface pg0 data { UDP: 10.0.0.2 - 10.0.0.1 -> 10.0.0.1 } }", "range ends"),
        ("{ name x interface pg0 data { UDP: 2001:db8::1 -> 10.0.0.1 } }", "expected an IP6 address"),
        ("{ name x interface pg0 data { UDP: 10.0.0.1 -> 2001:db8::1 } }", "expected an IP4 address"),
        ("{ name x interface pg0 data { } }", "packets must have"),
        ("{ name x interface pg0 node nowhere data { hex 00 } }", "unknown node `nowhere'"),
    ],
)
def test_mistakes(engine: Engine, generator: PacketGenerator, words: str, complaint: str) -> None:
    with pytest.raises((CommandError, OperatorError), match=complaint):
        new(engine, words)
    assert not generator.streams


def test_other_mistakes(engine: Engine, generator: PacketGenerator, tmp_path: Any) -> None:
    new(engine, NEW)
    for call in (
        lambda: new(engine, NEW),
        lambda: enable_stream(engine, "nothing"),
        lambda: delete(engine, "nothing"),
        lambda: create_interface(engine, "eth0"),
        lambda: create_interface(engine, "pg0"),
        lambda: create_interface(engine, "pg2 hw-addr 01:00:00:00:00:01"),
        lambda: capture(engine, f"pg1 pcap {tmp_path}/no/such/folder"),
        lambda: capture(engine, "local0 pcap /dev/null"),
    ):
        with pytest.raises(OperatorError):
            call()
