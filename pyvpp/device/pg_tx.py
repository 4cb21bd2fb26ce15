# SPDX-License-Identifier: Apache-2.0
"""pg-tx: the end of packets sent out of a packet generator's interface.

They are counted and go back to the pool. While `packet-generator capture` is on for the interface, they go to
pg-capture first.
"""

from enum import IntEnum

import numpy as np
from numba import uint64

from pyvpp.device.trace import format_pg_tx
from pyvpp.jit import jit
from pyvpp.node import FREE, NodeCounter, Severity, node
from pyvpp.tables import interface_table
from pyvpp.typing import I64, U16, U32, U64, Records

PG_CAPTURE = interface_table("pg_capture", np.int64, per_worker=True)  # packets that are still wanted, -1 for all


class Next(IntEnum):
    CAPTURE = 0


class Counter(NodeCounter):
    SENT = 0, "packets sent", Severity.INFO


@node(name="pg-tx", next={Next.CAPTURE: "pg-capture"}, counters=Counter, template=True, trace=format_pg_tx)
@jit
def pg_tx(meta: Records, frame: U32, nexts: U16, counters: U64, instance: int, pg_capture: I64) -> None:
    nexts[:] = FREE
    wanted = int(pg_capture[instance])
    if wanted != 0:
        for i, b in enumerate(frame):
            if wanted == 0:
                break
            meta[b].tx = instance
            nexts[i] = Next.CAPTURE
            wanted -= wanted > 0
        pg_capture[instance] = wanted
    counters[Counter.SENT] += uint64(len(frame))
