# SPDX-License-Identifier: Apache-2.0
"""VXLAN tunnels as kernels see them: by their interface for encapsulation, by what the outer headers say for the way
back."""

import numpy as np

from pyvpp.tables import Table, interface_table, record_dtype
from pyvpp_nodes.ipip.tunnel_table import WORDS

IN_USE, L3 = 1, 2

VXLAN_TUNNEL = record_dtype(
    [
        ("source", np.uint32),
        ("destination", np.uint32),
        ("vni", np.uint32),
        ("destination_port", np.uint16),
        ("decap_next", np.uint16),  # TO_NODE | index
        ("load_balance", np.uint32),  # where the outer packet goes
        ("flags", np.uint32),
        ("pad", np.uint8, (8,)),
    ]
)
assert VXLAN_TUNNEL.itemsize == 32

VXLAN_TUNNELS = interface_table("vxlan_tunnels", VXLAN_TUNNEL)
VXLAN_KEYS = Table("vxlan_keys", dtype=np.dtype(np.uint32), capacity=WORDS * 64)
