# SPDX-License-Identifier: Apache-2.0
"""What Linux knows about an uplink, read before anything is touched.

Everything that goes away when a NIC leaves its namespace is here: the link's attributes and sysctls, its addresses, the
routes and nexthop objects of all tables that use it (and the routes whose source address is one of its own), its
permanent neighbors, its queueing disciplines, its multicast groups.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import struct
from pathlib import Path
from typing import Any

import msgspec
from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from pyvpp.errors import OperatorError
from pyvpp.linux import ethtool, multicast, other_sockets, programs, stacked
from pyvpp.linux.discipline import Discipline, read_disciplines
from pyvpp.linux.ethtool import Offload
from pyvpp.linux.neighbors import Neighbor, read_neighbors
from pyvpp.linux.nexthops import Nexthop, read_nexthops
from pyvpp.linux.route import AF_INET, AF_INET6, Route
from pyvpp.linux.routes import read_routes

IFF_UP, IFF_NOARP, IFF_PROMISC, IFF_ALLMULTI, IFF_MULTICAST = 0x1, 0x80, 0x100, 0x200, 0x1000
# and debug, notrailers, portsel, automedia, dynamic: what else `ip link set` can change (dev_change_flags in Linux)
KEPT_LINK_FLAGS = IFF_NOARP | IFF_PROMISC | IFF_ALLMULTI | IFF_MULTICAST | 0x4 | 0x20 | 0x2000 | 0x4000 | 0x8000
IFA_F_SECONDARY, IFA_F_TENTATIVE, IFA_F_PERMANENT, IFA_F_DADFAILED, IFA_F_DEPRECATED = 0x01, 0x40, 0x80, 0x08, 0x20
FOREVER = 0xFFFFFFFF
HOOK_NAME = "\0pyvpp-uplink-{name}"  # abstract socket: one name space per network namespace, gone with its process
TUN_DEVICE = Path("/dev/net/tun")
SYSCTL_FAMILIES = ("ipv4/conf", "ipv6/conf", "ipv4/neigh", "ipv6/neigh")
_LINK_KINDS_OF_THEIR_OWN = ("veth", "netkit")  # kinds whose link index names a peer, not a device below


class Address(msgspec.Struct, frozen=True):
    """An address with all its attributes; `attributes` are netlink's own."""

    family: int
    prefix_length: int
    scope: int
    flags: int
    attributes: dict[str, Any]

    @property
    def address(self) -> str:
        """The local address."""
        return str(self.attributes.get("IFA_LOCAL") or self.attributes["IFA_ADDRESS"])

    @property
    def interface(self) -> ipaddress.IPv4Interface | ipaddress.IPv6Interface:
        """Address and prefix length, as the standard library has it."""
        return ipaddress.ip_interface(f"{self.address}/{self.prefix_length}")

    def __str__(self) -> str:
        return str(self.interface)

    @property
    def is_temporary(self) -> bool:
        """Whether Linux made it by itself, at random, for a while (RFC 8981)."""
        return self.family == AF_INET6 and bool(self.flags & IFA_F_SECONDARY)

    @property
    def is_link_local(self) -> bool:
        """Whether this is an IPv6 link-local address."""
        return self.family == AF_INET6 and self.interface.is_link_local


class UplinkState(msgspec.Struct, frozen=True):
    """All that has to be there again after a NIC has been away."""

    name: str
    ifindex: int
    kind: str  # Linux' kind of a virtual link ("veth"), empty for a physical NIC
    mac: str
    mtu: int
    txqueuelen: int
    group: int
    alias: str
    altnames: tuple[str, ...]
    flags: int
    address_generation: int | None
    token: str
    sysctls: dict[str, str]
    addresses: tuple[Address, ...]
    routes: tuple[Route, ...]
    neighbors: tuple[Neighbor, ...]
    carrier: bool = True
    gro: bool | None = None  # None: the driver does not say
    nexthops: tuple[Nexthop, ...] = ()
    disciplines: tuple[Discipline, ...] = ()
    multicast: tuple[str, ...] = ()  # link-layer addresses set by hand
    groups: tuple[str, ...] = ()  # that sockets have joined
    vlans: tuple[Vlan, ...] = ()  # built on it
    packet_sockets: tuple[str, ...] = ()  # bound to it, `socket:[inode]`: when the TAP has died nobody else knows them

    @property
    def is_up(self) -> bool:
        """Whether it was up."""
        return bool(self.flags & IFF_UP)

    @property
    def filter_programs(self) -> tuple[int, ...]:
        """The numbers of the BPF programs of its tc filters."""
        return tuple(each.program for each in self.disciplines if each.program)

    @property
    def sources(self) -> frozenset[str]:
        """Its addresses: routes over other links may have them as their source."""
        return frozenset(address.address for address in self.addresses)


class Vlan(msgspec.Struct, frozen=True):
    """A VLAN device that is built on an uplink."""

    kind: str  # Linux' own word
    data: str  # what Linux tells of it (IFLA_INFO_DATA), in hex digits
    state: UplinkState

    @property
    def id(self) -> int:
        """The VLAN's number."""
        return stacked.vlan_id(bytes.fromhex(self.data))

    @property
    def tpid(self) -> int:
        """The type by which its tags are known: 0x8100 or 0x88a8."""
        return stacked.tpid(bytes.fromhex(self.data))


def plain(value: Any) -> Any:
    """A value of pyroute2 as lists and dicts that a journal can hold."""
    if isinstance(value, dict):
        kept = {key: plain(item) for key, item in value.items() if key not in ("header", "event", "attrs")}
        if "attrs" in value:
            kept["attrs"] = [[item[0], plain(item[1])] for item in value["attrs"] if item[0] != "UNKNOWN"]
        return kept
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def attributes_of(message: Any) -> dict[str, Any]:
    """Netlink attributes as a dict, without those pyroute2 has no name for."""
    return {item[0]: plain(item[1]) for item in message["attrs"] if item[0] != "UNKNOWN" and item[1] is not None}


def find_link(ip: Any, name: str) -> Any | None:
    """A link's netlink message, or None."""
    try:
        links = list(ip.get_links(ifname=name))
    except NetlinkError as error:
        if error.code == 19:  # ENODEV
            return None
        raise
    return links[0] if links else None


def interface_names(ip: Any) -> dict[int, str]:
    """Names by interface index."""
    return {int(link["index"]): str(link.get_attr("IFLA_IFNAME")) for link in ip.get_links()}


def read_sysctls(name: str) -> dict[str, str]:
    """The link's own sysctls of both families, keyed `ipv6/conf/accept_ra`."""
    found: dict[str, str] = {}
    for family in SYSCTL_FAMILIES:
        for path in sorted(Path("/proc/sys/net", family, name).glob("*")):
            try:
                if path.stat().st_mode & 0o200:
                    found[f"{family}/{path.name}"] = path.read_text().strip()
            except OSError:
                continue  # not readable while unset (stable_secret)
    return found


def read_addresses(ip: Any, ifindex: int) -> tuple[Address, ...]:
    """Addresses of a link in the order in which adding them gives the same order again."""
    by_family: dict[int, list[Address]] = {AF_INET: [], AF_INET6: []}
    for message in ip.get_addr():
        if message["index"] != ifindex or message["family"] not in by_family:
            continue
        attributes = attributes_of(message)
        flags = int(attributes.pop("IFA_FLAGS", message["flags"]))
        lifetime = attributes.pop("IFA_CACHEINFO", None)
        if lifetime and (lifetime["ifa_valid"], lifetime["ifa_preferred"]) != (FOREVER, FOREVER):
            attributes["IFA_CACHEINFO"] = {key: lifetime[key] for key in ("ifa_preferred", "ifa_valid")}
        elif flags & IFA_F_DEPRECATED:  # of a permanent IPv4 address Linux does not tell that it is preferred no more
            attributes["IFA_CACHEINFO"] = {"ifa_preferred": 0, "ifa_valid": FOREVER}
        by_family[message["family"]].append(
            Address(message["family"], message["prefixlen"], message["scope"], flags, attributes)
        )
    # Linux puts a new IPv6 address in front of those of its scope, an IPv4 one behind.
    return (*by_family[AF_INET], *reversed(by_family[AF_INET6]))


def _read_gro(name: str) -> bool | None:
    try:
        return ethtool.read(name, Offload.GRO)
    except OSError:
        return None


def read_uplink(ip: Any, link: Any) -> UplinkState:
    """Read everything about a link."""
    name, ifindex = str(link.get_attr("IFLA_IFNAME")), int(link["index"])
    info = link.get_attr("IFLA_LINKINFO")
    generation, token = None, ""
    specifics = link.get_attr("IFLA_AF_SPEC")
    ip6 = specifics.get_attr("AF_INET6") if specifics else None
    if ip6:
        generation = ip6.get_attr("IFLA_INET6_ADDR_GEN_MODE")
        token = ip6.get_attr("IFLA_INET6_TOKEN") or ""
    properties = link.get_attr("IFLA_PROP_LIST")
    addresses = read_addresses(ip, ifindex)
    names = interface_names(ip)
    return UplinkState(
        name=name,
        ifindex=ifindex,
        kind=str(info.get_attr("IFLA_INFO_KIND") or "") if info else "",
        mac=str(link.get_attr("IFLA_ADDRESS") or ""),
        mtu=int(link.get_attr("IFLA_MTU")),
        txqueuelen=int(link.get_attr("IFLA_TXQLEN")),
        group=int(link.get_attr("IFLA_GROUP") or 0),
        alias=str(link.get_attr("IFLA_IFALIAS") or ""),
        altnames=tuple(properties.altnames()) if properties else (),
        flags=int(link["flags"]) & (KEPT_LINK_FLAGS | IFF_UP),
        address_generation=generation,
        token="" if token == "::" else str(token),
        sysctls=read_sysctls(name),
        addresses=addresses,
        routes=read_routes(names, name, frozenset(address.address for address in addresses)),
        neighbors=read_neighbors(ifindex),
        carrier=bool(link.get_attr("IFLA_CARRIER")),
        gro=_read_gro(name),
        nexthops=read_nexthops(names, name),
        disciplines=read_disciplines(ifindex),
        multicast=multicast.read_static(name),
        groups=multicast.read_groups(name),
        vlans=read_vlans(ip, ifindex),
        packet_sockets=tuple(other_sockets.packet_sockets(ifindex)),
    )


def read_vlans(ip: Any, ifindex: int) -> tuple[Vlan, ...]:
    """The VLANs on a link, each with its state and those in it."""
    return tuple(
        Vlan(each.kind, each.data.hex(), read_uplink(ip, ip.get_links(each.ifindex)[0]))
        for each in stacked.built_on(ifindex)
    )


def _holder(name: str) -> int | None:
    """The process of a pyvpp that has this uplink already, or None."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(HOOK_NAME.format(name=name))
        except OSError:
            return None
        credentials = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return int(struct.unpack("iII", credentials)[0])


def _uppers(ip: Any, ifindex: int) -> list[str]:
    """Names of the devices stacked on a link (VLANs, macvlans, tunnels bound to it, members if it is a master)."""
    found = []
    for link in ip.get_links():
        info = link.get_attr("IFLA_LINKINFO")
        kind = info.get_attr("IFLA_INFO_KIND") if info else None
        below = {link.get_attr("IFLA_MASTER")}
        if kind not in _LINK_KINDS_OF_THEIR_OWN and link.get_attr("IFLA_LINK_NETNSID") is None:
            below.add(link.get_attr("IFLA_LINK"))
            data = info.get_attr("IFLA_INFO_DATA") if info else None
            if data is not None and hasattr(data, "get_attr") and "attrs" in data:
                below.update(value for key, value in data["attrs"] if key.endswith("_LINK") and isinstance(value, int))
        if ifindex in below and link["index"] != ifindex:
            found.append(str(link.get_attr("IFLA_IFNAME")))
    return found


def check_stacked(ip: Any, state: UplinkState) -> None:
    """Raises OperatorError when something on an uplink, or on its VLANs, cannot move along with it."""
    own = {vlan.state.name for vlan in state.vlans}
    if uppers := [upper for upper in _uppers(ip, state.ifindex) if upper not in own]:
        raise OperatorError(f"uplink {state.name}: {', '.join(uppers)} built on it would be lost; remove that first")
    for vlan in state.vlans:
        master = ip.get_links(vlan.state.ifindex)[0].get_attr("IFLA_MASTER")
        if master is not None:
            upper = interface_names(ip).get(master, str(master))
            raise OperatorError(
                f"uplink {state.name}: its VLAN {vlan.state.name} is a member of {upper}, which would lose it; take it "
                "out first"
            )
        if vlan.state.mac != state.mac:
            raise OperatorError(
                f"uplink {state.name}: its VLAN {vlan.state.name} has a MAC address of its own, for which the NIC "
                f"would receive nothing any more; give it {state.mac}"
            )
        check_stacked(ip, vlan.state)


def check_prerequisites() -> None:
    """Fail unless this process may take an uplink over: root and a usable TUN device."""
    if os.geteuid() != 0:
        raise OperatorError(
            f"pyvpp runs as user {os.geteuid()}: taking an uplink over needs root (CAP_NET_ADMIN, CAP_SYS_ADMIN)"
        )
    try:
        os.close(os.open(TUN_DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        raise OperatorError(
            f"{TUN_DEVICE}: {error.strerror}: the host's traffic passes through a TAP; load the kernel's tun module "
            f"(modprobe tun) or give the container this device"
        ) from None


def inspect_uplink(name: str) -> UplinkState:
    """Read an uplink's whole state, and fail with one clear line unless it can be taken over."""
    check_prerequisites()
    with IPRoute() as ip:
        link = find_link(ip, name)
        if link is None:
            known = sorted(other for other in interface_names(ip).values() if other != "lo")
            raise OperatorError(f"uplink {name}: no such interface; there are: {', '.join(known) or 'none'}")
        if (holder := _holder(str(link.get_attr("IFLA_IFNAME")))) is not None:
            raise OperatorError(
                f"uplink {name}: already taken over by the pyvpp with process id {holder}; stop that one first"
            )
        if link["flags"] & 0x8:
            raise OperatorError(
                f"uplink {name}: the loopback interface cannot be an uplink; name an Ethernet interface"
            )
        if link["ifi_type"] != 1:
            raise OperatorError(f"uplink {name}: link type {link['ifi_type']}; only Ethernet (1) can be an uplink")
        if not link["flags"] & IFF_UP:
            raise OperatorError(f"uplink {name}: is down; bring it up first (ip link set {name} up)")
        if (master := link.get_attr("IFLA_MASTER")) is not None:
            upper = interface_names(ip).get(master, str(master))
            raise OperatorError(
                f"uplink {name}: is a member of {upper}; take {upper} over, or take {name} out of it first"
            )
        state = read_uplink(ip, link)
        check_stacked(ip, state)
    states = (state, *(vlan.state for vlan in state.vlans))
    if not any(not address.is_link_local for each in states for address in each.addresses):
        raise OperatorError(f"uplink {name}: has no address; give it one first (ip addr add ADDRESS/LENGTH dev {name})")
    return state


def losses(state: UplinkState) -> list[str]:
    """What will not be as before on the TAP and afterwards, a line each; to be asked while the NIC is Linux'."""
    found = []
    if temporary := [address.address for address in state.addresses if address.is_temporary]:
        found.append(
            f"temporary addresses stay as ordinary ones until they expire ({', '.join(temporary)}); "
            "Linux makes new ones with the next router advertisement"
        )
    if sides := programs.attached_by_tcx(state.ifindex):
        found.append(
            f"BPF programs attached by tcx ({', '.join(sides)}) stay on the NIC, where the host's packets are not"
        )
    return found
