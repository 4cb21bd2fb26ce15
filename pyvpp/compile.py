# SPDX-License-Identifier: Apache-2.0
"""Makes native code of nodes, before anything is taken over, in parallel processes, kept on disk.

For each node a small module is written into the cache directory with an `entry` of one uniform signature: it rebuilds
the kernel's arrays from the worker's context and the node's runtime record and calls the kernel. numba caches only
functions that have a file, hence the modules.
"""

import dis
import importlib.util
import logging
import os
import re
import selectors
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from pyvpp import cache
from pyvpp.jit import BOUNDSCHECK, cached_in, plain
from pyvpp.node import Kind, Node

log = logging.getLogger(__name__)

RUNTIME_INSTANCE, RUNTIME_ERROR_BASE, RUNTIME_COUNTERS, RUNTIME_TABLES = 0, 1, 2, 4
RUNTIME_WORDS = 64
NO_NEXT = 0xFFFD  # leads to no node: such packets are counted and dropped
_HEADER = """\
import numpy as np
from numba import cfunc, types
from pyvpp.buffers import BUFFER
from pyvpp.dispatch import array_at
from pyvpp.jit import FLAGS, inline, plain
from {module} import {attribute} as NODE
from pyvpp.loader import declared_dtype
kernel = inline(plain(NODE.kernel))
"""
_KNOWN = {
    "heap": "array_at(c[0], c[1], np.uint8)",
    "meta": "array_at(c[2], c[3], BUFFER)",
    "pool": "array_at(c[4], c[5], np.uint32)",
    "emit": "array_at(c[6], c[7], np.uint32)",
    "frame": "array_at(frame, n, np.uint32)",
    "nexts": "array_at(nexts, n, np.uint16)",
    "counters": "array_at(r[2], r[3], np.uint64)",
    "now": "c[8]",
    "worker": "c[9]",
    "heap_address": "c[0]",
    "instance": "r[0]",
    "error_base": "r[1]",
}


SLOW_ONLY = ("engine",)


def table_parameters(node: Node) -> list[str]:
    """The kernel's parameters that are tables, in the order their addresses stand in the runtime record."""
    return table_parameters_of(node.parameters)


def table_parameters_of(names: Iterable[str]) -> list[str]:
    """Those of a kernel's parameters that are none of what every kernel can have."""
    return [name for name in names if name not in _KNOWN and name not in SLOW_ONLY]


def entry_source(node: Node, checked: bool = False) -> str:
    """The generated module of a node. One with bounds checks drops the packets that an exception keeps it from."""
    module = plain(node.kernel).__module__
    attribute = next(name for name, value in vars(sys.modules[module]).items() if value is node)
    tables = table_parameters(node)
    lines = [_HEADER.format(module=module, attribute=attribute)]
    lines += [f'T{k} = declared_dtype("{name}")' for k, name in enumerate(tables)]
    given = {
        name: f"array_at(r[{RUNTIME_TABLES + 2 * k}], r[{RUNTIME_TABLES + 2 * k + 1}], T{k})"
        for k, name in enumerate(tables)
    }
    arguments = ", ".join(given.get(name) or _KNOWN[name] for name in node.parameters)
    lines += [
        "@cfunc(types.int64(*[types.int64] * 5), cache=True, **FLAGS)",
        "def entry(context, runtime, frame, n, nexts):",
        "    c = array_at(context, 16, np.int64)",
        f"    r = array_at(runtime, {RUNTIME_WORDS}, np.int64)",
        *([f"    array_at(nexts, n, np.uint16)[:] = {NO_NEXT}"] if checked else []),
        f"    {'return ' if node.kind is Kind.INPUT else ''}kernel({arguments})",
    ]
    if node.kind is not Kind.INPUT:
        lines.append("    return 0")
    return "\n".join(lines) + "\n"


class KernelError(ValueError):
    """numba cannot compile a node's kernel; says where and why, in one line."""


def entry_path(node: Node, checked: bool = False) -> Path:
    """Where the generated module of a node lies."""
    directory = cache.checked_directory() if checked and not BOUNDSCHECK else cache.directory()
    return directory / "entries" / f"{entry_name(node, checked)}.py"


def entry_name(node: Node, checked: bool = False) -> str:
    """The generated module's name. That of a plugin from elsewhere, which can be reloaded, names its sources as well:

    each version has its code on disk, and in a process that has loaded several the names of none meet another's.
    """
    module = sys.modules[plain(node.kernel).__module__]
    name = "pyvpp_entry_" + node.name.replace("-", "_").replace(".", "_")
    name = name if cache.covers(module) else f"{name}_{cache.fingerprint(module)}"
    return f"{name}_checked" if checked else name


def load_entry(node: Node, checked: bool = False) -> Any:
    """The node's cfunc, from the cache or compiled now. A damaged cache is thrown away.

    `checked`: with bounds checks, which only a process compiles that does so with all it compiles.
    """
    name, path = entry_name(node, checked), entry_path(node, checked)
    path.parent.mkdir(parents=True, exist_ok=True)
    source = entry_source(node, checked)
    if not path.exists() or path.read_text() != source:
        temporary = path.with_suffix(f".{os.getpid()}")
        temporary.write_text(source)
        temporary.replace(path)
    directory = path.parent.parent
    try:
        return _import(name, path)
    except (EOFError, OSError, ValueError, KeyError, ImportError, AttributeError) as error:
        kept = [*directory.rglob(f"{name}.*.nbi"), *directory.rglob(f"{name}.*.nbc")]
        if not kept:  # numba itself tripped: over a record's field that does not exist
            raise KernelError(in_kernel(node, error)) from error
        log.warning("compiled code of %s is damaged (%s): compiling anew", node.name, error)
        for stale in kept:
            stale.unlink(missing_ok=True)
        return load_entry(node, checked)
    except Exception as error:
        if type(error).__module__.startswith("numba"):
            raise KernelError(in_kernel(node, error)) from error
        if type(error).__module__ in ("pickle", "_pickle"):
            shutil.rmtree(directory, ignore_errors=True)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(source)
            return _import(name, path)
        raise


def in_kernel(node: Node, error: Exception) -> str:
    """numba's explanation, a page long, as one line: the line of the source it stopped at, and what it did not like."""
    code = plain(node.kernel).__code__
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    places = [(found[1], int(found[2])) for found in re.finditer(r'File "([^"]+)", line (\d+)', text)]
    files = {code.co_filename: None, Path(code.co_filename).name: None}
    at = next((line for file, line in reversed(places) if file in files or Path(file).name in files), None)
    reasons = [line.strip() for line in text.splitlines() if line.strip()]
    skipped = ("Failed in", "During:", "File ", "- ", "There are", "<source", "Traceback")
    told = [line for line in reasons if not line.startswith(skipped)]
    if isinstance(error, KeyError):
        field = str(error.args[0])
        steps = [step.positions for step in dis.get_instructions(code) if step.argval == field]
        at = next((position.lineno for position in steps if position), at)
        told = [f"a record has no field {field}"]
    where = f"{code.co_filename}:{at or code.co_firstlineno}"
    return f"{where}: node {node.name}: numba cannot compile it: {told[0] if told else text}"


def _import(name: str, path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    with cached_in(path.parent.parent):
        spec.loader.exec_module(module)
    return module.entry


def warm_loop() -> None:
    """Compiles the worker's loop: it is called once with the order to stop."""
    from pyvpp.worker import call_loop_once

    call_loop_once()


def _done(name: str) -> Path:
    return cache.directory() / "entries" / f"{name}.done"


def uncompiled(nodes: Iterable[Node], native: Iterable[str] = ()) -> list[str]:
    """What is not in the cache, of these nodes, the loop and control code's `native` parts."""
    names = [name for name in ("<loop>", *(f"<{name}>" for name in native)) if not _done(name).exists()]
    return names + [node.name for node in nodes if node.kind.compiled and not _is_current(node)]


def _is_current(node: Node) -> bool:
    """Whether a node has been compiled from the sources as they are."""
    path = entry_path(node)
    return _done(entry_name(node)).exists() and path.exists() and path.read_text() == entry_source(node)


def compile_in_parallel(
    nodes: list[Node],
    progress: Callable[[int, int, str], None],
    processes: int | None = None,
    native: Iterable[str] = (),
) -> int:
    """Fills the cache for these nodes, the loop and control code's `native` parts; returns how many were not there.

    Each process is handed the next name when it is done with one, what takes long first: with 76 nodes on two cores
    that is 58 s, where sharing 73 out beforehand to as many processes as the machine has processors took 74 s.
    """
    todo = uncompiled(nodes, native)
    if not todo:
        return 0
    tables = {node.name: len(node.parameters) for node in nodes}  # a kernel with many tables has much to do with them
    pending = iter(sorted(todo, key=lambda name: -tables.get(name, len(_KNOWN) + RUNTIME_WORDS)))
    count = min(processes or len(os.sched_getaffinity(0)), len(todo))
    finished, errors = 0, []
    with ExitStack() as stack, selectors.DefaultSelector() as selector:
        children = [stack.enter_context(_compiler()) for _ in range(count)]
        for child in children:
            assert child.stdout
            selector.register(child.stdout, selectors.EVENT_READ, child)
            _hand(child, next(pending, None))
        while selector.get_map():
            for chosen, _ in selector.select():
                answer = chosen.fileobj.readline().decode()  # type: ignore[union-attr]
                if not answer:
                    selector.unregister(chosen.fileobj)
                    continue
                name, _, error = answer.rstrip("\n").partition(" ")
                if error:
                    errors.append(error)
                else:
                    finished += 1
                    progress(finished, len(todo), name)
                _hand(chosen.data, next(pending, None))
        for child in children:
            assert child.stderr
            told = child.stderr.read().decode().strip()
            if child.wait():
                errors.append(told.splitlines()[-1] if told else f"compiler ended with {child.returncode}")
    if errors:
        log.warning("compiling in parallel: %s", "; ".join(errors))
    return len(todo)


def _compiler() -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "pyvpp.compile"]
    return subprocess.Popen(command, bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def _hand(child: "subprocess.Popen[bytes]", name: str | None) -> None:
    """Gives a compiler process the next name; without one it may end. That it is dead, the end of its output says."""
    assert child.stdin
    if name is None:
        child.stdin.close()
        return
    with suppress(BrokenPipeError):
        child.stdin.write(f"{name}\n".encode())


def _note(name: str) -> None:
    _done(name).parent.mkdir(parents=True, exist_ok=True)
    _done(name).touch()


def compile_node(node: Node, checked: bool = False) -> None:
    """Compiles a node into the cache and notes that it is there. Raises KernelError."""
    load_entry(node, checked)
    _note(entry_name(node, checked))


def main(names: Iterable[str]) -> None:
    """A compiler process: compiles the named nodes. A line of output for each: its name, and behind it what failed."""
    from pyvpp.loader import load

    declared = load()
    for name in (line.strip() for line in names):
        try:
            if name == "<loop>":
                warm_loop()
                _note(name)
            elif name.startswith("<"):
                declared.native[name[1:-1]].use()
                _note(name)
            else:
                compile_node(declared.nodes[name])
        except KernelError as error:  # whoever builds the graph meets it again, and knows whose node it is
            print(name, *str(error).split(), flush=True)
        else:
            print(name, flush=True)


if __name__ == "__main__":
    main(sys.stdin)
