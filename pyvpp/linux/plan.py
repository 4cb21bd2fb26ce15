# SPDX-License-Identifier: Apache-2.0
"""Steps of a take-over and of giving back: what is run is what `--dry-run` tells, in the same order."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

_MOST_LISTED = 30


class Step(NamedTuple):
    """One thing that is done: a verb, to what, in detail, and how. `run` gives what could not be done, if anything.

    One that is `for_details` has nothing to do without them, and a plan leaves it out.
    """

    verb: str
    what: str
    run: Callable[[], list[str] | None]
    details: tuple[str, ...] = ()
    for_details: bool = False


class Part(NamedTuple):
    """A part of a link's state: `told` are the values that a plan shows of it, none where there is nothing to set."""

    what: str
    run: Callable[[], list[str] | None]
    told: list[str]


def run(steps: Iterable[Step]) -> list[str]:
    """Runs them one after the other; what could not be done. An exception of one ends it."""
    return [failure for step in steps for failure in step.run() or []]


def told(parts: Iterable[Part]) -> tuple[str, ...]:
    """The parts that are set, a line each."""
    return tuple(f"{part.what}: {_listed(part.told)}" for part in parts if part.told)


def lines(steps: Iterable[Step]) -> list[str]:
    """The steps as a plan tells them."""
    found = []
    for step in steps:
        if step.for_details and not step.details:
            continue
        found.append(f"{step.verb:<8}{step.what}")
        found += [f"{'':<8}  {detail}" for detail in step.details]
    return found


def _listed(values: list[str]) -> str:
    more = len(values) - _MOST_LISTED
    return ", ".join(values[:_MOST_LISTED]) + (f" and {more} more" if more > 0 else "")
