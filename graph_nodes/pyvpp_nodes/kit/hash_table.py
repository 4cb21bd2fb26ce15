# SPDX-License-Identifier: Apache-2.0
"""A hash table for flows: keys of 4 to 40 bytes, entries with a bounded index, an expiry each, growth without a stop.

    FLOWS_INDEX, FLOWS = hash_table("my_flows", key_bytes=16, capacity=1 << 20, fields=[("packets", np.uint64)])

declares two tables, each worker's own; a kernel names both as parameters. With `key`, a tuple of 64-bit words:

    h = hash_of(my_flows_index, key)
    i = find(my_flows_index, my_flows, key, h, now)                        # the entry's index, or NONE
    if i == NONE:
        i = add(my_flows_index, my_flows, key, h, now, now + LIFETIME)     # NONE when the table is full
    my_flows[i].expires = now + LIFETIME                                   # seen just now

An entry keeps its index as long as it lives, so that tables of a plugin's own may be indexed by it. It is gone from the
moment it expires; its room is found again by a hand that goes round, two entries for each one added (`sweep` goes on
when nothing is added). Memory that no entry has needed yet is not touched.

**How it grows.** The index is open-addressed: slots of a hash and an entry's index, at most half of them in use. When
half are, twice as many begin in untouched memory behind, and each entry added moves four slots' worth there. So there
is never a moment when everything is copied, nobody waits, and the worker that adds needs no other's help. Meanwhile
a lookup that finds nothing in the new slots looks into the old.

**What it costs.** Clocks a lookup of a key that is there, 16-byte keys, vectors of 256 in random order, best of several
runs on one core of an EPYC Zen 4 beside busy neighbors; in brackets with `prefetch_slot` and `prefetch_entry` a pass
ahead each, which is worth it when entries no longer fit the cache:

    entries          1,000     100,000     1,000,000
    clocks         28 (39)     45 (49)      171 (90)

Linear hashing (Litwin, VLDB 1980), which splits one bucket at a time, is tidier, but its buckets of a cache line take
longer to look through: 52 (76) clocks among 1,000.
"""

from typing import Any

import numpy as np
from numba import uint32, uint64

from pyvpp.bits import prefetch
from pyvpp.jit import inline, jit, outline, rare_case
from pyvpp.tables import Table, record_dtype
from pyvpp.typing import U32, U64, Records
from pyvpp_nodes.integers import int64

NONE = 0
FIRST_SLOTS = 16
MOVED_BY_ADD = 4
SWEPT_BY_ADD = 2
SWEPT_WHEN_FULL = 32

COUNT, LEVEL, TO_MOVE, FREE_ENTRY, ENTRIES_USED, HAND, SEED = range(7)
"""The index's first words; the slots of a table that has n of them begin at n."""

WORD = 0xFFFFFFFF
IN_USE = 0x80000000  # in every hash, so that no slot in use is zero
MULTIPLIERS = (
    0x1B873593, 0x4CF5AD43, 0x5BD1E995, 0x2C1B3C6D, 0x297A2D39,
    0x64B5F1E7, 0x71D67FFF, 0x3C6EF373, 0x4F6CDD1D, 0x6A09E667,
)  # fmt: skip


def hash_table(
    name: str, *, key_bytes: int, capacity: int, fields: Any = (), per_worker: bool = True
) -> tuple[Table, Table]:
    """Declares the index, `<name>_index`, and the entries, `<name>`: a key, when it expires, and fields of your own.

    Keys of 4 bytes take a word of 8. Raises ValueError for another size of keys, or more entries than an index counts.
    """
    if key_bytes not in (4, 8, 16, 40):
        raise ValueError(f"hash table {name}: keys of {key_bytes} bytes (expected 4, 8, 16 or 40)")
    if not 1 <= capacity < 1 << 28:
        raise ValueError(f"hash table {name}: room for {capacity} entries (expected 1 to {(1 << 28) - 1})")
    words = max(1, key_bytes // 8)
    entry = record_dtype(
        [("key", np.uint64, (words,)), ("expires", np.int64), ("hash", np.uint32), *fields], align=True
    )
    slots = max(FIRST_SLOTS, 1 << (2 * capacity - 1).bit_length())
    return Table(f"{name}_index", np.uint64, 2 * slots, per_worker), Table(name, entry, capacity + 1, per_worker)


@inline
def hash_of(index: U64, key: Any) -> int:
    """32 bits from a key, a tuple of 64-bit words: both halves of each are multiplied, all at once, and mixed.

    Multipliers of 31 bits keep every product within int64. `seed` makes it another function in each process, so that
    nobody outside knows which keys meet in a slot.
    """
    h = int64(index[SEED])
    for k in range(len(key)):
        word = uint64(key[k])
        h ^= int64(word & uint64(WORD)) * MULTIPLIERS[2 * k] ^ int64(word >> uint64(32)) * MULTIPLIERS[2 * k + 1]
    h ^= h >> 32
    h = (h & WORD) * 0x2C1B3C6D
    h ^= h >> 28
    h = (h & WORD) * 0x297A2D39
    return (h ^ h >> 31) & WORD | IN_USE


@inline
def slots_of(index: U64) -> int:
    """How many slots there are by now, a power of two; and where they begin."""
    return FIRST_SLOTS << int64(index[LEVEL])


@inline
def slot_of(h: int, i: int) -> Any:
    """A slot that has this hash and leads to this entry."""
    return uint64(h) << uint64(32) | uint64(i)


@inline
def hash_in(slot: Any) -> int:
    """The hash of a slot; 0 where it is empty."""
    return int64(slot >> uint64(32))


@inline
def entry_in(slot: Any) -> int:
    """NONE in a slot whose entry has moved, or is gone, while entries move."""
    return int64(slot & uint64(WORD))


@inline
def prefetch_slot(index: U64, h: int) -> None:
    """Asks for the slot in which a lookup of this hash begins."""
    n = slots_of(index)
    prefetch(index, n + (h & (n - 1)))


@inline
def prefetch_entry(index: U64, entries: Records, h: int) -> None:
    """Asks for the entry that a lookup of this hash will most likely compare."""
    n = slots_of(index)
    at = h & (n - 1)
    while index[uint64(n + at)] and hash_in(index[uint64(n + at)]) != h:
        at = (at + 1) & (n - 1)
    prefetch(entries, entry_in(index[uint64(n + at)]))


@inline
def same(entry: Any, key: Any) -> bool:
    """Whether an entry has this key."""
    differ = uint64(0)
    for k in range(len(key)):
        differ |= entry.key[k] ^ uint64(key[k])
    return bool(differ == uint64(0))


@inline
def locate_among(index: U64, n: int, entries: Records, key: Any, h: int) -> int:
    """The entry of a key, expired or not, by the n slots that begin at n."""
    at = h & (n - 1)
    while True:
        slot = index[uint64(n + at)]
        if slot == uint64(0):
            return NONE
        if hash_in(slot) == h:
            i = entry_in(slot)
            if same(entries[uint64(i)], key) and i != NONE:
                return i
        at = (at + 1) & (n - 1)


@outline
def locate_among_old(index: U64, n: int, entries: Records, key: Any, h: int) -> int:
    """`locate_among` for what few lookups need."""
    rare_case()
    return locate_among(index, n, entries, key, h)


@inline
def locate(index: U64, entries: Records, key: Any, h: int) -> int:
    """The entry of a key, expired or not."""
    n = slots_of(index)
    i = locate_among(index, n, entries, key, h)
    if i == NONE and index[TO_MOVE]:
        i = locate_among_old(index, n >> 1, entries, key, h)
    return i


@inline
def find(index: U64, entries: Records, key: Any, h: int, now: int) -> int:
    """The index of a key's entry, NONE when there is none that lives."""
    i = locate(index, entries, key, h)
    return i if entries[uint64(i)].expires > now else NONE  # entry 0 has never lived


@outline
def add(index: U64, entries: Records, key: Any, h: int, now: int, expires: int) -> int:
    """The index of a new entry; NONE when there is no room. Its own fields are what the last one there left.

    An expired entry of the same key is used again.
    """
    rare_case()
    i = locate(index, entries, key, h)
    if i != NONE:
        entries[i].expires = expires
        return i
    sweep(index, entries, now, SWEPT_BY_ADD)
    i = _take_entry(index, entries)
    if i == NONE and sweep(index, entries, now, SWEPT_WHEN_FULL):
        i = _take_entry(index, entries)
    if i == NONE:
        return NONE
    entry = entries[i]
    for k in range(len(key)):
        entry.key[k] = uint64(key[k])
    entry.expires = expires
    entry.hash = uint32(h)
    index[COUNT] += uint64(1)
    if 2 * int64(index[COUNT]) > slots_of(index) and 4 * slots_of(index) <= len(index):
        index[TO_MOVE] = uint64(slots_of(index))
        index[LEVEL] += uint64(1)
    _move(index)
    _put(index, slot_of(h, i))
    return i


@outline
def remove(index: U64, entries: Records, i: int) -> None:
    """Takes an entry out. Its index is another's soon."""
    rare_case()
    wanted = slot_of(int64(entries[i].hash), i)
    n = slots_of(index)
    at = _place_of(index, n, wanted)
    if at >= 0:
        _close(index, n, at)
    else:
        n >>= 1
        index[n + _place_of(index, n, wanted)] = slot_of(int64(entries[i].hash), NONE)
    entries[i].expires = 0
    entries[i].hash = uint32(index[FREE_ENTRY])
    index[FREE_ENTRY] = uint64(i)
    index[COUNT] -= uint64(1)


@inline
def sweep(index: U64, entries: Records, now: int, steps: int) -> int:
    """Looks at so many entries, going round, and takes out those that have expired; answers how many."""
    removed = int64(0)
    used = int64(index[ENTRIES_USED])
    i = int64(index[HAND])
    for _ in range(min(steps, used)):
        i = i + 1 if i < used else int64(1)
        expires = int64(entries[i].expires)
        if 0 < expires <= now:
            remove(index, entries, i)
            removed += 1
    index[HAND] = uint64(i)
    return removed


@inline
def _take_entry(index: U64, entries: Records) -> int:
    i = int64(index[FREE_ENTRY])
    if i != NONE:
        index[FREE_ENTRY] = uint64(entries[i].hash)
        return i
    if int64(index[ENTRIES_USED]) + 1 >= len(entries):
        return NONE
    index[ENTRIES_USED] += uint64(1)
    return int64(index[ENTRIES_USED])


@inline
def _put(index: U64, slot: Any) -> None:
    n = slots_of(index)
    at = hash_in(slot) & (n - 1)
    while index[n + at]:
        at = (at + 1) & (n - 1)
    index[n + at] = slot


@inline
def _move(index: U64) -> None:
    """Some slots of those before the last growth to where they belong now. Chains through them stay whole."""
    old = slots_of(index) >> 1
    for _ in range(min(MOVED_BY_ADD, int64(index[TO_MOVE]))):
        index[TO_MOVE] -= uint64(1)
        at = old + int64(index[TO_MOVE])
        if entry_in(index[at]) != NONE:
            _put(index, index[at])
            index[at] = slot_of(hash_in(index[at]), NONE)


@inline
def _place_of(index: U64, n: int, wanted: Any) -> int:
    """Which of n slots this one is, -1 for none."""
    at = hash_in(wanted) & (n - 1)
    while index[n + at] != wanted:
        if index[n + at] == uint64(0):
            return -1
        at = (at + 1) & (n - 1)
    return at


@inline
def _close(index: U64, n: int, hole: int) -> None:
    """Empties a slot; those behind it that may stand further in front do (Knuth 6.4, algorithm R)."""
    at = hole
    while True:
        at = (at + 1) & (n - 1)
        slot = index[n + at]
        if slot == uint64(0):
            break
        if (at - hash_in(slot)) & (n - 1) >= (at - hole) & (n - 1):
            index[n + hole] = slot
            hole = at
    index[n + hole] = uint64(0)


@jit
def add_many(index: U64, entries: Records, keys: Any, now: int, expires: int, out: U32) -> None:
    """`add` for control code and benches: keys as rows of two words."""
    for k in range(len(out)):
        key = (keys[k, 0], keys[k, 1])
        out[k] = uint32(add(index, entries, key, hash_of(index, key), now, expires))


@jit
def find_many(index: U64, entries: Records, keys: Any, now: int, out: U32) -> None:
    """`find` for control code and benches."""
    for k in range(len(out)):
        key = (keys[k, 0], keys[k, 1])
        out[k] = uint32(find(index, entries, key, hash_of(index, key), now))


def seed(instance: Any, random_: Any) -> None:
    """Makes a declared index's hash one that nobody outside knows; before anything is added."""
    for array in instance.arrays:
        array[SEED] = random_.getrandbits(32)


def in_use(index: U64, entries: Records) -> tuple[Any, Any]:
    """The parts of an index and its entries that hold anything, for a process that goes on (`pyvpp.keepsakes`)."""
    return index[: 2 * (FIRST_SLOTS << int(index[LEVEL]))], entries[: int(index[ENTRIES_USED]) + 1]


def put_back(index: U64, entries: Records, kept_index: Any, kept_entries: Any, later: int) -> bool:
    """Fills an empty table with what `in_use` answered in another process, whose clock is `later` behind this one.

    False when there is less room here; then it stays empty.
    """
    if len(kept_index) > len(index) or len(kept_entries) > len(entries):
        return False
    index[: len(kept_index)], entries[: len(kept_entries)] = kept_index, kept_entries
    expires = entries["expires"][: len(kept_entries)]
    expires[expires > 0] += later
    return True


def living(index: U64, entries: Records, now: int) -> Any:
    """The indices of all entries that live, for control code; a worker may change them meanwhile."""
    return np.flatnonzero(entries["expires"][: int(index[ENTRIES_USED]) + 1] > now)
