# SPDX-License-Identifier: Apache-2.0
"""What the IPv6 nodes look up besides the FIB."""

import numpy as np

from pyvpp.tables import Table, interface_table, record_dtype
from pyvpp_nodes.ip4.tables import THROTTLE_WORDS

ADDRESS6 = record_dtype([("high", np.uint64), ("low", np.uint64)])  # in host order

IP6_FIB_INDEX = interface_table("ip6_fib_index", np.dtype(np.uint32))  # the table of what comes in here
IP6_INTERFACE_ADDRESS = interface_table("ip6_interface_address", ADDRESS6)  # zeros: it has none
ICMP6_THROTTLE = Table("icmp6_throttle", dtype=np.dtype(np.uint64), capacity=THROTTLE_WORDS, per_worker=True)
