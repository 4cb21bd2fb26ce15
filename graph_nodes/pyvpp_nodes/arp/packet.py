# SPDX-License-Identifier: Apache-2.0
"""ARP for IPv4 over Ethernet (RFC 826): the 28 bytes, and how requests and replies are written."""

from pyvpp.buffers import HEADROOM, LOCALLY_ORIGINATED, NO_BUFFER, TRACED, emit_to, give_back, slot_start, take_small
from pyvpp.device.receive import set_received
from pyvpp.jit import inline, jit
from pyvpp.typing import U8, U32, Record, Records
from pyvpp.wire import be16, be32, put_be16, put_be32
from pyvpp_nodes.ethernet.header import BROADCAST, ETHERNET_ARP, ETHERNET_IP4, HEADER_BYTES, put_ethernet, put_mac
from pyvpp_nodes.integers import int64

ARP_BYTES = 28
ETHERNET_BYTES = HEADER_BYTES
HARDWARE, PROTOCOL, SIZES, OPCODE, SENDER_MAC, SENDER, TARGET_MAC, TARGET = 0, 2, 4, 6, 8, 14, 18, 24
ETHERNET_HARDWARE, SIZES_6_4 = 1, 0x0604
REQUEST, REPLY = 1, 2


@inline
def mac_at(heap: U8, at: int) -> int:
    return int64(be32(heap, at) << 16 | be16(heap, at + 4))


@inline
def put_arp(heap: U8, arp: int, opcode: int, sender_mac: int, sender: int, target_mac: int, target: int) -> None:
    put_be16(heap, arp + HARDWARE, ETHERNET_HARDWARE)
    put_be16(heap, arp + PROTOCOL, ETHERNET_IP4)
    put_be16(heap, arp + SIZES, SIZES_6_4)
    put_be16(heap, arp + OPCODE, opcode)
    put_mac(heap, arp + SENDER_MAC, sender_mac)
    put_be32(heap, arp + SENDER, sender)
    put_mac(heap, arp + TARGET_MAC, target_mac)
    put_be32(heap, arp + TARGET, target)


@inline
def set_sent(m: Record, sw_if_index: int, start: int, length: int, flags: int) -> None:
    """Metadata of a frame that begins here; the trace of the packet it was goes on."""
    trace = m.trace
    set_received(m, sw_if_index, start, length, flags & TRACED | LOCALLY_ORIGINATED)
    m.trace = trace
    m.tx = sw_if_index


@inline
def put_reply(heap: U8, frame: int, mac: int, address: int, to_mac: int, to: int) -> None:
    """A whole frame: `address` is at `mac`."""
    put_ethernet(heap, frame, to_mac, mac, ETHERNET_ARP)
    put_arp(heap, frame + ETHERNET_BYTES, REPLY, mac, address, to_mac, to)


@jit
def send_request(
    heap: U8, meta: Records, pool: U32, emit: U32, interfaces: Records, sw_if_index: int, source: int, target: int
) -> bool:
    """Asks everybody on the link who `target` is; False when there is no buffer."""
    b = take_small(pool)
    if b == NO_BUFFER:
        return False
    start = slot_start(b) + HEADROOM
    interface = interfaces[sw_if_index]
    mac = int64(interface.mac)
    set_sent(meta[b], sw_if_index, start, ETHERNET_BYTES + ARP_BYTES, 0)
    put_ethernet(heap, start, BROADCAST, mac, ETHERNET_ARP)
    put_arp(heap, start + ETHERNET_BYTES, REQUEST, mac, source, 0, target)
    if not emit_to(emit, b, int64(interface.output_next)):
        give_back(pool, b)
        return False
    return True
