# SPDX-License-Identifier: Apache-2.0
"""From rows to the arrays that `classify` reads: all lists of all interfaces at once."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pyvpp.jit import Native, jit
from pyvpp.typing import U32, U64, Records
from pyvpp_acl.classify import DESTINATIONS, SOURCES, mixed, rest_of_key
from pyvpp_acl.rules import ANY_PROTOCOL, Network, Row, for_later_fragments
from pyvpp_acl.tables import CONTEXT, ROW, TUPLE
from pyvpp_nodes.fib.trie.owner import ROOTS, Prefixes, Trie
from pyvpp_nodes.integers import int64

ALL = 0xFFFFFFFFFFFFFFFF
BITS = {4: 32, 6: 128}
FEW = 4
"""Rows with the same two prefixes that are compared one by one."""
PORT_BITS = 16
WIDEST_BLOCK = 14
"""A range that needs wider blocks is as good as all ports: few packets would be kept off by its key."""

Prefix = tuple[int, int]
"""(first address, length)"""
Key = tuple[int, int, int, int, int]
"""A tuple: lengths of the prefixes, whether the protocol counts, low bits of the ports that do not."""


@dataclass
class Sorted:
    """The rows of a context, and under which tuples and blocks of ports each of them stands."""

    rows: Sequence[Row]
    version: int
    keys: list[list[tuple[Key, int, int]]] = field(init=False)
    tuples: dict[Key, int] = field(init=False)
    """numbers, in the order of their first rows"""

    def __post_init__(self) -> None:
        alike = Counter((row.source, row.destination) for row in self.rows)
        self.keys = [keys_of(row, alike[row.source, row.destination] > FEW) for row in self.rows]
        self.tuples = {}
        for found in self.keys:
            for key, _, _ in found:
                self.tuples.setdefault(key, len(self.tuples))

    @property
    def words(self) -> int:
        """Of a bitmap."""
        return max(1, -(-len(self.tuples) // 64))

    def prefixes(self, side: str) -> dict[Prefix, int]:
        """Those of the rows, and the tuples that hold a row with each, as a bitmap."""
        found: dict[Prefix, int] = {}
        for row, keys in zip(self.rows, self.keys, strict=True):
            at = prefix_of(getattr(row, side))
            found[at] = found.get(at, 0) | 1 << self.tuples[keys[0][0]]
        return found

    def ports(self) -> dict[Prefix, int]:
        """The same for destination ports, whose blocks are prefixes of 16 bits."""
        found: dict[Prefix, int] = {}
        for keys in self.keys:
            for key, _, block in keys:
                at = (block << key[4], PORT_BITS - key[4])
                found[at] = found.get(at, 0) | 1 << self.tuples[key]
        return found


def compile_lists(lists: Sequence[tuple[Sequence[Row], int]]) -> tuple[list[int], dict[str, Any]]:
    """For each list of rows of an IP version the number of its context; and arrays by the names of their tables."""
    contexts = [Sorted(made, version) for rows, version in lists for made in (for_later_fragments(rows), rows)]
    known = {
        (version, side): numbered(
            prefix for each in contexts if each.version == version for prefix in each.prefixes(side)
        )
        for version in BITS
        for side in ("source", "destination")
    }
    ports = numbered(prefix for each in contexts for prefix in each.ports())
    built = Built()
    for each in contexts:
        built.add(each, known[each.version, "source"], known[each.version, "destination"], ports)
    arrays = built.arrays()
    for version, bits in BITS.items():
        roots, nodes = tries(bits, known[version, "source"], known[version, "destination"])
        arrays |= {f"acl_roots{version}": roots, f"acl_nodes{version}": nodes}
    arrays["acl_ports"] = classes_of_ports(ports)
    numbers = [2 * k + 2 for k in range(len(lists))]
    for number in numbers:
        arrays["acl_contexts"]["fragments"][number] = number - 1
    return numbers, arrays


def prefix_of(network: Network) -> Prefix:
    return int(network.network_address), network.prefixlen


def numbered(prefixes: Iterable[Prefix]) -> dict[Prefix, int]:
    """Numbers from 1 on, a prefix before those within it."""
    return {prefix: number for number, prefix in enumerate(sorted(set(prefixes)), 1)}


def keys_of(row: Row, in_detail: bool) -> list[tuple[Key, int, int]]:
    """The tuple of a row, and the blocks of ports under which it stands there: up to two by two.

    Protocol and ports are part of the key only `in_detail`, where many rows have the same two prefixes. Where few have,
    it is quicker to compare them one by one than to have more tuples.
    """
    if not in_detail:
        return [((row.source.prefixlen, row.destination.prefixlen, 0, PORT_BITS, PORT_BITS), 0, 0)]
    source_shift, sources = blocks(row.source_ports)
    destination_shift, destinations = blocks(row.destination_ports)
    key = (
        row.source.prefixlen, row.destination.prefixlen, int(row.protocol != ANY_PROTOCOL), source_shift,
        destination_shift,
    )  # fmt: skip
    return [(key, source, destination) for source in sources for destination in destinations]


def blocks(ports: tuple[int, int]) -> tuple[int, tuple[int, ...]]:
    """How many low bits of a port do not count, and what the others may be: a range lies in two such blocks at most."""
    shift = (ports[1] - ports[0]).bit_length()
    if shift > WIDEST_BLOCK:
        return PORT_BITS, (0,)
    first, last = ports[0] >> shift, ports[1] >> shift
    return shift, (first,) if first == last else (first, last)


def tries(bits: int, sources: Mapping[Prefix, int], destinations: Mapping[Prefix, int]) -> tuple[U32, U32]:
    """From an address to the number of the longest prefix that contains it, 0 without one: roots and nodes."""
    roots, nodes = Room(2 * ROOTS), Room(1 << 14)
    trie = Trie(roots, nodes)
    for table, known in ((SOURCES, sources), (DESTINATIONS, destinations)):
        trie.add_table(table)
        if known:
            trie.set(table, Prefixes.of(bits, *known), np.array(list(known.values()), np.uint32))
    return roots.array, nodes.array


class Room:
    """An array in a table's place, as the trie's owner asks for one."""

    def __init__(self, size: int) -> None:
        self.array = self.zeros(size)

    def zeros(self, size: int) -> U32:
        return np.zeros(size, np.uint32)

    def swap(self, array: U32) -> None:
        self.array = array


def classes_of_ports(ports: Mapping[Prefix, int]) -> Any:
    """The number of the longest block of each port: those within others come later, and win."""
    classes = np.zeros(1 << PORT_BITS, np.uint32)
    for (port, length), number in ports.items():
        classes[port : port + (1 << PORT_BITS - length)] = number
    return classes


def bitmaps_of(known: Mapping[Prefix, int], mine: Mapping[Prefix, int], bits: int) -> list[int]:
    """By a prefix's number: the tuples of a context that hold a row with it or with one around it.

    Prefixes nest: going through them by address, a stack holds those that are open.
    """
    found = [0]
    stack: list[tuple[int, int]] = [(1 << bits, 0)]  # (end, tuples)
    for address, length in known:
        while stack[-1][0] <= address:
            stack.pop()
        tuples = stack[-1][1] | mine.get((address, length), 0)
        stack.append((address + (1 << bits - length), tuples))
        found.append(tuples)
    return found


@dataclass
class Built:
    """Arrays of all contexts so far, one behind the other. Context 0 and row 0 are nobody's."""

    contexts: list[Any] = field(default_factory=lambda: [np.zeros((), CONTEXT)])
    classes: list[int] = field(default_factory=list)
    bitmaps: list[int] = field(default_factory=list)
    tuples: list[Any] = field(default_factory=lambda: [np.zeros((), TUPLE)])
    slots: list[U64] = field(default_factory=lambda: [np.zeros(1, np.uint64)])
    rows: list[Records] = field(default_factory=lambda: [np.zeros(1, ROW)])
    n_slots: int = 1
    n_rows: int = 1

    def arrays(self) -> dict[str, Any]:
        """By the names of the tables; none is empty."""
        return {
            "acl_contexts": np.array(self.contexts, CONTEXT),
            "acl_classes": np.array(self.classes or [0], np.uint32),
            "acl_bitmaps": np.array(self.bitmaps or [0], np.uint64),
            "acl_tuples": np.array(self.tuples, TUPLE),
            "acl_slots": np.concatenate(self.slots),
            "acl_rows": np.concatenate(self.rows),
        }

    def add(
        self,
        each: Sorted,
        sources: Mapping[Prefix, int],
        destinations: Mapping[Prefix, int],
        ports: Mapping[Prefix, int],
    ) -> None:
        """One more context, numbered behind those that are there."""
        context = np.zeros((), CONTEXT)
        words = each.words
        context["words"], context["tuples"] = words, len(self.tuples)
        places: dict[int, int] = {}  # of bitmaps
        bits = BITS[each.version]
        for name, found in (
            ("sources", bitmaps_of(sources, each.prefixes("source"), bits)),
            ("destinations", bitmaps_of(destinations, each.prefixes("destination"), bits)),
            ("ports", bitmaps_of(ports, each.ports(), PORT_BITS)),
        ):
            context[name] = len(self.classes)
            for bitmap in found:
                if bitmap not in places:
                    places[bitmap] = len(self.bitmaps)
                    self.bitmaps += [bitmap >> 64 * w & ALL for w in range(words)]
                self.classes.append(places[bitmap])
        self._add_rows(each, context)
        self.contexts.append(context)

    def _add_rows(self, each: Sorted, context: Any) -> None:
        """Tuples, rows in their order, once for each block of ports, and slots that lead to them."""
        copies = [(k, key, s, d) for k, found in enumerate(each.keys) for key, s, d in found]
        made, keys = np.zeros(len(copies), ROW), np.zeros((len(copies), 3), np.int64)
        firsts: dict[Key, int] = {}
        for r, (k, key, source_block, destination_block) in enumerate(copies):
            row = each.rows[k]
            firsts.setdefault(key, self.n_rows + r)
            made[r] = _row(row, each.version, each.tuples[key])
            keys[r] = row.protocol if key[2] else 0, source_block, destination_block
        self.tuples += [_tuple(key, each.version, firsts[key]) for key in each.tuples]
        slots = np.zeros(1 << max(1, (2 * len(copies)).bit_length()), np.uint64)
        fill_slots(slots, made, keys, self.n_rows, 1 if each.version == 4 else 2)
        context["slots"], context["n_slots"] = self.n_slots, len(slots)
        self.slots.append(slots)
        self.rows.append(made)
        self.n_slots += len(slots)
        self.n_rows += len(made)


def words_of(address: int, version: int) -> tuple[int, int]:
    return (address, 0) if version == 4 else (address >> 64, address & ALL)


def _row(row: Row, version: int, number: int) -> Any:
    made = np.zeros((), ROW)
    made["source"] = words_of(int(row.source.network_address), version)
    made["destination"] = words_of(int(row.destination.network_address), version)
    made["rule"], made["tuple"], made["protocol"] = row.number, number, row.protocol
    made["source_low"], made["source_high"] = row.source_ports
    made["destination_low"], made["destination_high"] = row.destination_ports
    made["tcp_flags"], made["tcp_mask"], made["action"] = row.tcp_flags, row.tcp_mask, row.action
    return made


def _tuple(key: Key, version: int, first: int) -> Any:
    made, bits = np.zeros((), TUPLE), BITS[version]
    for name, length in (("source_mask", key[0]), ("destination_mask", key[1])):
        made[name] = words_of((1 << bits) - (1 << bits - length), version)
    made["protocol_mask"], made["source_shift"], made["destination_shift"] = 0xFF * key[2], key[3], key[4]
    made["first"] = first
    return made


@jit
def fill_slots(slots: U64, rows: Records, keys: Any, first: int, width: int) -> None:
    """An open-addressed table of rows by their keys (protocol and blocks of ports); those with one key are chained.

    Slots hold a hash and a row, numbered from `first` on.
    """
    last = len(slots) - 1
    for r in range(len(rows) - 1, -1, -1):  # from behind: what comes first is put in front of its chain
        row = rows[r]
        rest = rest_of_key(int64(row.tuple), int64(keys[r, 0]), int64(keys[r, 1]), int64(keys[r, 2]))
        if width == 1:
            h = mixed((row.source[0],), (row.destination[0],), rest)
        else:
            h = mixed((row.source[0], row.source[1]), (row.destination[0], row.destination[1]), rest)
        at = h & last
        while slots[at] != np.uint64(0) and int64(slots[at] >> np.uint64(32)) != h:
            at = (at + 1) & last
        if slots[at] != np.uint64(0):  # the same key, or another one of the same hash: rows are compared anyway
            row.next = int64(slots[at] & np.uint64(0xFFFFFFFF))
        slots[at] = np.uint64(h) << np.uint64(32) | np.uint64(first + r)


def _use() -> None:
    for width in (1, 2):
        fill_slots(np.zeros(2, np.uint64), np.zeros(1, ROW), np.zeros((1, 3), np.int64), 1, width)


NATIVE = Native("acl", _use)
