# SPDX-License-Identifier: Apache-2.0
"""What the Ethernet nodes look up besides the engine's interfaces."""

from typing import Any

import numpy as np

from pyvpp.interface import MAX_INTERFACES
from pyvpp.node import TO_NODE
from pyvpp.tables import Table

INTERFACE_TX_NEXT = Table("interface_tx_next", dtype=np.dtype(np.uint16), capacity=MAX_INTERFACES)  # TO_NODE | X-tx


def follow_interfaces(engine: Any) -> None:
    """Keep `interface_tx_next` in step with the interfaces there will be; for those who set up the stack."""

    def created(interface: Any) -> None:
        table = engine.tables[INTERFACE_TX_NEXT.name]
        table.grow(interface.sw_if_index + 1)
        table.array[interface.sw_if_index] = TO_NODE | interface.nodes[0] if interface.nodes else 0

    engine.events.on("interface-created", created)
