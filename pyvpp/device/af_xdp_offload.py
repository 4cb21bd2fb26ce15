# SPDX-License-Identifier: Apache-2.0
"""What AF_XDP does not say of a packet, found in the packet itself: a checksum left to do, a segmentation.

A veth peer leaves TCP and UDP checksums to a device that is not there (CHECKSUM_PARTIAL), and packets of 64 KiB to be
segmented; Linux knows of both, but an AF_XDP socket gets the bytes alone. The checksum field then holds the bare sum
of the pseudo header. A packet that is complete has that there by chance, one in 65536, and loses nothing by being taken
for one that is not: of F = P (field and pseudo header's sum) and P + F + S = -0 (RFC 1071: right) follows that the
checksum to be filled in, -(F + S), is P again.

The segment size is nowhere in the packet. For TCP it is what the MTU leaves, less what the sender's may have been
smaller: a pod's usually is, and with a size larger than its own a packet would be refused for the receiver's MTU. UDP
has no such size that both ends agree on: datagrams that together are longer than the MTU cannot be cut as their sender
meant, and are lost (`is_uncuttable`), unless they show where: a train of VXLAN packets behind one UDP header, which
another pyvpp sends for a device to cut, has the same VXLAN header again and again, as far from the next as the first
inner packet says that it is long. Several that fit into the MTU together look like one.
"""

from pyvpp.buffers import CSUM_PARTIAL
from pyvpp.checksum import fold, sum_bytes
from pyvpp.device.vnet import GSO_TCP4, GSO_TCP6, GSO_UDP_L4, TCP_DATA_OFFSET, TCP_HEADER, UDP_HEADER
from pyvpp.jit import inline, jit
from pyvpp.typing import U8, Record
from pyvpp.wire import be16, le16, le32, le64, put_le16, put_le32, u8

ETHERNET_HEADER, TAG, SHORTEST_FRAME = 14, 4, 60
IP4, IP6, CTAG, STAG = 0x0800, 0x86DD, 0x8100, 0x88A8
IP4_HEADER, IP6_HEADER = 20, 40
FRAGMENT = 0x3FFF  # more to come, or not the first
TCP, UDP, IPIP, IP6IP = 6, 17, 4, 41
TCP_CHECKSUM, UDP_CHECKSUM = 16, 6
VXLAN_HEADER = 8
VXLAN_FLAGS = 0x00000008  # how its first four bytes are loaded; a tunnel may have any port
SPARED = 100  # of the MTU, for tunnels of pods: Calico's take 20 (IPIP) to 80 (WireGuard)
LAYERS = 6  # Ethernet, IP and UDP outside, Ethernet and IP inside; one to spare


@inline
def swapped(value: int) -> int:
    """A big-endian 16-bit number as the machine would load it: sums are taken in its own order (RFC 1071, 2 B)."""
    return (value & 0xFF) << 8 | value >> 8


@inline
def is_bare(heap: U8, ip: int, l4: int, protocol: int, field: int) -> bool:
    """Whether a checksum field holds the pseudo header's sum and nothing else."""
    if u8(heap, ip) >> 4 == 4:
        n = be16(heap, ip + 2) - (l4 - ip)
        total = le32(heap, ip + 12) + le32(heap, ip + 16)
    else:
        n = be16(heap, ip + 4) - (l4 - ip - IP6_HEADER)
        total = sum_bytes(heap, ip + 8, 32)
    return int(le16(heap, l4 + field)) == fold(total + swapped(protocol) + swapped(n & 0xFFFF))


@inline
def is_train(heap: U8, first: int, end: int, pitch: int) -> bool:
    """Whether the VXLAN header at `first` comes again every `pitch` bytes, with something behind it, up to the end."""
    at = first + pitch
    if at >= end:
        return False
    while at < end:
        if at + VXLAN_HEADER >= end or le64(heap, at) != le64(heap, first):
            return False
        at += pitch
    return True


@inline
def ip_bytes(heap: U8, at: int, end: int) -> int:
    """Bytes of the IP packet at `at` as its header says, or 0 when there is none."""
    if at + IP4_HEADER > end:
        return 0
    version = u8(heap, at) >> 4
    n = be16(heap, at + 2) if version == 4 else IP6_HEADER + be16(heap, at + 4) if version == 6 else 0
    return n if n >= IP4_HEADER else 0


@inline
def ip_in_frame(heap: U8, frame: int) -> int:
    """Where IP begins in an Ethernet frame, behind at most two VLAN tags; 0 when the EtherType says other."""
    at = frame + ETHERNET_HEADER
    for _ in range(2):
        if be16(heap, at - 2) in (CTAG, STAG):
            at += TAG
    return at if be16(heap, at - 2) in (IP4, IP6) else 0


@inline
def pitch_of(heap: U8, first: int, ip: int, end: int) -> int:
    """The distance between the packets of a train that begins so, its first inner IP header at `ip`; 0: it is none."""
    n = ip_bytes(heap, ip, end)
    pitch = ip + n - first
    return pitch if n and is_train(heap, first, end, pitch) else 0


@jit
def find_train(heap: U8, m: Record, first: int) -> None:
    """Notes the segmentation of a UDP packet whose payload at `first` is a train, of Ethernet frames or bare IP."""
    end = int(m.cur) + int(m.len)
    inner = first + VXLAN_HEADER
    if inner + ETHERNET_HEADER > end or le32(heap, first) != VXLAN_FLAGS:
        return
    ip = ip_in_frame(heap, inner)
    pitch = pitch_of(heap, first, ip, end) if ip else 0
    if pitch == 0:
        pitch = pitch_of(heap, first, inner, end)
    if 0 < pitch <= 0xFFFF:
        m.gso_type = GSO_UDP_L4
        m.gso_size = pitch


@inline
def is_bare_ip(heap: U8, inner: int, end: int) -> bool:
    """Whether a VXLAN packet holds IP without Ethernet, as an `l3` tunnel's: its length fits and a frame's does not.

    Nothing else tells the two apart. What is in an Ethernet frame of 60 bytes may be shorter.
    """
    ip = ip_in_frame(heap, inner)
    if ip:
        n = ip_bytes(heap, ip, end)
        if n and (ip + n == end or (ip + n < end and end - inner <= SHORTEST_FRAME)):
            return False
    n = ip_bytes(heap, inner, end)
    return bool(n and inner + n == end)


@inline
def leave_to_device(m: Record, l4: int, field: int) -> None:
    """Notes an unfinished checksum."""
    m.flags = int(m.flags) | CSUM_PARTIAL
    m.csum_start = l4
    m.csum_offset = field


@inline
def leave_segments(heap: U8, m: Record, l4: int, gso_type: int, mtu: int) -> None:
    """Notes a segmentation of TCP when the packet is longer than the MTU."""
    headers = l4 - int(m.cur) + (u8(heap, l4 + TCP_DATA_OFFSET) >> 4 << 2)
    size = mtu - SPARED + ETHERNET_HEADER - headers
    if int(m.len) > mtu + ETHERNET_HEADER + TAG and size > 0:
        m.gso_type = gso_type
        m.gso_size = size


@jit
def find_unfinished(heap: U8, m: Record, mtu: int) -> None:
    """Notes what is left to do on a packet that begins with an Ethernet header; looks into IPIP and VXLAN too."""
    end = int(m.cur) + int(m.len)
    at = int(m.cur) + ETHERNET_HEADER
    kind = be16(heap, at - 2)
    for _ in range(LAYERS):
        if kind in (CTAG, STAG):
            at += TAG
            kind = be16(heap, at - 2)
            continue
        if kind == IP4:
            l4 = at + ((u8(heap, at) & 0xF) << 2)
            protocol = u8(heap, at + 9)
            if at + IP4_HEADER > end or be16(heap, at + 6) & FRAGMENT:
                return
        elif kind == IP6:
            l4 = at + IP6_HEADER
            protocol = u8(heap, at + 6)
        else:
            return
        if l4 + UDP_HEADER > end:
            return
        if protocol == TCP:
            if l4 + TCP_HEADER <= end and is_bare(heap, at, l4, TCP, TCP_CHECKSUM):
                leave_to_device(m, l4, TCP_CHECKSUM)
                leave_segments(heap, m, l4, GSO_TCP4 if kind == IP4 else GSO_TCP6, mtu)
            return
        if protocol == UDP:
            if is_bare(heap, at, l4, UDP, UDP_CHECKSUM):
                leave_to_device(m, l4, UDP_CHECKSUM)
                find_train(heap, m, l4 + UDP_HEADER)
                return
            at = l4 + UDP_HEADER + VXLAN_HEADER
            if at > end or le32(heap, l4 + UDP_HEADER) != VXLAN_FLAGS:
                return
            if is_bare_ip(heap, at, end):
                kind = IP4 if u8(heap, at) >> 4 == 4 else IP6
            else:
                at += ETHERNET_HEADER
                kind = be16(heap, at - 2)
        elif protocol in (IPIP, IP6IP):
            at = l4
            kind = IP4 if protocol == IPIP else IP6
        else:
            return


@inline
def is_uncuttable(m: Record, mtu: int) -> bool:
    """Whether a packet, after `find_unfinished`, is datagrams that nothing says where to cut: UDP, longer than a sender
    with this MTU may send it, whose checksum is left to a device."""
    unfinished_udp = int(m.flags) & CSUM_PARTIAL and int(m.csum_offset) == UDP_CHECKSUM
    return bool(unfinished_udp and not m.gso_type and int(m.len) > mtu + ETHERNET_HEADER + 2 * TAG)


TX_METADATA_BYTES = 24  # struct xsk_tx_metadata: flags u64, csum_start u16, csum_offset u16, times
_CHECKSUM = 2


@inline
def put_tx_metadata(heap: U8, m: Record) -> None:
    """Leaves a checksum to the device, by what lies in front of the packet."""
    at = int(m.cur) - TX_METADATA_BYTES
    put_le32(heap, at, _CHECKSUM)
    put_le32(heap, at + 4, 0)
    put_le16(heap, at + 8, int(m.csum_start) - int(m.cur))
    put_le16(heap, at + 10, int(m.csum_offset))
    put_le32(heap, at + 12, 0)
    put_le32(heap, at + 16, 0)
    put_le32(heap, at + 20, 0)
