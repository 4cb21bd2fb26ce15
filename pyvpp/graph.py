# SPDX-License-Identifier: Apache-2.0
"""The graph: which nodes there are, by name and by index, and their rows in every worker."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pyvpp import compile as compiling
from pyvpp import dispatch as d
from pyvpp.errors import OperatorError
from pyvpp.faults import circles, faults_of
from pyvpp.features import FeatureArc
from pyvpp.handoff_ring import HANDOFF_INPUT
from pyvpp.node import FREE, HELD, TO_NODE, Kind, Node, NodeCounter
from pyvpp.tables import TableInstance, own_lines

if TYPE_CHECKING:
    from pyvpp.engine import Engine

KINDS = {Kind.INTERNAL: d.KIND_INTERNAL, Kind.INPUT: d.KIND_INPUT}  # packets of all others go to the main thread


class GraphError(ValueError):
    """The programmer's mistakes in declarations, all of them at once."""


@dataclass(eq=False)
class GraphNode:
    """A node in the graph: its declaration, its index, and what its workers have counted.

    A reloaded plugin's is another GraphNode of the same name and index, see `Graph.exchange`.
    """

    name: str
    index: int
    node: Node
    instance: int
    nexts: list[int]
    error_base: int
    counters: list[Any]
    entry: Any
    runtime: list[Any]
    """each worker's record from which `entry` rebuilds its arrays, see `compile`"""
    given: Mapping[str, str]
    """what stands for the placeholders in a template's nexts"""
    earlier: list[Any]
    """what each worker has counted in earlier versions, in the order of `counters`"""

    @property
    def counter_names(self) -> tuple[NodeCounter, ...]:
        return self.node.counters

    def counts(self) -> Any:
        """The node's counters, all workers together."""
        return sum(map(self.counts_of, range(len(self.counters))))

    def counts_of(self, worker: int) -> Any:
        """The node's counters of one worker."""
        return self.counters[worker] + self.earlier[worker]

    def clear(self) -> None:
        """Sets the counters to zero. Called inside the barrier."""
        for counters in (*self.counters, *self.earlier):
            counters[:] = 0


class Graph:
    """Nodes of an engine. Index 0 is error-drop, where packets with a next that means nothing end."""

    def __init__(self, engine: "Engine", nodes: Mapping[str, Node], arcs: Mapping[str, FeatureArc]) -> None:
        self._engine = engine
        self.declared = dict(nodes)
        self._nodes: dict[int, GraphNode] = {}
        self._by_name: dict[str, GraphNode] = {}
        self._free: list[int] = []
        self._entries: dict[str, Any] = {}
        self.checked: frozenset[str] = frozenset()
        """nodes that run with bounds checks"""
        self._errors: list[tuple[str, NodeCounter]] = []
        self._error_bases: dict[tuple[Any, ...], int] = {}
        tables = {name: instance.table for name, instance in engine.tables.items()}
        faults = faults_of(nodes, tables, arcs, nodes.values()) + circles(arcs.values(), nodes.values())
        if faults:
            raise GraphError("\n".join(map(str, faults)))
        permanent = [node for node in nodes.values() if not node.template]
        permanent.sort(key=lambda node: (node.name != "error-drop", node.name))
        for index, node in enumerate(permanent):
            self._by_name[node.name] = self._nodes[index] = self._new(node.name, index, node, 0)
        for graph_node in self._nodes.values():
            graph_node.nexts = [self._by_name[graph_node.node.next[s]].index for s in sorted(graph_node.node.next)]
            self._install(graph_node)

    def __iter__(self) -> Iterator[GraphNode]:
        return iter([self._nodes[index] for index in sorted(self._nodes)])

    @property
    def nodes(self) -> list[GraphNode]:
        return list(self)

    def find(self, name: str) -> GraphNode | None:
        return self._by_name.get(name)

    def by_index(self, index: int) -> GraphNode:
        return self._nodes[index]

    def get(self, index: int) -> GraphNode | None:
        """The node with an index, None for one that has been removed."""
        return self._nodes.get(index)

    def index_of(self, name: str) -> int:
        """A node's index. Raises KeyError."""
        return self._by_name[name].index

    def to_node(self, name: str) -> int:
        """The value of nexts that leads to a node. Raises KeyError."""
        return TO_NODE | self.index_of(name)

    def name_of(self, index: int) -> str:
        if index in (FREE, HELD):
            return "consumed"
        return self._nodes[index].name if index in self._nodes else f"node {index}"

    def error_of(self, error: int) -> tuple[str, NodeCounter] | None:
        """The node and the counter behind a buffer's `error`."""
        return self._errors[error] if 0 < error < len(self._errors) else None

    def load_templates(self) -> None:
        """Loads the native code of nodes that come with an interface, some 10 ms each, before anybody waits for it."""
        for node in self.declared.values():
            if node.template:
                self.entry(node)

    def entry(self, node: Node) -> Any:
        if not node.kind.compiled:
            return None
        checked = node.name in self.checked and node.kind is Kind.INTERNAL
        name = compiling.entry_name(node, checked)
        if name not in self._entries:
            self._entries[name] = compiling.load_entry(node, checked)
        return self._entries[name]

    def _new(
        self, name: str, index: int, node: Node, instance: int, given: Mapping[str, str] | None = None
    ) -> GraphNode:
        if not self._errors:
            self._errors.append(("", None))  # type: ignore[arg-type]
        key = (node.name, counters_of(node))
        if key not in self._error_bases:
            self._error_bases[key] = len(self._errors)
            self._errors += [(node.name, counter) for counter in node.counters]
        workers = range(len(self._engine.workers))
        counters = [own_lines(max(1, len(node.counters)), np.uint64) for _ in workers]
        runtime = [own_lines(compiling.RUNTIME_WORDS, np.int64) for _ in workers]
        return GraphNode(
            name, index, node, instance, [], self._error_bases[key], counters, self.entry(node), runtime, given or {},
            [np.zeros_like(each) for each in counters],
        )  # fmt: skip

    def _install(self, graph_node: GraphNode) -> None:
        """Writes the node's rows; its address comes last."""
        index, node = graph_node.index, graph_node.node
        for worker in self._engine.workers:
            row = worker.rows[index]
            queue = worker.queue(index)
            worker.rows[index] = np.zeros((), d.NODE_ROW)
            row["queue"] = queue
            row["runtime"] = self._runtime(graph_node, worker.index)
            row["kind"] = KINDS.get(node.kind, d.KIND_PYTHON)
            row["capture"] = self._captures(graph_node)
            row["n_next"] = len(graph_node.nexts)
            row["next"][: len(graph_node.nexts)] = graph_node.nexts
            row["entry"] = graph_node.entry.address if graph_node.entry else 1
            worker.control[d.N_NODES] = max(int(worker.control[d.N_NODES]), index + 1)

    @staticmethod
    def _captures(graph_node: GraphNode) -> int:
        """What of `pcap trace` happens at a node: rx at inputs, tx at X-tx, drop at error-drop."""
        if graph_node.node.kind is Kind.INPUT:
            return 0 if graph_node.name == HANDOFF_INPUT else d.CAPTURE_RX  # another worker has received those
        if graph_node.name == "error-drop":
            return d.CAPTURE_DROP
        return d.CAPTURE_TX if graph_node.name.endswith("-tx") else 0

    def _runtime(self, graph_node: GraphNode, worker: int) -> int:
        """Fills a worker's record of a node; answers its address."""
        runtime, counters = graph_node.runtime[worker], graph_node.counters[worker]
        runtime[compiling.RUNTIME_INSTANCE] = graph_node.instance
        runtime[compiling.RUNTIME_ERROR_BASE] = graph_node.error_base
        runtime[compiling.RUNTIME_COUNTERS : compiling.RUNTIME_COUNTERS + 2] = counters.ctypes.data, len(counters)
        self._bind(graph_node, worker)
        return int(runtime.ctypes.data)

    def _bind(self, graph_node: GraphNode, worker: int) -> None:
        if not graph_node.node.kind.compiled:
            return
        for k, name in enumerate(compiling.table_parameters(graph_node.node)):
            array = self._engine.tables[name].worker(worker)
            at = compiling.RUNTIME_TABLES + 2 * k
            graph_node.runtime[worker][at : at + 2] = array.ctypes.data, len(array)

    def rebind(self, instance: TableInstance) -> None:
        """A table moved: every node that reads it gets the new address. Called inside the barrier."""
        for graph_node in self._nodes.values():
            if graph_node.node.kind.compiled and instance.table.name in graph_node.node.parameters:
                for worker in range(len(self._engine.workers)):
                    self._bind(graph_node, worker)

    def instantiate(self, template: str, name: str, instance: int, nexts: Mapping[str, str] | None = None) -> int:
        """Adds a node made of a template under a name of its own; returns its index.

        `nexts` says what stands for next names with placeholders. Raises GraphError, and OperatorError when there are
        as many nodes as there can be.
        """
        node = self.declared.get(template)
        if node is None or name in self._by_name:
            raise GraphError(f"node {name}: {'no template ' + template if node is None else 'exists already'}")
        targets = [(nexts or {}).get(node.next[slot], node.next[slot]) for slot in sorted(node.next)]
        unknown = [target for target in targets if target not in self._by_name]
        if unknown:
            raise GraphError(f"node {name}: its next {unknown[0]} does not exist")
        index = self._free.pop() if self._free else len(self._nodes)
        if index >= len(self._engine.workers[0].rows):
            raise OperatorError(f"node {name}: the graph is full with {index} nodes")
        graph_node = self._new(name, index, node, instance, nexts)
        graph_node.nexts = [self._by_name[target].index for target in targets]
        self._nodes[index] = self._by_name[name] = graph_node
        with self._engine.barrier():
            self._install(graph_node)
        return index

    def remove(self, indices: Iterable[int]) -> None:
        """Takes instances away: no worker asks them, no packet waits for them, their numbers are free."""
        gone = {index: self._nodes[index] for index in indices}
        if not gone:
            return
        with self._engine.barrier():
            for worker in self._engine.workers:
                worker.forget(gone)
        for index, graph_node in gone.items():
            del self._by_name[graph_node.name], self._nodes[index]
            self._free.append(index)
        if any(graph_node.node.kind is Kind.INPUT for graph_node in gone.values()):
            self._engine.set_inputs()

    # ---- other versions ---------------------------------------------------------------------------------------------
    def add(self, nodes: Iterable[Node]) -> list[int]:
        """Adds declared nodes that the graph has not; returns their indices. Nothing leads to them yet."""
        added = []
        for node in nodes:
            index = self._free.pop() if self._free else len(self._nodes)
            if index >= len(self._engine.workers[0].rows):
                raise OperatorError(f"node {node.name}: the graph is full with {index} nodes")
            self._nodes[index] = self._by_name[node.name] = self._new(node.name, index, node, 0)
            added.append(self._nodes[index])
        for graph_node in added:
            graph_node.nexts = self._indices(graph_node)
            self._install(graph_node)
        return [graph_node.index for graph_node in added]

    def successors(self, nodes: Mapping[str, Node]) -> list[GraphNode]:
        """The graph's nodes as they would be with other declarations, by the names of those they have now."""
        found = []
        for old in self:
            node = nodes.get(old.node.name)
            if node is None or node is old.node:
                continue
            new = self._new(old.name, old.index, node, old.instance, old.given)
            if counters_of(node) == counters_of(old.node):
                new.counters, new.earlier = old.counters, old.earlier
            new.nexts = self._indices(new)
            found.append(new)
        return found

    def exchange(self, successors: Iterable[GraphNode]) -> list[GraphNode]:
        """Puts other versions of nodes into their places, see `Engine.exchange`; returns those that were there."""
        taken = list(successors)
        before = [self._nodes[new.index] for new in taken]
        changes = []
        for worker in self._engine.workers:
            change = own_lines(len(taken), d.EXCHANGE)
            for row, new in zip(change, taken, strict=True):
                row["node"], row["n_next"] = new.index, len(new.nexts)
                row["runtime"] = self._runtime(new, worker.index)
                row["entry"] = new.entry.address if new.entry else 1
                row["next"][: len(new.nexts)] = new.nexts
            changes.append(change)
        for new in taken:
            self._nodes[new.index] = self._by_name[new.name] = new
        self._engine.exchange(changes)
        for old, new in zip(before, taken, strict=True):
            if new.counters is not old.counters:
                _hand_on(old, new)
        return before

    def _indices(self, graph_node: GraphNode) -> list[int]:
        node = graph_node.node
        return [self._by_name[graph_node.given.get(node.next[s], node.next[s])].index for s in sorted(node.next)]


def counters_of(node: Node) -> tuple[Any, ...]:
    """What a node counts, comparable between versions of it."""
    return tuple((int(counter), counter.name, counter.text, counter.severity) for counter in node.counters)


def _hand_on(old: GraphNode, new: GraphNode) -> None:
    """Counts of a version that is out of use live on in those of the same name."""
    places = {counter.name: int(counter) for counter in old.node.counters}
    for worker, earlier in enumerate(new.earlier):
        counted = old.counts_of(worker)
        for counter in new.node.counters:
            if counter.name in places:
                earlier[int(counter)] = counted[places[counter.name]]
