# SPDX-License-Identifier: Apache-2.0
"""Two runs side by side: what changed, and what only seems to have.

A figure has changed when all of one run's groups are on the same side of all of the other's (see measure.py) and the
least differ by more than FLOOR and FLOOR_CLOCKS: code that did not change moves by so much when its memory lies
elsewhere.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Group

from pyvpp.bench.report import AXES, below, clocks, percent, table
from pyvpp.errors import OperatorError

FLOOR, FLOOR_CLOCKS = 0.03, 0.5
SAME = ("cpu", "numba", "python", "pages")


@dataclass(frozen=True)
class Change:
    """One figure, before and after. `None`: that run has it not."""

    scenario: str
    node: str
    """empty for the whole path"""
    before: float | None
    after: float | None
    groups_before: tuple[float, ...] = ()
    groups_after: tuple[float, ...] = ()

    @property
    def part(self) -> float | None:
        """By which part it grew; negative when it shrank."""
        if self.before is None or self.after is None or not self.before:
            return None
        return self.after / self.before - 1

    @property
    def verdict(self) -> str:
        if self.before is None:
            return "new"
        if self.after is None:
            return "gone"
        if self.part is None or abs(self.part) < FLOOR or abs(self.after - self.before) < FLOOR_CLOCKS:
            return ""
        low, high = sorted((self.groups_before or (self.before,), self.groups_after or (self.after,)), key=min)
        if max(low) >= min(high):
            return "within noise"
        return "slower" if self.part > 0 else "faster"


def read_run(path: Path) -> dict[str, Any]:
    """A run that `--json` wrote. Raises OperatorError."""
    try:
        found = json.loads(path.read_text())
    except OSError as error:
        raise OperatorError(f"{path}: {error.strerror}") from None
    except ValueError:
        raise OperatorError(f"{path}: not JSON") from None
    if not isinstance(found, dict) or found.get("schema") != 1 or not isinstance(found.get("scenarios"), list):
        raise OperatorError(f'{path}: no run of `pyvpp bench --json\' (expected "schema": 1)')
    return found


def figures_of(run: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    """All figures of a run by what was measured and the node, which is empty for a whole: paths, curves, kernels."""
    found = {}
    for result in run["scenarios"]:
        found[result["name"], ""] = result
        found.update({(result["name"], node["name"]): node for node in result["nodes"]})
    for curve in run.get("curves", ()):
        for point in curve["points"]:
            found[f"{curve['name']}, {point['x']:,} {AXES[curve['over']]}", ""] = point
    found.update({(f"{kernel['name']} alone", ""): kernel for kernel in run.get("kernels", ())})
    return found


def changes(before: dict[str, Any], after: dict[str, Any]) -> list[Change]:
    """Every figure of what both runs measured, and nodes that only one of them passed."""
    then, now = figures_of(before), figures_of(after)
    both = {what for what, node in then if not node} & {what for what, node in now if not node}
    return [
        _change(*key, then.get(key, {}), now.get(key, {}))
        for key in sorted({**then, **now}, key=_order({**then, **now}))
        if key[0] in both
    ]


def _order(figures: dict[tuple[str, str], Any]) -> Callable[[tuple[str, str]], tuple[int, int]]:
    """Wholes as they come, each followed by its nodes, those of the first run first."""
    wholes = list(dict.fromkeys(what for what, _ in figures))
    places = {key: k for k, key in enumerate(figures)}
    return lambda key: (wholes.index(key[0]), places[key])


def _change(scenario: str, node: str, before: dict[str, Any], after: dict[str, Any]) -> Change:
    return Change(
        scenario,
        node,
        before.get("clocks_per_packet"),
        after.get("clocks_per_packet"),
        tuple(before.get("groups", ())),
        tuple(after.get("groups", ())),
    )


def differences_of_machines(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """What else differs, a line each: a change may not be the code's."""
    one, other = before.get("machine", {}), after.get("machine", {})
    lines = [
        f"{name}: {one[name]} before, {other[name]} now"
        for name in SAME
        if name in one and name in other and one[name] != other[name]
    ]
    scenarios = {each["name"]: each for each in after["scenarios"]}
    for each in before["scenarios"]:
        now = scenarios.get(each["name"], each)
        lines += [
            f"{each['name']}: {key.replace('_', ' ')} {each[key]} before, {now[key]} now"
            for key in ("packet_bytes", "vector_size", "routes")
            if each.get(key) != now.get(key)
        ]
    return lines


def change_table(found: list[Change], titles: tuple[str, str]) -> Group:
    """Every whole path, and those of its nodes that changed."""
    made = table("Clocks a packet", "scenario, node", *titles, "change", "")
    colours = {"faster": "green", "slower": "red"}
    for change in found:
        if change.node and change.verdict in ("", "within noise"):
            continue
        colour = colours.get(change.verdict)
        made.add_row(
            f"  {change.node}" if change.node else change.scenario,
            clocks(change.before),
            clocks(change.after),
            f"{100 * change.part:+.1f}%" if change.part is not None else "",
            change.verdict or "the same",
            style=colour,
        )
    rule = f"Changed: by more than {percent(FLOOR)} and {FLOOR_CLOCKS} clocks"
    return below(made, f"{rule}, and no group of runs of one within those of the other.")
