# SPDX-License-Identifier: Apache-2.0
"""Two workers at once, in threads of their own: nothing is lost between them, and every count is exact."""

import asyncio
import struct
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pyvpp import dispatch as d
from pyvpp.bench.scenario import IN_MAC, OUT_MAC
from pyvpp.buffers import POOL_LARGE, POOL_SMALL
from pyvpp.cli.assembly import command_tree
from pyvpp.cli.engine_commands import show_node
from pyvpp.cli.trace_commands import show_trace_, trace_add
from pyvpp.engine import INJECT_BUFFERS, Engine
from pyvpp.errors import OperatorError
from pyvpp.jit import COMPILED
from pyvpp.packet_generator import PacketGenerator, Stream, generator_of
from pyvpp.packet_generator_cli import new, show
from pyvpp.pcap import KINDS, PacketCapture
from pyvpp.tables import LINE_PAIR, own_lines
from pyvpp_nodes.bench.exceptions import RETURN, arriving, expiring
from pyvpp_nodes.bench.ground import BASE, OWN, PEER_MAC, ROUTE, SENDER, SENDER_MAC, flow, inner
from pyvpp_nodes.bench.model import ETHERNET_BYTES, ethernet, ip4

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not COMPILED, reason="the dispatcher is native code")]

WORKERS = 2
OSPF = 89  # nobody has registered it: for the host, of which there is none
STEPS = 40


def reply(i: int) -> bytes:
    """An ARP reply to us, which a node in Python learns from."""
    body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 2) + SENDER_MAC + SENDER.packed + IN_MAC + OWN.packed
    return ethernet(IN_MAC, SENDER_MAC, body, 0x0806) + bytes([i])


def mixed(worker: int) -> list[tuple[str, bytes]]:
    """What becomes of a packet, and the packet: every fate in every vector, in another order on each worker."""
    made = []
    for i in range(240):
        kind = (i * (3 + 4 * worker)) % 16
        if kind < 10:
            made.append(("forwarded", arriving(flow(inner(i), i, 64 - ETHERNET_BYTES + kind))))
        elif kind == 10:
            made.append(("refused", expiring(None, i, 64)))
        elif kind == 11:
            made.append(("refused", arriving(flow(OWN, i, 50))))  # nobody listens
        elif kind < 14:
            made.append(("dropped", arriving(flow(inner(0) - 7777, i, 50))))
        elif kind == 14:
            made.append(("python", reply(i)))
        else:
            made.append(("punted", arriving(ip4(SENDER, OWN, OSPF, bytes(i % 30)))))
    return made


@pytest.fixture
def engine() -> Iterator[Engine]:
    made = Engine(workers=WORKERS, buffers=4096, hugepages="off")
    generator = generator_of(made)
    for name, mac in (("pg0", IN_MAC), ("pg1", OUT_MAC)):
        made.interfaces.set_admin(generator.create_interface(name, mac), True)
    tree = command_tree(made.declarations.packages)
    asyncio.run(tree.execute_script(made, "\n".join([*BASE, RETURN, ROUTE]), "setup"))
    yield made
    made.close()


@pytest.fixture
def generator(engine: Engine) -> PacketGenerator:
    return generator_of(engine)


def streams(engine: Engine, packets: Any = None, **options: Any) -> list[Stream]:
    """One for each worker, enabled."""
    generator, pg0 = generator_of(engine), engine.require_interface("pg0")
    made = []
    for worker in range(WORKERS):
        chosen = packets(worker) if packets else [packet for _, packet in mixed(worker)]
        made.append(Stream(f"s{worker}", chosen, pg0, worker=worker, **options))
        generator.add(made[-1])
    generator.set_enabled(None, True)
    return made


def vectors(engine: Engine, worker: int, node: str) -> int:
    return int(engine.workers[worker].rows["vectors"][engine.graph.index_of(node)])


def ends(engine: Engine, worker: int) -> Counter[str]:
    """Where the packets of a worker ended, so far."""
    return Counter(
        forwarded=vectors(engine, worker, "pg1-tx"),
        answered=vectors(engine, worker, "pg0-tx"),
        dropped=vectors(engine, worker, "error-drop"),
        punted=vectors(engine, worker, "error-punt"),
        python=vectors(engine, worker, "arp-learn") + int(engine.workers[worker].control[d.PUNT_LOST]),
    )


def pools(engine: Engine) -> list[list[int]]:
    """How many buffers each worker has, small and large; what control code keeps is the first one's."""
    found = [[int(pool[word]) for word in (POOL_SMALL, POOL_LARGE)] for pool in engine.buffers.pools]
    found[0][0] += len(engine._inject_buffers)
    return found


def settle(engine: Engine) -> None:
    """What is under way ends."""
    generator_of(engine).set_enabled(None, False)
    for worker in engine.workers:
        worker.run(2)
    while engine.drain_punts():
        for worker in engine.workers:
            worker.run(2)


def change(engine: Engine, step: int) -> None:
    """What control code does meanwhile: tables that workers write grow under them, routes come and go."""
    tree = command_tree(engine.declarations.packages)
    verb = "del" if step % 2 else "add"
    asyncio.run(tree.execute_script(engine, f"ip route {verb} {inner(1 << 9)}/24 via 10.2.0.2 pg1", "change"))
    if step % 10 == 0:
        for name in ("interface_rx", "interface_tx", "interface_drops", "route_counters", "adjacencies", "pg_streams"):
            engine.tables[name].grow(len(engine.tables[name]) + 1)


def test_all_packets_of_two_workers_are_accounted_for(engine: Engine, generator: PacketGenerator) -> None:
    before, made = pools(engine), streams(engine)
    engine.start()
    for step in range(STEPS):
        change(engine, step)
        engine.drain_punts()
        with engine.barrier():  # between two rounds no packet is on its way
            for worker in range(WORKERS):
                assert generator.sent(made[worker]) == ends(engine, worker).total()
        engine.synchronize()  # both have begun another round
    engine.stop()
    settle(engine)

    assert pools(engine) == before
    pg0 = engine.require_interface("pg0").sw_if_index
    pg1 = engine.require_interface("pg1").sw_if_index
    everything: Counter[str] = Counter()
    for worker in range(WORKERS):
        sent, fates = generator.sent(made[worker]), [fate for fate, _ in mixed(worker)]
        assert sent >= STEPS  # each step let it make a round
        expected = Counter(fates[i % len(fates)] for i in range(sent))
        found = ends(engine, worker)
        assert found["forwarded"] == expected["forwarded"] == int(engine.graph.find("pg1-tx").counters[worker][0])
        assert found["answered"] + found["dropped"] == expected["refused"] + expected["dropped"]
        assert found["python"] == expected["python"]
        assert found["punted"] == expected["punted"]
        assert int(engine.tables["interface_rx"].worker(worker)[pg0]["packets"]) == sent
        assert int(engine.tables["interface_drops"].worker(worker)[pg0]) == found["dropped"]
        everything += found
    assert int(engine.tables["interface_tx"].sum()[pg1]["packets"]) == everything["forwarded"]
    assert int(engine.tables["interface_punts"].sum()[pg0]) == everything["punted"]
    assert sum(engine.graph.find("ip4-icmp-error").counts()[:3]) == everything["answered"] > 0


def test_a_bounded_run_ends_by_itself_and_nobody_waits_for_it(engine: Engine, generator: PacketGenerator) -> None:
    before, made = pools(engine), streams(engine, frame=8)
    loops = [int(worker.control[d.LOOPS]) for worker in engine.workers]
    engine.start(rounds=50)
    for worker in engine.workers:
        worker.thread.join()
    assert [int(worker.control[d.LOOPS]) - n for worker, n in zip(engine.workers, loops, strict=True)] == [50, 50]
    assert not any(worker.running for worker in engine.workers)
    with engine.barrier():
        pass
    engine.synchronize()
    engine.stop()
    assert [generator.sent(stream) for stream in made] == [400, 400]
    settle(engine)
    assert pools(engine) == before


def test_a_buffer_goes_back_to_the_worker_it_came_from(engine: Engine) -> None:
    for _ in range(8):
        assert engine.inject(bytes(60), "error-drop")
    engine.workers[0].run(1)
    before, kept, held = pools(engine), len(engine._inject_buffers), 3 * INJECT_BUFFERS
    streams(engine, lambda worker: [reply(worker)], limit=held)
    engine.workers[1].run(4)
    assert pools(engine) == [before[0], [before[1][0] - held, before[1][1]]]
    head = int(engine.workers[1].control[d.INJECT_HEAD])
    engine.workers[1].control[d.INJECT_HEAD] = int(engine.workers[1].control[d.INJECT_TAIL]) - d.RING
    assert engine.drain_punts() == 0  # no room on the way back: they wait
    engine.workers[1].control[d.INJECT_HEAD] = head
    assert engine.drain_punts() == 128
    assert len(engine._inject_buffers) == kept == INJECT_BUFFERS - 8  # control code keeps none of the second one's
    engine.workers[0].run(4)
    assert engine.drain_punts() == held - 128 + 128  # of each as many as of the other
    waiting = [int(worker.control[d.PUNT_TAIL]) - int(worker.control[d.PUNT_HEAD]) for worker in engine.workers]
    assert waiting == [held - 128, 0]
    assert len(engine._inject_buffers) == INJECT_BUFFERS
    settle(engine)
    assert pools(engine) == before


def test_a_stream_runs_on_its_worker_alone(engine: Engine, generator: PacketGenerator) -> None:
    made = streams(engine, limit=10)
    index = engine.graph.index_of("pg-input")
    assert [int(worker.rows["polled"][index]) for worker in engine.workers] == [2, 2]
    engine.workers[1].run(2)
    assert [generator.sent(stream) for stream in made] == [0, 10]
    generator.refresh()
    assert [int(worker.rows["polled"][index]) for worker in engine.workers] == [2, 0]
    assert "state polling" in show_node(engine, "pg-input").text
    generator.delete("s0")  # the other stream moves to its place
    assert (generator.sent(made[1]), generator.enabled(made[1])) == (10, False)
    generator.set_enabled("s1", True)
    engine.workers[0].run(2)
    assert generator.sent(made[1]) == 0
    engine.workers[1].run(2)
    assert generator.sent(made[1]) == 10


def test_a_stream_says_its_worker(engine: Engine, generator: PacketGenerator) -> None:
    new(engine, "{ name s worker 1 interface pg0 data { hex 00 } }")
    assert generator.streams["s"].worker == 1
    assert "worker 1, " in show(engine).text and show(engine).data[0]["worker"] == 1
    with pytest.raises(OperatorError, match="worker 2: must be from 0 to 1"):
        new(engine, "{ name t worker 2 interface pg0 data { hex 00 } }")


def forwarded(worker: int) -> list[bytes]:
    """Packets that say which worker made them."""
    return [arriving(flow(inner(100 + worker), worker, 50))]


def destination(frame: bytes) -> int:
    return frame[33] - 100


def test_the_first_packets_of_all_workers_are_captured(
    engine: Engine, generator: PacketGenerator, tmp_path: Path
) -> None:
    got: list[bytes] = []
    generator.capture(engine.require_interface("pg1"), got.append, count=5)
    streams(engine, forwarded, frame=4)
    for worker in engine.workers:
        worker.run(1)
    settle(engine)
    assert [destination(frame) for frame in got] == [0, 0, 0, 0, 1]
    assert {frame[:6] for frame in got} == {PEER_MAC}


def test_one_file_holds_what_all_workers_saw_in_its_order(engine: Engine, tmp_path: Path) -> None:
    path, captures = tmp_path / "both.pcap", PacketCapture(engine)
    streams(engine, forwarded, frame=4)
    engine.workers[0].run(1)
    captures.start(KINDS["tx"], path, limit=10, interface=0, max_bytes=2000)
    for worker in (1, 0, 1, 0):
        engine.workers[worker].run(1)
    assert captures.captured == 10
    assert captures.stop() == (10, path)
    data, at, seen = path.read_bytes(), 24, []
    while at < len(data):
        length = struct.unpack_from("<I", data, at + 8)[0]
        seen.append(destination(data[at + 16 : at + 16 + length]))
        at += 16 + length
    assert seen == [1] * 4 + [0] * 4 + [1] * 2


def test_each_worker_traces_its_own(engine: Engine) -> None:
    trace_add(engine, "pg-input 3")
    streams(engine, forwarded, limit=8)
    engine.start(rounds=3)
    for worker in engine.workers:
        worker.thread.join()
    engine.stop()
    shown = show_trace_(engine, "")
    assert [(packet["thread"], packet["packet"]) for packet in shown.data] == [
        (t, n) for t in (1, 2) for n in (1, 2, 3)
    ]
    assert {tuple(hop["node"] for hop in packet["nodes"]) for packet in shown.data} == {
        ("pg-input", "ethernet-input", "ip4-input", "ip4-lookup", "ip4-rewrite", "pg1-output", "pg1-tx")
    }
    first, second = shown.text.split("Start of thread 2 vpp_wk_1")
    assert f"-> {inner(100)}" in first and f"-> {inner(101)}" not in first
    assert f"-> {inner(101)}" in second and f"-> {inner(100)}" not in second


def test_a_workers_clock_goes_on_after_nine_minutes(engine: Engine) -> None:
    """The product of clocks and the rate's reciprocal no longer fits 63 bits then."""
    for days in (0, 1, 1000):
        worker = engine.workers[1]
        worker.control[d.CLOCK_START] = worker._cycles() - int(days * 86400e9 * engine.clock_rate)
        earliest = worker.now
        worker.run(1)
        assert earliest <= int(worker.context[d.CONTEXT_NOW]) <= worker.now
        assert abs(earliest - days * 86400e9) < 1e9 + days * 86400e9 / 1e5


def line_pairs(array: Any) -> set[int]:
    first = array.ctypes.data
    return set(range(first // LINE_PAIR, (first + array.nbytes - 1) // LINE_PAIR + 1))


def test_what_workers_write_lies_in_lines_of_their_own(engine: Engine) -> None:
    written: list[set[int]] = []
    for k, worker in enumerate(engine.workers):
        arrays = [value for value in vars(worker).values() if hasattr(value, "ctypes")]
        arrays += [table.worker(k) for table in engine.tables.values() if table.table.per_worker]
        arrays += [node.counters[k] for node in engine.graph]
        written.append(set().union(*map(line_pairs, arrays)))
    assert not written[0] & written[1]


def test_an_array_in_lines_of_its_own() -> None:
    for n in (1, 15, 16, 17):
        kept = [own_lines(n, "u8") for _ in range(8)]
        assert all(len(array) == n and not array.any() for array in kept)
        assert all(array.ctypes.data % LINE_PAIR == 0 for array in kept)
        pairs = [pair for array in kept for pair in line_pairs(array)]
        assert len(pairs) == len(set(pairs))
