# SPDX-License-Identifier: Apache-2.0
"""At most one of a kind per window: 512 bits cleared when the window has passed (VPP's vnet/util/throttle.h)."""

from numba import uint64

from pyvpp.jit import inline
from pyvpp.typing import U64
from pyvpp_nodes.integers import int64

BITS = 512


@inline
def throttled(throttle: U64, now: int, window: int, a: int, b: int) -> bool:
    """Has (a, b), or what shares its bit, been here since the window began? If not, it has now."""
    if int64(now) >= int64(throttle[0]):
        throttle[0] = uint64(int64(now) + window)
        for word in range(1, 1 + BITS // 64):
            throttle[word] = uint64(0)
    mixed = (int64(a) * 0x1B873593) ^ (int64(b) * 0x4CF5AD43)
    bit = (mixed ^ (mixed >> 15) ^ (mixed >> 31)) & (BITS - 1)
    mask = uint64(1) << uint64(bit & 63)
    word = 1 + (bit >> 6)
    if (throttle[word] & mask) != uint64(0):
        return True
    throttle[word] |= mask
    return False
