# SPDX-License-Identifier: Apache-2.0
"""The policers there are, and where they are applied."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from pyvpp.errors import OperatorError
from pyvpp_nodes.kit.token_bucket import MOST_BURST, TOKEN, time_to_fill
from pyvpp_policer.meter import COLOURS, POLICER_APPLIED, POLICER_TOKENS, POLICERS, Action, Kind

INPUT, OUTPUT = "input", "output"
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
                tuple(Action(int(action)) for action in old.actions), old.dscps,
            )  # fmt: skip
        engine.events.on("interface-deleted", self._forget_interface)

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
        row["action"], row["dscp"] = policer.actions, policer.dscps
        with self._engine.barrier():
            self._engine.tables[POLICERS.name].array[index] = row
            self._fill(index, policer)
        self.indices[policer.name], self.by_name[policer.name] = index, policer

    def delete(self, name: str) -> None:
        """Takes it off every interface as well. Raises OperatorError."""
        index = self.index_of(name)
        table = self._engine.tables[POLICER_APPLIED.name].array
        for way in ARCS:
            for sw_if_index in np.flatnonzero(table[way] == index):
                self.apply(name, int(sw_if_index), way, False)
        self._engine.synchronize()
        del self.indices[name], self.by_name[name]

    def reset(self, name: str) -> None:
        """Full buckets, counters of zero."""
        index = self.index_of(name)
        with self._engine.barrier():
            self._fill(index, self.by_name[name])

    def apply(self, name: str, sw_if_index: int, way: str, on: bool = True) -> None:
        """Raises OperatorError for an unknown name, and where another one is applied."""
        index = self.index_of(name)
        table = self._engine.tables[POLICER_APPLIED.name].array
        other = int(table[way][sw_if_index])
        if other not in (0, index) or (not on and other != index):
            named = next((each for each, k in self.indices.items() if k == other), "none")
            raise OperatorError(f"policer {name}: the interface's {way} has {named}")
        if on:
            table[way][sw_if_index] = index
        for arc in ARCS[way]:
            self._engine.features.enable(arc, f"policer-{way}", sw_if_index, on)
        if not on:
            self._engine.synchronize()
            table[way][sw_if_index] = 0

    def applied(self, sw_if_index: int, way: str) -> str:
        """The name of what is applied there, empty for none."""
        index = int(self._engine.tables[POLICER_APPLIED.name].array[way][sw_if_index])
        return next((name for name, k in self.indices.items() if k == index), "")

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

    def _forget_interface(self, interface: Any) -> None:
        """Its number is another's soon."""
        self._engine.tables[POLICER_APPLIED.name].array[interface.sw_if_index] = (0, 0)
