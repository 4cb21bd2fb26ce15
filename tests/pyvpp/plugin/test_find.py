# SPDX-License-Identifier: Apache-2.0
"""Where plugins are found, and that one which cannot be used is disabled and told of while everything else goes on."""

import asyncio
import contextlib
import json
import logging
import os
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pyvpp import cache
from pyvpp.cli.assembly import command_tree
from pyvpp.cli.registry import CommandError, Output
from pyvpp.engine import Engine
from pyvpp.errors import OperatorError
from pyvpp.jit import COMPILED
from pyvpp.loader import Declarations, load
from pyvpp.plugin import snapshot
from pyvpp.plugin.find import PATHS, RUNNING, Plugin, give_path


def engine_test(test: Any) -> Any:
    return pytest.mark.slow(pytest.mark.skipif(not COMPILED, reason="the dispatcher is native code")(test))


GOOD = '''
"""Counts packets of an interface.

Nothing else.
"""
from enum import IntEnum

from pyvpp.features import Feature, next_feature
from pyvpp.jit import jit
from pyvpp.node import Kind, NodeCounter, node
from pyvpp.tables import Table, interface_table
from pyvpp.typing import U16, U32, U64, Records
import numpy as np

SEEN = interface_table("plugin_test_seen", np.uint64, per_worker=True)


class Next(IntEnum):
    DROP = 0


class Counter(NodeCounter):
    SEEN = 0, "packets seen"


@node(name="plugin-test", next={Next.DROP: "error-drop"}, counters=Counter, features=(Feature("ip4-unicast"),))
@jit
def plugin_test(
    meta: Records, frame: U32, nexts: U16, counters: U64, feature_chains: U16, plugin_test_seen: U64
) -> None:
    for i, b in enumerate(frame):
        counters[Counter.SEEN] += 1
        plugin_test_seen[meta[b].rx] += 1
        nexts[i] = next_feature(feature_chains, meta[b])
'''


def write(path: Path, text: str = GOOD) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text))
    return path


@pytest.fixture(autouse=True)
def forget_modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv(PATHS, raising=False)
    before = set(sys.modules)
    yield
    os.environ.pop(PATHS, None)  # give_path's
    for name in set(sys.modules) - before:
        if name.startswith(("pyvpp_plugin_", "pyvpp_third")):
            del sys.modules[name]


@pytest.fixture
def given(tmp_path: Path) -> Callable[[str, str], Declarations]:
    def load_with(text: str, name: str = "a_plugin") -> Declarations:
        give_path(str(write(tmp_path / f"{name}.py", text)))
        return load()

    return load_with


def of(declarations: Declarations, name: str) -> Plugin:
    return next(plugin for plugin in declarations.plugins if plugin.name == name)


# ---- where they are found -------------------------------------------------------------------------------------------
def test_a_single_file(given):
    declarations = given(GOOD)
    assert "plugin-test" in declarations.nodes
    assert "plugin_test_seen" in declarations.tables
    plugin = of(declarations, "a-plugin")
    assert (plugin.error, plugin.description) == ("", "Counts packets of an interface")
    assert declarations.plugin_of("pyvpp_plugin_a_plugin") is plugin


def test_a_package_and_its_project(tmp_path):
    write(tmp_path / "project/pyvpp_third/__init__.py", '"""The third."""\n__version__ = "3"\n')
    write(tmp_path / "project/pyvpp_third/seen.py")
    write(tmp_path / "project/pyproject.toml", '[project.entry-points."pyvpp.plugins"]\nthird = "pyvpp_third"\n')
    assert give_path(str(tmp_path / "project/pyvpp_third")) == give_path(str(tmp_path / "project"))
    declarations = load()
    plugin = of(declarations, "third")
    assert (plugin.version, plugin.description, plugin.error) == ("3", "The third", "")
    assert declarations.plugin_of(declarations.nodes["plugin-test"].module) is plugin


def test_a_version_that_ran_in_the_process_before(tmp_path, monkeypatch):
    """Its copy is imported, not what its author has written since; but that is where `plugin reload` looks."""
    path = write(tmp_path / "a_plugin.py", "raise LookupError('half written')\n")
    kept = write(tmp_path / "versions/abc/a_plugin.py", GOOD.replace("Counts", "Version three: counts"))
    give_path(str(path))
    monkeypatch.setenv(RUNNING, json.dumps({"a-plugin": [str(kept), 3], "another": ["/nowhere", 2]}))
    declarations = load()
    plugin = of(declarations, "a-plugin")
    assert (plugin.error, plugin.generation, plugin.digest) == ("", 3, "abc")
    assert plugin.description.startswith("Version three")
    assert snapshot.origin(plugin) == path
    assert load().nodes["plugin-test"] is declarations.nodes["plugin-test"]  # imported once


def test_a_version_that_ran_and_is_no_more_kept(tmp_path, monkeypatch, caplog):
    give_path(str(write(tmp_path / "a_plugin.py")))
    monkeypatch.setenv(RUNNING, json.dumps({"a-plugin": [str(tmp_path / "gone/a_plugin.py"), 3]}))
    plugin = of(load(), "a-plugin")
    assert (plugin.error, plugin.generation) == ("", 1)
    assert "plugin a-plugin: version 3 is no more kept: its sources are taken" in caplog.text


def test_what_pip_installed(tmp_path, monkeypatch):
    """A distribution as it lies in site-packages. The stack is there as well, and first."""
    write(tmp_path / "pyvpp_third/__init__.py")
    write(tmp_path / "third-1.2.dist-info/METADATA", "Metadata-Version: 2.1\nName: third\nVersion: 1.2\n")
    write(tmp_path / "third-1.2.dist-info/entry_points.txt", "[pyvpp.plugins]\na-third = pyvpp_third\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    declarations = load()
    assert declarations.plugins[0].source == "pyvpp_nodes"
    plugin = of(declarations, "a-third")
    assert (plugin.version, plugin.error) == ("1.2", "")
    assert "plugin-test" in declarations.nodes


def test_installing_one_beside_pyvpp_compiles_nothing_else_anew(tmp_path, monkeypatch):
    """In site-packages everything lies in one folder."""
    monkeypatch.setattr(cache, "__file__", str(write(tmp_path / "pyvpp/cache.py", "")))
    write(tmp_path / "pyvpp_nodes/__init__.py", "")
    before = cache.key()
    write(tmp_path / "pyvpp_third/__init__.py")
    write(tmp_path / "third-1.2.dist-info/METADATA", "Metadata-Version: 2.1\nName: third\nVersion: 1.2\n")
    write(tmp_path / "third-1.2.dist-info/entry_points.txt", "[pyvpp.plugins]\na-third = pyvpp_third\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert cache.key() == before
    write(tmp_path / "pyvpp_nodes/another.py", "")
    assert cache.key() != before


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("nowhere.py", "there is no such file or folder"),
        ("empty", "no package, and no project that names one (expected __init__.py)"),
        ("text.txt", "no Python file (expected its name to end with .py)"),
        ("2nd.py", "`2nd' is no name for a module (expected letters, digits and _)"),
        ("none", 'pyproject.toml names 0 packages in "pyvpp.plugins" (expected one)'),
        ("broken", "pyproject.toml cannot be read"),
    ],
)
def test_a_path_that_is_no_plugin_is_refused(tmp_path, path, said):
    (tmp_path / "empty").mkdir()
    write(tmp_path / "text.txt", "")
    write(tmp_path / "2nd.py", "")
    write(tmp_path / "none/pyproject.toml", "[project]\n")
    write(tmp_path / "broken/pyproject.toml", "[project\n")
    with pytest.raises(OperatorError) as refused:
        give_path(str(tmp_path / path))
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


# ---- what cannot be used --------------------------------------------------------------------------------------------
def test_one_that_raises_when_imported_is_disabled_with_its_traceback_in_the_log(given, caplog):
    with caplog.at_level(logging.ERROR):
        declarations = given(GOOD + "\nraise LookupError('no sense')\n")
    plugin = of(declarations, "a-plugin")
    assert plugin.error.startswith("LookupError: no sense (")
    assert "a_plugin.py:" in plugin.error
    assert "Traceback" in caplog.text
    assert "plugin-test" not in declarations.nodes
    assert "ip4-lookup" in declarations.nodes
    assert all("a_plugin" not in package.__name__ for package in declarations.packages)


def test_the_log_has_it_once(given, caplog):
    given("raise LookupError('once')\n")
    load()
    assert caplog.text.count("is disabled") == 1


def test_one_that_takes_the_name_of_a_node_is_disabled(given):
    declarations = given(GOOD.replace('"plugin-test"', '"ip4-lookup"'))
    assert "node ip4-lookup is declared twice" in of(declarations, "a-plugin").error
    assert declarations.nodes["ip4-lookup"].module == "pyvpp_nodes.ip4.lookup"


@pytest.mark.parametrize(
    ("change", "line", "said"),
    [
        (('"error-drop"', '"eror-drop"'), "@node(", "its next eror-drop does not exist (did you mean error-drop?)"),
        (("plugin_test_seen: U64", "plugin_test_sen: U64"), "@node(", "no table plugin_test_sen is declared anywhere (did you mean plugin_test_seen?)"),
        (("np.uint64,", "np.uint32,"), "@node(", "its kernel takes plugin_test_seen as an array of uint64, but table plugin_test_seen holds uint32"),
        (("np.uint64,", "'nonsense',"), "", "nonsense"),
        (("Counter.SEEN] += 1", "Counter.SEEN] += One"), "+= One", "the name One is not defined"),
        ((" counters=Counter,", ""), "@node(", "no counters are declared (expected counters=Counter)"),
        (("counters[Counter.SEEN]", "counters[Counter.SEN]"), "counters[Counter.SEN]", "Counter.SEN does not exist (did you mean SEEN?)"),
        (("= next_feature(feature_chains, meta[b])", "= Next.DORP"), "nexts[i] =", "Next.DORP does not exist (did you mean DROP?)"),
        (('next={Next.DROP: "error-drop"}, ', ""), None, None),
        (("= next_feature(feature_chains, meta[b])\n", "= Next.LATE\n"), "nexts[i] =", "Next.LATE does not exist (there are DROP)"),
        (('Feature("ip4-unicast")', 'Feature("ip4-unicats")'), "@node(", "there is no feature arc ip4-unicats (did you mean ip4-unicast?)"),
        (('Feature("ip4-unicast")', 'Feature("ip4-unicast", runs_after=("plugin-test",))'), "@node(", "on the feature arc ip4-unicast it runs before itself"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_file_and_line(given, caplog, change, line, said):
    assert change[0] in GOOD
    text = GOOD.replace(*change)
    declarations = given(text)
    plugin = of(declarations, "a-plugin")
    if said is None:
        assert plugin.error == ""
        return
    assert said in plugin.error
    assert "plugin-test" not in declarations.nodes
    assert "plugin_test_seen" not in declarations.tables
    if line:
        number = 1 + next(k for k, each in enumerate(text.splitlines()) if line in each)
        assert f"a_plugin.py:{number}: node plugin-test: " in plugin.error
    assert f"plugin a-plugin is disabled: {plugin.error}" in caplog.text


MORE = """
from pyvpp.features import FeatureArc
from pyvpp.tables import Table, buffer_table

OTHER = Table("plugin_test_other", np.uint32, 4)

@node(name="plugin-test-slow", kind=Kind.SLOW, next={0: "error-drop"})
def slow(frame: U32, nexts: U16) -> None:
    nexts[:] = 0

@node(name="plugin-test-python", kind=Kind.PYTHON)
def python(engine, packet) -> None:
    pass

@node(name="plugin-test-process", kind=Kind.PROCESS)
async def process(engine) -> None:
    pass

@node(name="plugin-test-input", kind=Kind.INPUT, next={0: "error-drop"})
@jit
def input(frame: U32, nexts: U16) -> int:
    return 0
"""


@pytest.mark.parametrize(
    ("change", "line", "said"),
    [
        (("async def process", "def process"), "kind=Kind.PROCESS", "node plugin-test-process: its function is no coroutine (expected `async def` with kind=Kind.PROCESS)"),
        (("process(engine)", "process()"), "kind=Kind.PROCESS", "its function takes nothing (expected engine with kind=Kind.PROCESS)"),
        (("kind=Kind.PROCESS", "kind=Kind.PROCESS, next={0: 'error-drop'}"), "kind=Kind.PROCESS", "packets do not go on from a node of kind=Kind.PROCESS (Kind.SLOW has nexts)"),
        (("def slow", "async def slow"), "kind=Kind.SLOW", "its function is a coroutine, which nobody awaits (expected kind=Kind.PROCESS"),
        (("\ndef slow", "\n@jit\ndef slow"), "kind=Kind.SLOW", "its function is compiled (expected no @jit with kind=Kind.SLOW"),
        (("def slow(frame", "def slow(pool: U32, frame"), "kind=Kind.SLOW", "its function takes pool, which only a compiled kernel has"),
        (("def slow(frame", "def slow(nonsense: U32, frame"), "kind=Kind.SLOW", "no table nonsense is declared anywhere"),
        (("python(engine, packet)", "python(packet)"), "kind=Kind.PYTHON", "its function takes packet (expected engine and packet with kind=Kind.PYTHON)"),
        (('{0: "error-drop"})\ndef slow', '{0: "plugin-test-process"})\ndef slow'), "kind=Kind.SLOW", "its next plugin-test-process is of kind process, which gets no packets"),
        (('{0: "error-drop"})\ndef slow', '{0: "pg-input"})\ndef slow'), "kind=Kind.SLOW", "its next pg-input is of kind input, which gets no packets"),
        (("kind=Kind.INPUT", 'kind=Kind.INPUT, features=(Feature("ip4-unicast"),)'), "kind=Kind.INPUT", "it is of kind input, which gets no packets, so it can be no feature"),
        (("def input(frame", "def input(engine, frame"), "kind=Kind.INPUT", "its kernel takes engine, which compiled code cannot have"),
        (("plugin-test-slow", "plugin test slow"), "kind=Kind.SLOW", "its name `plugin test slow' cannot be one (expected words such as ip4-lookup)"),
        (("np.uint32, 4", "object, 4"), "OTHER =", "table plugin_test_other: its dtype object holds Python objects, which a kernel cannot read"),
        (("np.uint32, 4", "'u32', 4"), "OTHER =", "table plugin_test_other: its dtype 'u32' is none that NumPy knows"),
        (("np.uint32, 4", "np.uint32, 0"), "OTHER =", "table plugin_test_other: its capacity is 0 (expected 1 or more elements)"),
        (('"plugin_test_other"', '"plugin-test-other"'), "OTHER =", "a kernel names it by a parameter (expected a name of letters, digits and _)"),
        (('"plugin_test_other"', '"frame"'), "OTHER =", "table frame: a kernel's parameter of that name is something else"),
        (('"plugin_test_other"', '"interfaces"'), "OTHER =", "table interfaces is declared twice"),
        (("OTHER =", 'ARC = FeatureArc("plugin-test", last="nowhere")\nOTHER ='), "ARC =", "feature arc plugin-test: its last node nowhere does not exist"),
        (("kind=Kind.SLOW, next={0: ", "kind=Kind.SLOW, next=[(0, "), None, "'"),
        (('next={0: "error-drop"})\ndef slow', 'next=["error-drop"])\ndef slow'), "kind=Kind.SLOW", "node plugin-test-slow: next=['error-drop'] (expected names of nodes by number"),
        (("kind=Kind.SLOW", 'kind="slow"'), 'kind="slow"', "node plugin-test-slow: kind='slow' (expected Kind.INTERNAL, ...)"),
        (("kind=Kind.SLOW", 'kind=Kind.SLOW, features=Feature("ip4-unicast")'), "kind=Kind.SLOW", "(expected a tuple such as (Feature("),
        (("kind=Kind.SLOW", 'kind=Kind.SLOW, counters=("seen",)'), "kind=Kind.SLOW", "(expected a class that derives from NodeCounter)"),
    ],
)  # fmt: skip
def test_a_mistake_with_another_kind_or_a_table_is_told_with_file_and_line(given, change, line, said):
    if "is compiled" in said and not COMPILED:
        pytest.skip("as plain Python nothing is")
    assert change[0] in MORE
    text = GOOD.replace("import NodeCounter, node", "import Kind, NodeCounter, node") + MORE.replace(*change, 1)
    error = of(given(text), "a-plugin").error
    assert said in error
    assert "\n" not in error
    if line:
        number = 1 + next(k for k, each in enumerate(text.splitlines()) if line in each)
        assert f"a_plugin.py:{number}" in error


def test_a_counter_without_a_text_is_told_with_file_and_line(given):
    text = GOOD.replace('SEEN = 0, "packets seen"', "SEEN = 0")
    error = of(given(text), "a-plugin").error
    line = 1 + next(k for k, each in enumerate(text.splitlines()) if "class Counter" in each)
    assert error.startswith('ValueError: a counter is a number and a text, such as BAD = 0, "bad checksum", not 0 ')
    assert error.endswith(f"a_plugin.py:{line})")


def test_a_next_that_is_used_but_not_declared(given):
    text = GOOD.replace("    DROP = 0\n", "    DROP = 0\n    PUNT = 1\n").replace(
        "= next_feature(feature_chains, meta[b])", "= Next.PUNT"
    )
    assert "Next.PUNT is used, but next= does not say which node that is" in of(given(text), "a-plugin").error


# ---- on an engine ---------------------------------------------------------------------------------------------------
PACKET = bytes.fromhex("45000014000100004011 65d6 0a010102 0a010203".replace(" ", ""))
RAISING = """

def python_node(engine, packet):
    raise LookupError("python node")

TO_PYTHON = node(name="plugin-test-python", kind=Kind.PYTHON)(python_node)

def timer():
    raise LookupError("timer")

def subscriber(interface):
    raise LookupError("subscriber")

def start(engine):
    engine.every_second(timer)
    engine.events.on("interface-created", subscriber)

from pyvpp.cli.registry import command

@command("show plugin-test", help="show plugin-test")
def show(engine, args):
    raise LookupError("command")
"""


@pytest.fixture
def engines() -> Iterator[Callable[[Declarations], Engine]]:
    made: list[Engine] = []

    def make(declarations: Declarations) -> Engine:
        made.append(Engine(declarations, buffers=512, hugepages="off"))
        return made[-1]

    yield make
    for engine in made:
        engine.close()


def forwards(engine: Engine) -> bool:
    """Whether a packet without a route still gets where packets without a route end."""
    graph_node = engine.graph.find("error-drop")
    assert graph_node
    before = int(engine.workers[0].rows["vectors"][graph_node.index])
    assert engine.inject(PACKET, "ip4-input", rx=1)
    engine.run(4)
    return int(engine.workers[0].rows["vectors"][graph_node.index]) == before + 1


def run(engine: Engine, line: str) -> Output:
    return asyncio.run(command_tree(engine.declarations.packages, engine.blame).run(engine, line))


@engine_test
def test_a_kernel_that_numba_cannot_type(given, engines):
    text = GOOD.replace("        counters[Counter.SEEN] += 1\n", "        counters[Counter.SEEN] += 'one'\n")
    declarations = given(text)
    assert of(declarations, "a-plugin").error == ""
    engine = engines(declarations)
    line = 1 + next(k for k, each in enumerate(text.splitlines()) if "'one'" in each)
    error = of(declarations, "a-plugin").error
    assert f"a_plugin.py:{line}: node plugin-test: numba cannot compile it: " in error
    assert "\n" not in error
    assert engine.graph.find("plugin-test") is None
    assert forwards(engine)


@engine_test
def test_a_field_of_a_record_that_does_not_exist(given, engines):
    """numba has no words for it but a KeyError."""
    text = GOOD.replace("        counters[Counter.SEEN] += 1\n", "        counters[Counter.SEEN] += meta[b].lenght\n")
    error = of(engines(given(text)).declarations, "a-plugin").error
    line = 1 + next(k for k, each in enumerate(text.splitlines()) if "lenght" in each)
    assert error.endswith(
        f"a_plugin.py:{line}: node plugin-test: numba cannot compile it: a record has no field lenght"
    )


@engine_test
def test_an_edited_file_is_compiled_anew(given, engines):
    """numba's cache would not notice: the entry it has compiled is generated from the declaration."""
    engine = engines(given(GOOD))
    (plugin_node,) = [each for each in engine.graph if each.name == "plugin-test"]
    assert engine.inject(PACKET, "plugin-test", rx=1)
    engine.run(2)
    assert int(plugin_node.counts()[0]) == 1
    del sys.modules["pyvpp_plugin_a_plugin"]
    engine = engines(given(GOOD.replace("counters[Counter.SEEN] += 1", "counters[Counter.SEEN] += 5")))
    (plugin_node,) = [each for each in engine.graph if each.name == "plugin-test"]
    assert engine.inject(PACKET, "plugin-test", rx=1)
    engine.run(2)
    assert int(plugin_node.counts()[0]) == 5


@engine_test
def test_one_that_fails_to_start(given, engines, caplog):
    engine = engines(given(GOOD + "\n\ndef start(engine):\n    raise LookupError('no start')\n"))
    plugin = of(engine.declarations, "a-plugin")
    assert "LookupError: no start" in plugin.error
    assert "Traceback" in caplog.text
    assert forwards(engine)


@engine_test
@pytest.mark.parametrize("what", ["timer", "subscriber", "python node", "command"])
def test_control_code_that_raises(given, engines, caplog, what):
    engine = engines(given(GOOD + RAISING))
    plugin = of(engine.declarations, "a-plugin")
    engine.features.enable("ip4-unicast", "plugin-test", 1)
    assert plugin.error == ""
    triggers = {
        "timer": engine.tick,
        "subscriber": lambda: run(engine, "create loopback interface"),
        "python node": lambda: (engine.inject(PACKET, "plugin-test-python"), engine.run(2), engine.drain_punts()),
        "command": lambda: run(engine, "show plugin-test"),
    }
    with contextlib.suppress(CommandError):
        triggers[what]()
    assert plugin.error.startswith(f"LookupError: {what} (")
    assert "Traceback" in caplog.text
    assert engine.features.enabled("ip4-unicast", 1) == []
    assert forwards(engine)
    caplog.clear()
    for name in ("timer", "subscriber", "python node"):
        triggers[name]()
    assert "LookupError" not in caplog.text
    with pytest.raises(CommandError, match="show plugin-test: plugin a-plugin is disabled: LookupError: " + what):
        run(engine, "show plugin-test")
    shown = run(engine, "show plugins")
    assert f"     disabled: LookupError: {what}" in shown.text
    states = {each["name"]: each["state"] for each in shown.data}
    assert states.pop("a-plugin") == "disabled"
    assert set(states.values()) == {"enabled"}


@engine_test
def test_a_command_that_the_stack_has_already(given, engines):
    clash = RAISING.replace('"show plugin-test", help', '"show version", help')
    engine = engines(given(GOOD + clash))
    assert run(engine, "show version").text.startswith("pyvpp v")
    assert "commands defined twice: show version" in of(engine.declarations, "a-plugin").error


@engine_test
def test_show_plugins_in_vpps_words(given, engines):
    shown = run(engines(given(GOOD)), "show plugins").text.splitlines()
    assert shown[2] == "     Plugin                                   Version                          Description"
    assert shown[3].startswith("  1. nodes                                    ")
    assert shown[-1][3:] == ". a-plugin" + " " * 66 + "Counts packets of an interface"
