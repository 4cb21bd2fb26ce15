# SPDX-License-Identifier: Apache-2.0
"""ping, against an engine whose worker runs and without devices."""

import asyncio
import struct
from ipaddress import IPv4Address

import pytest

from pyvpp.cli.registry import CommandError
from pyvpp.engine import Engine
from pyvpp.interface import UPLINK
from pyvpp_nodes.icmp.cli import checksum, echo_request, ping
from tests.graph_nodes.forwarding import ip4


@pytest.fixture
def engine():
    engine = Engine(buffers=512, hugepages="off")
    loop = engine.interfaces.create(
        "loop0", kind="loopback", mac=bytes.fromhex("020000000001"), output="interface-output", tx="loopback-tx"
    )
    engine.stack.fib4.add_address(loop.sw_if_index, int(IPv4Address("10.0.0.1")), 24)
    engine.start()
    yield engine
    engine.close()


def run(engine, line, answering=False):
    async def with_main_loop():
        tasks = [asyncio.create_task(engine.serve())]
        if answering:
            tasks.append(asyncio.create_task(answer(engine)))
        try:
            return await ping(engine, line)
        finally:
            for task in tasks:
                task.cancel()

    return asyncio.run(with_main_loop())


async def answer(engine):
    """Replies from 10.0.0.9 to every sequence number, again and again."""
    while True:
        await asyncio.sleep(0.05)
        for identifier in list(getattr(engine.stack, "pings", {})):
            for sequence in (1, 2):
                message = struct.pack("!BBHHH", 0, 0, 0, identifier, sequence) + bytes(100)
                engine.inject(ip4(message, protocol=1, source="10.0.0.9"), "ip4-icmp-input")


def test_answers(engine):
    output = run(engine, "10.0.0.9 repeat 2 interval 1 size 100", answering=True)
    assert (output.data["sent"], output.data["received"]) == (2, 2)
    assert [reply["icmp_seq"] for reply in output.data["replies"]] == [1, 2]
    assert output.text.startswith("108 bytes from 10.0.0.9: icmp_seq=1 ttl=64 time=")
    assert output.text.endswith("Statistics: 2 sent, 2 received, 0% packet loss")
    assert not engine.stack.pings and not engine.tables["ping_ids"].array.any()


def test_the_request():
    packet = echo_request(0x0A000001, IPv4Address("10.0.0.9"), 7, 1, 5)
    assert len(packet) == 33 and packet[12:20] == bytes([10, 0, 0, 1, 10, 0, 0, 9])
    assert checksum(packet[:20]) == checksum(packet[20:]) == bytes(2)


def test_nobody_answers(engine):
    output = run(engine, "10.0.0.9 repeat 2 interval 0.01")
    assert output.text == "\nStatistics: 2 sent, 0 received, 100% packet loss"


def test_mistakes(engine):
    for line in ("", "10.0.0.1", "10.0.0.9 repeat 0", "10.0.0.9 size 65000", "10.0.0.9 sideways", "172.31.0.1"):
        with pytest.raises(CommandError):
            run(engine, line)
    engine.interfaces.set_flags(engine.interfaces.by_name("loop0"), UPLINK, True)
    with pytest.raises(CommandError, match="the host's"):
        run(engine, "10.0.0.9")
