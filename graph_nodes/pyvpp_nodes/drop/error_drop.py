# SPDX-License-Identifier: Apache-2.0
"""error-drop: the end of packets that are dropped; counts them by the interface they came in on.

The reason has been counted by the node that decided, and stands in `m.error` for trace and capture.
"""

from numba import uint64

from pyvpp.jit import jit
from pyvpp.node import FREE, node
from pyvpp.typing import U16, U32, U64, Records


@node(name="error-drop")
@jit
def error_drop(meta: Records, frame: U32, nexts: U16, interface_drops: U64) -> None:
    for i, b in enumerate(frame):
        interface_drops[meta[b].rx] += uint64(1)
        nexts[i] = FREE
