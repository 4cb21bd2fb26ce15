# SPDX-License-Identifier: Apache-2.0
"""What the nodes know of running pings."""

import numpy as np

from pyvpp.tables import Table, buffer_table, record_dtype

IDENTIFIERS = 65536

PINGING = record_dtype([("version", np.uint8), ("source_high", np.uint64), ("source_low", np.uint64)], align=True)
PINGS = Table("pings", PINGING, IDENTIFIERS)
"""By ICMP identifier: 4 or 6 while a ping has it; of IPv6 also the address it comes from, where its answers go."""

PING_RECEIVED = buffer_table("ping_received", np.int64)
"""Of an answer on its way to the main thread: when a worker had it, nanoseconds."""
