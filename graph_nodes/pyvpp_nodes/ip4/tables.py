# SPDX-License-Identifier: Apache-2.0
"""What the IPv4 nodes look up besides the FIB. Values that name a node are absolute nexts; 0 is none."""

import numpy as np

from pyvpp.tables import COUNTER, Table, interface_table

U16, U32, U64 = (np.dtype(t) for t in (np.uint16, np.uint32, np.uint64))

PROTOCOLS = {1: "ip4-icmp-input", 4: "ipip4-input", 17: "ip4-udp-lookup"}
"""Which node takes a protocol of our own addresses, for those who fill `ip4_local_protocols`."""

IP4_LOCAL_PROTOCOLS = Table("ip4_local_protocols", dtype=U16, capacity=256)  # by IP protocol
UDP_PORTS = Table("udp_ports", dtype=U16, capacity=65536)  # by port
ICMP_TYPES = Table("icmp_types", dtype=U16, capacity=256)
"""Which node takes messages to us, by ICMP type; where none does they are the host's. Echo requests are answered."""
IP4_INTERFACE_ADDRESS = interface_table("ip4_interface_address", U32)  # 0: it has none
PUNT_TX = Table("punt_tx", dtype=U32, capacity=1)  # sw_if_index of the host's TAP, 0: there is none
ROUTE_COUNTERS = Table("route_counters", dtype=COUNTER, capacity=1024, per_worker=True)  # by load balance
IP4_LONG_WAY = Table("ip4_long_way", np.dtype(np.int64), capacity=2, per_worker=True)
"""When packets last went on node by node, one more than the round's time: from ethernet-input, and from ip4-input."""

THROTTLE_WORDS = 9  # when the window ends, then 512 bits
ARP_THROTTLE = Table("arp_throttle", dtype=U64, capacity=THROTTLE_WORDS, per_worker=True)
ICMP_THROTTLE = Table("icmp_throttle", dtype=U64, capacity=THROTTLE_WORDS, per_worker=True)
