# SPDX-License-Identifier: Apache-2.0
"""The tables by which kernels know VLANs, filled by hand."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from pyvpp_nodes.ethernet.tables import INTERFACE_VLAN, VLAN_IDS


def vlan_tables(vlans: Mapping[tuple[int, int, int], int]) -> dict[str, Any]:
    """From {(parent, TPID, VLAN id): sub-interface}; each parent's 4096 ids lie behind those of the one before."""
    parents = sorted({parent for parent, _, _ in vlans})
    by_interface = np.zeros(max([1023, *vlans.values()]) + 1, INTERFACE_VLAN)
    subs = np.zeros((1 + len(parents)) * VLAN_IDS, np.uint32)
    for (parent, tpid, vlan), sub in vlans.items():
        first = by_interface["first"][parent] = (1 + parents.index(parent)) * VLAN_IDS
        subs[first + vlan] = sub
        by_interface["tag"][sub] = tpid << 16 | vlan
    return {"interface_vlans": by_interface, "sub_interfaces": subs}
