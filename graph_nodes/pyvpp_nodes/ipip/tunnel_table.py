# SPDX-License-Identifier: Apache-2.0
"""Which tunnel a packet belongs to: an open-addressing hash over (source, destination, number, port) in one U32 array.

An entry is eight words: source, destination, number, port with OCCUPIED, value, three spare; two entries a cache line.
Linear probing; removal shifts later entries back, so no tombstones stay and a table that has been emptied is all zeros.
Readers run on the workers: an insert writes its marker last, a removal needs the barrier.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from pyvpp.jit import inline, jit
from pyvpp.typing import U32

WORDS = 8
OCCUPIED = 0x80000000
NO_TUNNEL = 0xFFFFFFFF


@inline
def tunnel_hash(source: int, destination: int, number: int, port: int) -> int:
    """31-bit odd multipliers keep every product within int64, so numba and Python agree."""
    h = (source * 0x1B873593) ^ (destination * 0x4CF5AD43) ^ (number * 0x5BD1E995) ^ (port * 0x2C1B3C6D)
    return (h >> 15) ^ (h >> 31)


@jit
def find_tunnel(table: U32, source: int, destination: int, number: int, port: int) -> int:
    """The value stored for the key, or NO_TUNNEL."""
    slots = len(table) // WORDS
    slot = tunnel_hash(source, destination, number, port) & (slots - 1)
    for _ in range(slots):
        entry = table[slot * WORDS : slot * WORDS + WORDS]
        marker = int(entry[3])
        if marker == 0:
            break
        if (
            int(entry[0]) == source
            and int(entry[1]) == destination
            and int(entry[2]) == number
            and marker == port | OCCUPIED
        ):
            return int(entry[4])
        slot = (slot + 1) & (slots - 1)
    return NO_TUNNEL


def insert_tunnel(table: U32, source: int, destination: int, number: int, port: int, value: int) -> None:
    """Adds a key that is not there; the caller keeps the table at most half full."""
    slots = len(table) // WORDS
    slot = tunnel_hash(source, destination, number, port) & (slots - 1)
    while table[slot * WORDS + 3]:
        slot = (slot + 1) & (slots - 1)
    at = slot * WORDS
    table[at] = source
    table[at + 1] = destination
    table[at + 2] = number
    table[at + 4] = value
    table[at + 3] = port | OCCUPIED


def remove_tunnel(table: U32, source: int, destination: int, number: int, port: int) -> None:
    """Takes a key out and moves back those behind it that would otherwise not be found (Knuth 6.4, algorithm R)."""
    slots = len(table) // WORDS
    slot = tunnel_hash(source, destination, number, port) & (slots - 1)
    key = (source, destination, number, port | OCCUPIED)
    while tuple(int(word) for word in table[slot * WORDS : slot * WORDS + 4]) != key:
        if not table[slot * WORDS + 3]:
            raise KeyError((source, destination, number, port))
        slot = (slot + 1) & (slots - 1)
    hole = slot
    while True:
        slot = (slot + 1) & (slots - 1)
        at = slot * WORDS
        if not table[at + 3]:
            break
        other, towards, label, marker = (int(word) for word in table[at : at + 4])
        home = tunnel_hash(other, towards, label, marker & ~OCCUPIED) & (slots - 1)
        if (slot - home) & (slots - 1) >= (slot - hole) & (slots - 1):
            table[hole * WORDS : (hole + 1) * WORDS] = table[at : at + WORDS]
            hole = slot
    table[hole * WORDS : (hole + 1) * WORDS] = 0


def rehash_tunnels(old: U32, new: U32) -> None:
    """Fills an empty table with the entries of a smaller one."""
    for at in range(0, len(old), WORDS):
        if old[at + 3]:
            source, destination, number, port, value = (int(word) for word in old[at : at + 5])
            insert_tunnel(new, source, destination, number, port & ~OCCUPIED, value)


class TunnelKeys:
    """A table of such entries as control code changes it: never more than half full, workers stopped where they must
    be."""

    def __init__(self, table: Any, barrier: Callable[[], AbstractContextManager[Any]]) -> None:
        self._table = table
        self._barrier = barrier
        self._used = 0

    def __len__(self) -> int:
        return self._used

    def insert(self, source: int, destination: int, number: int, port: int, value: int) -> None:
        size = len(self._table.array)
        if 2 * WORDS * (self._used + 1) > size:
            with self._barrier():
                old = self._table.array.copy()
                self._table.grow(2 * size)
                self._table.array[:] = 0
                rehash_tunnels(old, self._table.array)
        insert_tunnel(self._table.array, source, destination, number, port, value)
        self._used += 1

    def remove(self, source: int, destination: int, number: int, port: int) -> None:
        with self._barrier():
            remove_tunnel(self._table.array, source, destination, number, port)
        self._used -= 1
