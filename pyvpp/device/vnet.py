# SPDX-License-Identifier: Apache-2.0
"""struct virtio_net_hdr, the ten bytes in front of a packet that carry what is left to do: a checksum, a segmentation.

Linux puts it before each packet of an AF_PACKET socket with PACKET_VNET_HDR and of a TAP or TUN with IFF_VNET_HDR,
in the byte order of the machine: flags u8, gso_type u8, hdr_len u16, gso_size u16, csum_start u16, csum_offset u16
(linux/virtio_net.h). Its csum_start counts from the packet's first byte; ours (`m.csum_start`) is an offset into
the heap.

A packet in a tunnel keeps the state of its inner headers (measured with VXLAN over veth, kernel 6.18: gso_type
TCPV4, csum_start 84, gso_size 1398 for an MTU of 1450 inside): decapsulation needs no change here.
"""

from pyvpp.buffers import CSUM_PARTIAL, CSUM_VALID
from pyvpp.jit import inline
from pyvpp.typing import U8, Record
from pyvpp.wire import le16, put_le16, u8

BYTES = 10

NEEDS_CSUM = 1
DATA_VALID = 2

GSO_TCP4, GSO_TCP6, GSO_UDP_L4 = 1, 4, 5
GSO_ECN = 0x80

UDP_HEADER = 8
TCP_HEADER = 20
TCP_DATA_OFFSET = 12


@inline
def is_segmentable(heap: U8, header: int, l4_bytes: int) -> bool:
    """TCP or UDP of a known size, with its whole header among the so many bytes from the checksum's start."""
    kind = u8(heap, header + 1) & ~GSO_ECN
    known = kind in (GSO_TCP4, GSO_TCP6, GSO_UDP_L4)
    return known and le16(heap, header + 4) != 0 and l4_bytes >= (UDP_HEADER if kind == GSO_UDP_L4 else TCP_HEADER)


@inline
def read_vnet(heap: U8, header: int, m: Record) -> None:
    """Sets GSO and checksum state of a packet from the header and adds to its flags; its `cur` and `len` are known.

    A header that contradicts its packet, which Linux does not write, is not believed: nodes look for the transport
    header where csum_start says without asking whether that is in the packet.
    """
    flags = u8(heap, header)
    start, offset = le16(heap, header + 6), le16(heap, header + 8)
    m.gso_type = 0
    m.gso_size = 0
    m.csum_start = 0
    m.csum_offset = 0
    if flags & NEEDS_CSUM and start + offset + 2 <= int(m.len):
        m.flags = int(m.flags) | CSUM_PARTIAL
        m.csum_start = int(m.cur) + start
        m.csum_offset = offset
        if u8(heap, header + 1) and is_segmentable(heap, header, int(m.len) - start):
            m.gso_type = u8(heap, header + 1)
            m.gso_size = le16(heap, header + 4)
    elif flags & DATA_VALID and not flags & NEEDS_CSUM:
        m.flags = int(m.flags) | CSUM_VALID


@inline
def is_finishable(m: Record) -> bool:
    """Whether the checksum that is left to Linux, if there is one, lies in the packet as it is now.

    It does not where a neighbor put it into what was cut off meanwhile: a header in front, padding behind.
    """
    if int(m.flags) & CSUM_PARTIAL == 0:
        return True
    return bool(m.csum_start >= m.cur and int(m.csum_start) + int(m.csum_offset) + 2 <= int(m.cur) + int(m.len))


@inline
def header_bytes(heap: U8, m: Record) -> int:
    """Where the payload of a GSO packet begins, counted from `cur`."""
    l4 = int(m.csum_start)
    if int(m.gso_type) & ~GSO_ECN == GSO_UDP_L4:
        return l4 - int(m.cur) + UDP_HEADER
    return l4 - int(m.cur) + (int(u8(heap, l4 + TCP_DATA_OFFSET)) >> 4 << 2)


@inline
def write_vnet(heap: U8, header: int, m: Record, linear: int) -> None:
    """Writes the header of a packet that leaves; `linear`: how much of one without GSO is not to be scattered."""
    partial = int(m.flags) & CSUM_PARTIAL != 0
    heap[header] = NEEDS_CSUM if partial else 0
    heap[header + 1] = m.gso_type
    put_le16(heap, header + 2, header_bytes(heap, m) if m.gso_type and partial else linear)
    put_le16(heap, header + 4, int(m.gso_size) if m.gso_type else 0)
    put_le16(heap, header + 6, int(m.csum_start) - int(m.cur) if partial else 0)
    put_le16(heap, header + 8, int(m.csum_offset) if partial else 0)
