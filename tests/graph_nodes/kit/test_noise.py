# SPDX-License-Identifier: Apache-2.0
import numpy as np

from pyvpp.jit import jit
from pyvpp_nodes.kit import noise


@jit
def fill(state, out):
    for k in range(len(out)):
        out[k] = noise.next_random(state, 1)


def reference(x: int) -> int:
    """Marsaglia's xorshift64 with the shifts 13, 7, 17."""
    x ^= x << 13 & (1 << 64) - 1
    x ^= x >> 7
    return x ^ x << 17 & (1 << 64) - 1


def test_numbers_follow_the_reference_and_do_not_repeat():
    state, out = np.zeros(2, np.uint64), np.zeros(1000, np.uint64)
    fill(state, out)
    x = noise.FIRST
    for value in out.tolist():
        x = reference(x)
        assert value == x
    assert len(set(out.tolist())) == len(out)
    assert state.tolist() == [0, x]


def test_every_bit_is_set_half_of_the_time():
    state, out = np.zeros(2, np.uint64), np.zeros(4000, np.uint64)
    fill(state, out)
    for bit in range(64):
        assert 1800 < int((out >> np.uint64(bit) & np.uint64(1)).sum()) < 2200
