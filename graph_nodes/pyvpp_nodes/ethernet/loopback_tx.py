# SPDX-License-Identifier: Apache-2.0
"""loopback-tx: what is sent out of a loopback interface comes in on it again.

The frame goes to ethernet-input as if received, where one that is for somebody else's MAC address is dropped.
"""

from enum import IntEnum

from numba import uint64

from pyvpp.buffers import FLOW_HASH, L2_VALID, LOCALLY_ORIGINATED
from pyvpp.jit import jit
from pyvpp.node import NodeCounter, Severity, node
from pyvpp.trace import TraceRecord
from pyvpp.trace_format import format_ethernet_header
from pyvpp.typing import U16, U32, U64, Records

KEPT_FLAGS = 0xFFFFFFFF ^ (L2_VALID | FLOW_HASH | LOCALLY_ORIGINATED)


class Next(IntEnum):
    INPUT = 0


class Counter(NodeCounter):
    LOOPED = 0, "packets looped back", Severity.INFO


def format_trace(record: TraceRecord) -> list[str]:
    return format_ethernet_header(record.data)


@node(
    name="loopback-tx",
    next={Next.INPUT: "ethernet-input"},
    counters=Counter,
    template=True,
    trace=format_trace,
)
@jit
def loopback_tx(meta: Records, frame: U32, nexts: U16, counters: U64, instance: int, interface_rx: Records) -> None:
    size = 0
    for i, b in enumerate(frame):
        m = meta[b]
        m.rx = instance
        m.adj = 0
        m.feature = 0
        m.flags = m.flags & KEPT_FLAGS
        size += int(m.len)
        nexts[i] = Next.INPUT
    interface_rx[instance].packets += uint64(len(frame))
    interface_rx[instance].bytes += uint64(size)
    counters[Counter.LOOPED] += uint64(len(frame))
