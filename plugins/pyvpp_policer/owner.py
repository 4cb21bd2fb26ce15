# SPDX-License-Identifier: Apache-2.0
"""The policers there are, and where they are applied."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pyvpp.errors import OperatorError
from pyvpp_nodes.kit.token_bucket import MOST_BURST, TOKEN, time_to_fill
from pyvpp_policer.meter import (
    CLASSES,
    COLOURS,
    POLICER_APPLIED,
    POLICER_CLASSES,
    POLICER_TOKENS,
    POLICERS,
    Action,
    Kind,
)

INPUT, OUTPUT = "input", "output"
EVERY_CLASS = tuple(range(CLASSES))
ARCS = {INPUT: ("ip4-unicast", "ip6-unicast"), OUTPUT: ("ip4-output", "ip6-output")}


@dataclass(frozen=True)
class Policer:
    """Rates in bytes (or packets) a second, bursts in bytes (or packets)."""

    name: str
    kind: Kind
    rate: int
    burst: int
    rate2: int = 0
    burst2: int = 0
    by_packets: bool = False
    actions: tuple[Action, ...] = (Action.TRANSMIT, Action.TRANSMIT, Action.DROP)
    dscps: tuple[int, ...] = (0, 0, 0)
    aware: bool = False


class Policers:
    """`engine.stack.policers`."""

    def __init__(self, engine: Any, before: Any = None) -> None:
        """`before` is what another version of this module had; its enums are not this one's."""
        self._engine = engine
        self.indices: dict[str, int] = dict(before.indices) if before else {}
        self.by_name: dict[str, Policer] = {}
        for name, old in before.by_name.items() if before else ():
            self.by_name[name] = Policer(
                name, Kind(int(old.kind)), old.rate, old.burst, old.rate2, old.burst2, old.by_packets,
                tuple(Action(int(action)) for action in old.actions), old.dscps, old.aware,
            )  # fmt: skip
        self._places: dict[tuple[int, str], int] = dict(before._places) if before else {}
        """by sw_if_index and way: where in POLICER_CLASSES, in units of CLASSES"""
        engine.events.on("interface-deleted", self._forget_interface)
        engine.events.on("last-hand-over", self._hand_over_tokens)
        engine.events.on("last-take-on", self._take_on_tokens)

    def add(self, policer: Policer) -> None:
        """A new one, its buckets full; or other rates for one that is there. Raises OperatorError."""
        if policer.burst + policer.burst2 > MOST_BURST:
            raise OperatorError(f"policer {policer.name}: bursts of more than {MOST_BURST} bytes")
        index = self.indices.get(policer.name) or self._free()
        for table in (POLICERS, POLICER_TOKENS):
            self._engine.tables[table.name].grow(index + 1)
        row = np.zeros((), POLICERS.dtype)
        one_rate = policer.kind <= Kind.ONE_RATE
        row["rate"], row["burst"] = policer.rate, policer.burst
        row["rate2"], row["burst2"] = policer.rate2, policer.burst2
        row["longest"] = time_to_fill(policer.rate, policer.burst + (policer.burst2 if one_rate else 0))
        row["longest2"] = time_to_fill(policer.rate2, policer.burst2)
        row["kind"], row["by_packets"] = policer.kind, policer.by_packets
        row["action"], row["dscp"], row["aware"] = policer.actions, policer.dscps, policer.aware
        with self._engine.barrier():
            self._engine.tables[POLICERS.name].array[index] = row
            self._fill(index, policer)
        self.indices[policer.name], self.by_name[policer.name] = index, policer

    def delete(self, name: str) -> None:
        """Takes it off every interface as well. Raises OperatorError."""
        index = self.index_of(name)
        for sw_if_index, way in list(self._places):
            classes = np.flatnonzero(self._classes(sw_if_index, way) == index)
            if len(classes):
                self.apply(name, sw_if_index, way, [int(dscp) for dscp in classes], on=False)
        self._engine.synchronize()
        del self.indices[name], self.by_name[name]

    def reset(self, name: str) -> None:
        """Full buckets, counters of zero."""
        index = self.index_of(name)
        with self._engine.barrier():
            self._fill(index, self.by_name[name])

    def apply(
        self, name: str, sw_if_index: int, way: str, classes: Sequence[int] = EVERY_CLASS, on: bool = True
    ) -> None:
        """For packets of some DSCPs. Raises OperatorError for an unknown name, and where another one is applied."""
        index, now = self.index_of(name), self._classes(sw_if_index, way)
        for dscp in classes:
            other = int(now[dscp])
            if other not in (0, index) or (not on and other != index):
                named = next((each for each, k in self.indices.items() if k == other), "none")
                where = f"dscp {dscp} of the interface's {way}" if len(classes) < CLASSES else f"the interface's {way}"
                raise OperatorError(f"policer {name}: {where} has {named}")
        if on:
            self._make_place(sw_if_index, way)
        self._classes(sw_if_index, way)[list(classes)] = index if on else 0
        if on:
            self._enable(sw_if_index, way, True)
        elif not self._classes(sw_if_index, way).any():
            self._enable(sw_if_index, way, False)
            self._engine.synchronize()
            self._give_place_back(sw_if_index, way)

    def applied(self, sw_if_index: int, way: str) -> dict[str, list[int]]:
        """The DSCPs by the names of what is applied to them there."""
        found: dict[str, list[int]] = {}
        names = {index: name for name, index in self.indices.items()}
        for dscp, index in enumerate(self._classes(sw_if_index, way).tolist()):
            if index:
                found.setdefault(names[index], []).append(dscp)
        return found

    def _enable(self, sw_if_index: int, way: str, on: bool) -> None:
        for arc in ARCS[way]:
            self._engine.features.enable(arc, f"policer-{way}", sw_if_index, on)

    def _classes(self, sw_if_index: int, way: str) -> Any:
        """By DSCP: what is applied; the part of the table that nobody has where nothing is."""
        at = self._places.get((sw_if_index, way), 0) * CLASSES
        return self._engine.tables[POLICER_CLASSES.name].array[at : at + CLASSES]

    def _make_place(self, sw_if_index: int, way: str) -> None:
        if (sw_if_index, way) in self._places:
            return
        taken = set(self._places.values())
        place = next(k for k in range(1, len(taken) + 2) if k not in taken)
        self._engine.tables[POLICER_CLASSES.name].grow((place + 1) * CLASSES)
        self._places[sw_if_index, way] = place
        self._engine.tables[POLICER_APPLIED.name].array[way][sw_if_index] = place

    def _give_place_back(self, sw_if_index: int, way: str) -> None:
        self._engine.tables[POLICER_APPLIED.name].array[way][sw_if_index] = 0
        del self._places[sw_if_index, way]

    def counts(self, name: str) -> list[tuple[int, int]]:
        """Packets and bytes by colour, of all workers."""
        index = self.index_of(name)
        rows = [array[index] for array in self._engine.tables[POLICER_TOKENS.name].arrays]
        return [
            (sum(int(row["packets"][k]) for row in rows), sum(int(row["bytes"][k]) for row in rows))
            for k in range(COLOURS)
        ]

    def index_of(self, name: str) -> int:
        if name not in self.indices:
            raise OperatorError(f"no policer {name}")
        return self.indices[name]

    def _fill(self, index: int, policer: Policer) -> None:
        for worker in self._engine.workers:
            row = self._engine.tables[POLICER_TOKENS.name].worker(worker.index)[index : index + 1]
            row[:] = np.zeros((), POLICER_TOKENS.dtype)
            row["committed"], row["excess"] = policer.burst * TOKEN, policer.burst2 * TOKEN
            row["at"] = worker.now

    def _free(self) -> int:
        taken = set(self.indices.values())
        return next(k for k in range(1, len(taken) + 2) if k not in taken)

    def _hand_over_tokens(self, keepsakes: Any) -> None:
        """By name: another process numbers policers anew."""
        for worker in self._engine.workers:
            keepsakes.add(f"policer clock {worker.index}", np.array([worker.now]))
            tokens = self._engine.tables[POLICER_TOKENS.name].worker(worker.index)
            for name, index in self.indices.items():
                keepsakes.add(f"policer {worker.index} {name}", tokens[index : index + 1])

    def _take_on_tokens(self, keepsakes: Any) -> None:
        for worker in self._engine.workers:
            clock = keepsakes.take(f"policer clock {worker.index}", np.int64)
            tokens = self._engine.tables[POLICER_TOKENS.name].worker(worker.index)
            for name, index in self.indices.items():
                kept = keepsakes.take(f"policer {worker.index} {name}", tokens.dtype)
                if clock is not None and kept is not None:
                    tokens[index] = kept[0]
                    tokens["at"][index] += worker.now - int(clock[0])

    def _forget_interface(self, interface: Any) -> None:
        """Its number is another's soon."""
        for way in ARCS:
            if (interface.sw_if_index, way) in self._places:
                self._classes(interface.sw_if_index, way)[:] = 0
                self._give_place_back(interface.sw_if_index, way)
