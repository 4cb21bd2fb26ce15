# SPDX-License-Identifier: Apache-2.0
"""Four tunnels: of Ethernet, of bare IP, one that is down, and none."""

import numpy as np

from pyvpp.node import TO_NODE
from pyvpp_nodes.fib.tables import BUCKET, LOAD_BALANCE
from pyvpp_nodes.ipip.tunnel_table import WORDS, insert_tunnel
from pyvpp_nodes.vxlan.tables import IN_USE, L3, VXLAN_TUNNEL
from tests.graph_nodes.forwarding import UP, address, interface_table

LOCAL, REMOTE, OTHER = "10.1.2.1", "10.1.2.2", "10.1.2.3"
ETHERNET, BARE, DOWN, NONE = 4, 5, 6, 7
# sw_if_index: remote, vni, source port, destination port, flags, decap next, load balance
TUNNELS = {
    ETHERNET: (REMOTE, 100, 4789, 4789, IN_USE, TO_NODE | 31, 1),
    BARE: (REMOTE, 4096, 4789, 8472, IN_USE | L3, TO_NODE | 32, 2),
    DOWN: (OTHER, 0xFFFFFF, 4790, 4789, IN_USE, TO_NODE | 31, 1),
}


def tables():
    tunnels, keys = np.zeros(8, VXLAN_TUNNEL), np.zeros(WORDS * 8, np.uint32)
    for sw_if_index, (remote, vni, source_port, destination_port, flags, decap_next, balance) in TUNNELS.items():
        row = tunnels[sw_if_index : sw_if_index + 1]
        row["source"], row["destination"], row["vni"] = address(LOCAL), address(remote), vni
        row["destination_port"], row["decap_next"], row["load_balance"], row["flags"] = (
            destination_port,
            decap_next,
            balance,
            flags,
        )
        insert_tunnel(keys, address(LOCAL), address(remote), vni << 8, source_port, sw_if_index)
    balances, buckets = np.zeros(4, LOAD_BALANCE), np.zeros(8, BUCKET)
    for index, (n, next_, adj, first) in {1: (1, TO_NODE | 51, 11, 0), 2: (4, 0, 0, 2)}.items():
        row = balances[index : index + 1]
        row["n_buckets"], row["next"], row["adj"], row["buckets"] = n, next_, adj, first
    buckets["next"], buckets["adj"] = TO_NODE | 60, np.arange(8) + 20
    return {
        "vxlan_tunnels": tunnels, "vxlan_keys": keys, "load_balances": balances, "lb_buckets": buckets,
        "interfaces": interface_table({ETHERNET: {"flags": UP}, BARE: {"flags": UP}, DOWN: {"flags": 0}}),
    }  # fmt: skip


TABLES = tables()
