# SPDX-License-Identifier: Apache-2.0
"""Which workers an interface's packets are spread over, as worker-handoff sees it."""

import numpy as np

from pyvpp.tables import interface_table, record_dtype

MOST_WORKERS = 60

HANDOFF = record_dtype(
    [
        ("workers", np.uint16),  # how many; 0: this interface hands nothing on
        ("flow_hash", np.uint16),  # HASH_*: what makes a flow
        ("worker", np.uint8, (MOST_WORKERS,)),
    ]
)
HANDOFF_INTERFACES = interface_table("handoff_interfaces", HANDOFF)
