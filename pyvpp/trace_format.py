# SPDX-License-Identifier: Apache-2.0
"""Packet headers as the lines of VPP's `show trace`: functions from the bytes of a header on to a list of lines.

Node packages put their own lines around these. Bytes that end too early give fewer lines, never an exception.
"""

from collections.abc import Callable, Sequence
from ipaddress import IPv6Address

ETHERTYPES = {
    0x0800: "IP4",
    0x0806: "ARP",
    0x86DD: "IP6",
    0x8100: "VLAN",
    0x88A8: "DOT1AD",
    0x8847: "MPLS",
    0x88CC: "802_1_LLDP",
}
VLAN_TYPES = (0x8100, 0x88A8)
PROTOCOLS = {
    0: "IP6_HOP_BY_HOP_OPTIONS", 1: "ICMP", 2: "IGMP", 4: "IP_IN_IP", 6: "TCP", 17: "UDP", 41: "IPV6", 47: "GRE",
    50: "IPSEC_ESP", 51: "IPSEC_AH", 58: "ICMP6", 89: "OSPF", 103: "PIM", 112: "VRRP", 115: "L2TP", 132: "SCTP",
}  # fmt: skip
ECN = ("NON_ECN", "ECT_1", "ECT_0", "CE")
DSCP = {
    0: "CS0", 8: "CS1", 10: "AF11", 12: "AF12", 14: "AF13", 16: "CS2", 18: "AF21", 20: "AF22", 22: "AF23", 24: "CS3",
    26: "AF31", 28: "AF32", 30: "AF33", 32: "CS4", 34: "AF41", 36: "AF42", 38: "AF43", 40: "CS5",
    46: "EF", 48: "CS6", 56: "CS7",
}  # fmt: skip
ICMP_TYPES = {
    0: "echo_reply", 3: "destination_unreachable", 4: "source_quench", 5: "redirect", 8: "echo_request",
    9: "router_advertisement", 10: "router_solicitation", 11: "time_exceeded", 12: "parameter_problem",
    13: "timestamp_request", 14: "timestamp_reply",
}  # fmt: skip
ICMP_CODES = {
    (3, 0): "destination_unreachable_net", (3, 1): "destination_unreachable_host", (3, 2): "protocol_unreachable",
    (3, 3): "port_unreachable", (3, 4): "fragmentation_needed_and_dont_fragment_set", (3, 5): "source_route_failed",
    (3, 9): "network_administratively_prohibited", (3, 10): "host_administratively_prohibited",
    (3, 13): "communication_administratively_prohibited", (11, 0): "ttl_exceeded_in_transit",
    (11, 1): "fragment_reassembly_time_exceeded", (12, 0): "pointer_indicates_error",
}  # fmt: skip
ICMP6_TYPES = {
    1: "destination_unreachable", 2: "packet_too_big", 3: "time_exceeded", 4: "parameter_problem",
    128: "echo_request", 129: "echo_reply", 133: "router_solicitation", 134: "router_advertisement",
    135: "neighbor_solicitation", 136: "neighbor_advertisement", 137: "redirect",
}  # fmt: skip
ICMP_WITH_ID = (0, 8, 13, 14)
TCP_FLAGS = ("FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR")
ARP_OPCODES = {1: "request", 2: "reply", 3: "reverse_request", 4: "reverse_reply"}


def mac_text(mac: bytes) -> str:
    """Six bytes as 02:00:00:00:00:01."""
    return ":".join(f"{byte:02x}" for byte in mac)


def ip4_text(address: bytes | int) -> str:
    """Four bytes, or a number, as 10.1.2.3."""
    return ".".join(str(byte) for byte in (address.to_bytes(4, "big") if isinstance(address, int) else address))


def be(data: bytes, at: int, n: int) -> int:
    """n bytes, most significant first, as a number; fewer where the data ends."""
    return int.from_bytes(data[at : at + n], "big")


def indented(lines: Sequence[str], by: int = 2) -> list[str]:
    """Lines further to the right."""
    return [" " * by + line for line in lines]


def format_ethernet_header(frame: bytes) -> list[str]:
    """One line: type and addresses, VLAN tags at its end."""
    if len(frame) < 14:
        return [f"ethernet header truncated, {len(frame)} bytes"]
    ethertype, at, tags = be(frame, 12, 2), 14, ""
    while ethertype in VLAN_TYPES and len(frame) >= at + 4:
        tag = be(frame, at, 2)
        kind = "802.1q" if ethertype == 0x8100 else "802.1ad"
        tags += f" {kind} vlan {tag & 0xFFF}" + (f" priority {tag >> 13}" if tag >> 13 else "")
        ethertype, at = be(frame, at + 2, 2), at + 4
    name = ETHERTYPES.get(ethertype, f"0x{ethertype:04x}")
    return [f"{name}: {mac_text(frame[6:12])} -> {mac_text(frame[:6])}{tags}"]


def ethernet_payload(frame: bytes) -> tuple[int, bytes]:
    """The ethertype behind the VLAN tags, and what follows it."""
    ethertype, at = be(frame, 12, 2), 14
    while ethertype in VLAN_TYPES:
        ethertype, at = be(frame, at + 2, 2), at + 4
    return ethertype, frame[at:]


def format_ethernet(frame: bytes) -> list[str]:
    """The Ethernet header and what it carries."""
    lines = format_ethernet_header(frame)
    ethertype, payload = ethernet_payload(frame)
    if ethertype == 0x0800:
        lines += format_ip4(payload)
    elif ethertype == 0x86DD:
        lines += format_ip6(payload)
    elif ethertype == 0x0806:
        lines += format_arp(payload)
    return lines


def format_packet(data: bytes, ethernet: bool) -> list[str]:
    """A frame, or what a point-to-point interface carries: an IP packet."""
    if ethernet:
        return format_ethernet(data)
    return format_ip6(data) if data[:1] and data[0] >> 4 == 6 else format_ip4(data)


def checksum_of(header: bytes) -> int:
    """RFC 1071: what the checksum of a header should be, its own field at 10 left out."""
    words = header[:10] + b"\0\0" + header[12:]
    return 0xFFFF - ((sum(be(words, i, 2) for i in range(0, len(words), 2)) % 0xFFFF) or 0xFFFF)


def format_ip4(packet: bytes) -> list[str]:
    """The IPv4 header, then the one inside it, if that is known."""
    if len(packet) < 20:
        return [f"ip4 header truncated, {len(packet)} bytes"]
    if packet[0] >> 4 != 4:
        return [f"not IP4: version {packet[0] >> 4}"]
    protocol, tos, header_bytes = packet[9], packet[1], 4 * (packet[0] & 15)
    checksum = be(packet, 10, 2)
    should = checksum_of(packet[:header_bytes]) if 20 <= header_bytes <= len(packet) else checksum
    flags, offset = be(packet, 6, 2) & 0xE000, 8 * (be(packet, 6, 2) & 0x1FFF)
    fragment = f"fragment id 0x{be(packet, 4, 2):04x}"
    fragment += f", offset {offset}" if offset else ""
    names = ((0x2000, "MORE_FRAGMENTS"), (0x4000, "DONT_FRAGMENT"), (0x8000, "CONGESTION"))
    fragment += ", flags " + "".join(name for bit, name in names if flags & bit) if flags else ""
    lines = [
        f"{PROTOCOLS.get(protocol, f'unknown {protocol}')}: {ip4_text(packet[12:16])} -> {ip4_text(packet[16:20])}"
    ]
    lines += indented([f"version 4, header length {header_bytes}"]) if header_bytes != 20 else []
    wrong = f" (should be 0x{should:04x})" if (checksum - should) % 0xFFFF else ""
    lines += indented(
        [
            f"tos 0x{tos:02x}, ttl {packet[8]}, length {be(packet, 2, 2)}, checksum 0x{checksum:04x}{wrong}"
            f" dscp {DSCP.get(tos >> 2, f'0x{tos >> 2:02x}')} ecn {ECN[tos & 3]}",
            fragment,
        ]
    )
    inner = packet[max(header_bytes, 20) :]
    if offset == 0 and inner:
        known: dict[int, Callable[[bytes], list[str]]] = {1: format_icmp, 4: format_ip4, 6: format_tcp, 17: format_udp}
        lines += known[protocol](inner) if protocol in known else []
    return lines


def format_ip6(packet: bytes) -> list[str]:
    """The IPv6 header (RFC 8200), then the one behind it, if that is known."""
    if len(packet) < 40:
        return [f"ip6 header truncated, {len(packet)} bytes"]
    first, protocol = be(packet, 0, 4), packet[6]
    if first >> 28 != 6:
        return [f"not IP6: version {first >> 28}"]
    source, destination = IPv6Address(packet[8:24]), IPv6Address(packet[24:40])
    lines = [
        f"{PROTOCOLS.get(protocol, f'unknown {protocol}')}: {source} -> {destination}",
        f"  tos 0x{first >> 20 & 0xFF:02x}, flow label 0x{first & 0xFFFFF:x}, hop limit {packet[7]},"
        f" payload length {be(packet, 4, 2)}",
    ]
    inner = packet[40:]
    known: dict[int, Callable[[bytes], list[str]]] = {
        4: format_ip4, 6: format_tcp, 17: format_udp, 41: format_ip6, 58: format_icmp6
    }  # fmt: skip
    return lines + known[protocol](inner) if inner and protocol in known else lines


def format_icmp6(data: bytes) -> list[str]:
    """RFC 4443 and 4861: what it is, and of an error what it is about."""
    if len(data) < 4:
        return []
    kind, code = data[0], data[1]
    name = ICMP6_TYPES.get(kind, f"unknown 0x{kind:x}") + (f" code {code}" if code else "")
    lines = [f"ICMP {name} checksum 0x{be(data, 2, 2):04x}"]
    return lines + indented(format_ip6(data[8:])) if kind < 128 and len(data) > 8 else lines


def format_icmp(data: bytes) -> list[str]:
    """RFC 792: what it is, its checksum, and its identifier where it has one."""
    if len(data) < 4:
        return []
    kind, code = data[0], data[1]
    name = ICMP_TYPES.get(kind, f"unknown 0x{kind:x}")
    detail = ICMP_CODES.get((kind, code), "" if code == 0 else f"unknown 0x{code:x}")
    line = f"ICMP {name}{' ' + detail if detail else ''} checksum 0x{be(data, 2, 2):04x}"
    return [line + (f" id {be(data, 4, 2)}" if kind in ICMP_WITH_ID and len(data) >= 6 else "")]


def format_udp(data: bytes) -> list[str]:
    """RFC 768: ports, length, checksum."""
    if len(data) < 8:
        return ["UDP header truncated"]
    return [f"UDP: {be(data, 0, 2)} -> {be(data, 2, 2)}", f"  length {be(data, 4, 2)}, checksum 0x{be(data, 6, 2):04x}"]


def format_tcp(data: bytes) -> list[str]:
    """RFC 9293: ports, numbers, flags, window."""
    if len(data) < 20:
        return ["TCP header truncated"]
    flags = " ".join(name for bit, name in enumerate(TCP_FLAGS) if data[13] >> bit & 1)
    return [
        f"TCP: {be(data, 0, 2)} -> {be(data, 2, 2)}",
        f"  seq. tx 0x{be(data, 4, 4):08x} rx 0x{be(data, 8, 4):08x}",
        f"  flags {flags}, tcp header: {4 * (data[12] >> 4)} bytes",
        f"  window {be(data, 14, 2)}, checksum 0x{be(data, 16, 2):04x}",
    ]


def format_vxlan(data: bytes) -> list[str]:
    """RFC 7348: flags and VNI."""
    if len(data) < 8:
        return ["VXLAN header truncated"]
    return [f"VXLAN: flags 0x{data[0]:02x} vni {be(data, 4, 3)}"]


def format_arp(data: bytes) -> list[str]:
    """RFC 826, Ethernet and IPv4."""
    if len(data) < 28:
        return [f"arp truncated, {len(data)} bytes"]
    opcode = be(data, 6, 2)
    l2 = "ethernet" if be(data, 0, 2) == 1 else f"unknown 0x{be(data, 0, 2):x}"
    l3 = ETHERTYPES.get(be(data, 2, 2), f"0x{be(data, 2, 2):04x}")
    return [
        f"{ARP_OPCODES.get(opcode, f'unknown 0x{opcode:x}')}, type {l2}/{l3}, address size {data[4]}/{data[5]}",
        f"{mac_text(data[8:14])}/{ip4_text(data[14:18])} -> {mac_text(data[18:24])}/{ip4_text(data[24:28])}",
    ]


def format_arp_or_frame(data: bytes) -> list[str]:
    """ARP as it came, or the whole frame once an answer has been made of it."""
    return format_ethernet(data) if be(data, 12, 2) == 0x0806 and be(data, 0, 2) != 1 else format_arp(data)


def format_hex(data: bytes, limit: int = 60, width: int = 32) -> list[str]:
    """Bytes as VPP's rewrite nodes print them: an offset and 32 of them to a line."""
    data = data[:limit]
    return [f"{at:08x}: {data[at : at + width].hex()}" for at in range(0, len(data), width)]
