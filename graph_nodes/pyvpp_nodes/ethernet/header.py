# SPDX-License-Identifier: Apache-2.0
"""The Ethernet header (IEEE 802.3, 802.1Q): where its fields are and how it is written."""

from pyvpp.jit import inline
from pyvpp.typing import U8
from pyvpp.wire import put_be16, put_be32

HEADER_BYTES = 14
SOURCE, TYPE = 6, 12
ETHERNET_IP4, ETHERNET_ARP, ETHERNET_IP6, ETHERNET_VLAN, ETHERNET_QINQ = 0x0800, 0x0806, 0x86DD, 0x8100, 0x88A8
BROADCAST = 0xFFFFFFFFFFFF


@inline
def is_vlan(ethertype: int) -> bool:
    """Whether a type, a number, says that a VLAN tag follows."""
    return ethertype in (ETHERNET_VLAN, ETHERNET_QINQ)


@inline
def put_mac(heap: U8, at: int, mac: int) -> None:
    """Writes a MAC address, a number of 48 bits."""
    put_be32(heap, at, mac >> 16)
    put_be16(heap, at + 4, mac & 0xFFFF)


@inline
def put_ethernet(heap: U8, at: int, destination: int, source: int, ethertype: int) -> None:
    """Writes a header of 14 bytes: addresses as numbers of 48 bits, and the type."""
    put_mac(heap, at, destination)
    put_mac(heap, at + SOURCE, source)
    put_be16(heap, at + TYPE, ethertype)
