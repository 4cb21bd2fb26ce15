# SPDX-License-Identifier: Apache-2.0
"""A whole engine without root: every kind of interface, its Linux end played by a memfd or a socket pair.

    uplink   host-eth0  192.0.2.1/24, a hand-filled AF_PACKET ring; its host end tap0 is a socket pair
    VLANs    host-eth0.5 203.0.113.1/24, which the host shares; host-eth0.6 10.53.0.1/24, pg0.5 10.54.0.1/24 and
             pg0.5.5 10.55.0.1/24 (802.1ad in 802.1Q), pyvpp's own
    pod      tun0       10.80.0.2, a socket pair
    generator pg0       10.0.0.1/24, Ethernet; pg1 bare IP, the way to 10.1.0.0/16; pg2 is cross-connected with vxlan_tunnel2
    tunnels  vxlan_tunnel0 (Ethernet, 10.50.0.1/24), vxlan_tunnel1 (bare IP, 10.51.0.0/16), ipip0 (10.52.0.0/16)
    routes   10.60.0.0/16 over two neighbors, 10.61.0.0/16 over both tunnels, 10.62 unreachable, 10.63 prohibit, 10.64 drop,
             10.65 punt, 10.66 over a neighbor whose MAC address is not known, 10.67 over the host's VLAN

Every second buffer is kept out of the pool, its slot a guard that must not change.
"""

import os
import socket
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Network
from socket import AF_INET
from types import SimpleNamespace
from typing import Any

import numpy as np

from pyvpp import dispatch as d
from pyvpp.buffers import (
    LARGE_BUFFERS,
    LARGE_SLOT,
    POOL_ENTRIES,
    POOL_LARGE,
    POOL_LARGE_START,
    POOL_SMALL,
    SMALL_SLOT,
    slot_start,
)
from pyvpp.device import af_packet_ring, vnet
from pyvpp.device.interfaces import add_tap_interface
from pyvpp.engine import Engine
from pyvpp.interface import HOST, L2, OFFLOAD_ALL, UPLINK, Interface
from pyvpp.node import Kind
from pyvpp.packet_generator import Stream, first_node, generator_of
from pyvpp.trace import show_trace
from pyvpp_nodes.fib.entry import Path, Via, attached, attached_nexthop
from pyvpp_nodes.ipip.cli import tunnels_of as ipip_tunnels_of
from pyvpp_nodes.vxlan.cli import tunnels_of as vxlan_tunnels_of

UPLINK_MAC, NEIGHBOR_MAC, PG_MAC = b"\x02\xfe\0\0\0\1", b"\x02\xfe\0\0\0\x99", b"\x02\xfe\0\0\0\2"
UPLINK_IP, POD_IP, PG_IP, GATEWAY = "192.0.2.1", "10.80.0.2", "10.0.0.1", "192.0.2.254"
VLAN_IP, VLAN_GATEWAY = "203.0.113.1", "203.0.113.254"
PG_IP6 = "2001:db8::1"
REMOTES = {"vxlan": "192.0.2.2", "vxlan-l3": "192.0.2.3", "ipip": "192.0.2.4", "xconnect": "192.0.2.5"}
VNIS = {"vxlan": 10, "vxlan-l3": 11, "xconnect": 12}
RX_SLOTS, TX_SLOTS = 64, 256
MAC_AT = 66  # where a frame begins in a slot, its virtio_net_hdr before it
FILL = 0xA5
BUFFERS = 8190  # as many as fill whole 2 MB pages
RX_SLOT_BYTES, TX_SLOT_BYTES = 2048, 256  # larger frames do not go through the rings

EMITTED = {
    "ip4-frag": ("number of sent fragments", "number of sent segments"),
    "gso-ip4": ("segments sent",),
    "gso-l2-ip4": ("segments sent",),
    "gso": ("segments sent",),
    "gso-udp4-input": ("segments sent",),
    "ip4-arp": ("ARP requests sent",),
    "ip4-glean": ("ARP requests sent",),
    "uplink-input": ("ARP packets copied",),
}
"""Counters of packets that a node made besides those it was given."""
HEARD = (
    "ARP replies received",
    "ARP probe or announcement learned",
    "ARP requests left to the host to answer",
)
"""Counters of packets that arp-reply sends on to be learned from without one of its own."""
REPLACED = {
    "ip4-frag": ("packet fragmented", "gso packet segmented"),
    "gso-ip4": ("packets segmented",),
    "gso-l2-ip4": ("packets segmented",),
    "gro": ("packets coalesced",),
    "gso": ("packets segmented",),
    "gso-udp4-input": ("packets segmented",),
}
"""Counters of packets that ended in a node since others took their place."""


class Plug:
    """A device as `add_tap_interface` wants one, with a socket pair in place of /dev/net/tun."""

    offload = OFFLOAD_ALL
    persistent = False

    def __init__(self, layer3: bool) -> None:
        self.layer3 = layer3
        ours, self.linux = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.fd = ours.detach()
        os.set_blocking(self.fd, False)
        self.linux.setblocking(False)
        self.linux.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)

    @property
    def fds(self) -> list[int]:
        return [self.fd]

    def attach_rx(self, row: Any, queue: int, sw_if_index: int) -> None:
        row.fd, row.layer3, row.open, row.sw_if_index = self.fds[queue], self.layer3, 1, sw_if_index

    def attach_tx(self, row: Any, worker: int) -> None:
        row.fd = self.fd

    @staticmethod
    def poll_fds(queue: int) -> tuple[int, ...]:
        return ()

    def close(self) -> None:
        os.close(self.fd)
        self.linux.close()

    def received(self) -> list[bytes]:
        """What has been written into the device: packets behind their virtio_net_hdr."""
        packets = []
        while True:
            try:
                packets.append(self.linux.recv(1 << 17))
            except BlockingIOError:
                return packets


class Ring:
    """The rings of an AF_PACKET socket. Nobody empties the transmit ring: the driver counts what it put there as lost."""

    def __init__(self, engine: Engine) -> None:
        self.heap = engine.buffers.heap
        self.bytes = RX_SLOTS * RX_SLOT_BYTES + TX_SLOTS * TX_SLOT_BYTES
        self.memory = os.memfd_create("rings")
        os.ftruncate(self.memory, self.bytes)
        self.start = self.heap.map_ring(self.memory, self.bytes)
        self.wire = Plug(layer3=False)
        self.next_rx = 0

    def describe(self, rx: Any, tx: Any, sw_if_index: int) -> None:
        rx.ring, rx.fd, rx.sw_if_index = self.start, self.wire.fd, sw_if_index
        rx.slots, rx.slot_bytes, rx.next = RX_SLOTS, RX_SLOT_BYTES, 0
        tx.tx, tx.fd, tx.send_fd = self.start + RX_SLOTS * RX_SLOT_BYTES, self.wire.fd, self.wire.fd
        tx.tx_slots, tx.tx_slot_bytes, tx.tx_next = TX_SLOTS, TX_SLOT_BYTES, 0

    def word(self, at: int) -> Any:
        return self.heap.array[at : at + 4].view("<u4")

    def put(self, header: bytes, frame: bytes, vlan: int | None) -> None:
        """A frame behind its virtio_net_hdr, its VLAN tag beside it."""
        slot = self.start + self.next_rx * RX_SLOT_BYTES
        self.next_rx = (self.next_rx + 1) % RX_SLOTS
        assert self.word(slot)[0] == af_packet_ring.STATUS_KERNEL, "more frames than the ring holds"
        array = self.heap.array
        array[slot + MAC_AT - vnet.BYTES : slot + MAC_AT] = np.frombuffer(header, np.uint8)
        first = frame[: RX_SLOT_BYTES - MAC_AT]
        copied = 0 if len(first) == len(frame) else af_packet_ring.STATUS_COPY
        if copied:
            self.wire.linux.send(header + frame)
        array[slot + MAC_AT : slot + MAC_AT + len(first)] = np.frombuffer(first, np.uint8)
        self.word(slot + af_packet_ring.LENGTH)[0], self.word(slot + af_packet_ring.CAPTURED)[0] = (
            len(frame),
            len(first),
        )
        array[slot + af_packet_ring.MAC : slot + af_packet_ring.MAC + 2].view("<u2")[0] = MAC_AT
        array[slot + af_packet_ring.VLAN_TCI : slot + af_packet_ring.VLAN_TCI + 2].view("<u2")[0] = vlan or 0
        tagged = 0 if vlan is None else af_packet_ring.STATUS_VLAN_VALID
        self.word(slot)[0] = af_packet_ring.STATUS_USER | copied | tagged

    def close(self) -> None:
        self.heap.unmap_ring(self.start, self.bytes)
        os.close(self.memory)
        self.wire.close()


class Lab:
    """The engine described above, its ledger balanced by `settle`."""

    def __init__(self) -> None:
        self.engine = Engine(buffers=BUFFERS, hugepages="off")
        self.worker = self.engine.workers[0]
        heap = self.engine.buffers.heap
        assert heap.slot_bytes - slot_start(LARGE_BUFFERS + BUFFERS) < 1 << 20, "the last slot should be near the end"
        heap._next_ring += 1 << 20  # rings lie elsewhere: who reads far beyond the last slot ends the process
        self.generator = generator_of(self.engine)
        self.fib = self.engine.stack.fib4
        self._add_uplink()
        self._add_pod()
        self._add_generator()
        self._add_vlans()
        self._add_tunnels()
        self._add_routes()
        self._records: Any = np.zeros(8192, d.CAPTURE)
        control = self.worker.control
        control[d.CAPTURE_ADDRESS], control[d.CAPTURE_CAPACITY] = self._records.ctypes.data, len(self._records)
        control[d.CAPTURE_KINDS], control[d.CAPTURE_INTERFACE] = d.CAPTURE_RX | d.CAPTURE_TX | d.CAPTURE_DROP, 0
        control[d.CAPTURE_BYTES] = d.CAPTURE_DATA
        self._guards = self._set_guards()
        self._free = self.free
        self._before = self._snapshot()

    # ---- setting up -------------------------------------------------------------------------------------------------
    def _input(self, template: str, interface: Interface, instance: int) -> None:
        index = self.engine.add_input(template, f"{interface.name}-input", interface, [], instance=instance)
        self.worker.rows["polled"][index] = 1

    def _add_uplink(self) -> None:
        engine = self.engine
        self.ring = Ring(engine)
        self.uplink = engine.interfaces.create(
            "host-eth0",
            "af-packet",
            UPLINK_MAC,
            1500,
            UPLINK,
            output="interface-output",
            tx="af-packet-tx",
            offload=OFFLOAD_ALL,
        )
        rx, tx = (engine.tables[f"af_packet_{way}_queues"].array for way in ("rx", "tx"))
        self.ring.describe(rx[1], tx[self.uplink.sw_if_index], self.uplink.sw_if_index)
        self._input("af-packet-input", self.uplink, instance=1)
        self.host_plug = Plug(layer3=False)
        self.host = self._plugged(self.host_plug, "tap0", mac=UPLINK_MAC, mtu=1500, flags=HOST)
        engine.interfaces.set_peer(self.uplink, self.host)
        engine.interfaces.set_peer(self.host, self.uplink)
        state = SimpleNamespace(
            addresses=[SimpleNamespace(family=AF_INET, interface=IPv4Interface(f"{UPLINK_IP}/24"))],
            routes=[SimpleNamespace(table=254, destination="0.0.0.0/0", gateway=GATEWAY)],
            vlans=[SimpleNamespace(id=5, tpid=0x8100, state=self._vlan_state())],
        )
        engine.events.fire("uplink-added", self.uplink, self.host, state)
        for last in (2, 3, 4, 5, 254):
            self._neighbor(self.uplink, f"192.0.2.{last}")

    @staticmethod
    def _vlan_state() -> SimpleNamespace:
        """Of the host's VLAN on the uplink."""
        return SimpleNamespace(
            mac=UPLINK_MAC.hex(":"),
            mtu=1500,
            is_up=True,
            addresses=[SimpleNamespace(family=AF_INET, interface=IPv4Interface(f"{VLAN_IP}/24"))],
            routes=[SimpleNamespace(table=254, destination="10.67.0.0/16", gateway=VLAN_GATEWAY)],
        )

    def _add_vlans(self) -> None:
        """pyvpp's own: one of the uplink, one of the generator and one in that."""
        subs = self.engine.stack.sub_interfaces
        self._neighbor(self.engine.require_interface("host-eth0.5"), VLAN_GATEWAY)
        made = [subs.create(self.uplink, 6, 6), subs.create(self.pg[0], 5, 5)]
        made.append(subs.create(made[1], 5, 5, 0x88A8))
        for number, each in enumerate(made):
            self.engine.interfaces.set_admin(each, True)
            self._address(each, f"10.{53 + number}.0.1")
            self._neighbor(each, f"10.{53 + number}.0.2")

    def _plugged(self, plug: Plug, name: str, **options: Any) -> Interface:
        made = add_tap_interface(self.engine, plug, name=name, **options)  # type: ignore[arg-type]
        self.worker.rows["polled"][self.engine.graph.index_of(f"{name}-input")] = 1
        return made

    def _add_pod(self) -> None:
        self.pod_plug = Plug(layer3=True)
        self.pod = self._plugged(self.pod_plug, "tun0", mtu=1500)
        self.engine.events.fire("pod-added", self.pod, IPv4Address(POD_IP))

    def _add_generator(self) -> None:
        self.pg = [
            self.generator.create_interface(f"pg{k}", PG_MAC if k != 1 else None, bare_ip=k == 1) for k in range(3)
        ]
        for each in self.pg:
            self.engine.interfaces.set_admin(each, True)
        self._address(self.pg[0], PG_IP)
        self._neighbor(self.pg[0], "10.0.0.2")
        self._neighbor(self.pg[0], "10.0.0.3")

    def _address(self, interface: Interface, address: str) -> None:
        self.fib.add_address(interface.sw_if_index, int(IPv4Address(address)), 24)

    def _neighbor(self, interface: Interface, address: str) -> None:
        self.engine.stack.neighbors.add(
            interface.sw_if_index, int(IPv4Address(address)), NEIGHBOR_MAC, static=True
        )  # fmt: skip

    def _add_tunnels(self) -> None:
        engine, source = self.engine, IPv4Address(UPLINK_IP)
        remote = {name: IPv4Address(address) for name, address in REMOTES.items()}
        vxlan = vxlan_tunnels_of(engine)
        self.vxlan = vxlan.create(source, remote["vxlan"], VNIS["vxlan"]).interface
        self.vxlan_l3 = vxlan.create(source, remote["vxlan-l3"], VNIS["vxlan-l3"], l3=True).interface
        connected = vxlan.create(source, remote["xconnect"], VNIS["xconnect"]).interface
        self.ipip = ipip_tunnels_of(engine).create(source, remote["ipip"]).interface
        engine.interfaces.set_admin(self.ipip, True)
        self._address(self.vxlan, "10.50.0.1")
        self._neighbor(self.vxlan, "10.50.0.2")
        for one, other in ((self.pg[2], connected), (connected, self.pg[2])):
            engine.interfaces.set_peer(one, other)
            engine.interfaces.set_flags(one, L2, True)

    def _add_routes(self) -> None:
        pg0 = self.pg[0].sw_if_index
        over = {
            "10.1.0.0/16": [attached(self.pg[1].sw_if_index)],
            "10.51.0.0/16": [attached(self.vxlan_l3.sw_if_index)],
            "10.52.0.0/16": [attached(self.ipip.sw_if_index)],
            "10.60.0.0/16": [attached_nexthop(int(IPv4Address(f"10.0.0.{last}")), pg0) for last in (2, 3)],
            "10.61.0.0/16": [attached(self.ipip.sw_if_index), attached(self.vxlan_l3.sw_if_index)],
            "10.62.0.0/16": [Path(Via.UNREACHABLE)],
            "10.63.0.0/16": [Path(Via.PROHIBIT)],
            "10.64.0.0/16": [Path(Via.DROP)],
            "10.65.0.0/16": [Path(Via.PUNT)],
            "10.66.0.0/16": [attached_nexthop(int(IPv4Address("10.0.0.66")), pg0)],
        }
        for prefix, paths in over.items():
            self.fib.update(IPv4Network(prefix), paths)
        self._add_ip6()

    def _add_ip6(self) -> None:
        """The same for IPv6, as far as there is the same."""
        fib6, pg0 = self.engine.stack.fib6, self.pg[0].sw_if_index
        fib6.add_address(pg0, int(IPv6Address(PG_IP6)), 64)
        fib6.add_address(self.vxlan.sw_if_index, int(IPv6Address("2001:db8:50::1")), 64)
        for last in (2, 3):
            hop = int(IPv6Address(f"2001:db8::{last}"))
            self.engine.stack.neighbors6.add(pg0, hop, NEIGHBOR_MAC, static=True)
        via = [attached_nexthop(int(IPv6Address(f"2001:db8::{last}")), pg0) for last in (2, 3, 66)]
        over = {
            "2001:db8:1::/48": [attached(self.pg[1].sw_if_index)],
            "2001:db8:51::/48": [attached(self.vxlan_l3.sw_if_index)],
            "2001:db8:52::/48": [attached(self.ipip.sw_if_index)],
            "2001:db8:60::/48": via[:2],
            "2001:db8:62::/48": [Path(Via.UNREACHABLE)],
            "2001:db8:63::/48": [Path(Via.PROHIBIT)],
            "2001:db8:66::/48": via[2:],
        }
        for prefix, paths in over.items():
            fib6.update(IPv6Network(prefix), paths)

    def add_tunnels_in_tunnels(self, n: int) -> str:
        """IPIP tunnels, each through the last one; an address that lies behind them all."""
        interface = self.ipip
        for k in range(1, n + 1):
            self.fib.update(IPv4Network(f"10.70.{k}.0/24"), [attached(interface.sw_if_index)])
            tunnel = ipip_tunnels_of(self.engine).create(IPv4Address("10.71.0.1"), IPv4Address(f"10.70.{k}.1"))
            interface = tunnel.interface
            self.engine.interfaces.set_admin(interface, True)
        self.fib.update(IPv4Network("10.72.0.0/24"), [attached(interface.sw_if_index)])
        return "10.72.0.1"

    # ---- feeding ----------------------------------------------------------------------------------------------------
    def from_wire(self, frame: bytes, header: bytes = bytes(vnet.BYTES), vlan: int | None = None) -> None:
        self.ring.put(header, frame, vlan)

    def from_host(self, frame: bytes, header: bytes = bytes(vnet.BYTES)) -> None:
        self.host_plug.linux.send(header + frame)

    def from_pod(self, packet: bytes, header: bytes = bytes(vnet.BYTES)) -> None:
        self.pod_plug.linux.send(header + packet)

    def from_generator(self, interface: Interface, packets: list[bytes]) -> None:
        node = first_node(interface, packets[0])
        self.generator.add(Stream(interface.name, packets, interface, node, limit=len(packets)))
        self.generator.set_enabled(interface.name, True)

    @contextmanager
    def starved(self, left: int) -> Iterator[None]:
        """So many buffers of each kind for a while, no more."""
        pool = self.engine.buffers.pools[0]
        firsts = {POOL_SMALL: POOL_ENTRIES, POOL_LARGE: int(pool[POOL_LARGE_START])}
        taken = {}
        for count, first in firsts.items():
            taken[count] = pool[first + left : first + int(pool[count])].copy()
            pool[count] = left
        self._free = self.free
        yield
        for count, first in firsts.items():
            free = int(pool[count])
            pool[first + free : first + free + len(taken[count])] = taken[count]
            pool[count] = free + len(taken[count])
        self._free = self.free

    @contextmanager
    def without_host(self) -> Iterator[None]:
        """Nobody to punt to for a while."""
        punt_tx = self.engine.tables["punt_tx"].array
        tap, punt_tx[0] = int(punt_tx[0]), 0
        yield
        punt_tx[0] = tap

    @contextmanager
    def down(self, *interfaces: Interface) -> Iterator[None]:
        """Interfaces that are down for a while."""
        for up in (False, True):
            for each in interfaces:
                self.engine.interfaces.set_admin(each, up)
            if not up:
                yield

    @contextmanager
    def traced(self, packets: int) -> Iterator[None]:
        """So many packets of every input are traced, and shown."""
        self.trace(packets)
        yield
        text, data = show_trace(self.engine, packets * len(self.engine.interfaces))
        assert len(data) > packets, text
        self.trace(0)

    def trace(self, packets: int) -> None:
        """`clear trace` and `trace add` at every input."""
        control, rows = self.worker.control, self.worker.rows
        control[d.TRACE_USED], control[d.TRACE_PACKETS], control[d.TRACE_ON] = 0, 0, int(packets > 0)
        for each in self.engine.graph:
            if each.node.kind is Kind.INPUT:
                rows["trace_limit"][each.index] = packets

    def stop_generating(self) -> None:
        """Forgets the generator's streams, all of which have been sent."""
        for name in list(self.generator.streams):
            assert not self.generator.enabled(self.generator.streams[name])
            self.generator.delete(name)

    # ---- the ledger -------------------------------------------------------------------------------------------------
    @property
    def free(self) -> int:
        return self.engine.buffers.free + len(self.engine._inject_buffers)

    def _set_guards(self) -> list[tuple[int, int]]:
        """Takes every second buffer and fills its slot; (start, bytes) of each."""
        pool, guards = self.engine.buffers.pools[0], []
        for count, first, size in (
            (POOL_SMALL, POOL_ENTRIES, SMALL_SLOT),
            (POOL_LARGE, int(pool[POOL_LARGE_START]), LARGE_SLOT),
        ):
            free = [int(b) for b in pool[first : first + int(pool[count])]]
            kept = [b for b in reversed(free) if b % 2]  # the last are taken first
            pool[first : first + len(kept)] = kept
            pool[count] = len(kept)
            guards += [(slot_start(b), size) for b in free if b % 2 == 0]
        for start, size in guards:
            self.engine.buffers.heap.array[start : start + size] = FILL
        assert len(guards) > LARGE_BUFFERS // 2
        return guards

    def check_guards(self) -> None:
        """No byte was written outside the slot of a packet's own buffer."""
        heap = self.engine.buffers.heap.array
        for start, size in self._guards:
            slot = heap[start : start + size]
            assert (slot == FILL).all(), f"written at {np.flatnonzero(slot != FILL)[:8]} of the slot at {start}"

    def counters(self) -> Counter[tuple[str, str]]:
        """(node's declaration, text of the counter): count."""
        found: Counter[tuple[str, str]] = Counter()
        for each in self.engine.graph:
            for counter, n in zip(each.counter_names, each.counts(), strict=False):
                if n:
                    found[each.node.name, counter.text] += int(n)
        return found

    def _vectors(self) -> Counter[str]:
        """(role): packets. What a node was given, by what that means for the ledger."""
        found: Counter[str] = Counter()
        for each in self.engine.graph:
            n = int(self.worker.rows["vectors"][each.index])
            if each.node.kind is Kind.INPUT:
                found["in"] += n
            elif each.node.kind is Kind.PYTHON:
                found["python"] += n
            elif each.node.name in ("af-packet-tx", "tap-tx", "pg-tx"):
                found["tx"] += n
            found[each.name] += n
        return found

    def _snapshot(self) -> tuple[Counter[str], Counter[tuple[str, str]]]:
        return self._vectors(), self.counters()

    def settle(self) -> Counter[tuple[str, str]]:
        """Runs until nothing moves; then everything must be accounted for. Returns what the counters gained."""
        control = self.worker.control
        control[d.CAPTURE_USED] = 0
        out = self._run()
        (was, counted), (now, counters) = self._before, self._snapshot()
        self._before = now, counters
        vectors, gained = now - was, counters - counted
        self._check_flow(vectors, gained)
        self._check_out(vectors, gained, out)
        self._check_drops(vectors["error-drop"], gained)
        assert int(control[d.BAD_NEXT]) == 0
        assert int(control[d.PUNT_LOST]) == 0
        return gained

    def _run(self) -> int:
        """How many packets have left for Linux."""
        out = 0
        while True:
            before = self._vectors()
            self.engine.run(2)
            self.engine.drain_punts()
            self.engine.tick()
            out += len([each for each in self.ring.wire.received() if each])
            out += len(self.host_plug.received()) + len(self.pod_plug.received())
            if self._vectors() == before:
                return out

    def _check_flow(self, vectors: Counter[str], gained: Counter[tuple[str, str]]) -> None:
        def total(table: dict[str, tuple[str, ...]]) -> int:
            return sum(gained[node, text] for node, texts in table.items() for text in texts)

        # arp-reply answers with a packet of its own where it lets the request go on to be learned from
        heard = sum(gained["arp-reply", text] for text in HEARD)
        made = total(EMITTED) + vectors["arp-learn"] - heard
        ended = vectors["tx"] + vectors["error-drop"] + vectors["error-punt"] + vectors["python"] + total(REPLACED)
        assert vectors["in"] + made == ended, (vectors, gained)
        assert self.free == self._free, f"{self._free - self.free} buffers are lost"

    def _check_out(self, vectors: Counter[str], gained: Counter[tuple[str, str]], out: int) -> None:
        """What a driver was given, Linux has, or the driver has counted why not."""
        lost = sum(n for (node, text), n in gained.items() if node in ("af-packet-tx", "tap-tx"))
        assert vectors["tx"] - gained["pg-tx", "packets sent"] == out + lost, (vectors, gained, out)

    def _check_drops(self, dropped: int, gained: Counter[tuple[str, str]]) -> None:
        """Every packet that was dropped names a counter, which has counted it."""
        used = int(self.worker.control[d.CAPTURE_USED])
        assert used < len(self._records)
        records = self._records[:used][self._records["kind"][:used] == d.CAPTURE_DROP]
        assert len(records) == dropped
        for error, n in Counter(int(error) for error in records["error"]).items():
            named = self.engine.graph.error_of(error)
            assert named is not None, f"{n} packets were dropped without a reason"
            assert gained[named[0], named[1].text] >= n, (named, n, gained)

    def close(self) -> None:
        self.generator.streams.clear()
        self.engine.close()
        self.ring.close()


def virtio(flags: int = 0, gso_type: int = 0, gso_size: int = 0, start: int = 0, offset: int = 0) -> bytes:
    """A virtio_net_hdr."""
    words: Iterable[int] = (0, gso_size, start, offset)
    return bytes((flags & 0xFF, gso_type & 0xFF)) + b"".join((word & 0xFFFF).to_bytes(2, "little") for word in words)
