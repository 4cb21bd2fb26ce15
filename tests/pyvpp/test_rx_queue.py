# SPDX-License-Identifier: Apache-2.0
"""Which worker reads which queue, and when it sleeps: on real worker threads, their rounds and system calls counted."""

import asyncio
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pyvpp import dispatch as d
from pyvpp.cli.arguments import CommandError
from pyvpp.cli.assembly import command_tree
from pyvpp.device.interfaces import add_tap_interface
from pyvpp.device.vnet import BYTES
from pyvpp.engine import Engine
from pyvpp.errors import OperatorError
from pyvpp.interface import Interface
from pyvpp.jit import COMPILED
from pyvpp.worker import Worker
from tests.graph_nodes.forwarding import ip4, udp
from tests.graph_nodes.lab import Plug

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not COMPILED, reason="the dispatcher is native code")]

PACKET = bytes(BYTES) + bytes(20)  # its IP version is 0: counted and dropped by tap-input
LONG, SHORT = 10**12, 1000  # ns


class Plugs:
    """A device with several queues, each a socket pair."""

    layer3 = True
    offload = Plug.offload
    persistent = False

    def __init__(self, queues: int) -> None:
        self.plugs = [Plug(layer3=True) for _ in range(queues)]
        self.fds = [plug.fd for plug in self.plugs]

    def attach_rx(self, row: Any, queue: int, sw_if_index: int) -> None:
        self.plugs[queue].attach_rx(row, 0, sw_if_index)

    def attach_tx(self, row: Any, worker: int) -> None:
        self.plugs[worker % len(self.plugs)].attach_tx(row, worker)

    def poll_fds(self, queue: int) -> tuple[int, ...]:
        return (self.fds[queue],)

    def send(self, queue: int = 0, packet: bytes = PACKET) -> None:
        self.plugs[queue].linux.send(packet)

    def close(self) -> None:
        for plug in self.plugs:
            plug.close()


class Stand:
    """An engine of two workers, what they count, and commands."""

    def __init__(self) -> None:
        self.engine = Engine(workers=2, buffers=512, hugepages="off")

    def plug(self, queues: int = 1) -> tuple[Interface, Plugs]:
        device = Plugs(queues)
        name = self.engine.interfaces.free_name("tun")
        return add_tap_interface(self.engine, device, name=name), device  # type: ignore[arg-type]

    def run(self, line: str) -> Any:
        """What a command answers as JSON."""
        return asyncio.run(command_tree(self.engine.declarations.packages).run(self.engine, line)).data

    def tell(self, line: str) -> None:
        asyncio.run(command_tree(self.engine.declarations.packages).run(self.engine, line))

    def placement(self) -> list[tuple[str, int, int]]:
        """Interface, queue and worker of all queues."""
        shown = self.run("show interface rx-placement")
        return sorted((each["interface"], each["queue"], each["worker"]) for each in shown)

    def read(self, interface: Interface, queue: int = 0) -> list[int]:
        """Packets that each worker has taken from a queue."""
        node = self.engine.rx_queues.of(interface)[queue].node
        return [int(worker.rows[node]["vectors"]) for worker in self.engine.workers]

    def count(self, word: int, worker: int = 0) -> int:
        return int(self.engine.workers[worker].control[word])

    def until(self, condition: Callable[[], bool]) -> None:
        """Looks again and again, for as long as a loaded machine may take."""
        deadline = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0)

    def until_asleep(self) -> None:
        """Returns when the first worker has gone to sleep anew."""
        sleeps = self.count(d.SLEEPS)
        self.engine.workers[0].wake()
        self.until(lambda: self.count(d.SLEEPS) > sleeps)


@pytest.fixture
def stand() -> Iterator[Stand]:
    made = Stand()
    yield made
    made.engine.close()


def test_queues_are_spread_evenly(stand: Stand) -> None:
    first, _ = stand.plug(queues=3)
    stand.plug()
    assert stand.placement() == [("tun0", 0, 0), ("tun0", 1, 1), ("tun0", 2, 0), ("tun1", 0, 1)]
    stand.engine.interfaces.delete(first)
    stand.plug()
    assert stand.placement() == [("tun0", 0, 0), ("tun1", 0, 1)]
    used = stand.engine.tables["tap_rx_queues"].array["sw_if_index"]
    assert sorted(used[used > 0]) == [1, 2]


def test_a_queue_is_read_by_its_worker_alone(stand: Stand) -> None:
    interface, device = stand.plug(queues=2)
    stand.engine.start()
    for queue in (0, 0, 0, 1, 1):
        device.send(queue)
    stand.until(lambda: (stand.read(interface, 0), stand.read(interface, 1)) == ([3, 0], [0, 2]))
    (received,) = [each["counters"] for each in stand.run(f"show interface {interface.name}")]
    assert (received["rx packets"], received["drops"]) == (5, 5)


def test_a_queue_moves_to_another_worker(stand: Stand) -> None:
    """Packets that wait are read by the new one, and one that comes later wakes that."""
    interface, device = stand.plug()
    stand.engine.start()
    for expected, worker in (([2, 0], 1), ([2, 2], 0), ([4, 2], 1)):
        device.send()
        device.send()
        stand.until(lambda expected=expected: stand.read(interface) == expected)  # type: ignore[misc]
        stand.run(f"set interface rx-placement {interface.name} queue 0 worker {worker}")
        assert stand.placement() == [("tun0", 0, worker)]


def test_a_queue_whose_device_refuses_stays_where_it_is(stand: Stand) -> None:
    def placed(worker: Worker) -> None:
        raise OperatorError(f"not by worker {worker.index}")

    interface, device = stand.plug()
    stand.engine.start()
    stand.engine.rx_queues.of(interface)[0].placed = placed
    with pytest.raises(OperatorError, match="not by worker 1"):
        stand.run(f"set interface rx-placement {interface.name} worker 1")
    assert stand.placement() == [("tun0", 0, 0)]
    device.send()
    stand.until(lambda: stand.read(interface) == [1, 0])


def test_a_worker_whose_polled_queue_has_moved_sleeps(stand: Stand) -> None:
    """And the other sleeps no more."""
    interface, _ = stand.plug()
    stand.run(f"set interface rx-mode {interface.name} polling")
    stand.engine.start()
    stand.run(f"set interface rx-placement {interface.name} worker 1")
    stand.until_asleep()
    sleeps, loops = stand.count(d.SLEEPS, worker=1), stand.count(d.LOOPS, worker=1)
    stand.until(lambda: stand.count(d.LOOPS, worker=1) > loops + 10_000)
    assert stand.count(d.SLEEPS, worker=1) == sleeps


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("set interface rx-placement tun0 worker 2", "2 out of range"),
        ("set interface rx-placement tun0 queue 2 worker 1", "2 out of range"),
        ("set interface rx-placement local0 worker 1", "local0 has no receive queues"),
        ("set interface rx-mode tun0 asleep", "asleep"),
        ("set interface rx-mode local0 polling", "local0 has no receive queues"),
    ],
)
def test_what_cannot_be_is_said(stand: Stand, line: str, said: str) -> None:
    stand.plug(queues=2)
    with pytest.raises(CommandError, match=said):
        stand.run(line)


def test_a_trace_names_the_queues(stand: Stand) -> None:
    """The one a packet came by, and the one by which the worker that had it sends."""
    _, device = stand.plug(queues=3)
    stand.plug(queues=2)
    stand.plug()
    for name, network in (("tun0", "10.0.0"), ("tun1", "10.1.0"), ("tun2", "10.2.0")):
        stand.tell(f"set interface ip address {name} {network}.1/24")
    stand.tell("trace add tap-input 9")
    assert stand.placement()[:3] == [("tun0", 0, 0), ("tun0", 1, 1), ("tun0", 2, 0)]
    for queue, destination in ((0, "10.1.0.2"), (1, "10.1.0.2"), (1, "10.2.0.2"), (2, "10.1.0.2")):
        device.send(queue, bytes(BYTES) + ip4(udp(b"abcd"), destination=destination))
    for worker in stand.engine.workers:
        worker.run(4)
    seen = []
    for packet in stand.run("show trace"):
        first, last = packet["nodes"][0], packet["nodes"][-1]
        (received,) = re.findall(r"^virtio: hw_if_index 1 next ip4-input vring (\d), tun0 32 bytes$", first["text"][0])
        (sent,) = re.findall(r"^virtio: hw_if_index \d tx-queue (\d), (tun\d) 32 bytes$", last["text"][0])
        seen.append((packet["thread"], int(received), *sent))
    assert seen == [(1, 0, "0", "tun1"), (1, 2, "0", "tun1"), (2, 1, "1", "tun1"), (2, 1, "0", "tun2")]


def test_modes_are_shown(stand: Stand) -> None:
    stand.plug(queues=2)
    stand.run("set interface rx-mode tun0 queue 1 interrupt")
    assert [each["mode"] for each in stand.run("show interface rx-placement tun0")] == ["adaptive", "interrupt"]
    stand.run("set interface rx-mode tun0 polling")
    (shown,) = stand.run("show hardware-interfaces tun0")
    assert [each["mode"] for each in shown["rx_queues"]] == ["polling", "polling"]
    assert [each["threads"] for each in shown["tx_queues"]] == [[1], [2]]


def test_polling_never_sleeps_and_asks_epoll_seldom(stand: Stand) -> None:
    interface, device = stand.plug()
    stand.run(f"set interface rx-mode {interface.name} polling")
    stand.engine.start()
    began = time.monotonic_ns()
    sleeps, epolls, loops = stand.count(d.SLEEPS), stand.count(d.EPOLLS), stand.count(d.LOOPS)
    device.send()
    stand.until(lambda: stand.count(d.LOOPS) > loops + 10_000)
    assert stand.count(d.SLEEPS) == sleeps and stand.read(interface) == [1, 0]
    assert stand.count(d.EPOLLS) - epolls <= (time.monotonic_ns() - began) // d.ASK_AWAKE + 1
    stand.run(f"set interface rx-mode {interface.name} interrupt")
    stand.until(lambda: stand.count(d.SLEEPS) > sleeps)


def test_interrupt_sleeps_as_soon_as_nothing_is_left(stand: Stand) -> None:
    """However long adaptive would wait: a packet costs the round that reads it, the one that finds no other, and sleep."""
    interface, device = stand.plug()
    stand.run(f"set interface rx-mode {interface.name} interrupt")
    stand.engine.workers[0].control[d.SPIN_NS] = LONG
    stand.engine.start()
    stand.until_asleep()
    before, loops = stand.count(d.FD_WAKEUPS), stand.count(d.LOOPS)
    for k in range(20):
        device.send()
        stand.until(lambda k=k: stand.count(d.FD_WAKEUPS) == before + k + 1)  # type: ignore[misc]
        stand.until_asleep()
    assert stand.read(interface) == [20, 0]
    assert stand.count(d.LOOPS) - loops <= 20 * 5


def test_adaptive_stays_awake_after_a_packet(stand: Stand) -> None:
    """So that the next, soon after, finds it so."""
    interface, device = stand.plug()
    stand.engine.start()
    stand.until_asleep()
    stand.engine.workers[0].control[d.SPIN_NS] = LONG
    device.send()
    stand.until(lambda: stand.read(interface) == [1, 0])
    sleeps, loops = stand.count(d.SLEEPS), stand.count(d.LOOPS)
    stand.until(lambda: stand.count(d.LOOPS) > loops + 1000)
    assert stand.count(d.SLEEPS) == sleeps


def test_an_awake_worker_looks_in_every_round_at_a_queue_that_lies_in_memory(stand: Stand) -> None:
    """Whatever epoll says; one that sleeps is still woken, and a worker that has lost the queue looks no more."""
    interface, device = stand.plug()
    (queue,) = stand.engine.rx_queues.of(interface)
    queue.mapped = True
    stand.run(f"set interface rx-mode {interface.name} adaptive")
    stand.engine.start()
    stand.until_asleep()
    stand.engine.workers[0].control[d.SPIN_NS] = LONG
    device.send()
    stand.until(lambda: stand.read(interface) == [1, 0])
    row = stand.engine.workers[0].rows[queue.node]
    calls, loops = int(row["calls"]), stand.count(d.LOOPS)
    stand.until(lambda: stand.count(d.LOOPS) > loops + 1000)
    assert int(row["calls"]) - calls >= 999
    stand.tell(f"set interface rx-placement {interface.name} worker 1")
    assert (row["asked"], stand.engine.workers[1].rows[queue.node]["asked"]) == (0, 1)


def test_waiting_in_vain_is_paid_for(stand: Stand) -> None:
    """Packets that come as soon as the wait for them has ended: before long nobody waits for them any more."""
    interface, device = stand.plug()
    wait, packets = 2_000_000, 100
    stand.engine.workers[0].control[d.SPIN_NS] = wait
    stand.engine.start()
    stand.until_asleep()
    began = time.monotonic_ns()
    for k in range(packets):
        sleeps = stand.count(d.SLEEPS)
        device.send()
        stand.until(lambda k=k, sleeps=sleeps: stand.read(interface)[0] > k and stand.count(d.SLEEPS) > sleeps)  # type: ignore[misc]
    took = time.monotonic_ns() - began
    assert stand.count(d.SPUN) <= d.SPIN_SAVED + wait + took // 64 < packets * wait // 4


def test_nobody_waits_after_packets_that_none_follows(stand: Stand) -> None:
    """Each wait in vain halves how often there is one: after 200 packets there were eight, though more were paid for."""
    interface, device = stand.plug()
    wait, packets = 50_000, 200
    stand.engine.workers[0].control[d.SPIN_NS] = wait
    stand.engine.start()
    for k in range(packets):
        stand.until_asleep()
        device.send()
        stand.until(lambda k=k: stand.read(interface)[0] > k)  # type: ignore[misc]
    assert 0 < stand.count(d.SPUN) <= 8 * wait


def test_a_packet_that_comes_meanwhile_makes_up_for_all_that_did_not(stand: Stand) -> None:
    interface, device = stand.plug()
    stand.engine.start()
    stand.until_asleep()
    row = stand.engine.workers[0].rows[stand.engine.rx_queues.of(interface)[0].node]
    row["in_vain"], row["unawaited"] = d.SPIN_DOUBT, 2
    stand.engine.workers[0].control[d.SPIN_NS] = LONG

    def send() -> None:
        before = stand.read(interface)[0]
        device.send()
        stand.until(lambda: stand.read(interface)[0] > before)

    for _ in range(2):
        sleeps = stand.count(d.SLEEPS)
        send()
        stand.until(lambda sleeps=sleeps: stand.count(d.SLEEPS) > sleeps)  # type: ignore[misc]
    send()
    sleeps, loops = stand.count(d.SLEEPS), stand.count(d.LOOPS)
    stand.until(lambda: stand.count(d.LOOPS) > loops + 100)
    assert (stand.count(d.SLEEPS), int(row["in_vain"])) == (sleeps, d.SPIN_DOUBT)
    send()
    stand.until(lambda: int(row["in_vain"]) == int(row["unawaited"]) == 0)


def test_an_idle_worker_sleeps(stand: Stand) -> None:
    """Its rounds are those in which its sleep is over."""
    stand.plug()
    stand.engine.start()
    stand.until_asleep()
    loops, sleeps = stand.count(d.LOOPS), stand.count(d.SLEEPS)
    stand.until(lambda: stand.count(d.SLEEPS) == sleeps + 3)
    assert stand.count(d.LOOPS) - loops <= 4


def test_threads_are_shown_with_what_they_did(stand: Stand) -> None:
    stand.plug()
    stand.engine.start()
    stand.until_asleep()
    threads = stand.run("show threads")
    assert [each["name"] for each in threads] == ["vpp_main", "vpp_wk_0", "vpp_wk_1"]
    assert threads[1]["epolls"] >= threads[1]["sleeps"] >= threads[1]["wakeups"] >= 1
