# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyvpp import bits
from pyvpp.jit import BOUNDSCHECK, COMPILED

CHECKED = pytest.mark.skipif(COMPILED and not BOUNDSCHECK, reason="compiled without checks")
WORDS = st.integers(0, 2**64 - 1)


@given(WORDS)
def test_popcount(word):
    assert bits.popcount(np.uint64(word)) == f"{word:b}".count("1")


@given(st.lists(st.integers(0, 2**32 - 1), min_size=2, max_size=5), st.data())
def test_two_elements_as_one_word(words, data):
    at = data.draw(st.integers(0, len(words) - 2))
    found = bits.load64(np.array(words, np.uint32), at)
    assert int(found) == words[at] | words[at + 1] << 32
    assert int(found >> np.uint64(32)) == words[at + 1]  # unsigned


@given(st.integers(0, 2**32 - 1), st.integers(0, 3))
def test_publish_stores_one_element(value, at):
    array = np.full(4, 7, np.uint32)
    bits.publish32(array, at, value)
    assert array.tolist() == [value if k == at else 7 for k in range(4)]


@given(st.integers(0, 2**32 - 1), st.integers(0, 4), st.integers(0, 4))
def test_publish_a_range(value, first, end):
    array = np.arange(4, dtype=np.uint32)
    bits.publish_range32(array, first, end, value)
    assert array.tolist() == [value if first <= k < end else k for k in range(4)]


@given(st.integers(-(2**63), 2**63 - 1), st.integers(0, 3))
def test_publish_and_fetch_a_long_word(value, at):
    array = np.full(4, 7, np.int64)
    bits.publish64(array, at, value)
    bits.fence()
    assert array.tolist() == [value if k == at else 7 for k in range(4)]
    assert bits.fetch64(array, at) == value


@CHECKED
def test_outside_the_array():
    array = np.zeros(4, np.uint32)
    for at in (-1, 3, 1 << 40):
        with pytest.raises(IndexError):
            bits.load64(array, at)
    for at in (4, 1 << 40):
        with pytest.raises(IndexError):
            bits.publish32(array, at, 1)
    with pytest.raises(IndexError):
        bits.publish_range32(array, 4, 5, 1)
    long = np.zeros(4, np.int64)
    for at in (4, 1 << 40):
        with pytest.raises(IndexError):
            bits.publish64(long, at, 1)
        with pytest.raises(IndexError):
            bits.fetch64(long, at)
    assert not array.any() and not long.any()
