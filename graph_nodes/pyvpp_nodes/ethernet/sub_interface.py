# SPDX-License-Identifier: Apache-2.0
"""Sub-interfaces: the VLANs on an Ethernet interface, each an interface of its own with addresses, features, counters.

As VPP's, whose L3 sub-interfaces match exactly: what arrives with one tag belongs to the interface of that tag, with
another tag behind it to a sub-interface of that one, or to nobody. A sub-interface is up when it was set up and what it
is on is up; link, MAC address and the most its MTU can be are those of what it is on.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pyvpp.errors import OperatorError
from pyvpp.interface import HOST, UPLINK, Interface
from pyvpp_nodes.ethernet.header import ETHERNET_QINQ, ETHERNET_VLAN
from pyvpp_nodes.ethernet.tables import INTERFACE_VLANS, SUB_INTERFACES, VLAN_IDS
from pyvpp_nodes.ethernet.vlan import TAG_BYTES

KIND = "sub-interface"
PROTOCOLS = {ETHERNET_VLAN: "dot1q", ETHERNET_QINQ: "dot1ad"}
"""VPP's word by the tag's TPID"""
FIRST_ID, LAST_ID = 1, VLAN_IDS - 2
MOST_TAGS = 2


@dataclass(eq=False)
class SubInterface:
    """One VLAN of an interface."""

    interface: Interface
    parent: Interface
    tpid: int  # ETHERNET_VLAN or ETHERNET_QINQ
    vlan: int
    wanted_up: bool = False  # what the operator said
    inherited_mac: bytes = b""  # the parent's, which it follows while it has no other

    @property
    def tag(self) -> int:
        """TPID << 16 | VLAN id."""
        return self.tpid << 16 | self.vlan


class SubInterfaces:
    """All sub-interfaces of an engine; follows the interfaces they are on."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self._subs: dict[int, SubInterface] = {}  # by sw_if_index
        self._on: dict[int, dict[int, SubInterface]] = {}  # by the parent's, then by VLAN id
        self._following = False
        self._free: list[int] = []  # beginnings in `sub_interfaces` that no interface has any more
        for event, handler in (
            ("interface-state", self._state_changed),
            ("interface-mac", self._mac_changed),
            ("interface-mtu", self._mtu_changed),
            ("interface-deleted", self._deleted),
        ):
            engine.events.on(event, handler)

    def __iter__(self) -> Iterator[SubInterface]:
        return iter(sorted(self._subs.values(), key=lambda sub: sub.interface.sw_if_index))

    def get(self, interface: Interface) -> SubInterface | None:
        """What an interface is, if it is a sub-interface."""
        return self._subs.get(interface.sw_if_index)

    def on(self, parent: Interface) -> list[SubInterface]:
        """The VLANs of an interface."""
        return list(self._on.get(parent.sw_if_index, {}).values())

    def find(self, parent: Interface, vlan: int) -> SubInterface | None:
        """An interface's VLAN of that id."""
        return self._on.get(parent.sw_if_index, {}).get(vlan)

    def depth(self, interface: Interface) -> int:
        """How many tags its frames carry."""
        sub = self.get(interface)
        return 1 + self.depth(sub.parent) if sub else 0

    def check(self, parent: Interface, number: int, vlan: int) -> None:
        """Raises OperatorError when an interface cannot have this sub-interface."""
        if parent.p2p or parent.kind == "local":
            raise OperatorError(f"{parent.name} has no Ethernet frames, which alone have VLANs")
        if parent.flags & HOST:
            raise OperatorError(f"{parent.name} is the host's end of an uplink: put the VLAN on the uplink")
        if self.depth(parent) == MOST_TAGS:
            raise OperatorError(f"{parent.name} has {MOST_TAGS} VLAN tags already, no more are read")
        if not FIRST_ID <= vlan <= LAST_ID:
            raise OperatorError(f"vlan {vlan}: must be from {FIRST_ID} to {LAST_ID}")
        if (taken := self.find(parent, vlan)) is not None:
            raise OperatorError(f"vlan {vlan} of {parent.name} is {taken.interface.name} already")
        if self._engine.interfaces.by_name(f"{parent.name}.{number}"):
            raise OperatorError(f"interface {parent.name}.{number} exists already")

    def create(
        self,
        parent: Interface,
        number: int,
        vlan: int,
        tpid: int = ETHERNET_VLAN,
        *,
        flags: int = 0,
        mac: bytes | None = None,
    ) -> Interface:
        """Makes `<parent>.<number>`, down, for the frames of a VLAN. Raises OperatorError as `check`."""
        self.check(parent, number, vlan)
        # Linux takes frames that are longer than its MTU by one tag, and no longer ones
        mtu = parent.mtu - TAG_BYTES if self.get(parent) else parent.mtu
        interface: Interface = self._engine.interfaces.create(
            f"{parent.name}.{number}", kind=KIND, mac=mac or parent.mac, mtu=mtu, flags=flags, admin_up=False,
            link_up=parent.link_up, output="sub-interface-output", tx_node=f"{parent.name}-output",
            offload=parent.offload,
        )  # fmt: skip
        sub = SubInterface(interface, parent, tpid, vlan, inherited_mac=parent.mac)
        first = self._block_of(parent)
        self._subs[interface.sw_if_index] = self._on.setdefault(parent.sw_if_index, {})[vlan] = sub
        self._vlans["tag"][interface.sw_if_index] = sub.tag
        self._engine.tables[SUB_INTERFACES.name].array[first + vlan] = interface.sw_if_index
        return interface

    def delete(self, interface: Interface) -> None:
        """Raises OperatorError for what is no sub-interface, or the host's as well."""
        if self.get(interface) is None:
            raise OperatorError(f"{interface.name} is no sub-interface (it is {interface.kind})")
        if interface.flags & UPLINK:
            raise OperatorError(f"{interface.name} is a VLAN of the host, shared as long as pyvpp runs")
        self._engine.interfaces.delete(interface)

    @property
    def _vlans(self) -> Any:
        return self._engine.tables[INTERFACE_VLANS.name].array

    def _block_of(self, parent: Interface) -> int:
        """Where in `sub_interfaces` an interface's begin; a new place if it has none yet."""
        first = int(self._vlans["first"][parent.sw_if_index])
        if first:
            return first
        table = self._engine.tables[SUB_INTERFACES.name]
        if not self._free:
            used = len(table)
            table.grow(used + VLAN_IDS)
            self._free = list(range(used, len(table), VLAN_IDS))
        first = self._free.pop(0)
        table.array[first : first + VLAN_IDS] = 0
        self._vlans["first"][parent.sw_if_index] = first
        return first

    # -- what happens to interfaces

    @contextmanager
    def _followed(self) -> Iterator[None]:
        """What happens to sub-interfaces meanwhile is our doing and nobody's wish."""
        self._following = True
        try:
            yield
        finally:
            self._following = False

    def _state_changed(self, interface: Interface) -> None:
        if self._following:
            self._follow(interface)
            return
        sub = self.get(interface)
        with self._followed():
            if sub is not None:
                sub.wanted_up = interface.admin_up
                self._engine.interfaces.set_admin(interface, sub.wanted_up and sub.parent.admin_up)
            self._follow(interface)

    def _follow(self, parent: Interface) -> None:
        for sub in self.on(parent):
            self._engine.interfaces.set_admin(sub.interface, sub.wanted_up and parent.admin_up)
            self._engine.interfaces.set_link(sub.interface, parent.link_up)

    def _mac_changed(self, parent: Interface) -> None:
        for sub in self.on(parent):
            if sub.interface.mac == sub.inherited_mac:
                self._engine.interfaces.set_mac(sub.interface, parent.mac)
            sub.inherited_mac = parent.mac

    def _mtu_changed(self, parent: Interface) -> None:
        for sub in self.on(parent):
            if sub.interface.mtu > parent.mtu:
                self._engine.interfaces.set_mtu(sub.interface, parent.mtu)

    def _deleted(self, interface: Interface) -> None:
        """Also what is on it goes: its frames would have no way out."""
        for sub in self.on(interface):
            self._engine.interfaces.delete(sub.interface)
        deleted = self._subs.pop(interface.sw_if_index, None)
        if deleted is None:
            return
        parent = deleted.parent.sw_if_index
        first = int(self._vlans["first"][parent])
        self._engine.tables[SUB_INTERFACES.name].array[first + deleted.vlan] = 0
        self._vlans["tag"][interface.sw_if_index] = 0
        del self._on[parent][deleted.vlan]
        if not self._on[parent]:
            del self._on[parent]
            self._vlans["first"][parent] = 0
            self._engine.synchronize()
            self._free.append(first)
