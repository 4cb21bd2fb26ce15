# SPDX-License-Identifier: Apache-2.0
"""Random numbers for kernels: xorshift64 (Marsaglia, 2003), a word of state for each worker. Not for secrets."""

from typing import Any

from numba import uint64

from pyvpp.jit import inline
from pyvpp.typing import U64

FIRST = 0x9E3779B97F4A7C15


@inline
def next_random(state: U64, at: int) -> Any:
    """64 random bits from the word of state at a place, which moves on; one that is 0 begins at FIRST."""
    x = state[at]
    if x == uint64(0):
        x = uint64(FIRST)
    x ^= x << uint64(13)
    x ^= x >> uint64(7)
    x ^= x << uint64(17)
    state[at] = x
    return x
