# SPDX-License-Identifier: Apache-2.0
"""acl-plugin-in-ip6-fa: let IPv6 packets that arrive on an interface pass as the lists applied there say.

A feature of ip6-unicast. A packet of a session passes and keeps it alive; otherwise the first rule of the lists that
matches decides, and without one the packet is dropped. permit+reflect makes a session.
A later fragment has no ports, type or flags: it is judged by its addresses and protocol alone.

Dropped and counted: what is denied, and what should begin a session when there is no room for one.
"""

from enum import IntEnum

from numba import uint64

from pyvpp.features import Feature, next_feature
from pyvpp.jit import jit
from pyvpp.node import node, set_error
from pyvpp.typing import I64, U8, U16, U32, U64, Records
from pyvpp_acl.filter import PASSES, Counter, addresses6, judge
from pyvpp_acl.sessions import key6
from pyvpp_nodes.integers import int64
from pyvpp_nodes.kit.transport import transport6

ARC = "ip6-unicast"


class Next(IntEnum):
    DROP = 0


@node(name="acl-plugin-in-ip6-fa", next={Next.DROP: "error-drop"}, counters=Counter, features=(Feature(ARC),))
@jit
def acl_in_ip6(
    heap: U8, meta: Records, frame: U32, nexts: U16, counters: U64, error_base: int, feature_chains: U16, now: int,
    acl_applied: Records, acl_contexts: Records, acl_roots6: U32, acl_nodes6: U32, acl_ports: U32,
    acl_classes: U32, acl_bitmaps: U64,
    acl_tuples: Records, acl_slots: U64, acl_rows: Records, acl_hits: Records, acl_timeouts: I64,
    acl_sessions6_index: U64, acl_sessions6: Records,
) -> None:  # fmt: skip
    for i, b in enumerate(frame):
        m = meta[b]
        ip, at = int64(m.cur), int64(m.rx)
        applied = acl_applied[uint64(at)]
        verdict = judge(
            transport6, addresses6, key6, heap, m, ip, int64(applied.in6), at, applied.reflects != 0, now, counters,
            acl_contexts, acl_roots6, acl_nodes6, acl_ports, acl_classes, acl_bitmaps, acl_tuples, acl_slots, acl_rows,
            acl_hits, acl_timeouts, acl_sessions6_index, acl_sessions6,
        )  # fmt: skip
        if verdict == PASSES:
            nexts[i] = next_feature(feature_chains, m)
        else:
            nexts[i] = set_error(m, counters, error_base, verdict, Next.DROP)
