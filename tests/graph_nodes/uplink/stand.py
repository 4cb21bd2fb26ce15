# SPDX-License-Identifier: Apache-2.0
"""An uplink (1) and the TAP in its place (2): frames of every kind, and to whom each of them belongs."""

from typing import Any

import numpy as np
from hypothesis import strategies as st

from pyvpp.interface import ADMIN_UP, HOST, UPLINK
from pyvpp_nodes.fib.tables import LB_PASS_THROUGH, LB_RECEIVE, Kind
from tests.graph_nodes.ethernet.vlans import vlan_tables
from tests.graph_nodes.forwarding import MACS, UP, Fib, arp, ethernet, interface_table, ip4, mac_bytes, udp

UPLINK_INDEX, HOST_INDEX = 1, 2
SHARED, OWN_VLAN, SHARED_DOWN, SHARED_SERVICE = 4, 5, 6, 7
VLANS = {
    (UPLINK_INDEX, 0x8100, 10): SHARED,
    (UPLINK_INDEX, 0x8100, 20): OWN_VLAN,
    (UPLINK_INDEX, 0x8100, 30): SHARED_DOWN,
    (UPLINK_INDEX, 0x88A8, 40): SHARED_SERVICE,
}
OWN, POD, TUNNELLED, GATEWAY, ELSEWHERE = "10.1.1.1", "10.244.1.5", "10.245.0.9", "10.1.1.254", "192.0.2.7"
VXLAN_PORT, IPIP = 4789, 4
BROADCAST, MULTICAST, STRANGER = "ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01", "02:00:00:00:00:77"


OWN_MAC = int.from_bytes(mac_bytes(MACS[1]), "big")


def tables() -> dict[str, Any]:
    fib = Fib()
    uplink = fib.adjacency(Kind.REWRITE, UPLINK_INDEX)
    fib.route("0.0.0.0/0", fib.balance(uplink, flags=LB_PASS_THROUGH))
    fib.to("10.245.0.0/16", Kind.MIDCHAIN, 3)
    fib.route("10.1.1.0/24", fib.balance(uplink, flags=LB_PASS_THROUGH))
    receive = fib.adjacency(Kind.LOCAL, UPLINK_INDEX)
    fib.route(f"{OWN}/32", fib.balance(receive, flags=LB_PASS_THROUGH | LB_RECEIVE))
    fib.to(f"{POD}/32", Kind.REWRITE, 3)
    protocols, ports = np.zeros(256, np.uint16), np.zeros(65536, np.uint16)
    protocols[[1, 17, IPIP]], ports[VXLAN_PORT] = 0x8001, 0x8002
    interfaces = interface_table(
        {
            UPLINK_INDEX: {"flags": UP | UPLINK, "peer": HOST_INDEX},
            HOST_INDEX: {"flags": UP | HOST, "peer": UPLINK_INDEX},
            SHARED: {"flags": UP | UPLINK, "peer": HOST_INDEX, "mac": OWN_MAC},
            OWN_VLAN: {"flags": UP, "mac": OWN_MAC},
            SHARED_DOWN: {"flags": (UP | UPLINK) & ~ADMIN_UP, "peer": HOST_INDEX, "mac": OWN_MAC},
            SHARED_SERVICE: {"flags": UP | UPLINK, "peer": HOST_INDEX, "mac": OWN_MAC},
        }
    )
    return (
        fib.tables
        | {"interfaces": interfaces, "ip4_local_protocols": protocols, "udp_ports": ports}
        | vlan_tables(VLANS)
    )


TABLES = tables()

# IPv4 packets and whether pyvpp owns them when they come from the wire
PACKETS = {
    "to a pod": (ip4(udp(b"x"), destination=POD), True),
    "behind a tunnel": (ip4(udp(b"x"), destination=TUNNELLED), True),
    "to the host": (ip4(udp(b"x", 1, 22), destination=OWN), False),
    "ping of the host": (ip4(b"\x08\0\xf7\xff\0\0\0\0", destination=OWN, protocol=1), False),
    "tcp to the host": (ip4(bytes(20), destination=OWN, protocol=6), False),
    "vxlan's outer packet": (ip4(udp(bytes(30), 55555, VXLAN_PORT), destination=OWN), True),
    "vxlan's behind options": (ip4(udp(bytes(30), 9, VXLAN_PORT), destination=OWN, options=b"\1" * 8), True),
    "a later fragment of udp": (ip4(udp(bytes(30), 9, VXLAN_PORT), destination=OWN, fragment=0x2005), False),
    "ipip's outer packet": (ip4(ip4(), destination=OWN, protocol=IPIP), True),
    "by way of the uplink": (ip4(udp(b"x"), destination=ELSEWHERE), False),
    "to the gateway": (ip4(udp(b"x"), destination=GATEWAY), False),
    "udp of four bytes": (ip4(b"\0\1\x12\xb5", destination=OWN), False),
}
OTHERS = {
    "arp request": arp(1, STRANGER, GATEWAY, "00:00:00:00:00:00", OWN),
    "ipv6": b"\x60" + bytes(39),
    "lldp": bytes(46),
    "cut off": ip4(udp(b"x"), destination=POD)[:19],
}
ETHERTYPES = {"arp request": 0x0806, "ipv6": 0x86DD, "lldp": 0x88CC, "cut off": 0x0800}
DESTINATIONS = (MACS[1], MACS[1], MACS[1], MACS[2], BROADCAST, MULTICAST, STRANGER)


@st.composite
def received(draw: st.DrawFn) -> tuple[bytes, str, str]:
    """A frame, what it is, and the MAC address it goes to."""
    name = draw(st.sampled_from([*PACKETS, *OTHERS]))
    destination = draw(st.sampled_from(DESTINATIONS))
    if name in PACKETS:
        return ethernet(PACKETS[name][0], destination), name, destination
    return ethernet(OTHERS[name], destination, ethertype=ETHERTYPES[name]), name, destination


NOBODYS = None
TAGS = {  # what a tag makes of a frame from the wire: the interface it is looked at for, or NOBODYS
    b"\x81\0\0\x0a": SHARED,
    b"\x81\0\xf0\x0a": SHARED,
    b"\x81\0\0\x14": OWN_VLAN,
    b"\x81\0\0\x1e": NOBODYS,  # down: the host's alone
    b"\x88\xa8\0\x28": SHARED_SERVICE,
    b"\x88\xa8\0\x0a": NOBODYS,
    b"\x81\0\0\x28": NOBODYS,
    b"\x81\0\x0f\xff": NOBODYS,
    b"\x81\0\x60\0": UPLINK_INDEX,
}


@st.composite
def received_tagged(draw: st.DrawFn) -> tuple[bytes, str, str, bytes]:
    """A frame, what it is, its MAC address, and its tag, if it has one."""
    frame, name, destination = draw(received())
    tag = draw(st.sampled_from([b"", *TAGS]))
    return frame[:12] + tag + frame[12:], name, destination, tag
