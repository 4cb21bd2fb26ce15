# SPDX-License-Identifier: Apache-2.0
"""VPP's fixed-width text: centred columns, trees of detail, numbers as C's printf writes them."""

from collections.abc import Iterable, Sequence
from typing import Any


def table(headings: Sequence[str], rows: Iterable[Sequence[Any]], align: str, gap: str = " ") -> str:
    """Columns as wide as their widest word; `align` has one of < ^ > per column."""
    texts = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(headings, *texts)]
    lines = [
        gap.join(f"{cell:{how}{width}}" for cell, how, width in zip(row, align, widths)) for row in [headings, *texts]
    ]
    return "\n".join(line.rstrip() for line in lines)


def centred(text: str, width: int) -> str:
    """`%=Ns` of VPP's format: in the middle, the odd space after it."""
    before = (width - len(text)) // 2 if len(text) < width else 0
    return f"{' ' * before + text:<{width}}"


def exponent(value: float, digits: int = 2) -> str:
    """`%.2e` as VPP writes it: 3.74e4, 0.00e0, 7.53e-2."""
    mantissa, _, power = f"{value:.{digits}e}".partition("e")
    return f"{mantissa}e{int(power)}"
