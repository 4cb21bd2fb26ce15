# SPDX-License-Identifier: Apache-2.0
"""From rows to the arrays that `classify` reads: all lists of all interfaces at once."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from pyvpp.typing import U32, U64
from pyvpp_acl.classify import LEAF, NO_ROW
from pyvpp_acl.forest import Grown, grown
from pyvpp_acl.rules import ACTION_BITS, ALL_PORTS, ANY_PROTOCOL, Row, for_later_fragments
from pyvpp_acl.tables import CONTEXT, TREE

BITS = {4: 32, 6: 128}
ROW_WORDS = {4: 4, 6: 10}
"""Of a row in a leaf: addresses and masks, LOW and HIGH."""
WORD_BITS = 32
ONES = 0xFFFFFFFF
NOBODY = 0x0000FFFF0000FFFF
"""The LOW word of a row that means no packet: a port cannot be as large as this and as small as HIGH, 0."""


def compile_lists(lists: Sequence[tuple[Sequence[Row], int]]) -> tuple[list[int], dict[str, Any]]:
    """For each list of rows of an IP version the number of its context; and arrays by the names of their tables."""
    built = Built()
    numbers = []
    for rows, version in lists:
        fragments = built.add(for_later_fragments(rows), version)
        numbers.append(built.add(rows, version))
        built.contexts[-1]["fragments"] = fragments
    return numbers, built.arrays()


class Built:
    """Arrays of all contexts so far, one behind the other. Context 0, which has nothing, and row 0 are nobody's."""

    def __init__(self) -> None:
        self.contexts: list[Any] = [np.array((0, 0, NO_ROW, 0), CONTEXT)]
        self.trees: list[tuple[int, int]] = []
        self.nodes: list[U64] = [np.zeros(1, np.uint64)]
        self.leaves = {version: [nobody(version)] for version in BITS}
        self.verdicts: list[U32] = [np.zeros(1, np.uint32)]
        self.n_nodes, self.n_leaves, self.n_rows = 1, {4: 1, 6: 1}, 1

    def arrays(self) -> dict[str, Any]:
        """By the names of the tables; none is empty."""
        return {
            "acl_contexts": np.array(self.contexts, CONTEXT),
            "acl_trees": np.array(self.trees or [(0, 0)], TREE),
            "acl_nodes": np.concatenate(self.nodes),
            "acl_leaves4": np.concatenate(self.leaves[4]).reshape(-1),
            "acl_leaves6": np.concatenate(self.leaves[6]).reshape(-1),
            "acl_verdicts": np.concatenate(self.verdicts),
        }

    def add(self, rows: Sequence[Row], version: int) -> int:
        """One more context; its number."""
        number = len(self.contexts)
        everything = next((k for k, row in enumerate(rows) if means_everything(row)), None)
        otherwise = NO_ROW if everything is None else self.n_rows + everything
        self.verdicts.append(np.array([row.number << ACTION_BITS | row.action for row in rows], np.uint32))
        boxes = Boxes(rows[:everything], version)
        trees = boxes.trees()
        self.contexts.append(np.array((len(self.trees), len(trees.trees), otherwise, 0), CONTEXT))
        self.trees += [(self.n_nodes + root, self.n_rows + first) for root, first in trees.trees]
        self.nodes.append(moved(trees.nodes, self.n_nodes, self.n_leaves[version]))
        self.leaves[version].append(boxes.words(self.n_rows)[trees.leaves])
        self.n_nodes += len(trees.nodes)
        self.n_leaves[version] += len(trees.leaves)
        self.n_rows += len(rows)
        return number


def means_everything(row: Row) -> bool:
    """Whether every packet matches."""
    ports = row.source_ports == row.destination_ports == ALL_PORTS
    wide = row.source.prefixlen == row.destination.prefixlen == 0
    return ports and wide and row.protocol == ANY_PROTOCOL and not row.tcp_mask


def moved(nodes: U64, by: int, leaves_by: int) -> U64:
    """Nodes as they are behind others; leaves without rows stay the ones of row 0."""
    is_leaf = nodes >= np.uint64(LEAF)
    by_how_much = np.where(nodes == np.uint64(LEAF), 0, np.where(is_leaf, leaves_by, by))
    return nodes + by_how_much.astype(np.uint64)


def nobody(version: int) -> U64:
    """Row 0 of a table of leaves."""
    row = np.zeros((1, ROW_WORDS[version]), np.uint64)
    row[0, -2] = NOBODY
    return row


class Boxes:
    """The rows of a list as arrays: of an address its words of 32 bits, the first bits first."""

    def __init__(self, rows: Sequence[Row], version: int) -> None:
        self.bits = BITS[version]
        self._n = len(rows)
        self._source = self._words_of([int(row.source.network_address) for row in rows])
        self._source_mask = self._words_of([int(row.source.netmask) for row in rows])
        self._destination = self._words_of([int(row.destination.network_address) for row in rows])
        self._destination_mask = self._words_of([int(row.destination.netmask) for row in rows])
        self._ports = np.array([(*row.source_ports, *row.destination_ports) for row in rows], np.int64).reshape(-1, 4)
        self._protocol = np.array([row.protocol for row in rows], np.int64)
        self._flags = np.array([(row.tcp_flags, row.tcp_mask) for row in rows], np.int64).reshape(-1, 2)

    def _words_of(self, numbers: Sequence[int]) -> Any:
        """Two-dimensional."""
        size = self.bits // 8
        of_bytes = np.frombuffer(bytearray().join(n.to_bytes(size) for n in numbers), ">u4")
        return of_bytes.reshape(-1, self.bits // WORD_BITS).astype(np.int64)

    def trees(self) -> Grown:
        """A box is first and last values by word, in the order of `Word4` and `Word6`."""
        addresses = np.hstack((self._source, self._destination))
        masks = np.hstack((self._source_mask, self._destination_mask))
        any_protocol = self._protocol == ANY_PROTOCOL
        low = np.column_stack((addresses, self._ports[:, ::2], self._protocol))
        high = np.column_stack(
            (addresses | ONES & ~masks, self._ports[:, 1::2], np.where(any_protocol, 0xFF, self._protocol))
        )
        by_flags = (self._flags[:, 1] != 0).astype(np.uint8)
        bits = [WORD_BITS] * addresses.shape[1] + [16, 16, 8]
        return grown(np.ascontiguousarray(low), np.ascontiguousarray(high), by_flags, bits)

    def words(self, first: int) -> U64:
        """Rows as leaves have them, two-dimensional; the first one has this number."""
        found: list[Any] = []
        addresses = np.hstack((self._source, self._destination))
        masks = np.hstack((self._source_mask, self._destination_mask))
        for k in range(0, addresses.shape[1], 2):
            found += [_joined(addresses[:, k], addresses[:, k + 1]), _joined(masks[:, k], masks[:, k + 1])]
        number = first + np.arange(self._n)
        mask = np.where(self._protocol == ANY_PROTOCOL, 0, 0xFF)
        source_low, source_high, destination_low, destination_high = self._ports.T
        flags, flags_mask = self._flags.T
        upper, lower = flags << 16 | flags_mask << 24, self._protocol << 16 | mask << 24
        found.append(_joined(destination_low | upper, source_low | lower))
        found.append(_joined(destination_high | number >> 16 << 16, source_high | (number & 0xFFFF) << 16))
        return np.column_stack(found)


def _joined(upper: Any, lower: Any) -> U64:
    """Two words of 32 bits as one of 64."""
    made: U64 = upper.astype(np.uint64) << np.uint64(32) | lower.astype(np.uint64)
    return made
