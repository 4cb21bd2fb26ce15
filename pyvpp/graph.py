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

KINDS = {Kind.INTERNAL: d.KIND_INTERNAL, Kind.INPUT: d.KIND_INPUT, Kind.PYTHON: d.KIND_PYTHON}


class GraphError(ValueError):
    """The programmer's mistakes in declarations, all of them at once."""


@dataclass(eq=False)
class GraphNode:
    """A node in the graph: its declaration, its index, and what its workers have counted."""

    name: str
    index: int
    node: Node
    instance: int
    nexts: list[int]
    error_base: int
    counters: list[Any]
    entry: Any

    @property
    def counter_names(self) -> tuple[NodeCounter, ...]:
        return self.node.counters

    def counts(self) -> Any:
        """The node's counters, all workers together."""
        return sum(self.counters)


class Graph:
    """Nodes of an engine. Index 0 is error-drop, where packets with a next that means nothing end."""

    def __init__(self, engine: "Engine", nodes: Mapping[str, Node], arcs: Mapping[str, FeatureArc]) -> None:
        self._engine = engine
        self.declared = dict(nodes)
        self._nodes: dict[int, GraphNode] = {}
        self._by_name: dict[str, GraphNode] = {}
        self._free: list[int] = []
        self._entries: dict[str, Any] = {}
        self._runtime: list[Any] = []
        self._errors: list[tuple[str, NodeCounter]] = []
        self._error_bases: dict[str, int] = {}
        tables = {name: instance.table for name, instance in engine.tables.items()}
        faults = faults_of(nodes, tables, arcs, nodes.values()) + circles(arcs.values(), nodes.values())
        if faults:
            raise GraphError("\n".join(map(str, faults)))
        permanent = [node for node in nodes.values() if not node.template]
        self._runtime = [
            own_lines(len(worker.rows) * compiling.RUNTIME_WORDS, np.int64).reshape(-1, compiling.RUNTIME_WORDS)
            for worker in engine.workers
        ]
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
        if node.kind is Kind.PYTHON:
            return None
        if node.name not in self._entries:
            self._entries[node.name] = compiling.load_entry(node)
        return self._entries[node.name]

    def _new(self, name: str, index: int, node: Node, instance: int) -> GraphNode:
        if not self._errors:
            self._errors.append(("", None))  # type: ignore[arg-type]
        if node.name not in self._error_bases:
            self._error_bases[node.name] = len(self._errors)
            self._errors += [(node.name, counter) for counter in node.counters]
        counters = [own_lines(max(1, len(node.counters)), np.uint64) for _ in self._engine.workers]
        return GraphNode(name, index, node, instance, [], self._error_bases[node.name], counters, self.entry(node))

    def _install(self, graph_node: GraphNode) -> None:
        """Writes the node's rows; its address comes last."""
        index, node = graph_node.index, graph_node.node
        for worker, runtime in zip(self._engine.workers, self._runtime, strict=True):
            row = worker.rows[index]
            queue = worker.queue(index)
            worker.rows[index] = np.zeros((), d.NODE_ROW)
            row["queue"] = queue
            row["runtime"] = runtime[index].ctypes.data
            row["kind"] = KINDS[node.kind]
            row["capture"] = self._captures(graph_node)
            row["n_next"] = len(graph_node.nexts)
            row["next"][: len(graph_node.nexts)] = graph_node.nexts
            runtime[index, compiling.RUNTIME_INSTANCE] = graph_node.instance
            runtime[index, compiling.RUNTIME_ERROR_BASE] = graph_node.error_base
            counters = graph_node.counters[worker.index]
            runtime[index, compiling.RUNTIME_COUNTERS : compiling.RUNTIME_COUNTERS + 2] = (
                counters.ctypes.data,
                len(counters),
            )
            self._bind(graph_node, worker.index)
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

    def _bind(self, graph_node: GraphNode, worker: int) -> None:
        if graph_node.node.kind is Kind.PYTHON:
            return
        for k, name in enumerate(compiling.table_parameters(graph_node.node)):
            array = self._engine.tables[name].worker(worker)
            at = compiling.RUNTIME_TABLES + 2 * k
            self._runtime[worker][graph_node.index, at : at + 2] = array.ctypes.data, len(array)

    def rebind(self, instance: TableInstance) -> None:
        """A table moved: every node that reads it gets the new address. Called inside the barrier."""
        for graph_node in self._nodes.values():
            if graph_node.node.kind is not Kind.PYTHON and instance.table.name in graph_node.node.parameters:
                for worker in range(len(self._runtime)):
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
        graph_node = self._new(name, index, node, instance)
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
