# SPDX-License-Identifier: Apache-2.0
"""The reference of the plugin kit: whole, and told by module and by name."""

import pytest

import pyvpp_nodes
from pyvpp.errors import OperatorError
from pyvpp.plugin import main
from pyvpp.plugin.api import ENGINE, modules, read, reference

MODULES = modules([pyvpp_nodes])
PACKAGES = [pyvpp_nodes]


@pytest.mark.parametrize("module", MODULES)
def test_everything_public_is_described(module: str) -> None:
    page = read(module)
    assert page.text
    bare = [f"{each.of}.{each.name}" if each.of else each.name for each in page.names if not each.text]
    assert not bare, f"{module}: {', '.join(bare)}"


def test_the_kit_is_all_there() -> None:
    assert set(MODULES) >= {*ENGINE, "pyvpp_nodes.kit.hash_table", "pyvpp_nodes.kit.prefixes", "pyvpp_nodes.ip4.header"}
    listed = reference("", PACKAGES).splitlines()
    assert len(listed) == len(MODULES)
    assert any(line.startswith("pyvpp.features ") and "Feature arcs: " in line for line in listed)


def test_a_module() -> None:
    text = reference("pyvpp.tables", PACKAGES)
    assert text.startswith("pyvpp.tables\n============\n\nTables: the arrays")
    assert "class Table\n    Declares a table: " in text
    assert "    grow(n: int) -> None\n        Makes room for at least `n` elements" in text
    assert "    dtype: Any\n" in text
    assert "def _" not in text and "_large_pages" not in text


def test_a_name() -> None:
    assert reference("next_feature", PACKAGES) == (
        "pyvpp.features: next_feature(feature_chains: U16, m: Record) -> int   [for kernels]\n"
        "    The next value with which a feature node passes a packet on.\n"
    )
    grow = reference("TableInstance.grow", PACKAGES)
    assert grow.startswith("    grow(n: int) -> None\n        Makes room")
    assert "pyvpp.wire: u8, put_u8\n    `u8(array: U8, at: int) -> int`" in reference("u8", PACKAGES)


def test_what_is_compiled_in_one_way_and_plain_in_another_is_told_once() -> None:
    names = [each.name for each in read("pyvpp.wire").names]
    assert names.count("copy_line") == 1


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(OperatorError, match=r"plugin api next_featur: .*\(did you mean next_feature\?\)"):
        reference("next_featur", PACKAGES)
    with pytest.raises(OperatorError, match=r"there is no module pyvpp\.nowhere"):
        read("pyvpp.nowhere")


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["api", "hash_table"]) == 0
    assert capsys.readouterr().out.startswith("pyvpp_nodes.kit.hash_table: hash_table(name: str, *, key_bytes: int")
    assert main(["api", "--all"]) == 0
    text = capsys.readouterr().out
    assert all(f"\n{module}\n{'=' * len(module)}\n" in f"\n{text}" for module in MODULES)
