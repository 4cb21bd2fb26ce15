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
from pyvpp_acl.classify import both6
from pyvpp_acl.filter import PASSES, Counter, addresses6, judge, meet
from pyvpp_acl.sessions import key6
from pyvpp_acl.tables import CHUNK
from pyvpp_nodes.integers import int64
from pyvpp_nodes.kit.transport import transport6

ARC = "ip6-unicast"


class Next(IntEnum):
    DROP = 0


@node(name="acl-plugin-in-ip6-fa", next={Next.DROP: "error-drop"}, counters=Counter, features=(Feature(ARC),))
@jit
def acl_in_ip6(
    heap: U8, meta: Records, frame: U32, nexts: U16, counters: U64, error_base: int, feature_chains: U16, now: int,
    acl_applied: Records, acl_contexts: Records, acl_trees: Records, acl_nodes: U64, acl_leaves6: U64,
    acl_verdicts: U32, acl_hits: Records, acl_seen: U32, acl_found: U64, acl_timeouts: I64,
    acl_sessions6_index: U64, acl_sessions6: Records,
) -> None:  # fmt: skip
    for first in range(0, len(frame), CHUNK):
        n = min(CHUNK, len(frame) - first)
        before = counters[Counter.NEW_SESSION]
        for k in range(n):
            m = meta[frame[first + k]]
            ip, at = int64(m.cur), int64(m.rx)
            applied = acl_applied[uint64(at)]
            meet(
                transport6, addresses6, key6, both6, heap, m, ip, k, int64(applied.in6), at,
                applied.reflects != 0, now, counters, acl_contexts, acl_trees, acl_nodes, acl_leaves6, acl_seen,
                acl_found, acl_timeouts, acl_sessions6_index, acl_sessions6,
            )  # fmt: skip
        for k in range(n):
            m = meta[frame[first + k]]
            ip, at = int64(m.cur), int64(m.rx)
            begun = counters[Counter.NEW_SESSION] != before
            verdict = judge(
                transport6, addresses6, key6, both6, heap, m, ip, k, begun, at, now, counters, acl_contexts,
                acl_trees, acl_leaves6, acl_verdicts, acl_hits, acl_seen, acl_found, acl_timeouts,
                acl_sessions6_index, acl_sessions6,
            )  # fmt: skip
            if verdict == PASSES:
                nexts[first + k] = next_feature(feature_chains, m)
            else:
                nexts[first + k] = set_error(m, counters, error_base, verdict, Next.DROP)
