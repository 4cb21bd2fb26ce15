# SPDX-License-Identifier: Apache-2.0
"""The FIB as kernels see it. `Fib4`, `LoadBalances` and `Adjacencies` hold the truth; these tables are its projection.

Where a reader must never see half a change, the fields that belong together share one aligned 64-bit word.
"""

from enum import IntEnum

import numpy as np

from pyvpp.tables import Table, record_dtype
from pyvpp_nodes.fib.trie.lookup import ROOT_BITS

FLOW_HASH_DEFAULT = 0x9F
REWRITE_MAX = 40


class Kind(IntEnum):
    """What an adjacency is; decides the node a load balance sends to."""

    DROP = 0
    PUNT = 1
    LOCAL = 2
    ARP = 3
    GLEAN = 4
    REWRITE = 5
    MIDCHAIN = 6
    UNREACHABLE = 7
    PROHIBIT = 8


NODE_OF_KIND = {
    Kind.DROP: "drop",
    Kind.PUNT: "punt",
    Kind.LOCAL: "local",
    Kind.ARP: "arp",
    Kind.GLEAN: "glean",
    Kind.REWRITE: "rewrite",
    Kind.MIDCHAIN: "midchain",
    Kind.UNREACHABLE: "null",
    Kind.PROHIBIT: "null",
}
"""Where a load balance sends packets for an adjacency, after the family's name: ip4-rewrite."""
NODE_OF_KIND6 = {**NODE_OF_KIND, Kind.ARP: "discover-neighbor"}

STACKED_STRAIGHT = 1
"""A midchain's `adj` is the adjacency of the only path to the tunnel's other end, not a load balance."""
LB_PASS_THROUGH = 1
LB_RECEIVE = 2

LOAD_BALANCE = record_dtype(
    [
        ("n_buckets", np.uint16),  # a power of two
        ("next", np.uint16),  # the only bucket's, when there is one
        ("adj", np.uint32),
        ("buckets", np.uint32),  # first in lb_buckets, when there are several
        ("flow_hash", np.uint16),  # which fields are hashed
        ("flags", np.uint16),
    ]
)
BUCKET = record_dtype([("next", np.uint16), ("pad", np.uint16), ("adj", np.uint32)])

# A cache line of what forwarding reads, then a line for the slow path.
ADJACENCY = record_dtype(
    [
        ("sw_if_index", np.uint32),
        ("next", np.uint16),  # rewrite: X-output; midchain: same as stacked_next
        ("kind", np.uint8),
        ("rewrite_bytes", np.uint8),
        ("mtu", np.uint32),
        ("address", np.uint32),  # IPv4: next hop; glean: the prefix; local: the address
        ("adj", np.uint32),  # midchain: what it is stacked on, to be m.adj
        ("stacked_next", np.uint16),
        ("flags", np.uint16),  # midchain: STACKED_STRAIGHT
        ("rewrite", np.uint8, (REWRITE_MAX,)),
        ("source", np.uint32),  # IPv4 glean: the connected address, for ARP requests
        ("prefix_length", np.uint8),
        ("version", np.uint8),  # 4 or 6
        ("pad", np.uint8, (2,)),
        ("address_high", np.uint64),  # IPv6: as `address`, in host order
        ("address_low", np.uint64),
        ("source_high", np.uint64),  # IPv6: as `source`
        ("source_low", np.uint64),
        ("pad_end", np.uint8, (24,)),
    ]
)
assert (LOAD_BALANCE.itemsize, BUCKET.itemsize, ADJACENCY.itemsize) == (16, 8, 128)

IP4_FIB_ROOTS = Table("ip4_fib_roots", dtype=np.dtype(np.uint32), capacity=1 << ROOT_BITS)
IP4_FIB_NODES = Table("ip4_fib_nodes", dtype=np.dtype(np.uint32), capacity=1 << 12)
IP6_FIB_ROOTS = Table("ip6_fib_roots", dtype=np.dtype(np.uint32), capacity=1 << ROOT_BITS)
IP6_FIB_NODES = Table("ip6_fib_nodes", dtype=np.dtype(np.uint32), capacity=1 << 12)
LOAD_BALANCES = Table("load_balances", dtype=LOAD_BALANCE, capacity=1024)
LB_BUCKETS = Table("lb_buckets", dtype=BUCKET, capacity=1024)
ADJACENCIES = Table("adjacencies", dtype=ADJACENCY, capacity=1024)
TABLES = (IP4_FIB_ROOTS, IP4_FIB_NODES, IP6_FIB_ROOTS, IP6_FIB_NODES, LOAD_BALANCES, LB_BUCKETS, ADJACENCIES)
