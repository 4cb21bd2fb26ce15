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
        ("sources", np.uint32),  # where, in acl_classes, its bitmaps by the number of a source prefix begin
        ("destinations", np.uint32),
        ("ports", np.uint32),  # of destination ports
        ("words", np.uint32),  # 64-bit words of a bitmap of tuples
        ("tuples", np.uint32),
        ("slots", np.uint32),
        ("n_slots", np.uint32),  # a power of two
        ("fragments", np.uint32),  # the context for later fragments
    ],
    align=True,
)
TUPLE = record_dtype(
    [
        ("source_mask", np.uint64, (2,)),
        ("destination_mask", np.uint64, (2,)),
        ("first", np.uint32),  # the first row that is in it
        ("protocol_mask", np.uint8),
        ("source_shift", np.uint8),  # so many low bits of a port do not count
        ("destination_shift", np.uint8),
    ],
    align=True,
)
ROW = record_dtype(
    [
        ("source", np.uint64, (2,)),
        ("destination", np.uint64, (2,)),
        ("rule", np.uint32),  # for its hits
        ("next", np.uint32),  # the next row with the same key, 0: none
        ("source_low", np.uint16),
        ("source_high", np.uint16),
        ("destination_low", np.uint16),
        ("destination_high", np.uint16),
        ("tuple", np.uint32),
        ("protocol", np.uint8),
        ("tcp_flags", np.uint8),
        ("tcp_mask", np.uint8),
        ("action", np.uint8),
        ("rest", np.uint64),  # to a cache line
    ],
    align=True,
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

ACL_APPLIED = interface_table("acl_applied", APPLIED)
"""By sw_if_index: the contexts of the lists that are applied there."""
ACL_CONTEXTS = Table("acl_contexts", CONTEXT, 1)
ACL_ROOTS4, ACL_NODES4 = Table("acl_roots4", np.uint32, 1), Table("acl_nodes4", np.uint32, 1)
ACL_ROOTS6, ACL_NODES6 = Table("acl_roots6", np.uint32, 1), Table("acl_nodes6", np.uint32, 1)
ACL_PORTS = Table("acl_ports", np.uint32, 1)
"""By destination port: the number of the longest block of ports that contains it."""
ACL_CLASSES = Table("acl_classes", np.uint32, 1)
"""Where bitmaps begin, by context and number of a prefix or a block."""
ACL_BITMAPS = Table("acl_bitmaps", np.uint64, 1)
ACL_TUPLES = Table("acl_tuples", TUPLE, 1)
ACL_SLOTS = Table("acl_slots", np.uint64, 1)
ACL_ROWS = Table("acl_rows", ROW, 1)
ACL_HITS = Table("acl_hits", COUNTER, 1024, per_worker=True)
"""By rule: packets and bytes that it decided about, those of sessions not among them."""

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
