# SPDX-License-Identifier: Apache-2.0
"""Every kind of node from a plugin of a single file: kernels, SLOW ones, inputs, processes; metadata of its own."""

import asyncio
import os
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pyvpp.cli.assembly import command_tree
from pyvpp.engine import Engine
from pyvpp.errors import OperatorError
from pyvpp.jit import COMPILED
from pyvpp.loader import load
from pyvpp.plugin.find import PATHS, give_path
from pyvpp.plugin.reload import Reloader
from pyvpp.testing import Packet, run_kernel

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not COMPILED, reason="an engine runs compiled only")]

PACKET = bytes.fromhex("45000014000100004011 63d2 0a010102 0a010203".replace(" ", ""))
TTL = 8
PLUGIN = '''
"""A node of each kind: an input makes packets, a kernel marks them, SLOW nodes judge them."""

import asyncio
from enum import IntEnum
from typing import Any

import numpy as np
from numba import uint32, uint64

from pyvpp.buffers import HEADROOM, take_small, slot_start
from pyvpp.features import Feature, next_features
from pyvpp.jit import jit
from pyvpp.node import HELD, Kind, NodeCounter, Severity, node
from pyvpp.tables import Table, buffer_table
from pyvpp.typing import U8, U16, U32, U64, Records

WANTED = Table("kinds_wanted", np.uint64, 1, per_worker=True)
JUDGED = Table("kinds_judged", np.uint64, 2)
MARK = buffer_table("kinds_mark", np.uint32)


class Next(IntEnum):
    DROP = 0
    ON = 1


class Counter(NodeCounter):
    EVEN = 0, "even marks", Severity.INFO
    ODD = 1, "odd marks"


@node(name="kinds-input", kind=Kind.INPUT, next={Next.DROP: "error-drop", Next.ON: "kinds-kernel"})
@jit
def kinds_input(heap: U8, meta: Records, pool: U32, frame: U32, nexts: U16, kinds_wanted: U64) -> int:
    n = 0
    while n < len(frame) and kinds_wanted[0]:
        b = take_small(pool)
        if b == 0:
            break
        kinds_wanted[0] -= uint64(1)
        m = meta[b]
        m.cur = slot_start(b) + HEADROOM
        m.len = 20
        m.ref = 1
        m.rx = 0
        m.error = 0
        heap[m.cur] = 0x45
        frame[n] = uint32(b)
        nexts[n] = Next.ON
        n += 1
    return n


@node(name="kinds-kernel", next={Next.DROP: "error-drop", Next.ON: "kinds-numpy"})
@jit
def kinds_kernel(frame: U32, nexts: U16, kinds_mark: U32) -> None:
    for i, b in enumerate(frame):
        kinds_mark[b] = uint32(i)
        nexts[i] = Next.ON


@node(name="kinds-numpy", kind=Kind.SLOW, next={Next.DROP: "error-drop", Next.ON: "kinds-loop"}, counters=Counter)
def kinds_numpy(frame: U32, nexts: U16, counters: U64, kinds_mark: U32) -> None:
    """Odd marks are dropped."""
    odd = kinds_mark[frame] & 1 == 1
    nexts[:] = np.where(odd, int(Next.DROP), int(Next.ON))
    counters[Counter.ODD] += np.uint64(odd.sum())
    counters[Counter.EVEN] += np.uint64((~odd).sum())


@node(name="kinds-loop", kind=Kind.SLOW, next={Next.DROP: "error-drop", Next.ON: "kinds-python"})
def kinds_loop(heap: U8, meta: Records, frame: U32, nexts: U16, kinds_mark: U32, kinds_judged: U64) -> None:
    for i, b in enumerate(frame):
        m = meta[b]
        if kinds_mark[b] == 250:
            raise LookupError("a mark of 250")
        heap[int(m.cur) + 8] = kinds_mark[b]
        kinds_judged[0] += np.uint64(1)
        nexts[i] = Next.ON if kinds_mark[b] % 4 == 0 else HELD


saw: list[int] = []


@node(name="kinds-python", kind=Kind.PYTHON)
def kinds_python(engine: Any, packet: Any) -> None:
    saw.append(packet.data[8])


@node(name="kinds-feature", kind=Kind.SLOW, features=(Feature("ip4-unicast"),))
def kinds_feature(meta: Records, frame: U32, nexts: U16, feature_chains: U16) -> None:
    nexts[:] = next_features(feature_chains, meta, frame)


log: list[str] = []


@node(name="kinds-process", kind=Kind.PROCESS)
async def kinds_process(engine: Any) -> None:
    log.append("begins STEP")
    try:
        while True:
            await asyncio.sleep(0.001)
            log.append("goes on")
            if engine.stack.kinds_fails:
                raise LookupError("process")
    finally:
        await asyncio.sleep(0)
        log.append("ends STEP")


def start(engine: Any) -> None:
    engine.stack.kinds_fails = False


def resume(engine: Any, before: Any) -> None:
    log.extend(before.log)
'''


class Lab:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.engine = Engine(load(), buffers=2048, hugepages="off")
        self.engine.set_inputs()
        self.tree = command_tree(self.engine.declarations.packages, self.engine.blame)

    @property
    def module(self) -> Any:
        return sys.modules["pyvpp_plugin_kinds"]

    @property
    def plugin(self) -> Any:
        return next(each for each in self.engine.declarations.plugins if each.name == "kinds")

    def run(self, rounds: int = 4) -> None:
        """Until nothing waits for the main thread or for the worker."""
        self.engine.run(rounds)
        while self.engine.drain_punts():
            self.engine.run(rounds)

    def ended(self, node: str) -> int:
        return int(self.engine.workers[0].rows["vectors"][self.engine.graph.index_of(node)])


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Lab]]:
    monkeypatch.delenv(PATHS, raising=False)
    made: list[Lab] = []

    def make(text: str = PLUGIN) -> Lab:
        path = tmp_path / "kinds.py"
        path.write_text(textwrap.dedent(text))
        give_path(str(path))
        made.append(Lab(path))
        assert made[-1].plugin.error == ""
        return made[-1]

    yield make
    for lab in made:
        lab.engine.close()
    os.environ.pop(PATHS, None)
    sys.modules.pop("pyvpp_plugin_kinds", None)


@pytest.fixture
def lab(given: Callable[[], Lab]) -> Lab:
    return given()


def make_packets(lab: Lab, n: int) -> None:
    """Has kinds-input make packets, whose marks are then 0, 1, 2, ..."""
    lab.engine.tables["kinds_wanted"].array[0] = n
    row = lab.engine.workers[0].rows[lab.engine.graph.index_of("kinds-input")]
    row["polled"] = 1
    lab.run()
    assert lab.engine.tables["kinds_wanted"].array[0] == 0


def test_packets_go_from_kind_to_kind_and_none_is_lost(lab: Lab) -> None:
    free = lab.engine.free_buffers
    make_packets(lab, 100)
    graph = lab.engine.graph
    counted = graph.find("kinds-numpy")
    assert counted and counted.counts().tolist() == [50, 50]
    assert lab.module.saw == list(range(0, 100, 4))
    assert int(lab.engine.tables["kinds_judged"].array[0]) == 50
    # What a SLOW node would keep is dropped: it has no way to give it back.
    assert lab.ended("error-drop") == 50 + 25
    assert lab.engine.free_buffers == free


def test_packets_of_a_slow_node_that_raises_are_dropped_and_its_plugin_is_disabled(lab: Lab) -> None:
    free = lab.engine.free_buffers
    make_packets(lab, 252)
    assert "LookupError: a mark of 250" in lab.plugin.error
    assert "kinds.py:" in lab.plugin.error
    assert lab.engine.free_buffers == free
    judged = int(lab.engine.tables["kinds_judged"].array[0])
    make_packets(lab, 100)
    assert int(lab.engine.tables["kinds_judged"].array[0]) == judged
    assert lab.engine.free_buffers == free


def test_a_slow_feature_hands_packets_on_along_its_arc(lab: Lab) -> None:
    engine = lab.engine
    interface = engine.interfaces.create("loop0", kind="loopback", output="interface-output", tx="loopback-tx")
    engine.features.enable("ip4-unicast", "kinds-feature", interface.sw_if_index)
    looked_up = lab.ended("ip4-lookup")
    for _ in range(3):
        assert engine.inject(PACKET, "ip4-input", rx=interface.sw_if_index)
    lab.run()
    assert lab.ended("kinds-feature") == 3
    assert lab.ended("ip4-lookup") == looked_up + 3
    shown = asyncio.run(lab.tree.run(engine, "show interface features loop0"))
    assert "kinds-feature" in shown.data["ip4-unicast"]
    assert "\nip4-unicast:\n  " in shown.text and "  none configured" in shown.text
    every = asyncio.run(lab.tree.run(engine, "show features"))
    assert "kinds-feature" in every.data["ip4-unicast"]["features"]
    assert every.data["ip4-unicast"]["last"] == "ip4-lookup"


def test_metadata_of_a_plugins_own_in_a_test(lab: Lab) -> None:
    """`Packet(..., mark=...)` before, `result.tables` after."""
    marked = [Packet(PACKET, kinds_mark=each) for each in (7, 8, 9)]
    result = run_kernel(lab.module.kinds_numpy, marked)
    assert result.nexts == [0, 1, 0]
    result = run_kernel(lab.module.kinds_kernel, marked)
    assert result.tables["kinds_mark"][result.buffers].tolist() == [0, 1, 2]


def test_metadata_has_a_row_for_each_buffer(lab: Lab) -> None:
    assert len(lab.engine.tables["kinds_mark"]) == len(lab.engine.buffers.meta)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.001)


def state(lab: Lab, name: str = "kinds-process") -> str:
    runtime = asyncio.run(lab.tree.run(lab.engine, "show runtime verbose"))
    return next(each["state"] for each in runtime.data[0]["nodes"] if each["name"] == name)


def test_a_process_begins_and_ends_with_the_main_loop(lab: Lab) -> None:
    log = lab.module.log
    assert state(lab) == "not started"

    async def live() -> None:
        serving = asyncio.create_task(lab.engine.serve())
        await until(lambda: "goes on" in log)
        assert lab.engine.processes.state("kinds-process") == "any wait"
        serving.cancel()
        await until(lambda: log[-1] == "ends STEP")

    asyncio.run(live())
    assert log[0] == "begins STEP"
    assert state(lab) == "not started"


def test_a_process_that_raises_disables_its_plugin_and_no_other(lab: Lab, caplog: Any) -> None:
    async def live() -> None:
        serving = asyncio.create_task(lab.engine.serve())
        await until(lambda: "goes on" in lab.module.log)
        lab.engine.stack.kinds_fails = True
        await until(lambda: bool(lab.plugin.error))
        assert lab.engine.processes.state("kinds-process") == "done"
        assert not serving.done()
        serving.cancel()

    asyncio.run(live())
    assert "LookupError: process" in lab.plugin.error
    assert "Traceback" in caplog.text


def test_a_reloaded_process_begins_when_the_old_one_has_ended(given: Callable[[str], Lab]) -> None:
    lab = given(PLUGIN.replace("STEP", "1"))

    async def live() -> list[str]:
        reloader = Reloader(lab.engine, lab.tree)
        serving = asyncio.create_task(lab.engine.serve())
        first = lab.module.log
        await until(lambda: "goes on" in first)
        lab.path.write_text(PLUGIN.replace("STEP", "2"))
        await reloader.reload("kinds")
        second = lab.module.log
        await until(lambda: "begins 2" in second)
        assert first[-1] == "ends 1"
        late = '@node(name="kinds-late", kind=Kind.PROCESS)\ndef late(engine: Any) -> None: ...\n'
        lab.path.write_text(PLUGIN.replace("STEP", "3") + late)
        with pytest.raises(OperatorError, match=r"kinds.py:\d+: node kinds-late: its function is no coroutine"):
            await reloader.reload("kinds")
        raises = "\n\ndef resume(engine: Any, before: Any) -> None:\n    raise LookupError('too late')\n"
        lab.path.write_text(PLUGIN.replace("STEP", "4") + raises)
        with pytest.raises(OperatorError, match="LookupError: too late"):
            await reloader.reload("kinds")
        goes_on = len(second)
        await until(lambda: len(second) > goes_on + 1)
        assert "ends 2" not in second
        assert lab.engine.processes.state("kinds-process") == "any wait"
        await reloader.rollback("kinds")
        await until(lambda: "begins 1" in lab.module.log and second[-1] == "ends 2")
        serving.cancel()
        return second

    said = asyncio.run(live())
    assert said.count("begins 2") == said.count("ends 2") == 1
