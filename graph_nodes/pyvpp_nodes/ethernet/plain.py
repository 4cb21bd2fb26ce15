# SPDX-License-Identifier: Apache-2.0
"""What nearly every Ethernet frame is, in one test."""

from numba import uint64

from pyvpp.interface import ADMIN_UP, L2
from pyvpp.jit import inline
from pyvpp.typing import U8, Record
from pyvpp.wire import be64, le16
from pyvpp_nodes.ethernet.header import ETHERNET_IP4, ETHERNET_IP6, HEADER_BYTES

IP4_AS_LOADED = ETHERNET_IP4 >> 8 | (ETHERNET_IP4 & 0xFF) << 8
IP6_AS_LOADED = ETHERNET_IP6 >> 8 | (ETHERNET_IP6 & 0xFF) << 8
"""The types IPv4 and IPv6 as le16 loads them."""


@inline
def is_plain(heap: U8, ethernet: int, length: int, interface: Record, type_as_loaded: int) -> bool:
    """Nearly every frame, in one test: untagged, of this type, for this interface, which is up and routes."""
    return bool(
        interface.flags & (ADMIN_UP | L2) == ADMIN_UP
        and length >= HEADER_BYTES
        and le16(heap, ethernet + 12) == type_as_loaded
        and be64(heap, ethernet) >> uint64(16) == interface.mac
    )
