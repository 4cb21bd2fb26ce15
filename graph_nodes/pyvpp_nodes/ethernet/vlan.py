# SPDX-License-Identifier: Apache-2.0
"""VLAN tags (IEEE 802.1Q) as kernels see them: whose frame a tagged one is, and how a tag is put in front."""

from numba import uint64

from pyvpp.jit import inline
from pyvpp.typing import U8, U32, Record, Records
from pyvpp.wire import le32, le64, put_be32, put_le32, put_le64
from pyvpp_nodes.integers import int64

TAG_BYTES = 4
VLAN_ID = 0xFFF
TPID_AND_ID = 0xFFFF0FFF
"""What tells one sub-interface from another in TPID << 16 | TCI: all but priority and drop eligibility."""
MAC_ADDRESSES = 12


@inline
def sub_interface_of(interface_vlans: Records, sub_interfaces: U32, sw_if_index: int, tag: int) -> int:
    """The sub-interface of an interface whose frames carry this tag (TPID << 16 | TCI), or 0.

    Found by the VLAN id alone; 802.1Q and 802.1ad are told apart afterwards, so that an interface has an id once.
    """
    first = interface_vlans[uint64(sw_if_index)].first
    found = sub_interfaces[uint64(first) + uint64(tag & VLAN_ID)]
    return int64(found) if interface_vlans[uint64(found)].tag == tag & TPID_AND_ID else 0


@inline
def push_tag(heap: U8, m: Record, tag: int) -> None:
    """Puts a tag (TPID << 16 | TCI) behind the MAC addresses of the frame at `m.cur`, into the room in front of it."""
    start = int64(m.cur)
    first, last = le64(heap, start), le32(heap, start + 8)
    put_le64(heap, start - TAG_BYTES, first)
    put_le32(heap, start - TAG_BYTES + 8, last)
    put_be32(heap, start - TAG_BYTES + MAC_ADDRESSES, tag)
    m.cur = start - TAG_BYTES
    m.len = int64(m.len) + TAG_BYTES
