# SPDX-License-Identifier: Apache-2.0
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyvpp.tables import Table, TableInstance
from pyvpp_nodes.ipip.tunnel_table import (
    NO_TUNNEL,
    WORDS,
    TunnelKeys,
    find_tunnel,
    insert_tunnel,
    rehash_tunnels,
    remove_tunnel,
    tunnel_hash,
)

KEYS = st.tuples(
    st.integers(0, 2), st.integers(0, 0xFFFFFFFF), st.sampled_from([0, 0x6400, 0xFFFFFF00]), st.sampled_from([0, 4789])
)


@given(st.lists(st.tuples(st.booleans(), KEYS), max_size=60))
def test_against_a_dict(steps):
    table, model = np.zeros(64 * WORDS, np.uint32), {}
    for value, (insert, key) in enumerate(steps):
        if insert and key not in model and len(model) < 32:
            insert_tunnel(table, *key, value)
            model[key] = value
        elif not insert and model:
            gone = sorted(model)[value % len(model)]
            remove_tunnel(table, *gone)
            del model[gone]
        for each in {each for _, each in steps}:
            assert find_tunnel(table, *each) == model.get(each, NO_TUNNEL)
    for key in model:
        remove_tunnel(table, *key)
    assert not table.any()


def colliding(n: int, home: int, slots: int = 16) -> list[tuple[int, int, int, int]]:
    """Keys that all want the same slot."""
    found = []
    for destination in range(1 << 20):
        if tunnel_hash(1, destination, 0, 0) & (slots - 1) == home:
            found.append((1, destination, 0, 0))
            if len(found) == n:
                break
    return found


@pytest.mark.parametrize("home", [0, 7, 15])
def test_removal_from_a_run_that_wraps_around(home):
    keys = colliding(5, home) + colliding(3, (home + 1) % 16)
    for gone in keys:
        table = np.zeros(16 * WORDS, np.uint32)
        for value, key in enumerate(keys):
            insert_tunnel(table, *key, value)
        remove_tunnel(table, *gone)
        assert [find_tunnel(table, *key) for key in keys] == [
            NO_TUNNEL if key == gone else value for value, key in enumerate(keys)
        ]


def test_a_full_table_is_searched_once():
    table = np.zeros(8 * WORDS, np.uint32)
    for k in range(8):
        insert_tunnel(table, k, k, k, k, k)
    assert find_tunnel(table, 9, 9, 9, 9) == NO_TUNNEL


def test_what_is_not_there_cannot_be_removed():
    with pytest.raises(KeyError):
        remove_tunnel(np.zeros(8 * WORDS, np.uint32), 1, 2, 3, 4)


def test_value_zero_and_key_zero():
    table = np.zeros(8 * WORDS, np.uint32)
    assert find_tunnel(table, 0, 0, 0, 0) == NO_TUNNEL
    insert_tunnel(table, 0, 0, 0, 0, 0)
    assert find_tunnel(table, 0, 0, 0, 0) == 0


def test_growing_keeps_every_key():
    import contextlib

    instance = TableInstance(Table("keys", np.dtype(np.uint32), 4 * WORDS), workers=1)
    keys = TunnelKeys(instance, contextlib.nullcontext)
    random_ = random.Random(1)
    every = {tuple(random_.getrandbits(bits) for bits in (32, 32, 32, 16)): value for value in range(500)}
    for key, value in every.items():
        keys.insert(*key, value)
    assert len(keys) == 500
    assert len(instance.array) >= 2 * 500 * WORDS
    assert all(find_tunnel(instance.array, *key) == value for key, value in every.items())
    for key in every:
        keys.remove(*key)
    assert not instance.array.any()


def test_keys_spread():
    """Tunnels of one node differ in few bits; runs must stay short all the same."""
    table = np.zeros(2048 * WORDS, np.uint32)
    small = np.zeros(4 * WORDS, np.uint32)
    insert_tunnel(small, 1, 2, 3, 4, 5)
    rehash_tunnels(small, table)
    homes = [tunnel_hash(0x0A010201, 0x0A010000 + k, 4096 << 8, 4789) & 2047 for k in range(1000)]
    assert len(set(homes)) > 600
