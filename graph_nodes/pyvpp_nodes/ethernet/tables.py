# SPDX-License-Identifier: Apache-2.0
"""What the Ethernet nodes look up besides the engine's interfaces."""

from typing import Any

import numpy as np

from pyvpp.node import TO_NODE
from pyvpp.tables import interface_table

INTERFACE_TX_NEXT = interface_table("interface_tx_next", np.dtype(np.uint16))  # TO_NODE | X-tx; 0: there is none


def follow_interfaces(engine: Any) -> None:
    """Keeps `interface_tx_next` in step with the interfaces there will be."""

    def set_next(interface: Any, tx: int) -> None:
        engine.tables[INTERFACE_TX_NEXT.name].array[interface.sw_if_index] = TO_NODE | tx if tx else 0

    engine.events.on("interface-created", lambda interface: set_next(interface, interface.tx))
    engine.events.on("interface-deleted", lambda interface: set_next(interface, 0))
