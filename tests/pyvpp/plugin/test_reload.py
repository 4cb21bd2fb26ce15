# SPDX-License-Identifier: Apache-2.0
"""Reloading a plugin: the new version takes over all of the old one, or nothing; tables stay or are migrated."""

import asyncio
import os
import re
import sys
import textwrap
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyvpp import dispatch as d
from pyvpp.cli.assembly import command_tree
from pyvpp.cli.registry import CommandError, Output
from pyvpp.engine import Engine
from pyvpp.errors import OperatorError
from pyvpp.jit import COMPILED
from pyvpp.loader import load
from pyvpp.plugin.find import PATHS, Plugin, give_path
from pyvpp.plugin.reload import Reloaded, Reloader

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not COMPILED, reason="an engine runs compiled only")]

NODE = "reload-test"
ARC = "ip4-unicast"
PACKET = bytes.fromhex("45000014000100004011 65d6 0a010102 0a010203".replace(" ", ""))
HEAD = '''
"""The version with step {step}."""
from enum import IntEnum
from typing import Any

import numpy as np
from numba import uint64

from pyvpp.cli.registry import command
from pyvpp.features import Feature, FeatureArc
from pyvpp.jit import jit, outline, rare_case
from pyvpp.node import Kind, NodeCounter, node
from pyvpp.tables import Table, interface_table
from pyvpp.typing import U16, U32, U64, Records

SEEN = Table("reload_seen", np.uint64, 4, per_worker=True)
RULES = Table("reload_rules", np.uint64, 4)
READ = Table("reload_read", np.uint64, 4)


class Next(IntEnum):
    DROP = 0


class Counter(NodeCounter):
    SEEN = 0, "packets seen"


@outline
def step(packet: int) -> int:
    """A function that the kernel calls: what another version's of the same name must not be taken for."""
    rare_case()
    return packet * 0 + {step}


@command("show reload-test", help="show reload-test")
def show(engine: Any, args: Any) -> str:
    return "step {step}"
'''
KERNEL = """

@node(name="reload-test", next={Next.DROP: "error-drop"}, counters=Counter, features=(Feature("ip4-unicast"),))
@jit
def kernel(
    meta: Records, frame: U32, nexts: U16, counters: U64, reload_seen: U64, reload_rules: U64
) -> None:
    for i, b in enumerate(frame):
        counters[Counter.SEEN] += uint64(step(meta[b].len))
        reload_seen[1] += uint64(1)
        nexts[i] = Next.DROP
"""


def version(step: int, *changes: tuple[str, str], more: str = "") -> str:
    """A version of the plugin: `step` is what it counts for each packet."""
    text = HEAD.replace("{step}", str(step)) + KERNEL + textwrap.dedent(more)
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    return text


READER = """
from numba import uint64
from pyvpp.jit import jit
from pyvpp.node import node
from pyvpp.typing import U16, U32, U64, Records

@node(name="reload-reader", next={0: "error-drop"})
@jit
def reader(frame: U32, nexts: U16, reload_read: U64) -> None:
    for i in range(len(frame)):
        nexts[i] = reload_read[0] & uint64(0)
"""


class Lab:
    """An engine without threads, one plugin of it that tests rewrite, and the reloader."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "reloaded.py"
        self.write(version(1))
        give_path(str(self.path))
        (folder / "reader.py").write_text(READER)
        give_path(str(folder / "reader.py"))
        self.engine = Engine(load(), buffers=1024, hugepages="off")
        self.tree = command_tree(self.engine.declarations.packages, self.engine.blame)
        self.runner = asyncio.Runner()
        self.told: list[str] = []
        self.reloader = self.run(self._reloader())
        self.engine.reloader = self.reloader
        self.steps = 10

    async def _reloader(self) -> Reloader:
        return Reloader(self.engine, self.tree, self.told.append)

    def run(self, awaitable: Awaitable[Any]) -> Any:
        async def waited() -> Any:
            return await awaitable

        return self.runner.run(waited())

    def write(self, text: str) -> None:
        self.path.write_text(text)

    def next_step(self) -> int:
        """A step that no version had before, so that its sources are new."""
        self.steps += 1
        return self.steps

    def reload(self, text: str) -> Reloaded:
        self.write(text)
        return self.run(self.reloader.reload("reloaded"))

    def refused(self, text: str) -> str:
        """Why a version is refused; nothing else may have changed by it."""
        before = self.plugin
        states = self.state()
        with pytest.raises(OperatorError) as refused:
            self.reload(text)
        assert self.plugin is before
        for one, other in zip(states, self.state(), strict=True):
            assert one == other
        assert before.refused and before.refused in str(refused.value)
        assert str(refused.value).startswith(f"plugin reloaded: version {before.generation} stays: ")
        return before.refused

    def state(self) -> list[Any]:
        engine = self.engine
        modules = {
            name: id(module) for name, module in sys.modules.items() if "reloaded" in name and "entry" not in name
        }
        return [
            modules, dict(engine.declarations.nodes), {node.name: node.node for node in engine.graph},
            {name: instance.arrays[0].ctypes.data for name, instance in engine.tables.items()},
            [command.name for command in self.tree.commands], engine.features.copy()[1:], engine.copy_hooks(),
            [engine.workers[0].rows[field][node.index].tolist() for node in engine.graph for field in ("entry", "runtime", "next")],
        ]  # fmt: skip

    @property
    def plugin(self) -> Plugin:
        return next(each for each in self.engine.declarations.plugins if each.name == "reloaded")

    def command(self, line: str) -> Output:
        output: Output = self.run(self.tree.run(self.engine, line))
        return output

    def counts(self, node: str = NODE) -> dict[str, int]:
        found = self.engine.graph.find(node)
        assert found
        return {c.name: int(n) for c, n in zip(found.counter_names, found.counts(), strict=False)}

    def send(self, n: int = 1, node: str = NODE) -> int:
        """Sends packets through the node; answers how many ended in error-drop. No buffer may be lost."""
        free, ended = self.engine.free_buffers, self.ended("error-drop")
        for _ in range(n):
            assert self.engine.inject(PACKET, node, rx=1)
        self.engine.run(3)
        self.engine.tick()
        assert self.engine.free_buffers == free
        return self.ended("error-drop") - ended

    def ended(self, node: str) -> int:
        return int(self.engine.workers[0].rows["vectors"][self.engine.graph.index_of(node)])

    def close(self) -> None:
        self.engine.close()
        self.runner.close()


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    given = os.environ.pop(PATHS, None)
    made = Lab(tmp_path_factory.mktemp("reload"))
    yield made
    made.close()
    os.environ.pop(PATHS, None)
    if given is not None:
        os.environ[PATHS] = given
    for name in ("pyvpp_plugin_reloaded", "pyvpp_plugin_reader"):
        sys.modules.pop(name, None)


# ---- versions in place ----------------------------------------------------------------------------------------------
def test_a_version_takes_the_place_of_another_and_goes_back(lab: Lab) -> None:
    """Its own code: also that of a function which the kernel calls, of the same name in both versions."""
    first, second = lab.next_step(), lab.next_step()
    lab.reload(version(first))
    number = lab.plugin.generation
    before = lab.counts()["SEEN"]
    assert lab.send(3) == 3
    assert lab.counts()["SEEN"] == before + 3 * first
    seen = int(lab.engine.tables["reload_seen"].array[1])
    done = lab.reload(version(second))
    assert str(done).startswith(f"plugin reloaded: version {number + 1} (")
    assert lab.send(2) == 2
    assert lab.counts()["SEEN"] == before + 3 * first + 2 * second
    assert int(lab.engine.tables["reload_seen"].array[1]) == seen + 2
    assert lab.command("show reload-test").text == f"step {second}"
    assert f"The version with step {second}." in lab.command(f"show node {NODE}").text
    lab.run(lab.reloader.rollback("reloaded"))
    assert lab.plugin.generation == number
    assert lab.send() == 1
    assert lab.counts()["SEEN"] == before + 4 * first + 2 * second
    assert lab.command("show reload-test").text == f"step {first}"
    lab.reload(version(second, more="# again\n"))
    assert lab.plugin.generation == number + 2


def test_what_is_in_place_already_is_not_loaded_again(lab: Lab) -> None:
    text = version(lab.next_step())
    lab.reload(text)
    with pytest.raises(OperatorError, match=r"its sources are those of version \d+, in place already"):
        lab.reload(text)


def test_feature_stays_on_and_goes_with_the_version_that_has_it_not(lab: Lab) -> None:
    engine = lab.engine
    engine.features.enable(ARC, NODE, 0)
    lab.reload(version(lab.next_step()))
    assert engine.features.enabled(ARC, 0) == [NODE]
    start = int(engine.tables["ip4_unicast_arc"].array[0])
    assert start and engine.tables["feature_chains"].array[start] == engine.graph.to_node(NODE)
    done = lab.reload(version(lab.next_step(), (', features=(Feature("ip4-unicast"),)', "")))
    assert done.notes == (f"{NODE} is off on local0: no feature of {ARC}",)
    assert (engine.features.enabled(ARC, 0), int(engine.tables["ip4_unicast_arc"].array[0])) == ([], 0)


def test_another_feature_of_an_arc_has_its_place_in_the_chain(lab: Lab) -> None:
    other = """
    @node(name="reload-other", next={Next.DROP: "error-drop"}, features=(Feature("ip4-unicast", runs_before=("reload-test",)),))
    @jit
    def other(frame: U32, nexts: U16) -> None:
        for i in range(len(frame)):
            nexts[i] = Next.DROP
    """
    features = lab.engine.features
    lab.reload(version(lab.next_step(), more=other))
    features.enable(ARC, NODE, 0)
    features.enable(ARC, "reload-other", 0)
    assert features.enabled(ARC, 0) == ["reload-other", NODE]
    lab.reload(version(lab.next_step(), ("runs_before", "runs_after"), more=other))
    assert features.enabled(ARC, 0) == [NODE, "reload-other"]
    chains, start = lab.engine.tables["feature_chains"].array, int(lab.engine.tables["ip4_unicast_arc"].array[0])
    names = [lab.engine.graph.name_of(int(value) & 0x7FFF) for value in chains[start : start + 2]]
    assert names == [NODE, "reload-other"]
    done = lab.reload(version(lab.next_step()))
    assert set(done.notes) == {
        f"reload-other is off on local0: no feature of {ARC}",
        "node reload-other is no more: its old code stays for packets that still reach it",
    }
    assert features.enabled(ARC, 0) == [NODE]
    features.enable(ARC, NODE, 0, on=False)


def test_nexts_and_counters_come_and_go(lab: Lab) -> None:
    step = lab.next_step()
    lab.reload(version(step))
    lab.send(2)
    seen = lab.counts()["SEEN"]
    base = lab.engine.graph.find(NODE)
    assert base
    wider = version(
        lab.next_step(), ("    DROP = 0\n", "    DROP = 0\n    PUNT = 1\n"),
        ('{Next.DROP: "error-drop"}', '{Next.DROP: "error-drop", Next.PUNT: "error-punt"}'),
        ("nexts[i] = Next.DROP", "nexts[i] = Next.PUNT"),
        ('    SEEN = 0, "packets seen"\n', '    FIRST = 0, "before"\n    SEEN = 1, "packets seen"\n'),
    )  # fmt: skip
    lab.reload(wider)
    punted = lab.ended("error-punt")
    assert lab.send(3) == 0
    assert lab.ended("error-punt") == punted + 3
    assert lab.counts() == {"FIRST": 0, "SEEN": seen + 3 * lab.steps}
    now = lab.engine.graph.find(NODE)
    assert now and lab.engine.graph.error_of(now.error_base + 1) == (NODE, now.node.counters[1])
    assert lab.engine.graph.error_of(base.error_base) == (NODE, base.node.counters[0])  # packets may hold it still
    lab.command("clear errors")
    assert lab.counts() == {"FIRST": 0, "SEEN": 0}
    lab.send()
    lab.run(lab.reloader.rollback("reloaded"))
    assert lab.send() == 1
    assert lab.counts() == {"SEEN": lab.steps + step}


def test_nodes_made_of_a_template_are_exchanged_one_and_all(lab: Lab) -> None:
    template = """
    @node(name="reload-template", template=True, next={0: "{interface}-next"})
    @jit
    def template(frame: U32, nexts: U16, instance: int, reload_seen: U64) -> None:
        for i in range(len(frame)):
            reload_seen[instance] += uint64(STEP)
            nexts[i] = 0
    """
    graph = lab.engine.graph
    lab.reload(version(lab.next_step(), more=template.replace("STEP", "1")))
    for instance, target in ((2, "error-drop"), (3, "error-punt")):
        graph.instantiate("reload-template", f"reload-{instance}", instance, {"{interface}-next": target})
    lab.engine.tables["reload_seen"].array[:] = 0
    for step, seen in ((10, [10, 10]), (100, [110, 110])):
        lab.reload(version(lab.next_step(), more=template.replace("STEP", str(step))))
        punted = lab.ended("error-punt")
        assert (lab.send(node="reload-2"), lab.send(node="reload-3")) == (1, 0)
        assert lab.ended("error-punt") == punted + 1
        assert lab.engine.tables["reload_seen"].array[2:4].tolist() == seen
    graph.remove([graph.index_of("reload-2"), graph.index_of("reload-3")])


def test_a_python_node_and_commands_come_with_a_version(lab: Lab) -> None:
    more = """
    saw: list[bytes] = []

    @node(name="reload-python", kind=Kind.PYTHON)
    def to_python(engine: Any, packet: Any) -> None:
        saw.append(packet.data)

    @command("show reload-saw", help="show reload-saw")
    def show_saw(engine: Any, args: Any) -> str:
        return str(len(saw))
    """
    punting = [('"error-drop"', '"reload-python"')]
    lab.reload(version(lab.next_step(), *punting, more=more))
    for _ in range(2):
        assert lab.engine.inject(PACKET, NODE, rx=1)
    lab.engine.run(3)
    assert lab.engine.drain_punts() == 2
    assert lab.command("show reload-saw").text == "2"
    lab.reload(version(lab.next_step()))
    with pytest.raises(CommandError, match="unknown input"):
        lab.command("show reload-saw")


# ---- tables ---------------------------------------------------------------------------------------------------------
WIDER = (
    ('SEEN = Table("reload_seen", np.uint64, 4, per_worker=True)', 'SEEN = Table("reload_seen", np.uint32, 8, per_worker=True)'),
    ('RULES = Table("reload_rules", np.uint64, 4)', 'RULES = Table("reload_rules", np.uint32, 3)'),
    ("reload_seen: U64, reload_rules: U64", "reload_seen: U32, reload_rules: U32"),
    ("reload_seen[1] += uint64(1)", "reload_seen[1] += reload_rules[2]"),
)  # fmt: skip
MIGRATE = """
def migrate(name: str, old: Any, new: Any) -> None:
    new[: len(old)] = old + (100 if name == "reload_rules" else 0)
"""


def fill(lab: Lab) -> None:
    lab.engine.tables["reload_seen"].array[:4] = [1, 2, 3, 4]
    lab.engine.tables["reload_rules"].array[:4] = [5, 6, 7, 8]


def tables(lab: Lab) -> list[list[int]]:
    return [lab.engine.tables[name].array[:4].tolist() for name in ("reload_seen", "reload_rules")]


def test_tables_of_the_same_type_stay_and_grow(lab: Lab) -> None:
    lab.reload(version(lab.next_step()))
    fill(lab)
    lab.reload(version(lab.next_step(), ('"reload_rules", np.uint64, 4', '"reload_rules", np.uint64, 1000')))
    assert tables(lab) == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert len(lab.engine.tables["reload_rules"]) >= 1000
    lab.send()
    assert tables(lab)[0] == [1, 3, 3, 4]
    lab.reload(version(lab.next_step()))
    assert tables(lab) == [[1, 3, 3, 4], [5, 6, 7, 8]]


def test_tables_of_another_type_are_migrated_by_the_author(lab: Lab) -> None:
    lab.reload(version(lab.next_step()))
    fill(lab)
    done = lab.reload(version(lab.next_step(), *WIDER, more=MIGRATE))
    *about_tables, stood = done.notes
    assert about_tables == [
        "table reload_seen was migrated: it held uint64 per worker", "table reload_rules was migrated: it held uint64"
    ]  # fmt: skip
    assert stood.startswith("workers stood still for ")
    assert tables(lab) == [[1, 2, 3, 4], [105, 106, 107, 108]]
    assert lab.engine.tables["reload_rules"].dtype == np.uint32
    assert len(lab.engine.tables["reload_rules"]) >= 4
    lab.send()
    assert tables(lab)[0] == [1, 2 + 107, 3, 4]
    done = lab.run(lab.reloader.rollback("reloaded"))
    assert set(done.notes[:2]) == {
        f"table {name} is as it was when this version was left" for name in ("reload_seen", "reload_rules")
    }
    assert tables(lab) == [[1, 2, 3, 4], [5, 6, 7, 8]]
    lab.send()
    assert tables(lab)[0] == [1, 3, 3, 4]


def test_tables_of_another_type_begin_anew_without(lab: Lab) -> None:
    lab.reload(version(lab.next_step()))
    fill(lab)
    done = lab.reload(version(lab.next_step(), *WIDER))
    assert tables(lab) == [[0, 0, 0, 0], [0, 0, 0, 0]]
    assert len(done.notes) == 3 and "begins anew: it held uint64" in done.notes[0]


def test_a_migration_that_fails(lab: Lab) -> None:
    lab.reload(version(lab.next_step()))
    fill(lab)
    failing = MIGRATE + '    raise LookupError("no way")\n'
    assert lab.refused(version(lab.next_step(), *WIDER, more=failing)).startswith("LookupError: no way (")
    assert tables(lab) == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert lab.send() == 1


# ---- what is refused ------------------------------------------------------------------------------------------------
RAISES = 'raise LookupError("{}")\n'


@pytest.mark.parametrize(
    ("changes", "more", "said"),
    [
        ([], "def broken(:\n", "SyntaxError: "),
        ([], RAISES.format("at import"), "LookupError: at import ("),
        ([], "raise SystemExit(3)\n", "SystemExit: 3"),
        ([], "import os\nos._exit(0)\n", "its compiler ended the process it was tried in"),
        ([('"error-drop"', '"eror-drop"')], "", "reloaded.py:{@node}: node reload-test: its next eror-drop does not exist (did you mean error-drop?)"),
        ([('"reload-test", next', '"ip4-lookup", next')], "", "node ip4-lookup is declared twice"),
        ([("uint64(step(", "uint64('one' + step(")], "", "reloaded.py:{'one'}: node reload-test: numba cannot compile it: "),
        ([("reload_seen[1] +=", "reload_seen[meta[b].len] +=")], "", "node reload-test: random frame 1, with bounds checks: IndexError: "),
        ([("nexts[i] = Next.DROP", "pass")], "", "random frame 1, with bounds checks: it has no next"),
        ([("nexts[i] = Next.DROP", "nexts[i] = 7")], "", "random frame 1, with bounds checks: its next is 7, but there are 1"),
        ([("reload_seen[1] +=", "reload_rules[1] +=")], "", "writes table reload_rules, which all workers share"),
        ([("nexts[i] = Next.DROP", "nexts[i] = Next.DROP\n        while meta[b].len:\n            nexts[i] = nexts[i] & 0")], "", "reload-test does not come to an end (expected within 2 s)"),
        ([], 'def self_check() -> None:\n    raise AssertionError("three is not four")\n', "AssertionError: three is not four ("),
        ([], 'def start(engine: Any) -> None:\n    raise LookupError("start")\n', "LookupError: start ("),
        ([], 'def resume(engine: Any, before: Any) -> None:\n    raise LookupError("resume")\n', "LookupError: resume ("),
        ([('"show reload-test", help', '"show version", help')], "", "commands defined twice: show version"),
        ([('"reload_read", np.uint64', '"reload_read", np.uint32')], "", "table reload_read cannot have another type: node reload-reader is compiled for it"),
        ([("@jit\ndef kernel(", "def kernel(engine: Any, packet: Any) -> None: ...\ndef other("), ('next={Next.DROP: "error-drop"}, counters=Counter,', "kind=Kind.PYTHON,")], "", "node reload-test was of kind internal and is of kind python now"),
    ],
)  # fmt: skip
def test_a_version_that_is_refused(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, changes: list[tuple[str, str]], more: str, said: str
) -> None:
    lab.reload(version(lab.next_step()))
    lab.engine.features.enable(ARC, NODE, 0)
    monkeypatch.setattr(lab.reloader, "patience", 2.0 if "while" in str(changes) else 120.0)
    text = version(lab.next_step(), *changes, more="\n" + more)
    if "{" in said:
        marked = said[said.index("{") + 1 : said.index("}")]
        line = 1 + next(k for k, each in enumerate(text.splitlines()) if marked in each)
        said = said.replace("{" + marked + "}", str(line))
    refused = lab.refused(text)
    assert said in refused
    assert "versions" not in refused and ("reloaded.py" in refused) == (".py:" in refused)
    assert lab.engine.features.enabled(ARC, 0) == [NODE]
    assert (lab.send(), lab.command("show reload-test").text) == (1, f"step {lab.steps - 1}")
    assert f"refused: {refused}" in lab.command("show plugins").text
    lab.reload(version(lab.next_step()))
    assert lab.plugin.refused == ""


def test_what_a_version_publishes_when_it_begins_is_seen_by_its_own_kernels_alone(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The barrier it is published at holds until the kernels are exchanged; until then packets flow."""
    publishing = """
    depths: list[int] = []

    def resume(engine: Any, before: Any) -> None:
        depths.append(engine._barrier_depth)  # here it takes its time
        with engine.barrier():
            engine.tables["reload_rules"].array[:] = 7
        depths.append(engine._barrier_depth)
    """
    engine = lab.engine
    lab.reload(version(lab.next_step()))
    exchange, seen = engine.graph.exchange, []
    monkeypatch.setattr(engine.graph, "exchange", lambda new: (seen.append(engine._barrier_depth), exchange(new))[1])
    lab.reload(version(lab.next_step(), more=publishing))
    assert sys.modules["pyvpp_plugin_reloaded"].depths == [0, 1]
    assert seen == [1]
    assert engine._barrier_depth == 0
    lab.reload(version(lab.next_step()))
    assert seen == [1, 0]
    refused = lab.refused(version(lab.next_step(), more=publishing + "    raise LookupError('late')\n"))
    assert "LookupError: late" in refused
    assert engine._barrier_depth == 0


def test_a_start_that_has_done_half(lab: Lab) -> None:
    """Subscriptions, timers, features and nodes of a version that is refused in the end are gone; the old ones stay."""
    begun = """
    calls: list[str] = []

    def timer() -> None:
        calls.append("timer")

    def start(engine: Any) -> None:
        engine.every_second(timer)
        engine.events.on("interface-created", timer)
        engine.on_close.append(timer)
    """
    half = """
    @node(name="reload-half", features=(Feature("ip4-unicast"),))
    @jit
    def half(frame: U32, nexts: U16) -> None:
        for i in range(len(frame)):
            nexts[i] = 0xFFFF

    def never() -> None:
        raise LookupError("called")

    def start(engine: Any) -> None:
        engine.every_second(never)
        engine.events.on("interface-created", never)
        engine.features.enable("ip4-unicast", "reload-half", 0)
        raise LookupError("half way")
    """
    lab.engine.features.disable_all(0)
    lab.reload(version(lab.next_step(), more=begun))
    package: Any = lab.plugin.package
    lab.engine.tick()
    assert package.calls == ["timer"]
    assert "half way" in lab.refused(version(lab.next_step(), more=half))
    assert lab.engine.graph.find("reload-half") is None
    assert int(lab.engine.tables["ip4_unicast_arc"].array[0]) == 0
    lab.engine.tick()
    assert package.calls == ["timer"] * 2
    lab.reload(version(lab.next_step()))  # ends what the version began
    assert package.calls == ["timer"] * 3
    lab.engine.tick()
    assert package.calls == ["timer"] * 3


def test_a_version_may_go_on_from_what_the_old_one_had(lab: Lab) -> None:
    kept = """
    rules = ["of {}"]

    def ended() -> None:
        rules.append("ended")

    def start(engine: Any) -> None:
        engine.on_close.append(ended)

    def resume(engine: Any, before: Any) -> None:
        rules[:0] = getattr(before, "rules", [])
    """
    lab.reload(version(lab.next_step()))
    for name in "abc":
        lab.reload(version(lab.next_step(), more=kept.replace("{}", name)))
    package: Any = lab.plugin.package
    assert package.rules == ["of a", "of b", "of c"]


def test_a_disabled_plugin_is_back_once_it_is_mended(lab: Lab) -> None:
    failing = """
    @command("reload-fail", help="reload-fail")
    def fail(engine: Any, args: Any) -> None:
        raise LookupError("a mistake")
    """
    lab.reload(version(lab.next_step(), more=failing))
    lab.engine.features.enable(ARC, NODE, 0)
    with pytest.raises(CommandError):
        lab.command("reload-fail")
    assert "a mistake" in lab.plugin.error
    assert lab.engine.features.enabled(ARC, 0) == []
    lab.reload(version(lab.next_step()))
    assert (lab.plugin.error, lab.command("show reload-test").text) == ("", f"step {lab.steps}")
    assert lab.send() == 1


# ---- the commands ---------------------------------------------------------------------------------------------------
def test_commands(lab: Lab) -> None:
    lab.reload(version(lab.next_step()))
    number = lab.plugin.generation
    lab.write(version(lab.next_step()))
    output = lab.command("plugin reload reloaded")
    assert output.text.startswith(f"plugin reloaded: version {number + 1} (")
    assert output.data["generation"] == number + 1 and output.data["held_seconds"] > 0
    shown = lab.command("show plugins")
    assert f"reloaded: version {number + 1} ({lab.plugin.digest[:8]}); rollback to {number} (" in shown.text
    (row,) = [each for each in shown.data if each["name"] == "reloaded"]
    assert (row["generation"], row["earlier"][-1], row["refused"]) == (number + 1, number, "")
    assert lab.command("plugin rollback reloaded").text.startswith(f"plugin reloaded: version {number} (")
    for line, said in {
        "plugin reload reloadde": "no plugin is called `reloadde' (did you mean reloaded?)",
        "plugin reload nodes": "plugin nodes is the stack",
        "plugin reload": "a plugin",
    }.items():
        with pytest.raises(CommandError, match=re.escape(said)):
            lab.command(line)
    assert ("reloaded", "") in lab.tree.complete("plugin reload re", lab.engine)
    while lab.plugin.earlier:
        lab.command("plugin rollback reloaded")
    with pytest.raises(CommandError, match="there is no version before"):
        lab.command("plugin rollback reloaded")
    lab.path.rename(lab.path.with_suffix(".gone"))
    with pytest.raises(CommandError, match=r"its sources .*reloaded\.py are not there"):
        lab.command("plugin reload reloaded")
    lab.path.with_suffix(".gone").rename(lab.path)


# ---- bounds checks, and while an author writes ----------------------------------------------------------------------
def test_a_kernel_with_bounds_checks_drops_what_it_would_have_spoilt(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    """Random frames have not met it: an index from a field that is 0 in them."""
    engine = lab.engine
    lab.write(version(lab.next_step(), ("reload_seen[1] +=", "reload_seen[meta[b].adj] +=")))
    output = lab.command("plugin reload reloaded check")
    assert ", with bounds checks; compiled" in output.text
    assert "runs with bounds checks: none was needed" in lab.command("show plugins").text
    seen, lost = int(engine.tables["reload_seen"].array[1]), int(engine.workers[0].control[d.BAD_NEXT])
    dropped = lab.ended("error-drop")
    for _ in range(2):
        for adj in (1, 100_000, 1, 1):
            assert engine.inject(PACKET, NODE, rx=1, adj=adj)
        engine.run(3)
        engine.tick()
    assert int(engine.tables["reload_seen"].array[1]) == seen + 2
    assert int(engine.workers[0].control[d.BAD_NEXT]) == lost + 6
    assert lab.ended("error-drop") == dropped + 8
    raised = "node reload-test raised IndexError: index is out of bounds"
    assert caplog.text.count(raised) == 1
    assert f"runs with bounds checks: {raised} 2 times" in lab.command("show plugins").text
    lab.command("plugin reload reloaded")
    assert not lab.plugin.checked and "bounds" not in lab.command("show plugins").text
    lab.command("plugin rollback reloaded")
    assert lab.plugin.checked
    lab.reload(version(lab.next_step()))


def test_a_watched_plugin_is_reloaded_when_it_changes(lab: Lab) -> None:
    async def until(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)

    lab.reload(version(lab.next_step()))
    number = lab.plugin.generation
    lab.command("plugin watch reloaded")
    assert "watched" in lab.command("show plugins").text
    lab.write(version(lab.next_step()))
    lab.run(until(lambda: lab.plugin.generation == number + 1))
    assert lab.told[-1].startswith(f"plugin reloaded: version {number + 1} (")
    lab.write(version(lab.next_step(), more="1 / 0\n"))
    lab.run(until(lambda: "ZeroDivisionError" in lab.plugin.refused))
    lab.path.unlink()  # as some editors do, before the new file is there
    lab.write(version(lab.next_step()))
    lab.run(until(lambda: lab.plugin.generation == number + 2))
    assert lab.command("show reload-test").text == f"step {lab.steps}"
    lab.command("plugin watch reloaded off")
    assert "watched" not in lab.command("show plugins").text
    with pytest.raises(CommandError, match="no plugin is called"):
        lab.command("plugin watch nobody")


# ---- while packets flow ---------------------------------------------------------------------------------------------
def test_workers_take_a_version_between_two_rounds(lab: Lab, eventually: Callable[..., None]) -> None:
    """Every packet meets one version, whole: the counter and the table of each grow by the same."""
    engine = lab.engine
    lab.reload(version(lab.next_step()))
    row = engine.workers[0].rows[engine.graph.index_of(NODE)]
    seen, vectors = int(engine.tables["reload_seen"].sum()[1]), int(row["vectors"])
    engine.start()
    sent = 0
    try:
        for _ in range(20):
            lab.run(lab.reloader.rollback("reloaded"))
            lab.reload(version(lab.steps + 1))
            for _ in range(8):
                sent += engine.inject(PACKET, NODE, rx=1)
            engine.tick()
        eventually(lambda: int(row["vectors"]) == vectors + sent)
    finally:
        engine.stop()
    lab.steps += 1
    assert sent > 100
    assert int(engine.tables["reload_seen"].sum()[1]) == seen + sent


@pytest.fixture
def eventually() -> Callable[..., None]:
    def wait(condition: Callable[[], bool], seconds: float = 20.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline

    return wait
