# SPDX-License-Identifier: Apache-2.0
"""Which addresses of others we answer for, and on which interfaces."""

import numpy as np

from pyvpp.tables import Table, interface_table, record_dtype

PROXY_RANGE = record_dtype(
    [
        ("low", np.uint32),
        ("high", np.uint32),
        ("fib_index", np.uint32),
        ("used", np.uint32),
    ]  # `used` written last, cleared first
)
ARP_PROXY = Table("arp_proxy", dtype=PROXY_RANGE, capacity=16)
ARP_PROXY_INTERFACES = interface_table("arp_proxy_interfaces", np.dtype(np.uint32))  # 1: it answers
