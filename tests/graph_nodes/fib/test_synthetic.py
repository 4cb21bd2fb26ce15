# SPDX-License-Identifier: Apache-2.0
"""Synthetic tables: as many routes as asked for, no prefix twice, the lengths in the shares of the Internet's."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyvpp_nodes.fib import synthetic
from pyvpp_nodes.fib.synthetic import SHARE4, SHARE6, Routes, anywhere, inside, masked, routes4, routes6

MAKERS: Any = pytest.mark.parametrize(("make", "bits", "share"), [(routes4, 32, SHARE4), (routes6, 128, SHARE6)])


def keys(routes: Routes) -> list[tuple[int, int]]:
    return [
        (int(high) << 64 | int(low), int(length))
        for high, low, length in zip(routes.high, routes.low, routes.length, strict=True)
    ]


@MAKERS
def test_prefixes_are_masked_different_and_in_order(make: Any, bits: int, share: Any) -> None:
    routes = make(20_000)
    found = keys(routes)
    assert len(found) == len(set(found)) == len(routes) == 20_000
    assert found == sorted(found)
    assert all(address & ((1 << 128 - length) - 1) == 0 and length <= bits for address, length in found)
    assert set(routes.next_hop) <= set(range(200))


@MAKERS
def test_lengths_have_their_shares(make: Any, bits: int, share: Any) -> None:
    routes = make(50_000)
    for length, weight in share.items():
        expected = 50_000 * weight / sum(share.values())
        if expected > 1000:  # the space of short ones is small, so repeated ones are missing
            assert int((routes.length == length).sum()) == pytest.approx(expected, rel=0.15)
    assert set(np.unique(routes.length)) <= set(share)


@MAKERS
def test_a_seed_is_a_table(make: Any, bits: int, share: Any) -> None:
    assert keys(make(500, seed=3)) == keys(make(500, seed=3)) != keys(make(500, seed=4))
    assert list(make(500, seed=3).next_hop) == list(make(500, seed=3).next_hop)


def test_ip4_addresses_are_unicast() -> None:
    addresses = routes4(5000).address4
    assert int(addresses.min()) >= 1 << 24 and int(addresses.max()) < 224 << 24


@MAKERS
def test_destinations_lie_in_routes(make: Any, bits: int, share: Any) -> None:
    routes = make(300)
    prefixes = set(keys(routes))
    for high, low in zip(*inside(routes, 500), strict=True):
        address = int(high) << 64 | int(low)
        assert any((address >> 128 - n << 128 - n, n) in prefixes for n in range(129))
    high, low = anywhere(bits, 1000)
    assert (int(low.max()) > 0) == (bits == 128)
    assert int((high & np.uint64(0xFFFFFFFF)).max() > 0) == (bits == 128)


@given(st.integers(0, (1 << 128) - 1), st.integers(0, 128))
def test_masked_keeps_the_first_bits(address: int, length: int) -> None:
    words = np.array([address >> 64], np.uint64), np.array([address & synthetic.BITS64], np.uint64)
    high, low = masked(*words, np.array([length], np.uint8))
    assert int(high[0]) << 64 | int(low[0]) == address >> 128 - length << 128 - length


def test_a_space_that_is_too_small_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthetic, "SHARE4", {8: 1})
    with pytest.raises(ValueError, match="300 different prefixes"):
        routes4(300)
