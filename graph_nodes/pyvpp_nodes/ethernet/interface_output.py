# SPDX-License-Identifier: Apache-2.0
"""interface-output: count what leaves by an interface, drop it when the interface is down, pass it to the driver.

A template: each interface has an instance of its own, `<interface>-output`, which leads to the interface's
`<interface>-tx`; VPP's interface-output-template. The arc interface-output starts here; packets that go along it are
counted at its end, as the driver gets them: features drop, join and cut them.
"""

from enum import IntEnum

from numba import uint64

from pyvpp.features import FeatureArc, enter_arc
from pyvpp.interface import ADMIN_UP, DELETED
from pyvpp.jit import jit
from pyvpp.node import NodeCounter, node
from pyvpp.trace import TraceRecord
from pyvpp.trace_format import format_packet
from pyvpp.typing import U16, U32, U64, Records
from pyvpp_nodes.integers import int64

ARC = FeatureArc("interface-output", last="interface-output-arc-end")


class Next(IntEnum):
    DROP = 0
    TX = 1


class Counter(NodeCounter):
    DOWN = 0, "interface is down"
    DELETED = 1, "interface is deleted"


def format_trace(record: TraceRecord) -> list[str]:
    return [f"{record.tx_name} flags 0x{record.flags:08x}", *format_packet(record.data, ethernet=not record.tx_p2p)]


@node(
    name="interface-output",
    next={Next.DROP: "error-drop", Next.TX: "{interface}-tx"},
    counters=Counter,
    template=True,
    trace=format_trace,
)
@jit
def interface_output(
    meta: Records,
    frame: U32,
    nexts: U16,
    counters: U64,
    instance: int,
    error_base: int,
    interfaces: Records,
    interface_tx: Records,
    feature_chains: U16,
    interface_output_arc: U32,
) -> None:
    flags = int64(interfaces[instance].flags)
    if flags & DELETED or flags & ADMIN_UP == 0:
        fault = Counter.DELETED if flags & DELETED else Counter.DOWN
        counters[fault] += uint64(len(frame))
        for i, b in enumerate(frame):
            meta[b].error = error_base + fault
            nexts[i] = Next.DROP
        return
    sent = int64(0)
    for b in frame:
        m = meta[b]
        sent += int64(m.len)
        m.tx = instance
    nexts[:] = Next.TX
    arc = int64(interface_output_arc[instance])
    if arc:
        for i, b in enumerate(frame):
            nexts[i] = enter_arc(feature_chains, meta[b], arc)
        return
    interface_tx[instance].packets += uint64(len(frame))
    interface_tx[instance].bytes += uint64(sent)
