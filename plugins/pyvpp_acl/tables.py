# SPDX-License-Identifier: Apache-2.0
"""The tables of acl: what rules are projected into, sessions, and hits.

Everything about rules is made anew when any of them changes, and put in place in one moment while workers stand still:
a packet sees the old rules or the new ones, of all interfaces.
"""

import numpy as np

from pyvpp.tables import COUNTER, Table, interface_table, record_dtype
from pyvpp_nodes.kit.hash_table import hash_table

CONTEXT = record_dtype(
    [
        ("trees", np.uint32),  # where its trees begin
        ("n_trees", np.uint32),
        ("otherwise", np.uint32),  # the row of its first rule that every packet matches, NO_ROW
        ("fragments", np.uint32),  # the context for later fragments
    ]
)
TREE = record_dtype(
    [
        ("root", np.uint32),  # in acl_nodes
        ("first", np.uint32),  # the first row that is in it
    ]
)
APPLIED = record_dtype(
    [
        ("in4", np.uint32),
        ("out4", np.uint32),
        ("in6", np.uint32),
        ("out6", np.uint32),
        ("reflects", np.uint32),  # whether one of the lists makes sessions
    ]
)
CHUNK = 64
"""Packets that are looked up side by side: what they need is in the first cache when its turn comes."""
SEEN_WORDS = 16
"""What is known of such a packet, see `classify`."""
MOST_TREES = 8

ACL_APPLIED = interface_table("acl_applied", APPLIED)
"""By sw_if_index: the contexts of the lists that are applied there."""
ACL_CONTEXTS = Table("acl_contexts", CONTEXT, 1)
ACL_TREES = Table("acl_trees", TREE, 1)
ACL_NODES = Table("acl_nodes", np.uint64, 1)
ACL_LEAVES4 = Table("acl_leaves4", np.uint64, 4)
"""Rows of leaves, four words each; one row is in as many leaves as it has to be."""
ACL_LEAVES6 = Table("acl_leaves6", np.uint64, 10)
ACL_VERDICTS = Table("acl_verdicts", np.uint32, 1)
"""By row: its rule's number and its action."""
ACL_HITS = Table("acl_hits", COUNTER, 1024, per_worker=True)
"""By rule: packets and bytes that it decided about, those of sessions not among them."""
ACL_SEEN = Table("acl_seen", np.uint32, CHUNK * SEEN_WORDS, per_worker=True)
ACL_FOUND = Table("acl_found", np.uint64, CHUNK * MOST_TREES, per_worker=True)
"""The leaves of the packets of a chunk."""

SESSION = [("packets", np.uint64), ("bytes", np.uint64), ("flags", np.uint8, (2,))]
"""Flags of TCP seen so far, by direction: away from the lower of the two ends, and back."""
TO_A_LINE = ("rest", np.uint8, (14,))
MOST_SESSIONS = 1 << 20
ACL_SESSIONS_INDEX, ACL_SESSIONS = hash_table(
    "acl_sessions", key_bytes=16, capacity=MOST_SESSIONS, fields=[*SESSION, TO_A_LINE]
)
ACL_SESSIONS6_INDEX, ACL_SESSIONS6 = hash_table("acl_sessions6", key_bytes=40, capacity=MOST_SESSIONS, fields=SESSION)
ACL_TIMEOUTS = Table("acl_timeouts", np.int64, 3)
"""Nanoseconds by kind of session."""
