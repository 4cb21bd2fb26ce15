# SPDX-License-Identifier: Apache-2.0
"""error-punt: the end of packets for a host that is not there; counts them by the interface they came in on."""

from numba import uint64

from pyvpp.jit import jit
from pyvpp.node import FREE, node
from pyvpp.typing import U16, U32, U64, Records


@node(name="error-punt")
@jit
def error_punt(meta: Records, frame: U32, nexts: U16, interface_punts: U64) -> None:
    for i, b in enumerate(frame):
        interface_punts[meta[b].rx] += uint64(1)
        nexts[i] = FREE
