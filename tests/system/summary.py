# SPDX-License-Identifier: Apache-2.0
"""Figures that the system tests found, shown when all of them are through, under `-q` as well.

Tests run in several processes: what one found goes with its report to the process that prints.
"""

from __future__ import annotations

from collections.abc import Sequence

KEY = "figures"
Entry = tuple[str, Sequence[str], Sequence[str]]
"""A title, the head of a table, a row of it; a line alone is a row without a head."""

_found: list[Entry] = []
_collected: list[Entry] = []


def report(title: str, line: str) -> None:
    """A line under a title."""
    _found.append((title, (), (line,)))


def tabulate(title: str, head: Sequence[str], row: Sequence[str]) -> None:
    """A row of a table; its head is told with each."""
    _found.append((title, tuple(head), tuple(row)))


def take() -> list[Entry]:
    """What was found since this was called last."""
    taken = list(_found)
    _found.clear()
    return taken


def collect(entry: Entry) -> None:
    """For the process that prints."""
    _collected.append(entry)


def sections() -> dict[str, list[str]]:
    """What was collected, by title."""
    rows: dict[str, list[Sequence[str]]] = {}
    for title, head, row in _collected:
        rows.setdefault(title, [head] if head else []).append(row)
    return {title: list(map(str.rstrip, _aligned(found))) for title, found in rows.items()}


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)) for row in rows]
