# SPDX-License-Identifier: Apache-2.0
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pyvpp.jit import jit
from pyvpp_nodes.ip4.tables import THROTTLE_WORDS
from pyvpp_nodes.ip4.throttle import throttled


@jit
def ask(throttle, now, window, a, b):
    return throttled(throttle, now, window, a, b)


ADDRESS = st.integers(0, 2**32 - 1)


@given(st.lists(st.tuples(st.integers(0, 60), ADDRESS, st.integers(0, 5)), min_size=1, max_size=40))
def test_once_in_a_window(events):
    """Never twice the same in a window, and the first of a window always."""
    throttle, now, end, seen = np.zeros(THROTTLE_WORDS, np.uint64), 0, 0, set()
    for gap, a, b in events:
        now += gap
        if now >= end:
            end, seen = now + 100, set()
        answer = bool(ask(throttle, now, 100, a, b))
        if (a, b) in seen:
            assert answer
        if not seen:
            assert not answer
        if not answer:
            seen.add((a, b))


def test_the_window_ends_on_the_nanosecond():
    throttle = np.zeros(THROTTLE_WORDS, np.uint64)
    assert [bool(ask(throttle, now, 100, 7, 7)) for now in (1000, 1099, 1100, 1199, 1200)] == [
        False,
        True,
        False,
        True,
        False,
    ]


def test_few_collide():
    """512 bits: of 64 neighbors in a row, nearly all get through."""
    throttle = np.zeros(THROTTLE_WORDS, np.uint64)
    let_through = sum(not ask(throttle, 5, 100, 0x0A010200 + host, 2) for host in range(64))
    assert let_through > 48
    assert sum(not ask(throttle, 5, 100, 0x0A010200 + host, 2) for host in range(64)) == 0
