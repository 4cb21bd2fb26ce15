# SPDX-License-Identifier: Apache-2.0
"""Whose a packet is that arrives on an uplink or from the host: pyvpp's or the host's. The FIB says so."""

from pyvpp.interface import ADMIN_UP, UPLINK
from pyvpp.jit import inline
from pyvpp.typing import U8, U16, U32, Records
from pyvpp.wire import be16, be32, u8
from pyvpp_nodes.arp.packet import OPCODE, REPLY, REQUEST, SENDER, TARGET
from pyvpp_nodes.ethernet.vlan import VLAN_ID, sub_interface_of
from pyvpp_nodes.fib.tables import LB_PASS_THROUGH, LB_RECEIVE
from pyvpp_nodes.fib.trie.lookup import fib_lookup

ETHERNET_HEADER = 14
TAGGED_HEADER = 18
MIN_IP4 = 20
PROTOCOL_ICMP = 1
PROTOCOL_UDP = 17
FRAGMENT_OFFSET = 0x1FFF
NOBODY, OWN_SUB_INTERFACE = -1, -2


@inline
def owner_of_tag(
    heap: U8, at: int, uplink: int, interfaces: Records, interface_vlans: Records, sub_interfaces: U32
) -> int:
    """Whose a frame is, by the tag of the frame at `at`: the interface that pyvpp shares with the host, the uplink
    itself for VLAN id 0, OWN_SUB_INTERFACE, or NOBODY, which leaves it to the host.

    A shared one that is down is the host's alone.
    """
    tag = be16(heap, at + 12) << 16 | be16(heap, at + 14)
    if tag & VLAN_ID == 0:
        return uplink
    sub = sub_interface_of(interface_vlans, sub_interfaces, uplink, tag)
    if sub == 0:
        return NOBODY
    flags = int(interfaces[sub].flags)
    if not flags & UPLINK:
        return OWN_SUB_INTERFACE
    return sub if flags & ADMIN_UP else NOBODY


@inline
def is_ours(
    heap: U8,
    ip: int,
    length: int,
    fib_index: int,
    ip4_fib_roots: U32,
    ip4_fib_nodes: U32,
    load_balances: Records,
    ip4_local_protocols: U16,
    udp_ports: U16,
) -> bool:
    """Whether the IPv4 packet at `ip` goes somewhere the host does not: a pod, a tunnel, or a tunnel's outer packet."""
    if length < MIN_IP4:
        return False
    flags = int(load_balances[fib_lookup(ip4_fib_roots, ip4_fib_nodes, fib_index, be32(heap, ip + 16))].flags)
    if not flags & LB_PASS_THROUGH:
        return True
    if not flags & LB_RECEIVE:
        return False
    protocol = u8(heap, ip + 9)
    if protocol == PROTOCOL_ICMP:  # the host answers for its own addresses
        return False
    if protocol != PROTOCOL_UDP:
        return int(ip4_local_protocols[protocol]) != 0
    header = 4 * (u8(heap, ip) & 0xF)
    if be16(heap, ip + 6) & FRAGMENT_OFFSET or length < header + 8:
        return False
    return int(udp_ports[be16(heap, ip + header + 2)]) != 0


@inline
def tells_of_neighbor(
    heap: U8, arp: int, fib_index: int, ip4_fib_roots: U32, ip4_fib_nodes: U32, load_balances: Records
) -> bool:
    """Whether the ARP packet at `arp` is a reply, announces its sender, or asks for an address of the uplink's."""
    if be16(heap, arp + OPCODE) != REQUEST:
        return bool(be16(heap, arp + OPCODE) == REPLY)
    target = be32(heap, arp + TARGET)
    if target == be32(heap, arp + SENDER):
        return True
    route = load_balances[fib_lookup(ip4_fib_roots, ip4_fib_nodes, fib_index, target)]
    return int(route.flags) & LB_RECEIVE != 0
