# SPDX-License-Identifier: Apache-2.0
"""interface-output-arc-end: count a packet that passed all features of the arc interface-output, pass it to its driver.

One node for all interfaces; `m.tx` says which. Where no feature is enabled, `<interface>-output` does this itself.
"""

from enum import IntEnum

from numba import uint64

from pyvpp.jit import jit
from pyvpp.node import NodeCounter, node, set_error
from pyvpp.typing import U16, U32, U64, Records
from pyvpp_nodes.integers import int64


class Next(IntEnum):
    DROP = 0


class Counter(NodeCounter):
    DELETED = 0, "interface is deleted"


@node(name="interface-output-arc-end", next={Next.DROP: "error-drop"}, counters=Counter)
@jit
def interface_output_arc_end(
    meta: Records, frame: U32, nexts: U16, counters: U64, error_base: int, interface_tx: Records, interface_tx_next: U16
) -> None:
    for i, b in enumerate(frame):
        m = meta[b]
        tx = int64(interface_tx_next[m.tx])
        nexts[i] = tx
        if tx == 0:
            nexts[i] = set_error(m, counters, error_base, Counter.DELETED, int64(Next.DROP))
            continue
        sent = interface_tx[m.tx]
        sent.packets += uint64(1)
        sent.bytes += uint64(m.len)
