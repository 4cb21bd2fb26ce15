# SPDX-License-Identifier: Apache-2.0
"""Interfaces: the row kernels see, and the object control code handles.

`interfaces` holds one INTERFACE record by sw_if_index; counters are kept by each worker. Index 0 is `local0`, VPP's
interface of nowhere. Events, each called with the Interface: "interface-created", "interface-deleted",
"interface-state", "interface-mac", "interface-mtu"; the row is up to date before they fire.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from pyvpp.errors import OperatorError
from pyvpp.node import TO_NODE
from pyvpp.tables import COUNTER, interface_table, record_dtype

if TYPE_CHECKING:
    from pyvpp.engine import Engine

ADMIN_UP = 1
LINK_UP = 2
P2P = 4
UPLINK = 8
HOST = 16
DELETED = 32
L2 = 64

OFFLOAD_CSUM, OFFLOAD_TSO4, OFFLOAD_TSO6, OFFLOAD_USO = 1, 2, 4, 8
OFFLOAD_CSUM_ANYWHERE = 16
"""The device finishes checksums wherever csum_start says, inside a tunnel too, not only behind the first IP header."""
OFFLOAD_IPIP = 32
"""The device segments what is in an IPIP tunnel; a packet it sends to Linux does not need that."""
OFFLOAD_ALL = OFFLOAD_CSUM | OFFLOAD_TSO4 | OFFLOAD_TSO6 | OFFLOAD_USO | OFFLOAD_CSUM_ANYWHERE

INTERFACE = record_dtype(
    [
        ("flags", np.uint32),
        ("mtu", np.uint32),  # L3, bytes
        ("output_next", np.uint16),  # TO_NODE | X-output
        ("pad", np.uint16),
        ("peer", np.uint32),  # sw_if_index of the cross-connect's or the uplink's partner
        ("mac", np.uint64),  # 48 bits, as a big-endian number
        ("fib_index", np.uint32),
        ("offload", np.uint32),  # OFFLOAD_*: what may be left to the device
    ]
)

INTERFACES = interface_table("interfaces", INTERFACE)
INTERFACE_RX = interface_table("interface_rx", COUNTER, per_worker=True)
INTERFACE_TX = interface_table("interface_tx", COUNTER, per_worker=True)
INTERFACE_DROPS = interface_table("interface_drops", np.uint64, per_worker=True)
INTERFACE_PUNTS = interface_table("interface_punts", np.uint64, per_worker=True)
INTERFACE_IP4 = interface_table("interface_ip4", np.uint64, per_worker=True)
INTERFACE_IP6 = interface_table("interface_ip6", np.uint64, per_worker=True)
INTERFACE_RX_MISS = interface_table("interface_rx_miss", np.uint64, per_worker=True)  # lost by Linux before us
TABLES = (
    INTERFACES, INTERFACE_RX, INTERFACE_TX, INTERFACE_DROPS, INTERFACE_PUNTS, INTERFACE_IP4, INTERFACE_IP6,
    INTERFACE_RX_MISS,
)  # fmt: skip
COUNTERS = tuple(table.name for table in TABLES[1:])


@dataclass(eq=False)
class Interface:
    """One interface as control code sees it; change it through `Interfaces`, which keeps the row in step."""

    sw_if_index: int
    name: str
    kind: str
    mac: bytes
    mtu: int
    flags: int
    nodes: list[int] = field(default_factory=list)
    device: Any = None
    offload: int = 0
    driver_reason: str = ""  # why this driver, where nobody named one
    on_delete: list[Callable[[], None]] = field(default_factory=list)
    output: int = 0  # index of its X-output
    tx: int = 0  # and of the node that leads to

    @property
    def admin_up(self) -> bool:
        """Whether the operator wants it up."""
        return bool(self.flags & ADMIN_UP)

    @property
    def link_up(self) -> bool:
        """Whether its device is."""
        return bool(self.flags & LINK_UP)

    @property
    def p2p(self) -> bool:
        """No Ethernet: bare IP packets, one neighbor that needs no address."""
        return bool(self.flags & P2P)

    def tx_queue(self, worker: int, workers: int) -> int:
        """The transmit queue by which a worker sends: its own, or one of fewer, as many as the device has files."""
        return worker % (len(getattr(self.device, "fds", ())) or workers)


class Interfaces:
    """All interfaces of an engine."""

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine
        self._by_index: dict[int, Interface] = {}
        self._by_name: dict[str, Interface] = {}
        self._free: list[int] = []
        self._promised: Mapping[str, int] = {}
        self.create("local0", kind="local", mtu=0, admin_up=False, link_up=False)

    def __iter__(self) -> Iterator[Interface]:
        return iter([self._by_index[index] for index in sorted(self._by_index)])

    def __len__(self) -> int:
        return len(self._by_index)

    def __getitem__(self, sw_if_index: int) -> Interface:
        return self._by_index[sw_if_index]

    def get(self, sw_if_index: int) -> Interface | None:
        """The interface with a number, None when there is none."""
        return self._by_index.get(sw_if_index)

    def by_name(self, name: str) -> Interface | None:
        """The interface of that name, or None."""
        return self._by_name.get(name)

    @property
    def array(self) -> Any:
        """The rows that kernels see, INTERFACE by sw_if_index."""
        return self._engine.tables[INTERFACES.name].array

    def free_name(self, prefix: str, instance: int | None = None) -> str:
        """`prefix` and the lowest free number, or the given one. Raises OperatorError when that is taken."""
        if instance is not None:
            if f"{prefix}{instance}" in self._by_name:
                raise OperatorError(f"instance {instance}: interface {prefix}{instance} exists already")
            return f"{prefix}{instance}"
        for name in self._promised:
            if name.removeprefix(prefix).isdecimal() and name not in self._by_name:
                return name
        number = 0
        while f"{prefix}{number}" in self._by_name:
            number += 1
        return f"{prefix}{number}"

    @contextlib.contextmanager
    def promised(self, numbers: Mapping[str, int]) -> Iterator[None]:
        """Interfaces made meanwhile get these names, where nobody asks for others, and with them these numbers."""
        self._promised = numbers
        try:
            yield
        finally:
            self._promised = {}

    def _free_index(self, name: str) -> int:
        """The number promised to that name, if it is free, else the lowest that is."""
        beyond = len(self._by_index) + len(self._free)
        wanted = self._promised.get(name, -1)
        if wanted >= beyond:
            self._free.extend(range(beyond, wanted + 1))
        return wanted if wanted in self._free else min(self._free, default=beyond)

    def create(
        self,
        name: str,
        kind: str,
        mac: bytes = bytes(6),
        mtu: int = 9000,
        flags: int = 0,
        admin_up: bool = True,
        link_up: bool = True,
        output: str | None = None,
        tx: str | None = None,
        tx_node: str | None = None,
        device: Any = None,
        offload: int = 0,
    ) -> Interface:
        """Makes an interface with nodes `<name>-output` (of template `output`) and `<name>-tx` (of template `tx`).

        `tx_node` names a node that several interfaces share in place of the second. Raises OperatorError when the
        name is taken or the graph is full; then nothing is changed.
        """
        if name in self._by_name:
            raise OperatorError(f"interface {name} exists already")
        index = self._free_index(name)
        self._make_room(index)
        flags |= (ADMIN_UP if admin_up else 0) | (LINK_UP if link_up else 0)
        interface = Interface(index, name, kind, mac, mtu, flags, device=device, offload=offload)
        try:
            self._add_nodes(interface, output, tx, tx_node)
        except BaseException:
            self._engine.graph.remove(interface.nodes)
            raise
        with contextlib.suppress(ValueError):
            self._free.remove(index)
        self._by_index[index] = self._by_name[name] = interface
        self._write(interface)
        self._engine.events.fire("interface-created", interface)
        return interface

    def _make_room(self, index: int) -> None:
        """A row of zeros for the interface in every table that has one."""
        tables = [table for table in self._engine.tables.values() if table.table.by_interface]
        if any(index >= len(table) for table in tables):
            with self._engine.barrier():
                for table in tables:
                    table.grow(index + 1)
        for table in tables:
            for array in table.arrays:
                array[index] = np.zeros((), table.dtype)

    def _add_nodes(self, interface: Interface, output: str | None, tx: str | None, tx_node: str | None) -> None:
        graph, index, name = self._engine.graph, interface.sw_if_index, interface.name
        if tx:
            tx_node = f"{name}-tx"
            interface.tx = graph.instantiate(tx, tx_node, index)
            interface.nodes.append(interface.tx)
        elif tx_node:
            interface.tx = graph.index_of(tx_node)
        if output:
            interface.output = graph.instantiate(output, f"{name}-output", index, {"{interface}-tx": tx_node or ""})
            interface.nodes.append(interface.output)
            self.array["output_next"][index] = TO_NODE | interface.output

    def delete(self, interface: Interface) -> None:
        """Removes everything of the interface; its number is used again."""
        interface.flags &= ~ADMIN_UP
        self._write(interface)
        self._engine.events.fire("interface-deleted", interface)
        self.array["flags"][interface.sw_if_index] = DELETED
        for undo in interface.on_delete:
            with contextlib.suppress(OSError):
                undo()
        self._engine.graph.remove(interface.nodes)
        del self._by_index[interface.sw_if_index], self._by_name[interface.name]
        self._free.append(interface.sw_if_index)

    def _write(self, interface: Interface) -> None:
        row = self.array
        row["mtu"][interface.sw_if_index] = interface.mtu
        row["mac"][interface.sw_if_index] = int.from_bytes(interface.mac, "big")
        row["flags"][interface.sw_if_index] = interface.flags
        row["offload"][interface.sw_if_index] = interface.offload

    def set_flags(self, interface: Interface, flags: int, on: bool) -> None:
        """Sets or clears flags; fires "interface-state" when something changed."""
        new = interface.flags | flags if on else interface.flags & ~flags
        if new != interface.flags:
            interface.flags = new
            self._write(interface)
            self._engine.events.fire("interface-state", interface)

    def set_admin(self, interface: Interface, up: bool) -> None:
        """`set interface state`."""
        self.set_flags(interface, ADMIN_UP, up)

    def set_link(self, interface: Interface, up: bool) -> None:
        """Says whether its device is up."""
        self.set_flags(interface, LINK_UP, up)

    def set_offload(self, interface: Interface, offload: int) -> None:
        """What may be left to the device (OFFLOAD_*)."""
        interface.offload = offload
        self._write(interface)

    def set_mtu(self, interface: Interface, mtu: int) -> None:
        """Bytes of an IP packet, at layer 3. Raises OperatorError."""
        if not 64 <= mtu <= 65535:
            raise OperatorError(f"mtu {mtu}: must be from 64 to 65535")
        interface.mtu = mtu
        self._write(interface)
        self._engine.events.fire("interface-mtu", interface)

    def set_mac(self, interface: Interface, mac: bytes) -> None:
        """Six bytes, unicast. Raises OperatorError."""
        if len(mac) != 6 or mac[0] & 1 or mac == bytes(6):
            raise OperatorError(f"mac address {mac.hex(':')}: must be a unicast address of 6 bytes")
        interface.mac = mac
        self._write(interface)
        self._engine.events.fire("interface-mac", interface)

    def set_peer(self, interface: Interface, peer: Interface | None) -> None:
        """The partner of an uplink or of a cross-connect."""
        self.array["peer"][interface.sw_if_index] = peer.sw_if_index if peer else 0
