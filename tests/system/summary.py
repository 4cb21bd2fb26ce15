# SPDX-License-Identifier: Apache-2.0
"""Figures that the system tests found, shown when all of them are through, under `-q` as well."""

from __future__ import annotations

from collections.abc import Sequence

_lines: dict[str, list[str]] = {}
_tables: dict[str, list[Sequence[str]]] = {}


def report(title: str, line: str) -> None:
    """A line under a title."""
    _lines.setdefault(title, []).append(line)


def tabulate(title: str, head: Sequence[str], row: Sequence[str]) -> None:
    """A row of a table; its head is told with each."""
    _tables.setdefault(title, [head]).append(row)


def sections() -> dict[str, list[str]]:
    """What was reported, by title."""
    found = {title: list(lines) for title, lines in _lines.items()}
    for title, rows in _tables.items():
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        found.setdefault(title, []).extend(
            "  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip() for row in rows
        )
    return found
