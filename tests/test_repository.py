# SPDX-License-Identifier: Apache-2.0
"""The promises of HACKING.md that a machine can keep: files are where a newcomer looks for them."""

import ast
import importlib.metadata
import inspect
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyvpp
from pyvpp.jit import plain
from pyvpp.loader import load
from pyvpp.plugin.new import FILES

ROOT = Path(__file__).resolve().parent.parent
NODES = ROOT / "graph_nodes" / "pyvpp_nodes"
PLUGINS = ROOT / "plugins"
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())


def sources(*folders: Path) -> Iterator[Path]:
    for folder in folders:
        yield from sorted(folder.rglob("*.py"))


def node_names(path: Path) -> list[str]:
    """The names in the file's @node(name="...") decorators."""
    names = []
    for function in ast.walk(ast.parse(path.read_text(), str(path))):
        for decorator in getattr(function, "decorator_list", ()):
            if isinstance(decorator, ast.Call) and ast.unparse(decorator.func).split(".")[-1] == "node":
                names += [ast.unparse(k.value).strip("'\"") for k in decorator.keywords if k.arg == "name"]
    return names


def node_files() -> dict[Path, list[str]]:
    """Each file of the stack and of the plugins that declares a node, with the nodes' names."""
    found = {path: node_names(path) for path in sources(NODES, PLUGINS)}
    return {path: names for path, names in found.items() if names}


def its_test(source: Path) -> Path:
    """pyvpp_nodes/ip4/lookup.py is tested by tests/graph_nodes/ip4/test_lookup.py; plugins keep their package's name."""
    if source.is_relative_to(NODES):
        folder = ROOT / "tests" / "graph_nodes" / source.parent.relative_to(NODES)
    else:
        folder = ROOT / "tests" / "plugins" / source.parent.relative_to(PLUGINS)
    return folder / f"test_{source.name}"


def relative(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(ROOT)) for path in paths]


def test_every_node_file_has_its_test_file():
    missing = [its_test(path) for path in node_files() if not its_test(path).exists()]
    assert not missing, "write " + ", ".join(relative(missing))


def test_one_node_one_file():
    crowded = {str(path.relative_to(ROOT)): names for path, names in node_files().items() if len(names) > 1}
    assert not crowded


def test_a_node_file_opens_with_the_node_name():
    """The docstring is the manual page: "ip4-lookup: find the adjacency of a packet"."""
    wrong = []
    for path, names in node_files().items():
        docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
        if not docstring.startswith(f"{names[0]}: "):
            wrong.append(f'{path.relative_to(ROOT)}: the docstring does not begin "{names[0]}: "')
    assert not wrong, "\n".join(wrong)


def test_node_names_are_unique():
    names = [name for found in node_files().values() for name in found]
    assert sorted(names) == sorted(set(names))


OWNED = {"af_packet_rx_queues", "tap_rx_queues", "handoff_rings"}
"""Tables that workers share and kernels write: a receive queue's row is that of the worker that reads it, each line of
a ring between two that of one of them."""


def written_names(kernel: ast.AST) -> set[str]:
    """Names of the arrays a function stores into, also by way of a local name for one of their records."""
    records: dict[str, str] = {}
    targets: list[ast.expr] = []
    for each in ast.walk(kernel):
        if isinstance(each, ast.Assign):
            targets += each.targets
            if isinstance(each.value, ast.Subscript) and isinstance(each.value.value, ast.Name):
                records |= {target.id: each.value.value.id for target in each.targets if isinstance(target, ast.Name)}
        elif isinstance(each, ast.AugAssign):
            targets.append(each.target)
    found = set()
    for target in targets:
        inner: ast.expr = target
        while isinstance(inner, ast.Subscript | ast.Attribute):
            inner = inner.value
        if inner is not target and isinstance(inner, ast.Name):
            found.add(records.get(inner.id, inner.id))
    return found


def test_kernels_write_no_table_that_workers_share():
    """Another worker may run the same kernel at this moment; what a function it calls writes is not seen here."""
    declared = load()
    shared = {table.name for table in declared.tables.values() if table.shared}
    shared |= {arc.table.name for arc in declared.arcs.values()}
    wrong = [
        f"{each.name} writes {table}"
        for each in declared.nodes.values()
        if each.kind.compiled
        for table in written_names(ast.parse(inspect.getsource(plain(each.kernel)))) & shared - OWNED
    ]
    assert not wrong


def test_every_source_names_its_licence():
    files = sources(ROOT / "pyvpp", ROOT / "graph_nodes", PLUGINS, ROOT / "tests", ROOT / "bench")
    bare = [path for path in files if not path.read_text().startswith("# SPDX-License-Identifier: Apache-2.0\n")]
    assert not relative(bare)


def test_every_source_folder_is_a_package():
    """The loader walks packages: a node in a folder without __init__.py would never be found."""
    folders = {path.parent for path in sources(ROOT / "pyvpp", NODES, *PLUGINS.glob("pyvpp_*"))}
    assert not relative([folder for folder in sorted(folders) if not (folder / "__init__.py").exists()])


def test_source_roots_hold_only_packages_of_ours():
    """Whatever lies here becomes a top-level name in everybody's site-packages."""
    packages = [path for root in (NODES.parent, PLUGINS) for path in root.iterdir() if path.is_dir()]
    assert not [path.name for path in packages if not path.name.startswith("pyvpp_") and path.name != "__pycache__"]


def test_every_package_of_nodes_is_announced_and_typed():
    packages = [path.parent for root in (NODES.parent, PLUGINS) for path in root.glob("pyvpp_*/__init__.py")]
    names = {path.name for path in packages}
    assert set(PROJECT["project"]["entry-points"]["pyvpp.plugins"].values()) == names
    assert set(PROJECT["tool"]["importlinter"]["root_packages"]) == {"pyvpp"} | names
    untyped = [path for path in (ROOT / "pyvpp", *packages) if not (path / "py.typed").exists()]
    assert not relative(untyped)


def test_one_version():
    version = PROJECT["project"]["version"]
    assert pyvpp.__version__ == version
    try:
        installed = importlib.metadata.distribution("pyvpp")
    except importlib.metadata.PackageNotFoundError:
        return  # a bare checkout
    assert installed.version == version, "run `pip install -e .` again"


def test_every_plugin_of_the_checkout_is_found_and_usable():
    """Also where pyvpp was installed before a plugin joined; the stack is first."""
    found = [plugin for plugin in load().plugins if plugin.source.startswith("pyvpp_")]
    announced = PROJECT["project"]["entry-points"]["pyvpp.plugins"]
    assert {plugin.name: plugin.source for plugin in found}.items() >= announced.items()
    assert [plugin.error for plugin in found] == [""] * len(found)
    assert found[0].source == "pyvpp_nodes"


MADE_BY_NEW = {Path(path).name for path in FILES if path.startswith("{package}/")} - {"{ident}.py"}


def test_first_party_plugins_have_the_shape_that_plugin_new_makes():
    """The package `pyvpp plugin new` makes, and its tests; with more nodes where it has more."""
    for package in sorted(PLUGINS.glob("pyvpp_*")):
        assert {path.name for path in package.iterdir()} >= MADE_BY_NEW | {"py.typed"}, package.name
        assert any(path.parent == package for path in node_files()), f"{package.name} has no node"
        tests = ROOT / "tests" / "plugins" / package.name
        assert (tests / "test_path.py").exists(), f"write {tests.relative_to(ROOT)}/test_path.py"


def test_the_commands_exist():
    for command, target in PROJECT["project"]["scripts"].items():
        module, function = target.split(":")
        path = ROOT / (module.replace(".", "/") + ".py")
        assert path.exists(), f"{command} = {target}"
        defined = {n.name for n in ast.parse(path.read_text()).body if isinstance(n, ast.FunctionDef)}
        assert function in defined, f"{command} = {target}"
