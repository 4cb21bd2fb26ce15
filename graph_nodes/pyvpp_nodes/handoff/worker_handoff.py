# SPDX-License-Identifier: Apache-2.0
"""worker-handoff: spread what one queue has received over several workers, each flow to one of them.

It stands in front of all other nodes on the input path of interfaces that `set interface handoff` names. A packet for
this worker goes on to where it was going; one for another is put into the ring between the two, and
worker-handoff-input goes on with it there. A flow's packets keep their order: a ring is one, and a flow takes one way.

Dropped and counted, as in VPP: what finds the ring full, since the other worker is behind.
"""

from enum import IntEnum

from numba import uint32, uint64

from pyvpp.handoff_ring import CONGESTED, ring_at, stage
from pyvpp.jit import jit
from pyvpp.node import HELD, NodeCounter, node, set_error
from pyvpp.trace import TraceRecord
from pyvpp.typing import I64, U8, U16, U32, U64, Records
from pyvpp_nodes.handoff.flow import flow_of, one_of
from pyvpp_nodes.integers import int64


class Next(IntEnum):
    DROP = 0


class Counter(NodeCounter):
    CONGESTION_DROP = 0, "congestion drop"


def format_trace(record: TraceRecord) -> list[str]:
    if record.next == "consumed":
        return [f"sw_if_index {record.rx}, next_worker {record.feature} (vpp_wk_{record.feature})"]
    return [f"sw_if_index {record.rx}, next {record.next}"]


@node(name="worker-handoff", next={Next.DROP: "error-drop"}, counters=Counter, trace=format_trace)
@jit
def worker_handoff(
    heap: U8,
    meta: Records,
    frame: U32,
    nexts: U16,
    counters: U64,
    error_base: int,
    worker: int,
    handoff_interfaces: Records,
    handoff_rings: I64,
) -> None:
    for i, b in enumerate(frame):
        m = meta[b]
        wanted = handoff_interfaces[m.rx]
        next_ = int64(m.feature)
        m.feature = uint32(0)
        nexts[i] = next_
        if wanted.workers == 0:
            continue
        flow = flow_of(heap, m, int64(wanted.flow_hash))
        target = int64(wanted.worker[uint64(one_of(flow, int64(wanted.workers)))])
        if target == worker:
            continue
        ring = ring_at(handoff_rings, worker, target)
        if stage(handoff_rings, ring, int64(b), next_):
            m.feature = uint32(target)
            nexts[i] = HELD
        else:
            handoff_rings[ring + CONGESTED] += 1
            nexts[i] = set_error(m, counters, error_base, Counter.CONGESTION_DROP, Next.DROP)
