# SPDX-License-Identifier: Apache-2.0
"""Feature arcs: nodes that an interface's packets pass on their way from one node to the next.

An arc's table, `<name>_arc` by sw_if_index, holds 0 where nothing is enabled, else where the interface's chain begins
in `feature_chains`: the feature nodes in order, then the arc's last node.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING, Any

import numpy as np
from numba import uint32

from pyvpp.jit import inline
from pyvpp.tables import Table, interface_table
from pyvpp.typing import U16, U32, Record, Records

if TYPE_CHECKING:
    from pyvpp.engine import Engine

FEATURE_CHAINS = Table("feature_chains", np.uint16, 1024)
NODE_BY_NODE = Table("node_by_node", np.uint32, 1)  # not 0: no node does the work of those behind it


@dataclass(frozen=True)
class Feature:
    """Says on which arc a node can be enabled, and before and after which others it runs."""

    arc: str
    runs_before: tuple[str, ...] = ()
    runs_after: tuple[str, ...] = ()


@dataclass(frozen=True)
class FeatureArc:
    """Declares an arc; it ends at `last`."""

    name: str
    last: str

    @property
    def table(self) -> Table:
        """The arc's own table, by sw_if_index."""
        return _arc_table(self.name)


_arc_tables: dict[str, Table] = {}


def _arc_table(name: str) -> Table:
    return _arc_tables.setdefault(name, interface_table(name.replace("-", "_") + "_arc", np.uint32))


@inline
def enter_arc(feature_chains: U16, m: Record, start: int) -> int:
    """The first feature's next value; `start` is what the arc's table holds for the interface, not 0."""
    m.feature = uint32(start + 1)
    return int(feature_chains[start])


@inline
def next_feature(feature_chains: U16, m: Record) -> int:
    """The next value with which a feature node passes a packet on."""
    at = int(m.feature)
    m.feature = uint32(at + 1)
    return int(feature_chains[at])


def next_features(feature_chains: U16, meta: Records, frame: U32) -> U16:
    """`next_feature` of all packets of a frame at once, for a SLOW node: what to put into its `nexts`."""
    at = meta["feature"][frame]
    meta["feature"][frame] = at + 1
    found: U16 = feature_chains[at]
    return found


def order_of(arc: FeatureArc, nodes: Iterable[Any]) -> list[str]:
    """The features of an arc in the order they run. Raises CycleError where one runs before itself."""
    sorter: TopologicalSorter[str] = TopologicalSorter()
    on_arc = {node.name: feature for node in nodes for feature in node.features if feature.arc == arc.name}
    for name, feature in sorted(on_arc.items()):
        sorter.add(name, *(other for other in feature.runs_after if other in on_arc))
        for other in feature.runs_before:
            if other in on_arc:
                sorter.add(other, name)
    return list(sorter.static_order())


class Features:
    """Which features are enabled where: `engine.features`."""

    def __init__(self, engine: "Engine", arcs: dict[str, FeatureArc], nodes: Any) -> None:
        self._engine = engine
        self.arcs = arcs
        self.order = {name: order_of(arc, nodes) for name, arc in arcs.items()}
        self._enabled: dict[tuple[str, int], set[str]] = {}
        self._chains: dict[tuple[int, ...], int] = {}
        self._used = 1
        engine.events.on("interface-deleted", lambda interface: self.disable_all(interface.sw_if_index))

    def enabled(self, arc: str, sw_if_index: int) -> list[str]:
        """The features that are on, in the order they run."""
        on = self._enabled.get((arc, sw_if_index), set())
        return [name for name in self.order[arc] if name in on]

    def enable(self, arc: str, node: str, sw_if_index: int, on: bool = True) -> None:
        """Turns a feature on or off for an interface: one store, no worker stops.

        Raises ValueError for an arc or a node that does not exist.
        """
        if arc not in self.arcs or node not in self.order[arc]:
            raise ValueError(f"{node} is no feature of arc {arc}")
        enabled = self._enabled.setdefault((arc, sw_if_index), set())
        (enabled.add if on else enabled.discard)(node)
        if not enabled:
            del self._enabled[arc, sw_if_index]
        self._store(arc, sw_if_index)

    def _store(self, arc: str, sw_if_index: int) -> None:
        """Tells workers which features are on: one store."""
        chain = self.enabled(arc, sw_if_index) if arc in self.arcs else []
        table = self._engine.tables[_arc_table(arc).name]
        table.array[sw_if_index] = self._chain([*chain, self.arcs[arc].last]) if chain else 0

    def declare(self, arcs: dict[str, FeatureArc], nodes: Any) -> None:
        """Takes other declarations. Packets see no difference until `settle`."""
        self.arcs = arcs
        self.order = {name: order_of(arc, nodes) for name, arc in arcs.items()}

    def settle(self) -> list[tuple[str, str, int]]:
        """Puts features in the order declared now, wherever they are on.

        Answers those that are off from now on, since they are declared no more: node, arc, sw_if_index.
        """
        gone = []
        for (arc, sw_if_index), names in list(self._enabled.items()):
            missing = names - set(self.order.get(arc, ()))
            gone += [(node, arc, sw_if_index) for node in sorted(missing)]
            names -= missing
            self._store(arc, sw_if_index)
            if not names:
                del self._enabled[arc, sw_if_index]
        return gone

    def copy(self) -> tuple[Any, ...]:
        """What is declared and enabled, for `restore`."""
        return self.arcs, self.order, {at: set(names) for at, names in self._enabled.items()}

    def restore(self, copied: tuple[Any, ...]) -> None:
        """What `copy` answered."""
        for at in set(self._enabled) - set(copied[2]):
            self._engine.tables[_arc_table(at[0]).name].array[at[1]] = 0
        self.arcs, self.order, self._enabled = copied
        for arc, sw_if_index in self._enabled:
            self._store(arc, sw_if_index)

    def disable_all(self, sw_if_index: int) -> None:
        """Turns everything off: the number is another interface's soon."""
        for arc in self.arcs:
            for node in self.enabled(arc, sw_if_index):
                self.enable(arc, node, sw_if_index, on=False)

    def disable_node(self, node: str) -> None:
        """Turns a feature off wherever it is on."""
        for arc, sw_if_index in [at for at, names in self._enabled.items() if node in names]:
            self.enable(arc, node, sw_if_index, on=False)

    def _chain(self, names: list[str]) -> int:
        values = tuple(self._engine.graph.to_node(name) for name in names)
        if values not in self._chains:
            table = self._engine.tables[FEATURE_CHAINS.name]
            table.grow(self._used + len(values))
            table.array[self._used : self._used + len(values)] = values
            self._chains[values] = self._used
            self._used += len(values)
        return self._chains[values]
