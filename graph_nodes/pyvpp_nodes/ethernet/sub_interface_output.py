# SPDX-License-Identifier: Apache-2.0
"""sub-interface-output: count what leaves by a sub-interface, put its VLAN tag into the frame, pass it to its parent.

A template like interface-output; the instance `<interface>-output` leads to the output node of the interface that the
VLAN is on, which counts the frame again, has features of its own and drops it when it is down. The tag, with priority
0, is put in here and not by the adjacencies: what is in front of them (one pass over a frame for plain IPv4, ARP) is
the same for every Ethernet interface. The arc interface-output starts here, and sees the frame with its tag.
"""

from enum import IntEnum

from numba import uint64

from pyvpp.features import enter_arc
from pyvpp.interface import ADMIN_UP, DELETED
from pyvpp.jit import jit
from pyvpp.node import NodeCounter, node
from pyvpp.typing import U8, U16, U32, U64, Records
from pyvpp_nodes.ethernet.interface_output import format_trace
from pyvpp_nodes.ethernet.vlan import push_tag
from pyvpp_nodes.integers import int64


class Next(IntEnum):
    DROP = 0
    PARENT = 1


class Counter(NodeCounter):
    DOWN = 0, "interface is down"
    DELETED = 1, "interface is deleted"


@node(
    name="sub-interface-output",
    next={Next.DROP: "error-drop", Next.PARENT: "{interface}-tx"},
    counters=Counter,
    template=True,
    trace=format_trace,
)
@jit
def sub_interface_output(
    heap: U8,
    meta: Records,
    frame: U32,
    nexts: U16,
    counters: U64,
    instance: int,
    error_base: int,
    interfaces: Records,
    interface_tx: Records,
    interface_vlans: Records,
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
    tag = int64(interface_vlans[instance].tag)
    sent = int64(0)
    for b in frame:
        m = meta[b]
        push_tag(heap, m, tag)
        sent += int64(m.len)
        m.tx = instance
    nexts[:] = Next.PARENT
    arc = int64(interface_output_arc[instance])
    if arc:
        for i, b in enumerate(frame):
            nexts[i] = enter_arc(feature_chains, meta[b], arc)
    interface_tx[instance].packets += uint64(len(frame))
    interface_tx[instance].bytes += uint64(sent)
