# SPDX-License-Identifier: Apache-2.0
"""What becomes of a packet that a node segments, counted alike by all that do."""

from numba import uint64

from pyvpp.jit import inline
from pyvpp.node import FREE, NodeCounter, Severity
from pyvpp.typing import U64, Record
from pyvpp_nodes.gso.segment import DONE
from pyvpp_nodes.integers import int64


class Counter(NodeCounter):
    """Beginning with the results of `segment` and `send_trains`."""

    SEGMENTED = 0, "packets segmented", Severity.INFO
    MALFORMED = 1, "malformed packet"
    MEMORY = 2, "could not allocate buffer"
    SEGMENTS = 3, "segments sent", Severity.INFO


@inline
def settle(m: Record, counters: U64, error_base: int, sent: int, result: int, drop: int) -> int:
    """Counts a packet and the segments sent of it; FREE, or the next `drop` with the reason left in the packet."""
    counters[Counter.SEGMENTS] += uint64(sent)
    counters[result] += uint64(1)
    if result == DONE:
        return int64(FREE)
    m.error = error_base + result
    return drop
