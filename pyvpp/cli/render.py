# SPDX-License-Identifier: Apache-2.0
"""VPP's fixed-width text. Pure functions from values to lines, so that tests compare them with VPP's own output."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def table(headings: Sequence[str], rows: Iterable[Sequence[Any]], align: str, gap: str = " ") -> str:
    """Columns as wide as their widest word; `align` has one of < ^ > per column."""
    texts = [list(headings), *([str(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*texts)]
    lines = [gap.join(f"{cell:{how}{width}}" for cell, how, width in zip(row, align, widths)) for row in texts]
    return "\n".join(line.rstrip() for line in lines)


def centred(text: object, width: int) -> str:
    """`%=Ns` of VPP's format: in the middle, an odd space before it, never cut."""
    word = str(text)
    before = (width - len(word) + 1) // 2 if len(word) < width else 0
    return f"{' ' * before + word:<{width}}"


def centred_row(*cells: tuple[object, int]) -> str:
    return "".join(centred(text, width) for text, width in cells)


def exponent(value: float, digits: int = 2) -> str:
    """`%.2e` as VPP writes it: 3.74e4, 0.00e0, 7.53e-2."""
    mantissa, _, power = f"{value:.{digits}e}".partition("e")
    return f"{mantissa}e{int(power)}"


# show interface

INTERFACE_HEADING = centred_row(
    ("Name", 32), ("Idx", 5), ("State", 10), ("MTU (L3/IP4/IP6/MPLS)", 21), ("Counter", 16), ("Count", 16)
)


def interface_lines(name: str, index: int, up: bool, mtu: str, counters: Mapping[str, int]) -> list[str]:
    first = f"{name:<32}" + centred_row((index, 5), ("up" if up else "down", 10), (mtu, 21))
    counts = [f"{counter:<16}{count:>16}" for counter, count in counters.items() if count]
    return [f"{first if i == 0 else '':<68}{count}" for i, count in enumerate(counts or [""])]


# show hardware-interfaces

HARDWARE_HEADING = centred_row(("Name", 32), ("Idx", 6), ("Link", 8)) + "Hardware"


def hardware_line(name: str, index: int, link_up: bool) -> str:
    return f"{name:<32}" + centred_row((index, 6), ("up" if link_up else "down", 8)) + name


# show errors

ERROR_HEADING = centred_row(("Count", 10), ("Node", 35), ("Reason", 35), ("Severity", 10))


def error_line(count: int, node: str, reason: str, severity: str) -> str:
    return f"{count:>10}" + centred_row((node[:35], 35), (reason[:35], 35), (severity, 10))


# show runtime

RUNTIME_HEADING = centred_row(
    ("Name", 30),
    ("State", 12),
    ("Calls", 16),
    ("Vectors", 16),
    ("Suspends", 16),
    ("Packet-Clocks", 16),
    ("Vectors/Call", 16),
)


def runtime_line(name: str, state: str, calls: int, vectors: int, clocks: int) -> str:
    each = clocks / (vectors or calls or 1)
    per_call = vectors / calls if calls else 0.0
    shown = f"{name[:30]:<30}{centred(state[:12], 12)}{calls:>16}{vectors:>16}{0:>16}"
    return f"{shown}{exponent(each):>16}{per_call:>16.2f}"


# show buffers

_BUFFER_COLUMNS = (6, 6, 6, 11, 7, 7, 8, 8)
BUFFER_HEADING = f"{'Pool Name':<20}" + centred_row(
    *zip(("Index", "NUMA", "Size", "Data Size", "Total", "Avail", "Cached", "Used"), _BUFFER_COLUMNS)
)


def buffer_line(
    name: str, index: int, numa: int, size: int, data_size: int, total: int, available: int, cached: int, used: int
) -> str:
    cells = (index, numa, size, data_size, total, available, cached, used)
    return f"{name:<20}" + centred_row(*zip(cells, _BUFFER_COLUMNS))


# show node

NEXT_NODE_HEADING = "    next-index  node-index               Node               Vectors"


def next_node_line(slot: int, index: int, node: str, vectors: int) -> str:
    return f"    {centred(slot, 10)}  {centred(index, 10)}  {centred(node, 30)} {centred(vectors, 8)}"


def in_columns(words: Sequence[str], columns: int = 3, width: int = 35) -> list[str]:
    """Words in rows of so many columns, cut where a column ends."""
    rows = [words[i : i + columns] for i in range(0, len(words), columns)]
    return ["    " + "".join(f"{word[: width - 1]:<{width}}" for word in row) for row in rows]
