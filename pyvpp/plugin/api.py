# SPDX-License-Identifier: Apache-2.0
"""`pyvpp plugin api`: the reference of the plugin kit, made from the docstrings of its modules.

A package that is part of it names its modules in `API`; the engine's are below. What begins with _ is nobody else's.
The sources are read, not imported, so that what is shown is what stands there: annotations by their short names.
"""

import ast
import importlib.util
import inspect
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pyvpp.errors import OperatorError
from pyvpp.faults import meant

ENGINE = (
    "pyvpp.node", "pyvpp.jit", "pyvpp.typing", "pyvpp.wire", "pyvpp.bits", "pyvpp.checksum", "pyvpp.buffers",
    "pyvpp.tables", "pyvpp.features", "pyvpp.interface", "pyvpp.engine", "pyvpp.slow_path", "pyvpp.process",
    "pyvpp.events", "pyvpp.errors", "pyvpp.trace", "pyvpp.trace_format", "pyvpp.cli.registry", "pyvpp.cli.arguments",
    "pyvpp.testing", "pyvpp.bench.scenario",
)  # fmt: skip
KINDS = {"jit": "compiled", "inline": "for kernels", "outline": "for kernels", "allocating_jit": "compiled"}
INDENT = "    "


@dataclass(frozen=True)
class Name:
    """Something public: `head` is how it is written, `text` its docstring, `of` the class it belongs to."""

    name: str
    head: str
    text: str
    of: str = ""


@dataclass(frozen=True)
class Page:
    """A module: its docstring and its public names in the order they stand there."""

    module: str
    text: str
    names: list[Name] = field(default_factory=list)

    @property
    def summary(self) -> str:
        return self.text.partition("\n")[0]


def modules(packages: Iterable[object] = ()) -> list[str]:
    """The kit's modules: the engine's, and those that packages of plugins name."""
    named = [module for package in packages for module in getattr(package, "API", ())]
    return [*ENGINE, *named]


def read(module: str) -> Page:
    """A module's page. Raises OperatorError when there is no such module."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        spec = None
    if spec is None or spec.origin is None:
        raise OperatorError(f"plugin api: there is no module {module}")
    source = Path(spec.origin).read_text()
    tree = ast.parse(source)
    return Page(module, ast.get_docstring(tree) or "", list(_names(tree, source)))


def _names(tree: ast.Module, source: str) -> Iterator[Name]:
    body = [each for statement in tree.body for each in _flat(statement)]
    seen: set[str] = set()
    for k, statement in enumerate(body):
        if isinstance(statement, ast.ClassDef) and not statement.name.startswith("_"):
            yield from _class(statement, source)
        elif isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef) and not statement.name.startswith("_"):
            if statement.name not in seen:  # the same function in its compiled and its plain form
                seen.add(statement.name)
                yield Name(statement.name, _head(statement), ast.get_docstring(statement) or "")
        elif isinstance(statement, ast.Assign | ast.AnnAssign):
            following = body[k + 1] if k + 1 < len(body) else None
            text = _text(following)
            names = [name for name in _targets(statement) if not name.startswith("_")]
            if text and names:
                yield Name(names[0], ", ".join(names), text)


def _flat(statement: ast.stmt) -> list[ast.stmt]:
    """What stands in a branch, such as `if COMPILED`, counts like what stands beside it."""
    if isinstance(statement, ast.If):
        return [each for inner in (*statement.body, *statement.orelse) for each in _flat(inner)]
    return [statement]


def _targets(statement: ast.Assign | ast.AnnAssign) -> list[str]:
    targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
    flat = [each for target in targets for each in (target.elts if isinstance(target, ast.Tuple) else [target])]
    return [each.id for each in flat if isinstance(each, ast.Name)]


def _text(statement: ast.stmt | None) -> str:
    """A string that stands alone behind a value says what it is."""
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
        value = statement.value.value
        return inspect.cleandoc(value) if isinstance(value, str) else ""
    return ""


def _class(statement: ast.ClassDef, source: str) -> Iterator[Name]:
    bases = ", ".join(ast.unparse(base) for base in statement.bases)
    yield Name(
        statement.name, f"class {statement.name}" + (f"({bases})" if bases else ""), ast.get_docstring(statement) or ""
    )
    for k, each in enumerate(statement.body):
        if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef):
            decorators = [ast.unparse(decorator) for decorator in each.decorator_list]
            if each.name.startswith("_") and each.name != "__init__":
                continue
            if any(decorator.endswith(".setter") for decorator in decorators):
                continue
            head = _head(each, drop_self=True)
            if "property" in decorators:
                head = each.name + (f": {ast.unparse(each.returns)}" if each.returns else "")
            text = ast.get_docstring(each) or ""
            if each.name != "__init__" or text:
                yield Name(each.name, head, text, of=statement.name)
        elif isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name):
            following = statement.body[k + 1] if k + 1 < len(statement.body) else None
            head = f"{each.target.id}: {ast.unparse(each.annotation)}"
            head += f" = {ast.unparse(each.value)}" if each.value is not None else ""
            if not each.target.id.startswith("_"):
                yield Name(each.target.id, head, _text(following) or " ", of=statement.name)


def _head(statement: ast.FunctionDef | ast.AsyncFunctionDef, drop_self: bool = False) -> str:
    """`name(parameters) -> type`, and for whom it is."""
    arguments = statement.args
    if drop_self and arguments.args and arguments.args[0].arg in ("self", "cls"):
        arguments = ast.arguments(
            arguments.posonlyargs, arguments.args[1:], arguments.vararg, arguments.kwonlyargs, arguments.kw_defaults,
            arguments.kwarg, arguments.defaults,
        )  # fmt: skip
    result = f" -> {ast.unparse(statement.returns)}" if statement.returns else ""
    prefix = "async " if isinstance(statement, ast.AsyncFunctionDef) else ""
    kinds = [KINDS[name] for each in statement.decorator_list if (name := ast.unparse(each)) in KINDS]
    return f"{prefix}{statement.name}({ast.unparse(arguments)}){result}" + "".join(f"   [{kind}]" for kind in kinds)


def show(page: Page, name: str = "") -> str:
    """A page as text, or what it says of one name, and of a class' own."""
    lines = [] if name else [page.module, "=" * len(page.module), "", *page.text.splitlines(), ""]
    for each in page.names:
        if name and name not in (each.name, each.of, f"{each.of}.{each.name}"):
            continue
        inner = INDENT if each.of else ""
        lines.append(inner + (f"{page.module}: " if name and not each.of else "") + each.head)
        lines += [f"{inner}{INDENT}{line}".rstrip() for line in each.text.strip().splitlines()]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def reference(wanted: str, packages: Iterable[object], everything: bool = False) -> str:
    """What `pyvpp plugin api` prints: the modules, a module, a name, or all. Raises OperatorError."""
    pages = [read(module) for module in modules(packages)]
    if everything:
        return "\n\n".join(show(page) for page in pages)
    if not wanted:
        width = max(len(page.module) for page in pages)
        return "\n".join(f"{page.module:<{width}}  {page.summary}" for page in pages) + "\n"
    for page in pages:
        if page.module == wanted:
            return show(page)
    heads = [page for page in pages if any(wanted in (n.name, f"{n.of}.{n.name}") for n in page.names)]
    if not heads:
        known = {name.name for page in pages for name in page.names} | {page.module for page in pages}
        raise OperatorError(f"plugin api {wanted}: the plugin kit has no such module or name{meant(wanted, known)}")
    return "\n".join(show(page, wanted) for page in heads)
