# SPDX-License-Identifier: Apache-2.0
"""policer-input: drop or mark what arrives on an interface faster than its policer allows.

A feature of ip4-unicast and ip6-unicast, off until `policer input name NAME INTERFACE`. The bytes of the IP packet
count (RFC 2697, 2), or packets. Each colour has an action: green is within the committed rate, red beyond everything.
A class, packets of some DSCPs, may have a policer of its own, or none.
Dropped packets are counted; a mark is a DSCP, written into the header.
"""

from enum import IntEnum

from numba import uint64

from pyvpp.features import Feature, next_feature
from pyvpp.jit import jit
from pyvpp.node import node, set_error
from pyvpp.typing import U8, U16, U32, U64, Records
from pyvpp_nodes.integers import int64
from pyvpp_policer.meter import CLASSES, Action, Counter, dscp_of, mark, police

ARCS = ("ip4-unicast", "ip6-unicast")


class Next(IntEnum):
    DROP = 0


@node(
    name="policer-input",
    next={Next.DROP: "error-drop"},
    counters=Counter,
    features=tuple(Feature(arc) for arc in ARCS),
)
@jit
def policer_input(
    heap: U8, meta: Records, frame: U32, nexts: U16, counters: U64, error_base: int, feature_chains: U16, now: int,
    policers: Records, policer_tokens: Records, policer_applied: Records,
    policer_classes: U32,
) -> None:  # fmt: skip
    for i, b in enumerate(frame):
        m = meta[b]
        front = int64(0)
        dscp = dscp_of(heap, int64(m.cur) + front)
        k = policer_classes[uint64(int64(policer_applied[m.rx].input) * CLASSES + dscp)]
        if k == 0:
            nexts[i] = next_feature(feature_chains, m)
            continue
        policer = policers[k]
        colour = police(policer, policer_tokens[k], int64(m.len) - front, dscp, now)
        action = int64(policer.action[colour])
        if action == Action.DROP:
            nexts[i] = set_error(m, counters, error_base, Counter.DROPPED, Next.DROP)
            continue
        if action == Action.MARK:
            mark(heap, int64(m.cur) + front, int64(policer.dscp[colour]))
            counters[Counter.MARKED] += uint64(1)
        counters[Counter.TRANSMITTED] += uint64(1)
        nexts[i] = next_feature(feature_chains, m)
