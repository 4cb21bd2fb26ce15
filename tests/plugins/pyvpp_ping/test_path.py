# SPDX-License-Identifier: Apache-2.0
"""ping in the graph: the command, requests as they leave, answers as they come, on an engine whose worker runs."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import pytest
from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6

import pyvpp_ping
from pyvpp.cli.assembly import command_tree
from pyvpp.cli.registry import CommandError
from pyvpp.engine import Engine
from pyvpp.interface import UPLINK
from pyvpp.node import TO_NODE
from pyvpp_ping.cli import ping
from pyvpp_ping.message import echo_request
from pyvpp_ping.owner import NODE6

pytestmark = pytest.mark.slow
OWN4, FAR4 = "10.0.0.1", "10.0.0.9"
OWN6, FAR6 = "2001:db8::1", "2001:db8::9"
FAR_MAC = "02:00:00:00:00:09"


def commands(engine: Engine, *lines: str) -> None:
    tree = command_tree(engine.declarations.packages, engine.blame)
    for line in lines:
        asyncio.run(tree.run(engine, line))


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """pg0 has a neighbor of each family; what leaves it is caught."""
    engine = Engine(buffers=1024, hugepages="off")
    commands(
        engine,
        "create packet-generator interface pg0 hw-addr 02:fe:00:00:00:01",
        "set interface state pg0 up",
        f"set interface ip address pg0 {OWN4}/24",
        f"set interface ip address pg0 {OWN6}/64",
        f"set ip neighbor pg0 {FAR4} {FAR_MAC} static",
        f"set ip neighbor pg0 {FAR6} {FAR_MAC} static",
    )
    engine.start()
    yield engine
    engine.close()


class Far:
    """Plays the neighbor: `requests` are what has been sent to it, `answer` what it makes of one."""

    def __init__(self, engine: Engine, times: int = 1, deaf: bool = False) -> None:
        self.engine, self.times, self.deaf = engine, times, deaf
        self.requests: list[bytes] = []

    def hear(self, packet: bytes) -> None:
        self.requests.append(packet)
        if self.deaf:
            return
        judged = (IPv6 if packet[0] >> 4 == 6 else IP)(packet)
        del_checksum(judged)
        assert bytes(judged) == packet  # the checksums are right
        icmp = 40 if packet[0] >> 4 == 6 else 20
        own, far = (IPv6Address(OWN6), IPv6Address(FAR6)) if icmp == 40 else (IPv4Address(OWN4), IPv4Address(FAR4))
        identifier, sequence = int.from_bytes(packet[icmp + 4 : icmp + 6]), int.from_bytes(packet[icmp + 6 : icmp + 8])
        answer = bytearray(echo_request(far, own, identifier, sequence, len(packet) - icmp - 8))
        answer[icmp] = 0 if icmp == 20 else 129
        for _ in range(self.times):
            self.send(bytes(answer), f"ip{4 if icmp == 20 else 6}-input")

    def send(self, packet: bytes, node: str) -> None:
        """As soon as there is a buffer."""
        if not self.engine.inject(packet, node, rx=1):
            asyncio.get_running_loop().call_later(0.01, self.send, packet, node)


def del_checksum(packet: Any) -> None:
    layer = packet
    while layer:
        for field in ("chksum", "cksum"):
            if field in layer.fields:
                delattr(layer, field)
        layer = layer.payload


def alive(engine: Engine, far: Far, what: Callable[[], Awaitable[Any]]) -> Any:
    """What comes of it while the main loop runs and the neighbor reads what is sent to it."""
    send = engine.stack.pings.send

    def sent(ping: Any, sequence: int, size: int) -> bool:
        done = send(ping, sequence, size)
        packet = echo_request(ping.source, ping.destination, ping.identifier, sequence, size)
        asyncio.get_running_loop().call_soon(far.hear, packet)
        return bool(done)

    async def main() -> Any:
        serving = asyncio.create_task(engine.serve())
        engine.stack.pings.send = sent
        try:
            return await what()
        finally:
            engine.stack.pings.send = send
            serving.cancel()

    free = engine.free_buffers
    found = asyncio.run(main())
    deadline = time.monotonic() + 30
    while engine.free_buffers != free:  # the last ones are on their way
        engine.drain_punts()
        assert time.monotonic() < deadline, "a buffer is lost"
        time.sleep(0.001)
    return found


@pytest.mark.parametrize("address", [FAR4, FAR6])
def test_answers_are_told_and_counted(engine: Engine, address: str) -> None:
    output = alive(engine, Far(engine), lambda: ping(engine, f"{address} repeat 3 interval 0.2 size 100"))
    lines = output.text.splitlines()
    assert [line.rpartition(" time=")[0] for line in lines[:3]] == [
        f"108 bytes from {address}: icmp_seq={number} ttl=64" for number in (1, 2, 3)
    ]
    assert lines[4] == "Statistics: 3 sent, 3 received, 0% packet loss"
    assert lines[5].startswith("rtt min/avg/max = ")
    assert output.data["rtt_ms"]["min"] > 0
    assert not engine.stack.pings.running
    assert not engine.tables["pings"].array["version"].any()


def test_nobody_answers_and_a_burst(engine: Engine) -> None:
    output = alive(engine, Far(engine, deaf=True), lambda: ping(engine, f"{FAR4} repeat 2 interval 0.01 burst 3"))
    assert output.text == "\nStatistics: 6 sent, 0 received, 100% packet loss"


def test_an_answer_that_comes_twice_counts_once(engine: Engine) -> None:
    output = alive(engine, Far(engine, times=2), lambda: ping(engine, f"{FAR4} repeat 2 interval 0.3"))
    assert output.data["received"] == 2 and output.data["duplicates"] >= 1
    assert "(DUP!)" in output.text
    assert f"2 sent, 2 received, 0% packet loss, {output.data['duplicates']} duplicates" in output.text


def test_many_at_once_each_with_its_own_answers(engine: Engine) -> None:
    async def several() -> list[Any]:
        lines = [f"{address} repeat 2 interval 0.3 size {size}" for size in range(8) for address in (FAR4, FAR6)]
        return await asyncio.gather(*(ping(engine, line) for line in lines))

    outputs = alive(engine, Far(engine), several)
    sizes = [{reply["bytes"] for reply in output.data["replies"]} for output in outputs]
    assert sizes == [{8 + size} for size in range(8) for _ in range(2)]
    assert engine.features.enabled("ip6-unicast", 1) == []


def test_an_interrupted_one_tells_what_it_has(engine: Engine) -> None:
    async def interrupted() -> Any:
        running = asyncio.create_task(ping(engine, f"{FAR4} repeat 100 interval 3600"))
        async with asyncio.timeout(30):
            while not any(each.answered for each in engine.stack.pings.running.values()):
                await asyncio.sleep(0.001)
        await asyncio.sleep(0)
        running.cancel()
        return await running

    output = alive(engine, Far(engine), interrupted)
    assert output.data["interrupted"]
    assert output.data["sent"] == 1
    assert not engine.stack.pings.running


def test_another_version_takes_running_pings_over(engine: Engine) -> None:
    before = engine.stack.pings
    running = before.begin(IPv6Address(OWN6), IPv6Address(FAR6))
    assert engine.features.enabled("ip6-unicast", 1) == [NODE6]
    pyvpp_ping.resume(engine, pyvpp_ping)
    assert engine.stack.pings is not before
    engine.stack.pings.end(running)
    assert engine.features.enabled("ip6-unicast", 1) == []
    assert not before.running.keys() - {running.identifier}


def test_the_node_is_entered_for_echo_replies(engine: Engine) -> None:
    types = engine.tables["icmp_types"].array
    assert int(types[0]) == TO_NODE | engine.graph.index_of("ip4-icmp-echo-reply")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "unexpected end of input"),
        (OWN4, "is an address of ours"),
        (OWN6, "is an address of ours"),
        (f"{FAR4} repeat 0", "0 out of range"),
        (f"{FAR4} size 65000", "65000 out of range"),
        (f"{FAR4} sideways", "unknown input `sideways' (expected"),
        (f"ipv6 {FAR4}", f"invalid address `{FAR4}' (expected an IP6 address)"),
        ("172.31.0.1", "no route to `172.31.0.1'"),
        (f"{FAR4} table-id 7", "no table 7"),
        (f"{FAR4} source local0", "local0 has no IPv4 address to ping from"),
        (f"{FAR4} source nowhere", "unknown interface `nowhere'"),
    ],
)
def test_a_mistake_is_named(engine: Engine, line: str, said: str) -> None:
    with pytest.raises(CommandError) as refused:
        asyncio.run(ping(engine, line))
    assert said in str(refused.value)
    assert not engine.stack.pings.running


def test_neighbors_of_an_uplink_are_the_hosts(engine: Engine) -> None:
    interface = engine.interfaces.by_name("pg0")
    engine.interfaces.set_flags(interface, UPLINK, True)
    with pytest.raises(CommandError, match="whose ICMP is the host's"):
        asyncio.run(ping(engine, FAR4))
    engine.interfaces.set_flags(interface, UPLINK, False)
