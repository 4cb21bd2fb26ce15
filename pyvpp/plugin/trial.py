# SPDX-License-Identifier: Apache-2.0
"""Runs a plugin's kernels on random frames and says what came of each: `plugin check` compares two such runs.

    python -m pyvpp.plugin.trial PLUGIN FRAMES < /dev/null      the outcomes, pickled, on standard output

Whether kernels run compiled, with bounds checks or as plain Python is said by numba's environment variables, before
anything is imported; hence processes of their own. A plugin whose tables need sense to be read has a function
`check_tables(random)` in one of its modules: arrays by the tables' names. Other tables are all zeros.
"""

import pickle
import random
import sys
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np

from pyvpp.features import FEATURE_CHAINS
from pyvpp.jit import plain
from pyvpp.loader import Declarations, load, modules_of
from pyvpp.node import FRAME_SIZE, TO_NODE, Kind, Node
from pyvpp.plugin.find import Plugin
from pyvpp.testing import Packet, run_kernel

SHORTEST, LONGEST = 64, 256  # bytes of a packet of random bytes
INTERFACES = 8
ETHERNET = bytes.fromhex("02fe00000001 02fe00000002".replace(" ", ""))
TCP, UDP = 6, 17
PROTOCOLS = (1, TCP, UDP, 4, 58)


@dataclass
class Outcome:
    """What a kernel did with a frame; `error` when it raised instead, with file and line."""

    node: str
    frame: int
    error: str = ""
    packets: list[tuple[int, bytes, bytes]] = field(default_factory=list)
    """for each: its next, its bytes, its metadata"""
    counters: list[int] = field(default_factory=list)
    emitted: list[tuple[bytes, int]] = field(default_factory=list)
    written: list[str] = field(default_factory=list)
    """tables that workers share and that the kernel has changed"""
    tables: dict[str, bytes] = field(default_factory=dict)


def kernels_of(declarations: Declarations, plugin: Plugin) -> list[Node]:
    """The plugin's kernels that take frames."""
    return [
        node for node in declarations.nodes.values() if plugin.owns(node.module) and node.kind is Kind.INTERNAL
    ]  # fmt: skip


def frame_for(node: Node, random_: random.Random) -> list[Packet]:
    """A frame as may reach the node: mixed interfaces, lengths and headers.

    On an arc whose name begins with ip4 or ip6 upstream has verified that header; elsewhere anything comes.
    """
    arcs = [feature.arc for feature in node.features]
    if arcs and all(arc.startswith("ip4") for arc in arcs):
        makers: tuple[Callable[[random.Random], bytes], ...] = (ip4,)
    elif arcs and all(arc.startswith("ip6") for arc in arcs):
        makers = (ip6,)
    else:
        makers = (noise, ip4, ip6, lambda r: ETHERNET + b"\x08\x00" + ip4(r), lambda r: ETHERNET + noise(r))
    return [
        Packet(
            random_.choice(makers)(random_), rx=random_.randrange(1, INTERFACES), tx=random_.randrange(1, INTERFACES),
            feature=random_.randrange(1, 9), flow_hash=random_.randrange(1 << 32),
        )
        for _ in range(random_.choice((1, 2, 17, FRAME_SIZE)))
    ]  # fmt: skip


def noise(random_: random.Random) -> bytes:
    return random_.randbytes(random_.randint(SHORTEST, LONGEST))


def ip4(random_: random.Random) -> bytes:
    """A header as ip4-input lets it pass (its checksum right, sometimes with options), then random bytes."""
    words = random_.choice((5, 5, 5, 5, 6, 15))
    payload = noise(random_)
    header = bytearray(random_.randbytes(4 * words))
    header[0], header[9] = 0x40 | words, random_.choice(PROTOCOLS)
    header[2:4] = (len(header) + len(payload)).to_bytes(2, "big")
    header[6] &= random_.choice((0x40, 0x40, 0xFF))  # a fragment now and then
    header[10:12] = bytes(2)
    total = sum(int.from_bytes(header[k : k + 2], "big") for k in range(0, len(header), 2))
    header[10:12] = (0xFFFF - (total % 0xFFFF or 0xFFFF)).to_bytes(2, "big")
    return bytes(header) + payload


def ip6(random_: random.Random) -> bytes:
    payload = noise(random_)
    return b"\x60" + random_.randbytes(3) + len(payload).to_bytes(2, "big") + random_.randbytes(34) + payload


def tables_for(package: ModuleType, random_: random.Random) -> dict[str, Any]:
    """What the plugin's `check_tables` says, and chains of features that lead to nodes."""
    chains = np.array([0, *(TO_NODE | random_.randrange(1, 64) for _ in range(15))], np.uint16)
    tables: dict[str, Any] = {FEATURE_CHAINS.name: chains}
    for module in modules_of(package):
        given = getattr(module, "check_tables", None)
        if given is not None:
            tables |= given(random_)
    return tables


def content(table: Any) -> bytes:
    """The bytes of a table's fields. Between them may be some that nobody ever wrote."""
    fields = table.dtype.names
    return b"".join(table[name].tobytes() for name in fields) if fields else bytes(table.tobytes())


def try_node(node: Node, package: ModuleType, shared: set[str], number: int) -> Outcome:
    """One frame; its number is the seed of everything random."""
    random_ = random.Random(number)
    outcome = Outcome(node.name, number)
    try:
        tables = tables_for(package, random_)
        packets = frame_for(node, random_)
        result = run_kernel(node, packets, tables, error_base=1, seed=number)
    except Exception as error:
        outcome.error = told(error, plain(node.kernel).__code__.co_filename)
        return outcome
    outcome.packets = [
        (next_, data, m.tobytes()) for next_, data, m in zip(result.nexts, result.packets, result.meta, strict=True)
    ]
    outcome.counters = [int(count) for count in result.counters]
    outcome.emitted = result.emitted
    outcome.tables = {name: content(table) for name, table in result.tables.items()}
    for name in shared & result.tables.keys():
        before = np.asarray(tables[name]) if name in tables else np.zeros_like(result.tables[name])
        if content(before) != outcome.tables[name]:
            outcome.written.append(name)
    return outcome


def told(error: Exception, file: str) -> str:
    """An exception in one line, and the line of the kernel's file it came by."""
    places = [place for place in traceback.extract_tb(error.__traceback__) if place.filename == file]
    where = f"{file}:{places[-1].lineno}: " if places else ""
    return where + " ".join(f"{type(error).__name__}: {error}".split())


def main(name: str, frames: int) -> None:
    warnings.simplefilter("error")  # a number that wraps around in Python is one in the kernel
    declarations = load()
    plugin = next(plugin for plugin in declarations.plugins if plugin.name == name)
    assert plugin.package is not None
    shared = {table.name for table in declarations.tables.values() if table.shared}
    outcomes = [
        try_node(node, plugin.package, shared, number)
        for node in kernels_of(declarations, plugin)
        for number in range(1, frames + 1)
    ]
    sys.stdout.buffer.write(pickle.dumps(outcomes))


if __name__ == "__main__":
    from pyvpp.plugin import trial  # whoever reads the outcomes finds their class there, not in __main__

    trial.main(sys.argv[1], int(sys.argv[2]))
