# SPDX-License-Identifier: Apache-2.0
"""Handoff between the threads of two and three workers: packets of one stream are spread, none is lost or disordered."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from pyvpp import dispatch as d
from pyvpp.bench.scenario import IN_MAC, OUT_MAC
from pyvpp.buffers import POOL_ENTRIES, POOL_LARGE, POOL_SMALL
from pyvpp.cli.arguments import CommandError
from pyvpp.cli.assembly import command_tree
from pyvpp.engine import Engine
from pyvpp.jit import COMPILED
from pyvpp.packet_generator import Stream, generator_of
from pyvpp.pcap import KINDS, PacketCapture
from pyvpp.standstill import take_no_more
from pyvpp_nodes.bench.exceptions import arriving
from pyvpp_nodes.bench.ground import BASE, ROUTE, flow, inner

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not COMPILED, reason="the dispatcher is native code")]

FLOWS = 32


def numbered(n: int) -> list[bytes]:
    """UDP packets of so many flows in turn; each says by its last bytes which of its flow it is."""
    return [arriving(flow(inner(k % FLOWS), k % FLOWS, 50))[:-4] + struct.pack("!I", k) for k in range(n)]


class Stand:
    """An engine whose pg0 receives on the first worker and whose pg1 captures."""

    def __init__(self, workers: int, buffers: int = 4096) -> None:
        self.engine = Engine(workers=workers, buffers=buffers, hugepages="off")
        self.generator = generator_of(self.engine)
        for name, mac in (("pg0", IN_MAC), ("pg1", OUT_MAC)):
            self.engine.interfaces.set_admin(self.generator.create_interface(name, mac), True)
        self.tree = command_tree(self.engine.declarations.packages)
        asyncio.run(self.tree.execute_script(self.engine, "\n".join([*BASE, ROUTE]), "setup"))
        self.captured: list[bytes] = []

    def run(self, line: str) -> Any:
        return asyncio.run(self.tree.run(self.engine, line))

    def stream(self, packets: list[bytes], name: str = "s", limit: int = 0, **options: Any) -> Stream:
        made = Stream(name, packets, self.engine.require_interface("pg0"), limit=limit, **options)
        self.generator.add(made)
        self.generator.set_enabled(name, True)
        return made

    def vectors(self, node: str) -> list[int]:
        """Packets a node has had on each worker."""
        index = self.engine.graph.index_of(node)
        return [int(worker.rows["vectors"][index]) for worker in self.engine.workers]

    def pools(self) -> list[list[int]]:
        found = [[int(pool[word]) for word in (POOL_SMALL, POOL_LARGE)] for pool in self.engine.buffers.pools]
        found[0][0] += len(self.engine._inject_buffers)
        return found

    def rings(self) -> dict[tuple[int, int], dict[str, int]]:
        return {(each["source"], each["target"]): each for each in self.run("show handoff queues").data["rings"]}

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 20
        while not condition():
            self.engine.drain_punts()
            assert time.monotonic() < deadline
            time.sleep(0)

    def settle(self) -> None:
        """What is under way ends, with the threads stopped. A debt is paid half a ring at a time."""
        self.engine.stop()
        self.generator.set_enabled(None, False)
        for _ in range(8):
            for worker in self.engine.workers:
                worker.run(40)
            while self.engine.drain_punts():
                for worker in self.engine.workers:
                    worker.run(2)


@pytest.fixture
def make() -> Iterator[Callable[..., Stand]]:
    made: list[Stand] = []

    def start(workers: int = 2, **options: Any) -> Stand:
        made.append(Stand(workers, **options))
        return made[-1]

    yield start
    for stand in made:
        stand.engine.close()


@pytest.mark.parametrize("workers", [2, 3])
def test_flows_are_spread_and_stay_in_order(make: Callable[..., Stand], workers: int) -> None:
    stand = make(workers, buffers=16384)
    before = stand.pools()
    stand.run(f"set interface handoff pg0 workers 0-{workers - 1}")
    pg1 = stand.engine.require_interface("pg1")
    stand.generator.capture(pg1, stand.captured.append)
    n = 24 * FLOWS
    assert n < stand.engine.handoff.slots  # so no ring is ever full, however slow a worker is
    stand.stream(numbered(n), limit=n, rate=100_000.0)
    stand.engine.start()
    stand.until(lambda: len(stand.captured) == n)
    stand.settle()
    numbers: dict[int, list[int]] = {k: [] for k in range(FLOWS)}
    for packet in stand.captured:
        (number,) = struct.unpack("!I", packet[-4:])
        numbers[number % FLOWS].append(number)
    assert all(each == list(range(k, n, FLOWS)) for k, each in numbers.items())
    forwarded = stand.vectors("pg1-tx")
    assert sum(forwarded) == n and all(each and each % 24 == 0 for each in forwarded)
    assert stand.vectors("worker-handoff") == [n] + [0] * (workers - 1)
    assert stand.vectors("worker-handoff-input")[1:] == forwarded[1:]
    assert stand.pools() == before


def test_workers_come_to_rest_with_nothing_between_them(make: Callable[..., Stand]) -> None:
    """As before an upgrade: what one has handed to another is forwarded first, and then nothing moves any more."""
    stand = make()
    stand.run("set interface handoff pg0 workers 1")
    stream = stand.stream(numbered(64))
    stand.engine.start()
    for _ in range(3):
        already = stand.vectors("pg1-tx")[1]
        stand.until(lambda already=already: stand.vectors("pg1-tx")[1] > already + 10_000)  # type: ignore[misc]
        assert take_no_more(stand.engine) == 0
        ring = stand.rings()[0, 1]
        assert stand.generator.sent(stream) == sum(stand.vectors("pg1-tx")) + ring["congestion_drops"]
        sent = stand.generator.sent(stream)
        stand.engine.synchronize()
        assert stand.generator.sent(stream) == sent
        stand.engine.set_inputs()
    stand.settle()


def test_a_million_packets_one_way_leave_the_pools_as_they_were(make: Callable[..., Stand]) -> None:
    """Small and large buffers; whatever the other worker has no time for is a congestion drop."""
    stand = make()
    before = stand.pools()
    stand.run("set interface handoff pg0 workers 1")
    packets = [arriving(flow(inner(k), k, (50, 4000)[k % 8 == 0])) for k in range(64)]
    small = stand.stream([each for each in packets if len(each) < 100], "small")
    large = stand.stream([each for each in packets if len(each) > 100], "large", frame=16)
    stand.engine.start()
    stand.until(lambda: stand.generator.sent(small) > 1_000_000 and stand.vectors("pg1-tx")[1] > 200_000)
    stand.settle()
    sent = stand.generator.sent(small) + stand.generator.sent(large)
    lost = stand.run("show handoff queues").data["rings"][0]["congestion_drops"]
    assert stand.vectors("pg1-tx")[0] == 0
    assert sent == stand.vectors("pg1-tx")[1] + lost
    assert stand.vectors("error-drop") == [lost, 0]
    assert int(stand.engine.graph.find("worker-handoff").counts()[0]) == lost
    assert stand.pools() == before
    free = [pool[POOL_ENTRIES : POOL_ENTRIES + int(pool[POOL_SMALL])] for pool in stand.engine.buffers.pools]
    assert len(np.unique(np.concatenate(free))) == sum(map(len, free))


def test_strayed_buffers_are_sent_home_while_packets_are_handed_on(make: Callable[..., Stand]) -> None:
    """What a worker hands on ends in the other's pool, and others come for it: that is put right now and then."""
    stand = make(buffers=2048)
    before = stand.pools()
    stand.run("set interface handoff pg0 workers 0-1")
    stream = stand.stream(numbered(FLOWS))
    stand.engine.start()
    home = []

    def enough() -> bool:
        if stand.engine.buffers.have_strayed():
            stand.engine.tick()
            home.append(stand.generator.sent(stream))
        return len(home) > 20 and stand.generator.sent(stream) > 200_000

    stand.until(enough)
    stand.settle()
    lost = stand.rings()[0, 1]["congestion_drops"]
    assert stand.generator.sent(stream) == sum(stand.vectors("pg1-tx")) + lost and all(stand.vectors("pg1-tx"))
    stand.engine.buffers.send_home()
    assert stand.pools() == before


def test_a_full_ring_drops_and_says_so(make: Callable[..., Stand]) -> None:
    stand = make()
    before = stand.pools()
    stand.run("set interface handoff pg0 workers 1")
    slots = stand.engine.handoff.slots
    stand.stream(numbered(FLOWS), limit=slots + 100)
    stand.engine.workers[0].run(20)
    assert stand.rings()[0, 1] == {
        "source": 0, "target": 1, "packets": slots, "waiting": slots, "congestion_drops": 100, "wakeups": 0, "owed": 0,
    }  # fmt: skip
    assert [(e["node"], e["reason"], e["count"]) for e in stand.run("show errors").data] == [
        ("worker-handoff", "congestion drop", 100)
    ]
    stand.settle()
    assert stand.vectors("pg1-tx") == [0, slots] and stand.pools() == before


def test_a_sleeping_worker_is_woken(make: Callable[..., Stand]) -> None:
    """By packets alone: one in 5 ms, each of which finds it asleep, and it would sleep 100 ms."""
    stand = make()
    stand.run("set interface handoff pg0 workers 1")
    stand.engine.workers[1].control[d.SPIN_NS] = 0
    stand.stream(numbered(FLOWS), limit=100, frame=1, rate=200.0)
    stand.engine.start()
    stand.until(lambda: stand.vectors("pg1-tx")[1] == 100)
    control = stand.engine.workers[1].control
    assert stand.rings()[0, 1]["wakeups"] >= 50  # those that are late come together
    assert int(control[d.WAKEUPS]) >= 50 and int(control[d.SLEEPS]) >= 50


def test_a_trace_goes_on_at_the_other_worker(make: Callable[..., Stand]) -> None:
    stand = make()
    stand.run("set interface handoff pg0 workers 1")
    stand.run("trace add pg-input 2")
    stand.run("trace add worker-handoff-input 3")
    stand.stream(numbered(4), limit=4)
    stand.engine.workers[0].run(2)
    stand.engine.workers[1].run(2)
    shown = stand.run("show trace").data
    hops = [(each["thread"], each["packet"], [node["node"] for node in each["nodes"]]) for each in shown]
    there = ["worker-handoff-input", "ethernet-input", "ip4-input", "ip4-lookup", "ip4-rewrite", "pg1-output", "pg1-tx"]
    assert hops == [
        (1, 1, ["pg-input", "worker-handoff"]),
        (1, 2, ["pg-input", "worker-handoff"]),
        (2, 1, there),  # those marked here come first
        (2, 2, there),
        (2, 3, there),
        (2, 4, there),
    ]
    assert shown[0]["nodes"][1]["text"] == ["sw_if_index 1, next_worker 1 (vpp_wk_1)"]
    assert shown[5]["nodes"][0]["text"] == ["HANDED-OFF: from thread 1 packet 2, sw_if_index 1, next ethernet-input"]


def test_a_packet_is_captured_once(make: Callable[..., Stand], tmp_path: Any) -> None:
    stand = make()
    stand.run("set interface handoff pg0 workers 1")
    captures = PacketCapture(stand.engine)
    captures.start(KINDS["rx"], tmp_path / "rx.pcap", limit=100, interface=0, max_bytes=2000)
    stand.stream(numbered(4), limit=4)
    for worker in stand.engine.workers:
        worker.run(2)
    assert stand.vectors("pg1-tx") == [0, 4]
    assert captures.stop()[0] == 4


def test_waiting_packets_of_a_deleted_interface_end(make: Callable[..., Stand]) -> None:
    stand = make()
    before = stand.pools()
    stand.run("set interface handoff pg0 workers 1")
    stand.stream(numbered(8), limit=8)
    stand.engine.workers[0].run(2)
    stand.engine.interfaces.delete(stand.engine.require_interface("pg0"))
    assert stand.run("show handoff queues").data["interfaces"] == []
    stand.settle()
    assert stand.vectors("worker-handoff-input") == [0, 0] and stand.pools() == before


def test_it_is_switched_off_again(make: Callable[..., Stand]) -> None:
    stand = make()
    assert stand.run("show handoff queues").data == {"interfaces": [], "rings": []}
    assert stand.engine.graph.find("worker-handoff-input") is None  # it costs nobody anything
    stand.run("set interface handoff pg0 workers 0,1 symmetrical")
    shown = stand.run("show handoff queues")
    assert shown.data["interfaces"] == [{"interface": "pg0", "workers": [0, 1], "symmetrical": True}]
    assert "pg0: workers 0,1 symmetrical" in shown.text and "vpp_wk_1 vpp_wk_0  1024" in shown.text
    stand.run("set interface handoff pg1 workers 1")
    stand.run("set interface handoff pg0 disable")
    stand.stream(numbered(4), limit=4)
    stand.engine.workers[0].run(2)
    assert stand.vectors("worker-handoff") == [4, 0]  # pg1's packets come from the same input
    assert stand.vectors("pg1-tx") == [4, 0]
    stand.run("set interface handoff pg1 disable")
    stand.generator.set_enabled("s", True)
    stand.engine.workers[0].run(2)
    assert stand.vectors("worker-handoff") == [4, 0] and stand.vectors("pg1-tx") == [8, 0]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("pg0 workers 0-2", "expected numbers from 0 to 1, as in 0-1,3"),
        ("pg0 workers 1-0", "invalid workers `1-0'"),
        ("pg0 workers", "unexpected end of input"),
        ("pg0", "unexpected end of input"),
        ("pg0 symmetrical", "unexpected end of input"),
        ("pg0 workers 0 sideways", "sideways"),
        ("local0 workers 0", "local0 has no receive queues"),
        ("local0 disable", "local0 has no receive queues"),
    ],
)
def test_what_cannot_be_is_said(make: Callable[..., Stand], words: str, said: str) -> None:
    stand = make()
    with pytest.raises(CommandError, match=said):
        stand.run(f"set interface handoff {words}")
    assert not stand.engine.handoff.is_open
