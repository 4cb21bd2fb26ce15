# SPDX-License-Identifier: Apache-2.0
"""`pyvpp plugin check`: each kind of mistake in a kernel is found, told with its place, and nothing else is."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyvpp.jit import COMPILED
from pyvpp.main import main
from pyvpp.plugin.find import PATHS

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not COMPILED, reason="it compiles kernels itself")]

HEAD = """
from enum import IntEnum

import numpy as np
from numba import uint8

from pyvpp.jit import jit
from pyvpp.node import Kind, NodeCounter, node
from pyvpp.tables import interface_table
from pyvpp.typing import U8, U16, U32, U64, Records
from pyvpp.wire import u8

SHARED = interface_table("check_shared", np.uint64)
OWN = interface_table("check_own", np.uint64, per_worker=True)


class Next(IntEnum):
    DROP = 0


NEXT = {Next.DROP: "error-drop"}
"""
NODE = """

@node(name="check-{name}", next=NEXT)
@jit
def {name}(heap: U8, meta: Records, frame: U32, nexts: U16, check_shared: U64, check_own: U64) -> None:
    for i, b in enumerate(frame):
        m = meta[b]
        nexts[i] = Next.DROP
        {body}
"""
BODIES = {
    "right": "check_own[m.rx] += 1",
    "overflow": "m.flow_hash = (heap[m.cur] << 8) & 0xFF00",
    "wrap": "m.flow_hash = heap[m.cur] << 1",
    "outside": "check_own[m.rx + 100_000] += 1",
    "beyond_heap": "m.flow_hash = u8(heap, m.cur + (1 << 40))",
    "unset": "nexts[i] = 0xFFF0",
    "wild": "nexts[i] = 7",
    "sharing": "check_shared[m.rx] += 1",
}
PYTHON = """

@node(name="check-python", kind=Kind.PYTHON)
def python(engine, packet):
    pass
"""


@pytest.fixture(autouse=True)
def forget_plugins(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv(PATHS, raising=False)
    yield
    os.environ.pop(PATHS, None)
    for name in [name for name in sys.modules if name.startswith("pyvpp_plugin_")]:
        del sys.modules[name]


def write(path: Path, bodies: dict[str, str], more: str = "") -> Path:
    path.write_text(HEAD + "".join(NODE.format(name=name, body=body) for name, body in bodies.items()) + more)
    return path


def line_of(path: Path, text: str) -> int:
    return 1 + next(k for k, line in enumerate(path.read_text().splitlines()) if text in line)


def test_each_mistake_of_a_kernel(tmp_path, capsys):
    path = write(tmp_path / "mistakes.py", BODIES, PYTHON)
    assert main(["plugin", "check", str(path), "--frames", "4"]) == 1
    said = capsys.readouterr().out
    verdicts = {line.split()[1].rstrip(":"): line.split()[0] for line in said.splitlines() if not line.startswith(" ")}
    assert verdicts == {
        "check-right": "ok",
        "check-python": "ok",
        **{f"check-{name}": "fail" for name in BODIES if name != "right"},
    }
    assert "check-python: kind python: declarations checked, not run" in said
    for name, expected in {
        "overflow": "as plain Python on frame 1: ",
        "wrap": "its metadata differ from byte",
        "outside": "with bounds checks on frame 1: IndexError",
        "unset": "it has no next (expected nexts[i] to be set for every packet)",
        "wild": "its next is 7, but there are 1",
        "sharing": "writes table check_shared, which all workers share (expected per_worker=True)",
    }.items():
        of_node = said.partition(f"fail  check-{name}\n")[2].partition("\nfail")[0].partition("\nok")[0]
        assert expected in of_node, (name, of_node)
        declared = line_of(path, f'"check-{name}"')
        assert f"{path}:{declared}: " in of_node
    assert f"{path}:{line_of(path, 'm.rx + 100_000')}: IndexError" in said  # plain Python knows the line


def test_a_kernel_that_does_not_compile(tmp_path, capsys):
    path = write(tmp_path / "typing.py", {"right": BODIES["right"], "untyped": "nexts[i] = 'drop'"})
    assert main(["plugin", "check", str(path)]) == 1
    said = capsys.readouterr().out
    assert f"{path}:{line_of(path, repr('drop'))}: node check-untyped: numba cannot compile it: " in said
    assert "check-right: not run, since another node cannot be compiled" in said


def test_a_plugin_without_fault_is_timed(tmp_path, capsys):
    path = write(tmp_path / "sound.py", {"right": BODIES["right"]})
    assert main(["plugin", "check", str(path), "--frames", "3"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("ok    check-right: 3 random frames, compiled with bounds checks as in plain Python; ")
    clocks = float(said.split("; ")[1].split()[0])
    assert 0.1 < clocks < 10_000


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("nodse", "plugin check nodse: no such plugin (did you mean nodes?)"),
        ("./nowhere.py", "there is no such file or folder"),
        ("nodes --frames 0", "--frames 0: from 1 to 100000"),
    ],
)
def test_what_cannot_be_checked(capsys, word, said):
    assert main(["plugin", "check", *word.split()]) == 1
    output = capsys.readouterr()
    assert (output.out, output.err.count("\n")) == ("", 1)
    assert said in output.err


def test_a_declaration_that_does_not_fit(tmp_path, capsys):
    path = write(tmp_path / "declared.py", {"right": BODIES["right"]})
    path.write_text(path.read_text().replace('"error-drop"', '"error-dorp"'))
    assert main(["plugin", "check", str(path)]) == 1
    said = capsys.readouterr().err
    assert "node check-right: its next error-dorp does not exist (did you mean error-drop?)" in said
