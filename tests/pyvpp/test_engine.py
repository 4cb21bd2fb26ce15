# SPDX-License-Identifier: Apache-2.0
"""The engine with the real stack: what is put in comes out or is dropped, and every buffer comes back."""

import dataclasses
import threading
import time
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from pyvpp import dispatch as d
from pyvpp.engine import Engine
from pyvpp.features import Feature, next_feature
from pyvpp.graph import GraphError
from pyvpp.interface import COUNTERS
from pyvpp.jit import COMPILED, jit
from pyvpp.loader import Declarations, load
from pyvpp.node import FREE, HELD, TO_NODE, Kind, Node, node
from pyvpp.tables import Table
from pyvpp.typing import I64, U16, U32, U64, Records

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not COMPILED, reason="the dispatcher is native code")]

FRAME = bytes.fromhex("02fe00000001 020000000077 0800 45000014000100004011 0000 0a010102 0a010203".replace(" ", ""))
SEEN = Table("test_seen", np.uint64, 4)


@node(name="test-any-next", next={0: "error-drop", 1: "test-python"})
@jit
def any_next(meta: Records, frame: U32, nexts: U16, test_seen: U64) -> None:
    """Sends a packet to the next that its `adj` says, and counts it in a table."""
    for i, b in enumerate(frame):
        nexts[i] = meta[b].adj
        test_seen[meta[b].tx] += 1


@node(name="test-feature", next={0: "error-drop"}, features=(Feature(arc="ip4-unicast"),))
@jit
def feature(meta: Records, frame: U32, nexts: U16, feature_chains: U16) -> None:
    for i, b in enumerate(frame):
        nexts[i] = next_feature(feature_chains, meta[b])


GATE = Table("test_gate", np.int64, 2)
ENTERED, OPEN = 0, 1


@node(name="test-gate", next={0: "error-drop"})
@jit
def gate(frame: U32, nexts: U16, test_gate: I64) -> None:
    """Stays in its vector until the gate is opened."""
    for i in range(len(frame)):
        nexts[i] = 0
    d.publish(test_gate, ENTERED, 1)
    while not d.fetch(test_gate, OPEN):
        pass


python_saw: list[bytes] = []


@node(name="test-python", kind=Kind.PYTHON)
def to_python(engine: Any, packet: Any) -> None:
    python_saw.append(packet.data)
    if packet.data == b"fail":
        raise RuntimeError("a slow-path node's own mistake")


def declarations() -> Declarations:
    module = ModuleType("declared_by_a_test")
    vars(module).update(seen=SEEN, gate_table=GATE, gate=gate, any_next=any_next, to_python=to_python, feature=feature)
    found = load()
    found.add(module)
    return found


def build(monkeypatch: pytest.MonkeyPatch) -> Engine:
    """Generated entries look tables up among what plugins declare, so the test's table has to be there too."""
    found = declarations()
    monkeypatch.setattr("pyvpp.loader._everything", lambda: found)
    return Engine(found, buffers=512, hugepages="off")


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        engine = build(monkeypatch)
        yield engine
        engine.close()


def free(engine: Engine) -> int:
    return engine.buffers.free + len(engine._inject_buffers)


def settle(engine: Engine) -> None:
    for _ in range(3):
        engine.run(4)
        engine.drain_punts()


def refill(engine: Engine) -> None:
    """Control code's own buffers, again as many as at first."""
    if len(engine._inject_buffers) < 32:
        engine._reserve_inject_buffers()


def vectors(engine: Engine, name: str) -> int:
    return sum(int(worker.rows["vectors"][engine.graph.index_of(name)]) for worker in engine.workers)


def send(engine: Engine, value: int, *, tx: int = 0, data: bytes = FRAME) -> None:
    refill(engine)
    before = free(engine)
    assert engine.inject(data, "test-any-next", adj=value, tx=tx)
    settle(engine)
    assert free(engine) == before


def test_a_packet_nobody_wants_is_dropped_and_its_buffer_comes_back(engine):
    dropped = vectors(engine, "error-drop")
    send(engine, 0)
    assert vectors(engine, "error-drop") == dropped + 1


def test_local_and_absolute_nexts(engine):
    dropped = vectors(engine, "error-drop")
    send(engine, TO_NODE | engine.graph.index_of("error-drop"))
    assert vectors(engine, "error-drop") == dropped + 1
    send(engine, FREE)
    assert vectors(engine, "error-drop") == dropped + 1


@pytest.mark.parametrize("value", [2, 77, 0x7FFF, TO_NODE | 8000])
def test_a_next_that_means_nothing_leads_to_error_drop_and_is_counted(engine, value):
    dropped, bad = vectors(engine, "error-drop"), int(engine.workers[0].control[d.BAD_NEXT])
    send(engine, value)
    assert vectors(engine, "error-drop") == dropped + 1
    assert int(engine.workers[0].control[d.BAD_NEXT]) == bad + 1


def test_what_a_kernel_holds_is_not_given_back(engine):
    refill(engine)
    before = free(engine)
    assert engine.inject(FRAME, "test-any-next", adj=HELD)
    settle(engine)
    assert free(engine) == before - 1


def test_python_nodes_get_the_bytes_and_their_mistakes_stay_theirs(engine, caplog):
    python_saw.clear()
    for data in (b"one", b"fail", b"two"):
        send(engine, 1, data=data)
    assert python_saw == [b"one", b"fail", b"two"]
    assert "test-python failed" in caplog.text


def test_frames_of_every_size_through_the_stack(engine):
    """More packets than a frame holds, good and bad, into the node where Ethernet begins."""
    interface = engine.interfaces.create("gen0", "test", mac=FRAME[:6])
    for n in (1, 2, 31, 32):
        refill(engine)
        before, seen = free(engine), vectors(engine, "ethernet-input")
        for k in range(n):
            data = FRAME[: 14 + k % 21] if k % 2 else FRAME
            assert engine.inject(data, "ethernet-input", rx=interface.sw_if_index)
        settle(engine)
        assert vectors(engine, "ethernet-input") == seen + n
        assert free(engine) == before
    engine.interfaces.delete(interface)
    assert engine.interfaces.by_name("gen0") is None


def test_a_large_packet_or_no_buffer_is_refused(engine):
    assert not engine.inject(bytes(4000), "error-drop")
    buffers, engine._inject_buffers = engine._inject_buffers, []
    assert not engine.inject(FRAME, "error-drop")
    engine._inject_buffers = buffers


def test_a_table_that_grows_moves_and_kernels_follow(engine):
    seen = engine.tables["test_seen"]
    send(engine, 0, tx=2)
    before, address = int(seen.array[2]), seen.array.ctypes.data
    seen.grow(1000)
    assert (len(seen), int(seen.array[2])) == (1024, before)
    assert seen.array.ctypes.data != address
    send(engine, 0, tx=2)
    send(engine, 0, tx=1000)
    assert (int(seen.array[2]), int(seen.array[1000])) == (before + 1, 1)


def test_an_array_swapped_in_is_what_kernels_see(engine):
    table = engine.tables["test_seen"]
    larger = table.zeros(len(table) + 5)
    assert larger.ctypes.data % 64 == 0
    table.swap(larger)
    send(engine, 0, tx=2)
    assert table.array is larger and int(larger[2]) == 1


def test_features_enabled_and_disabled(engine):
    arc, feature = "ip4-unicast", "test-feature"
    table = engine.tables[engine.features.arcs[arc].table.name]
    assert (engine.features.enabled(arc, 3), int(table.array[3])) == ([], 0)
    engine.features.enable(arc, feature, 3)
    start = int(table.array[3])
    chain = engine.tables["feature_chains"].array[start : start + 2]
    assert engine.features.enabled(arc, 3) == [feature]
    assert list(chain) == [engine.graph.to_node(feature), engine.graph.to_node(engine.features.arcs[arc].last)]
    engine.features.enable(arc, feature, 3, on=False)
    assert (engine.features.enabled(arc, 3), int(table.array[3])) == ([], 0)
    engine.features.enable(arc, feature, 4)
    assert int(table.array[4]) == start  # chains that are equal are one
    engine.features.enable(arc, feature, 4, on=False)
    with pytest.raises(ValueError, match="no feature"):
        engine.features.enable(arc, "error-drop", 3)


def test_interfaces_come_and_go(engine):
    nodes = len(engine.graph.nodes)
    heard: list[tuple[str, str]] = []
    for event in ("interface-created", "interface-state", "interface-deleted"):
        engine.events.on(event, lambda interface, event=event: heard.append((event, interface.name)))
    first = engine.interfaces.create("a0", "test", mac=b"\2\0\0\0\0\1")
    for name in COUNTERS:
        assert not engine.tables[name].sum()[first.sw_if_index].tobytes().strip(b"\0")
    engine.interfaces.set_admin(first, False)
    engine.interfaces.delete(first)
    second = engine.interfaces.create("b0", "test")
    assert second.sw_if_index == first.sw_if_index
    engine.interfaces.delete(second)
    assert heard[:4] == [
        ("interface-created", "a0"), ("interface-state", "a0"), ("interface-deleted", "a0"), ("interface-created", "b0"),
    ]  # fmt: skip
    assert len(engine.graph.nodes) == nodes


def test_the_barrier_stops_a_running_worker_and_lets_it_go_on(engine):
    control = engine.workers[0].control
    engine.start()
    try:
        with engine.barrier(), engine.barrier():
            assert int(control[d.PARKED]) == 1
            loops = int(control[d.LOOPS])
            time.sleep(0.02)
            assert int(control[d.LOOPS]) == loops
        deadline = time.monotonic() + 5
        refill(engine)
        seen = vectors(engine, "error-drop")
        assert engine.inject(FRAME, "error-drop")
        while vectors(engine, "error-drop") == seen and time.monotonic() < deadline:
            time.sleep(0.001)
        assert vectors(engine, "error-drop") == seen + 1
    finally:
        engine.stop()
    assert engine.workers[0].thread is None


def test_synchronize_waits_for_the_vector_a_worker_is_in(engine):
    engine.synchronize()  # nobody runs, nothing to wait for
    table = engine.tables["test_gate"].array
    engine.start()
    try:
        refill(engine)
        assert engine.inject(FRAME, "test-gate")
        while not int(table[ENTERED]):
            time.sleep(0)
        waiting = threading.Thread(target=engine.synchronize)
        waiting.start()
        waiting.join(0.05)
        assert waiting.is_alive()
        table[OPEN] = 1
        waiting.join(5)
        assert not waiting.is_alive()
        engine.synchronize()  # a worker that sleeps is woken
        with engine.barrier():
            engine.synchronize()  # those that stand still hold nothing
    finally:
        table[OPEN] = 1
        engine.stop()


def broken(**changes: Any) -> Declarations:
    found = load()
    name = "ip4-lookup"
    found.nodes[name] = dataclasses.replace(found.nodes[name], **changes)
    return found


def test_faults_of_declarations_are_all_named_at_once():
    found = broken(next={0: "no-such-node", 1: "nor-this"})
    del found.tables["adjacencies"]
    with pytest.raises(GraphError) as error:
        Engine(found, buffers=512, hugepages="off")
    for part in ("ip4-lookup: its next no-such-node", "nor-this", "adjacencies"):
        assert part in str(error.value)


def test_too_many_nexts():
    with pytest.raises(GraphError, match="at most 16"):
        Engine(broken(next=dict.fromkeys(range(17), "error-drop")), buffers=512, hugepages="off")


def test_templates_that_cannot_be_made(engine):
    for template, name in (("no-such-template", "x0-output"), ("interface-output", "error-drop")):
        with pytest.raises(GraphError):
            engine.graph.instantiate(template, name, 1)
    with pytest.raises(GraphError, match="x0-tx does not exist"):
        engine.graph.instantiate("interface-output", "x0-output", 1, {"{interface}-tx": "x0-tx"})
    assert engine.graph.find("x0-output") is None


def test_two_declarations_of_one_name():
    module = ModuleType("again")
    vars(module)["other"] = Node("error-drop", to_python, kind=Kind.PYTHON)
    with pytest.raises(ValueError, match="error-drop is declared twice"):
        load().add(module)
