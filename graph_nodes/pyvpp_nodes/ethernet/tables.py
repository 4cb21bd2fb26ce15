# SPDX-License-Identifier: Apache-2.0
"""What the Ethernet nodes look up besides the engine's interfaces."""

from typing import Any

import numpy as np

from pyvpp.node import TO_NODE
from pyvpp.tables import Table, interface_table, record_dtype

INTERFACE_TX_NEXT = interface_table("interface_tx_next", np.dtype(np.uint16))  # TO_NODE | X-tx; 0: there is none

VLAN_IDS = 4096
"""of 12 bits; 0 is no VLAN but a priority, 4095 is reserved (IEEE 802.1Q, table 9-2)"""

INTERFACE_VLAN = record_dtype(
    [
        ("first", np.uint32),  # where in sub_interfaces the interface's own begin; 0: it has none
        ("tag", np.uint32),  # a sub-interface's: TPID << 16 | VLAN id; 0: it is none
    ]
)
INTERFACE_VLANS = interface_table("interface_vlans", INTERFACE_VLAN)
SUB_INTERFACES = Table("sub_interfaces", np.dtype(np.uint32), VLAN_IDS)
"""sw_if_index by VLAN id, 4096 for each interface that has any; the first 4096 are zeros, for those that have none."""


def follow_interfaces(engine: Any) -> None:
    """Keeps `interface_tx_next` in step with the interfaces there will be."""

    def set_next(interface: Any, tx: int) -> None:
        engine.tables[INTERFACE_TX_NEXT.name].array[interface.sw_if_index] = TO_NODE | tx if tx else 0

    engine.events.on("interface-created", lambda interface: set_next(interface, interface.tx))
    engine.events.on("interface-deleted", lambda interface: set_next(interface, 0))
