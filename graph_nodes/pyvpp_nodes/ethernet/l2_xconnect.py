# SPDX-License-Identifier: Apache-2.0
"""l2-xconnect: send each frame, unchanged, out of the interface that its own is connected to.

The control plane joins two interfaces: both have the flag L2 and name each other as `peer`. A peer that is gone drops
the frame here, one that is down does so in its output node.
"""

from enum import IntEnum

from pyvpp.interface import DELETED, L2
from pyvpp.jit import jit
from pyvpp.node import NodeCounter, node, set_error
from pyvpp.trace import TraceRecord
from pyvpp.trace_format import format_ethernet_header
from pyvpp.typing import U16, U32, U64, Records
from pyvpp_nodes.integers import int64


class Next(IntEnum):
    DROP = 0


class Counter(NodeCounter):
    NO_PEER = 0, "no interface to cross-connect to"


def format_trace(record: TraceRecord) -> list[str]:
    return format_ethernet_header(record.data)


@node(name="l2-xconnect", next={Next.DROP: "error-drop"}, counters=Counter, trace=format_trace)
@jit
def l2_xconnect(meta: Records, frame: U32, nexts: U16, counters: U64, error_base: int, interfaces: Records) -> None:
    for i, b in enumerate(frame):
        m = meta[b]
        peer = int64(interfaces[m.rx].peer)
        flags = int64(interfaces[peer].flags)
        if flags & (L2 | DELETED) != L2:
            nexts[i] = set_error(m, counters, error_base, Counter.NO_PEER, int64(Next.DROP))
            continue
        m.tx = peer
        nexts[i] = interfaces[peer].output_next
