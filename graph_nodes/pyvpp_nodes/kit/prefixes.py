# SPDX-License-Identifier: Apache-2.0
"""Longest prefix match: which of a plugin's own prefixes an address is in, and what that one is worth.

    ORIGIN_ROOTS, ORIGIN_NODES = prefix_table("origin")                    # declares two tables, for all workers

    value = match4(origin_roots, origin_nodes, be32(heap, ip + SOURCE))    # a kernel names both as parameters

    origins = Prefixes(engine, "origin")                                   # control code
    origins.set(IPv4Network("198.51.100.0/24"), 7)

The FIB's own trie (`fib.trie`): three loads for most addresses, 8 clocks among a million prefixes. A change is seen by
lookups at once and whole, and stops no worker. One table holds prefixes of one family.
"""

from ipaddress import IPv4Network, IPv6Network
from typing import Any

import numpy as np

from pyvpp.jit import inline
from pyvpp.tables import Table
from pyvpp.typing import U32
from pyvpp_nodes.fib.trie.arrays import NONE
from pyvpp_nodes.fib.trie.lookup import POSITION, ROOT_BITS, fib6_lookup, fib_lookup
from pyvpp_nodes.fib.trie.owner import Prefixes as Rows
from pyvpp_nodes.fib.trie.owner import Trie

NODES_AT_FIRST = 1 << 12
UNMATCHED = 0
"""What an address in none of the prefixes is worth."""


def prefix_table(name: str) -> tuple[Table, Table]:
    """Declares `<name>_roots` and `<name>_nodes`, u32 each, 1 MB together at first."""
    return (
        Table(f"{name}_roots", np.uint32, 1 << ROOT_BITS),
        Table(f"{name}_nodes", np.uint32, NODES_AT_FIRST),
    )


@inline
def match4(roots: U32, nodes: U32, address: int) -> int:
    """The value of the longest prefix that an IPv4 address, a number, is in; UNMATCHED for none."""
    return fib_lookup(roots, nodes, 0, address)


@inline
def match6(roots: U32, nodes: U32, high: Any, low: Any) -> int:
    """The same of an IPv6 address: its halves as unsigned 64-bit numbers, see `high_half` and `low_half`."""
    return fib6_lookup(roots, nodes, 0, high, low)


class Prefixes:
    """The prefixes of a `prefix_table`: control code, on the main thread.

    It belongs to one engine and outlives a version of the plugin: keep it in `engine.stack`.
    """

    def __init__(self, engine: Any, name: str, version: int = 4) -> None:
        """Of IPv4, or with `version` 6 of IPv6."""
        self._bits = 32 if version == 4 else 128
        self._trie = Trie(
            engine.tables[f"{name}_roots"], engine.tables[f"{name}_nodes"], engine.synchronize, engine.barrier
        )
        self._trie.add_table(0)

    def set(self, prefix: IPv4Network | IPv6Network, value: int) -> None:
        """Adds a prefix, or gives it another value. Raises ValueError for another family, or a value out of range.

        Memory is kept for each value up to the largest, so number them from 1 and index a table of your own by them.
        """
        if not UNMATCHED < value < POSITION:
            raise ValueError(f"{prefix}: its value is {value} (expected 1 to {POSITION - 1})")
        self._change(prefix, value)

    def remove(self, prefix: IPv4Network | IPv6Network) -> None:
        """Takes a prefix out; its addresses match the next shorter one. Raises KeyError when it is not there."""
        if self.get(prefix) is None:
            raise KeyError(str(prefix))
        self._change(prefix, NONE)

    def get(self, prefix: IPv4Network | IPv6Network) -> int | None:
        """The value of exactly this prefix, None when it is not there. Raises ValueError for another family."""
        self._check(prefix)
        found = self._trie.find_one(0, self._bits, int(prefix.network_address), prefix.prefixlen)
        return None if found == NONE else found

    def __len__(self) -> int:
        return self._trie.count(0)

    def items(self) -> list[tuple[int, int, int]]:
        """All prefixes by address, the shorter first: address as a number, length, value."""
        rows, values = self._trie.routes(0)
        lengths = [int(length) for length in rows.length]
        return list(zip(Rows.addresses(rows, self._bits), lengths, (int(each) for each in values), strict=True))

    def _change(self, prefix: IPv4Network | IPv6Network, value: int) -> None:
        self._check(prefix)
        self._trie.set_one(0, self._bits, int(prefix.network_address), prefix.prefixlen, value)

    def _check(self, prefix: IPv4Network | IPv6Network) -> None:
        if prefix.max_prefixlen != self._bits:
            raise ValueError(f"{prefix} is no IPv{4 if self._bits == 32 else 6} prefix")
