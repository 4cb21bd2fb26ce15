# SPDX-License-Identifier: Apache-2.0
"""The drivers against Linux: a veth pair or a TAP in namespaces of our own, ordinary sockets at the other end."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import select
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from pyvpp.buffers import (
    CSUM_PARTIAL,
    HEADROOM,
    L2_VALID,
    NO_BUFFER,
    POOL_LARGE,
    POOL_SMALL,
    SMALL_ROOM,
    Buffers,
    give_back,
    slot_start,
    take_large,
    take_small,
)
from pyvpp.device import af_packet_input, af_packet_ring, af_packet_socket, af_packet_tx, tap, tap_input, tap_tx
from pyvpp.device.af_packet import AfPacket
from pyvpp.device.af_packet_socket import Options
from pyvpp.device.interfaces import add_host_interface, add_tap
from pyvpp.device.syscalls import take_socket_error
from pyvpp.device.tap import Tap, open_namespace, set_up_pod
from pyvpp.device.uplink import let_go
from pyvpp.engine import Engine
from pyvpp.interface import ADMIN_UP, HOST, INTERFACE, UPLINK
from pyvpp.jit import jit
from pyvpp.linux import netns
from pyvpp.node import FREE
from pyvpp.tables import COUNTER

SW_IF_INDEX = 3
QUEUE = 5
FRAME = 256


send_kernel = af_packet_tx.af_packet_tx.kernel


@jit
def send_rounds(
    rounds: int, heap: Any, meta: Any, frame: Any, nexts: Any, counters: Any, instance: int, error_base: int,
    interfaces: Any, drops: Any, rings: Any,
) -> None:  # fmt: skip
    for _ in range(rounds):
        send_kernel(heap, meta, frame, nexts, counters, instance, error_base, interfaces, drops, rings)


def poll_fds(device: AfPacket | Tap) -> tuple[int, ...]:
    return device.queues[0].poll_fds() if isinstance(device, AfPacket) else device.poll_fds()


@dataclass
class Received:
    data: bytes
    next: int
    flags: int
    gso_type: int
    gso_size: int
    csum_start: int  # from the packet's first byte
    csum_offset: int


@dataclass
class Rig:
    """Buffers and tables of one worker with one interface, and the kernels called by hand."""

    flags: int = ADMIN_UP
    mtu: int = 1500
    small: int = 64
    large: int = 16
    counters: Any = field(default_factory=lambda: np.zeros(8, np.uint64))

    def __post_init__(self) -> None:
        self.buffers = Buffers(self.small)
        self.pool = self.buffers.pools[0]
        self.pool[POOL_LARGE] = self.large
        self.interfaces = np.zeros(8, INTERFACE)
        self.interfaces["flags"][SW_IF_INDEX] = self.flags
        self.interfaces["mtu"][SW_IF_INDEX] = self.mtu
        self.rx = np.zeros(8, COUNTER)
        self.drops = np.zeros(8, np.uint64)
        self.rx_queues = np.zeros(8, af_packet_ring.AF_PACKET_RX_QUEUE)
        self.tx_queues = np.zeros(8, af_packet_ring.AF_PACKET_TX_QUEUE)
        self.tap_rx_queues = np.zeros(8, tap.TAP_RX_QUEUE)
        self.tap_tx_queues = np.zeros(8, tap.TAP_TX_QUEUE)
        self.free_at_start = self.free()

    def free(self) -> tuple[int, int]:
        return int(self.pool[POOL_SMALL]), int(self.pool[POOL_LARGE])

    def take(self, n: int) -> int:
        return take_small(self.pool) if n <= SMALL_ROOM else take_large(self.pool)

    def take_all(self) -> list[int]:
        taken = []
        for take in (take_small, take_large):
            while (b := take(self.pool)) != NO_BUFFER:
                taken.append(b)
        return taken

    def give_back(self, *buffers: int) -> None:
        for b in buffers:
            give_back(self.pool, b)

    def attach(self, device: AfPacket | Tap) -> None:
        if isinstance(device, AfPacket):
            device.map(self.buffers.heap)
            device.queues[0].attach_rx(self.rx_queues[QUEUE], SW_IF_INDEX)
            device.queues[0].attach_tx(self.tx_queues[SW_IF_INDEX])
        else:
            device.attach_rx(self.tap_rx_queues[QUEUE], 0, SW_IF_INDEX)
            device.attach_tx(self.tap_tx_queues[SW_IF_INDEX], 0)
        self.device = device

    def poll_fds(self) -> tuple[int, ...]:
        return poll_fds(self.device)

    def receive(self, *, wait: float = 2.0, at_least: int = 1) -> list[Received]:
        """Runs the input kernel until so many packets are there, or nothing more comes; the buffers go back to the pool."""
        found: list[Received] = []
        deadline = time.monotonic() + wait
        while len(found) < at_least and time.monotonic() < deadline:
            select.select(self.poll_fds(), [], [], 0.05)
            found += self.receive_once()
        return found

    def receive_once(self) -> list[Received]:
        frame, nexts = np.zeros(FRAME, np.uint32), np.zeros(FRAME, np.uint16)
        b = self.buffers
        if isinstance(self.device, AfPacket):
            n = af_packet_input.af_packet_input(
                b.heap.array, b.meta, frame, nexts, self.counters, self.pool, QUEUE,
                self.interfaces, self.rx, self.drops, self.rx_queues,
            )  # fmt: skip
        else:
            n = tap_input.tap_input(
                b.heap.array, b.meta, frame, nexts, self.counters, self.pool, QUEUE, 0,
                self.interfaces, self.rx, self.tap_rx_queues,
            )  # fmt: skip
        result = []
        for i in range(n):
            index = int(frame[i])
            m = b.meta[index]
            assert (int(m.rx), int(m.ref), int(m.l2)) == (SW_IF_INDEX, 1, int(m.cur))
            start = int(m.csum_start) - int(m.cur) if m["flags"] & CSUM_PARTIAL else 0
            data = b.heap.array[m.cur : m.cur + m.len].tobytes()
            result.append(
                Received(
                    data, int(nexts[i]), int(m["flags"]), int(m.gso_type), int(m.gso_size), start, int(m.csum_offset)
                )
            )
            self.give_back(index)
        return result

    def transmission(self, packets: Sequence[Received | bytes]) -> tuple[Any, Any]:
        """Frame and nexts of these packets, put into buffers."""
        frame, nexts = np.zeros(len(packets), np.uint32), np.zeros(len(packets), np.uint16)
        b = self.buffers
        for i, packet in enumerate(packets):
            p = packet if isinstance(packet, Received) else Received(packet, 0, 0, 0, 0, 0, 0)
            index = self.take(len(p.data))
            frame[i] = index
            m = b.meta[index]
            m.cur = slot_start(index) + HEADROOM
            m.len = len(p.data)
            m["flags"] = p.flags
            m.gso_type, m.gso_size = p.gso_type, p.gso_size
            m.csum_start, m.csum_offset = m.cur + p.csum_start, p.csum_offset
            b.heap.array[m.cur : m.cur + m.len] = np.frombuffer(p.data, np.uint8)
        return frame, nexts

    def send(self, frame: Any, nexts: Any) -> None:
        b = self.buffers
        if isinstance(self.device, AfPacket):
            af_packet_tx.af_packet_tx(
                b.heap.array, b.meta, frame, nexts, self.counters, SW_IF_INDEX, 0,
                self.interfaces, self.drops, self.tx_queues,
            )  # fmt: skip
        else:
            tap_tx.tap_tx(
                b.heap.array, b.meta, frame, nexts, self.counters, SW_IF_INDEX, 0, self.drops, self.tap_tx_queues,
            )  # fmt: skip

    def transmit(self, *packets: Received | bytes) -> None:
        frame, nexts = self.transmission(packets)
        self.send(frame, nexts)
        assert (nexts == FREE).all()
        self.give_back(*map(int, frame))

    def done(self) -> None:
        """Every buffer is back. A ring that stays mapped would keep its socket, and that the namespace."""
        assert self.free() == self.free_at_start
        self.buffers.heap.close()


@dataclass
class Namespaces:
    """`near` holds our end, `far` the other; both are file descriptors."""

    near: int
    far: int
    names: tuple[str, str]

    def sh(self, command: str) -> None:
        """NEAR and FAR stand for `ip -n <namespace>`."""
        command = command.replace("NEAR", f"ip -n {self.names[0]}").replace("FAR", f"ip -n {self.names[1]}")
        subprocess.run(command, shell=True, check=True)

    def far_socket(self, *arguments: int) -> socket.socket:
        return netns.run_in(self.far, lambda: socket.socket(*arguments))

    def raw(self, name: str = "veth1") -> socket.socket:
        """A packet socket on the far end of the pair."""
        opened = self.far_socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        opened.setsockopt(263, 8, 1)  # PACKET_AUXDATA
        opened.bind((name, 3))
        opened.settimeout(2)
        return opened


@pytest.fixture
def namespaces() -> Iterator[Namespaces]:
    names = (f"pyvpp-dev-near-{os.getpid()}", f"pyvpp-dev-far-{os.getpid()}")
    for name in names:
        subprocess.run(f"ip netns add {name} && ip -n {name} link set lo up", shell=True, check=True)
    descriptors = [os.open(f"/run/netns/{name}", os.O_RDONLY) for name in names]
    for descriptor in descriptors:
        netns.run_in(descriptor, quiet_namespace)
    try:
        yield Namespaces(descriptors[0], descriptors[1], names)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=True)


def quiet_namespace() -> None:
    """No router solicitations, no duplicate address detection between our frames."""
    for which in ("all", "default"):
        Path(f"/proc/sys/net/ipv6/conf/{which}/disable_ipv6").write_text("1")


@pytest.fixture
def pair(namespaces: Namespaces) -> Namespaces:
    """veth0 near, veth1 far with 10.99.0.2; the near end is 10.99.0.1 at 02:00:00:00:00:01 and answers nothing itself."""
    near, far = namespaces.names
    namespaces.sh(
        f"ip link add veth0 address 02:00:00:00:00:01 netns {near} type veth peer name veth1 address 02:00:00:00:00:02 netns {far}"
    )
    namespaces.sh("NEAR link set veth0 up && FAR link set veth1 up && FAR addr add 10.99.0.2/24 dev veth1")
    namespaces.sh("FAR neigh add 10.99.0.1 lladdr 02:00:00:00:00:01 dev veth1 nud permanent")
    return namespaces


@pytest.fixture
def uplink(pair: Namespaces) -> Iterator[tuple[Rig, AfPacket]]:
    rig, device = Rig(), AfPacket("veth0", pair.near)
    rig.attach(device)
    yield rig, device
    rig.done()
    device.close()


def ethernet(n: int, seed: int = 0, ethertype: bytes = b"\x88\xb5") -> bytes:
    """A frame of n bytes for the near end, of the ethertype for local experiments."""
    payload = np.random.default_rng(seed).integers(0, 256, n - 14, np.uint8).tobytes()
    return bytes.fromhex("020000000001020000000002") + ethertype + payload


def eventually(condition: Callable[[], bool], wait: float = 3.0) -> bool:
    deadline = time.monotonic() + wait
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def mine(frames: list[Received]) -> list[bytes]:
    return [f.data for f in frames if f.data[12:14] == b"\x88\xb5"]


def internet_sum(data: bytes) -> int:
    """RFC 1071, of an even number of bytes: a ones' complement sum is a sum modulo 0xffff."""
    return int.from_bytes(data, "big") % 0xFFFF


# --- af-packet-input


def test_frames_arrive_bit_exact(pair: Namespaces, uplink: tuple[Rig, AfPacket]) -> None:
    rig, _ = uplink
    sent = [ethernet(n, seed=n) for n in (60, 61, 64, 128, 1000, 1513, 1514)]
    with pair.raw() as peer:
        for frame in sent:
            peer.send(frame)
    received = rig.receive(at_least=len(sent))
    assert mine(received) == sent
    assert {r.next for r in received} == {af_packet_input.Next.ETHERNET}
    assert all(r.flags & L2_VALID and not r.gso_type for r in received)
    assert rig.rx[SW_IF_INDEX].packets == len(sent)
    assert rig.rx[SW_IF_INDEX].bytes == sum(map(len, sent))


def test_the_ring_wraps_around(pair: Namespaces) -> None:
    rig, device = Rig(), AfPacket("veth0", pair.near, Options(rx_slots=16, tx_slots=16))
    rig.attach(device)
    with pair.raw() as peer:
        for round_ in range(10):
            sent = [ethernet(100 + i, seed=round_ * 11 + i) for i in range(11)]
            for frame in sent:
                peer.send(frame)
            assert mine(rig.receive(at_least=11)) == sent
            rig.transmit(*sent)
            assert [peer.recv(2000) for _ in sent] == sent
    assert not rig.counters.any()
    rig.done()
    device.close()


def test_a_full_ring_loses_in_linux_and_says_so(pair: Namespaces) -> None:
    rig, device = Rig(), AfPacket("veth0", pair.near, Options(rx_slots=16, tx_slots=16))
    rig.attach(device)
    with pair.raw() as peer:
        for i in range(20):
            peer.send(ethernet(100, seed=i))
        assert len(rig.receive(at_least=16)) == 16
        assert device.statistics() == af_packet_socket.Statistics(packets=16, drops=4)
        peer.send(ethernet(100))
        assert len(rig.receive()) == 1
        assert device.statistics() == af_packet_socket.Statistics(packets=17, drops=4)
        assert (device.newly_missed(), device.newly_missed()) == (
            4,
            0,
        )  # whoever looks at the statistics takes none away
        for i in range(19):
            peer.send(ethernet(100, seed=i))
        assert (device.newly_missed(), device.newly_missed()) == (3, 0)
        assert len(rig.receive(at_least=16)) == 16
    rig.done()
    device.close()


def test_a_late_worker_finds_all_of_a_burst(pair: Namespaces) -> None:
    """A tunnel's peer sends thousands of segments at once, more than a worker takes in a round."""
    rig, device = Rig(small=512), AfPacket("veth0", pair.near)
    rig.attach(device)
    frame = ethernet(1514)
    with pair.raw() as peer:
        for _ in range(4096):
            peer.send(frame)
    assert [len(rig.receive_once()) for _ in range(17)] == [256] * 16 + [0]
    assert device.statistics() == af_packet_socket.Statistics(packets=4096, drops=0)
    rig.done()
    device.close()


def test_a_vlan_tag_is_put_back(pair: Namespaces, uplink: tuple[Rig, AfPacket]) -> None:
    rig, _ = uplink
    tagged = ethernet(100, ethertype=bytes.fromhex("8100a064") + b"\x88\xb5")
    provider = ethernet(100, seed=1, ethertype=bytes.fromhex("88a80fff") + b"\x88\xb5")
    with pair.raw() as peer:
        peer.send(tagged)
        peer.send(provider)
    assert [r.data for r in rig.receive(at_least=2)] == [tagged, provider]


def test_a_tag_moves_the_start_of_the_checksum(pair: Namespaces, uplink: tuple[Rig, AfPacket]) -> None:
    rig, _ = uplink
    frame = ethernet(200, ethertype=bytes.fromhex("81000064"))
    with pair.raw() as peer:
        peer.setsockopt(263, 15, 1)  # PACKET_VNET_HDR
        peer.send(struct.pack("<BBHHHH", 1, 0, 0, 0, 38, 6) + frame)
    (packet,) = rig.receive()
    assert packet.data == frame
    assert (packet.csum_start, packet.csum_offset) == (38, 6)


def test_an_uplink_leads_to_uplink_input(pair: Namespaces, uplink: tuple[Rig, AfPacket]) -> None:
    rig, _ = uplink
    rig.interfaces[SW_IF_INDEX]["flags"] = ADMIN_UP | UPLINK
    with pair.raw() as peer:
        peer.send(ethernet(60))
    assert [r.next for r in rig.receive()] == [af_packet_input.Next.UPLINK]


def test_an_interface_that_is_down_takes_nothing(pair: Namespaces, uplink: tuple[Rig, AfPacket]) -> None:
    rig, _ = uplink
    rig.interfaces[SW_IF_INDEX]["flags"] = 0
    with pair.raw() as peer:
        peer.send(ethernet(60))
        assert rig.receive(wait=0.2) == []
        assert rig.counters[af_packet_input.Counter.ADMIN_DOWN] == 1
        rig.interfaces[SW_IF_INDEX]["flags"] = ADMIN_UP
        peer.send(ethernet(61))
        assert [len(r.data) for r in rig.receive()] == [61]


def test_without_buffers_packets_are_lost_and_counted(pair: Namespaces, uplink: tuple[Rig, AfPacket]) -> None:
    rig, _ = uplink
    held = rig.take_all()
    with pair.raw() as peer:
        peer.send(ethernet(60))
        assert rig.receive(wait=0.2) == []
        assert rig.counters[af_packet_input.Counter.NO_BUFFERS] == 1
        assert (rig.drops[SW_IF_INDEX], rig.rx[SW_IF_INDEX].packets) == (1, 1)
        rig.give_back(*held)
        peer.send(ethernet(61))
        assert [len(r.data) for r in rig.receive()] == [61]


def test_a_checksum_left_to_the_device_is_noted(pair: Namespaces, uplink: tuple[Rig, AfPacket]) -> None:
    rig, _ = uplink
    with pair.far_socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"hello", ("10.99.0.1", 9))
    (packet,) = rig.receive()
    assert packet.flags == L2_VALID | CSUM_PARTIAL
    assert (packet.csum_start, packet.csum_offset) == (34, 6)


def test_gso_datagrams_keep_their_size(pair: Namespaces, uplink: tuple[Rig, AfPacket]) -> None:
    rig, _ = uplink
    with pair.far_socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.setsockopt(socket.IPPROTO_UDP, 103, 1400)  # UDP_SEGMENT
        sender.sendto(b"u" * 14000, ("10.99.0.1", 9))
    (packet,) = rig.receive()
    assert (packet.gso_type, packet.gso_size, len(packet.data)) == (5, 1400, 42 + 14000)


def large(n: int, seed: int = 0, ethertype: bytes = b"\x08\x00") -> bytes:
    """A TCP packet of n bytes with the state of one that is to be segmented (virtio_net_hdr in front)."""
    ip = 12 + len(ethertype)
    frame = bytearray(ethernet(n, seed, ethertype))
    frame[ip : ip + 2] = b"\x45\x00"
    frame[ip + 9] = 6
    frame[ip + 32] = 0x50
    return struct.pack("<BBHHHH", 1, 1, ip + 40, 1400, ip + 20, 16) + frame


PLAIN = bytes(10)  # virtio_net_hdr of a packet that nothing is left to do on


@pytest.fixture
def vnet_peer(pair: Namespaces) -> Iterator[socket.socket]:
    with pair.raw() as peer:
        peer.setsockopt(263, 15, 1)  # PACKET_VNET_HDR
        yield peer


def test_packets_larger_than_a_slot_keep_their_place(vnet_peer: socket.socket, uplink: tuple[Rig, AfPacket]) -> None:
    rig, device = uplink
    sent = [
        large(65000, 1), PLAIN + ethernet(60), PLAIN + ethernet(1514), large(1983, 2), large(1982, 3), large(1900, 4),
        large(9000, 5, bytes.fromhex("8100a0640800")), PLAIN + ethernet(61), large(3000, 6),
    ]  # fmt: skip
    for frame in sent:
        vnet_peer.send(frame)
    received = rig.receive(at_least=len(sent))
    assert [r.data for r in received] == [frame[10:] for frame in sent]
    assert [(r.gso_type, r.gso_size, r.csum_start) for r in received] == [
        (frame[1], int.from_bytes(frame[4:6], "little"), int.from_bytes(frame[6:8], "little")) for frame in sent
    ]
    assert not rig.counters.any() and device.statistics().drops == 0


@pytest.mark.parametrize("reason", ["interface", "buffers"])
def test_a_large_packet_nobody_takes_is_not_taken_for_the_next(
    vnet_peer: socket.socket, uplink: tuple[Rig, AfPacket], reason: str
) -> None:
    rig, _ = uplink
    held = rig.take_all() if reason == "buffers" else []
    rig.interfaces[SW_IF_INDEX]["flags"] = 0 if reason == "interface" else ADMIN_UP
    for seed in range(3):
        vnet_peer.send(large(9000, seed))
    counter = af_packet_input.Counter.NO_BUFFERS if reason == "buffers" else af_packet_input.Counter.ADMIN_DOWN
    assert rig.receive(wait=0.2) == []
    assert rig.counters[counter] == 3
    rig.give_back(*held)
    rig.interfaces[SW_IF_INDEX]["flags"] = ADMIN_UP
    vnet_peer.send(large(9000, 7))
    assert [r.data for r in rig.receive()] == [large(9000, 7)[10:]]


def test_a_full_queue_cuts_large_packets(vnet_peer: socket.socket, uplink: tuple[Rig, AfPacket]) -> None:
    """Small ones find room in the ring; what was cut is lost and counted, the rest stays in step."""
    rig, device = uplink
    device.queues[0].heard.setsockopt(socket.SOL_SOCKET, 33, 1)  # SO_RCVBUFFORCE: the least there is
    for frame in (large(60000, 1), large(9000, 2), PLAIN + ethernet(60), large(9000, 3)):
        vnet_peer.send(frame)
    assert [r.data for r in rig.receive(at_least=2)] == [large(60000, 1)[10:], ethernet(60)]
    assert rig.counters[af_packet_input.Counter.TRUNCATED] == rig.drops[SW_IF_INDEX] == 2
    vnet_peer.send(large(9000, 4))
    assert [r.data for r in rig.receive()] == [large(9000, 4)[10:]]


def test_an_error_of_the_socket_is_no_packet(
    pair: Namespaces, vnet_peer: socket.socket, uplink: tuple[Rig, AfPacket]
) -> None:
    """An interface that went down leaves an error, which the next call on the socket gets instead of a packet."""
    rig, device = uplink
    for seed in (1, 2):
        vnet_peer.send(large(9000, seed))
    pair.sh("NEAR link set veth0 down && NEAR link set veth0 up")
    assert [r.data for r in rig.receive(at_least=2)] == [large(9000, seed)[10:] for seed in (1, 2)]
    vnet_peer.send(large(9000, 3))
    assert select.select(poll_fds(device), [], [], 2)[0]
    assert take_socket_error(poll_fds(device)[0]) == 0
    assert [r.data for r in rig.receive()] == [large(9000, 3)[10:]]


def test_large_packets_leave_the_other_inputs_their_turn(
    vnet_peer: socket.socket, uplink: tuple[Rig, AfPacket]
) -> None:
    """A round ends when what was taken comes to 256 packets on the wire."""
    rig, _ = uplink
    sent = [large(64000, seed) for seed in range(12)]  # 46 segments each
    for frame in sent:
        vnet_peer.send(frame)
    assert [len(rig.receive_once()) for _ in range(3)] == [6, 6, 0]


# --- two uplinks as a wire: TCP with 64 KiB packets through our buffers


@dataclass
class Wire:
    """Carries packets between two rigs until told to stop."""

    left: Rig
    right: Rig
    seen: list[Received] = field(default_factory=list)

    def __enter__(self) -> Wire:
        self.running = True
        self.failure: list[BaseException] = []
        self.thread = threading.Thread(target=self.guarded)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.running = False
        self.thread.join()
        if self.failure:
            raise self.failure[0]
        self.left.done()
        self.right.done()

    def guarded(self) -> None:
        try:
            while self.running:
                select.select(self.left.poll_fds() + self.right.poll_fds(), [], [], 0.05)
                for source, sink in ((self.left, self.right), (self.right, self.left)):
                    for packet in source.receive_once():
                        self.seen.append(packet)
                        sink.transmit(packet)
        except BaseException as error:
            self.failure.append(error)


TO_SEND_ALL = 120.0
"""Seconds; `sendall` counts them for the whole, and a thread of Python carries it: 20 were too few on a busy machine."""


def transfer(client: Callable[[], socket.socket], server: Callable[[], socket.socket], address: str, n: int) -> None:
    """n bytes of TCP from client to server and back, compared."""
    payload = np.random.default_rng(7).integers(0, 256, n, np.uint8).tobytes()
    received: list[bytes] = []
    with server() as listener, client() as sender:
        listener.bind(("0.0.0.0", 5000))
        listener.listen()
        listener.settimeout(TO_SEND_ALL)

        def echo() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(TO_SEND_ALL)
                while chunk := connection.recv(1 << 20):
                    received.append(chunk)
                connection.sendall(b"".join(received))

        thread = threading.Thread(target=echo)
        thread.start()
        sender.settimeout(TO_SEND_ALL)
        sender.connect((address, 5000))
        sender.sendall(payload)
        sender.shutdown(socket.SHUT_WR)
        answer = b""
        while chunk := sender.recv(1 << 20):
            answer += chunk
        thread.join()
    assert b"".join(received) == payload
    assert answer == payload


def test_tcp_from_veth_to_tap_and_back(pair: Namespaces) -> None:
    """The uplink's path: far end - veth - ring - TAP - the host's stack."""
    left, wire_side = Rig(small=1024, large=64), AfPacket("veth0", pair.near)
    right, host_side = Rig(small=1024, large=64), Tap("host0", namespace=pair.near)
    host_side.configure(mac=bytes.fromhex("020000000001"), mtu=1500, up=True)
    pair.sh("NEAR addr add 10.99.0.1/24 dev host0")
    left.attach(wire_side)
    right.attach(host_side)
    with Wire(left, right) as wire:
        transfer(
            lambda: pair.far_socket(socket.AF_INET, socket.SOCK_STREAM),
            lambda: netns.run_in(pair.near, lambda: socket.socket()),
            "10.99.0.1",
            20 << 20,
        )
    assert any(p.gso_type == 1 and len(p.data) > 30000 for p in wire.seen)
    assert not left.counters[:3].any() and not right.counters.any()
    wire_side.close()
    host_side.close()


def test_vxlan_keeps_its_gso_state(pair: Namespaces, uplink: tuple[Rig, AfPacket]) -> None:
    """A kernel VXLAN over a veth hands on packets that are still to be segmented inside: the ring must take them whole."""
    rig, device = uplink
    pair.sh("FAR link add vx type vxlan id 10 remote 10.99.0.1 local 10.99.0.2 dstport 4789")
    pair.sh("FAR addr add 10.97.0.2/24 dev vx && FAR link set vx mtu 1450 up")
    pair.sh("FAR neigh add 10.97.0.1 lladdr 02:00:00:00:00:97 dev vx nud permanent")
    with pair.far_socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.setsockopt(socket.IPPROTO_UDP, 103, 1400)
        sender.sendto(b"u" * 14000, ("10.97.0.1", 9))
    packet = next(r for r in rig.receive() if len(r.data) > 14000)
    assert (packet.gso_type, packet.gso_size) == (5, 1400)
    assert (packet.csum_start, packet.csum_offset) == (50 + 34, 6)
    assert device.statistics().drops == 0


def test_tcp_in_the_host_s_own_vxlan(pair: Namespaces) -> None:
    """Tunnel packets that are still to be segmented inside pass through to the host, whose VXLAN device takes them."""
    left, wire_side = Rig(small=1024, large=64), AfPacket("veth0", pair.near)
    right, host_side = Rig(small=1024, large=64), Tap("host0", namespace=pair.near)
    host_side.configure(mac=bytes.fromhex("020000000001"), mtu=1500, up=True)
    pair.sh("NEAR addr add 10.99.0.1/24 dev host0")
    pair.sh("FAR link add vx type vxlan id 10 remote 10.99.0.1 local 10.99.0.2 dstport 4789")
    pair.sh("NEAR link add vx type vxlan id 10 remote 10.99.0.2 local 10.99.0.1 dstport 4789")
    pair.sh("FAR addr add 10.97.0.2/24 dev vx && FAR link set vx mtu 1450 up")
    pair.sh("NEAR addr add 10.97.0.1/24 dev vx && NEAR link set vx mtu 1450 up")
    left.attach(wire_side)
    right.attach(host_side)
    with Wire(left, right) as wire:
        transfer(
            lambda: pair.far_socket(socket.AF_INET, socket.SOCK_STREAM),
            lambda: netns.run_in(pair.near, lambda: socket.socket()),
            "10.97.0.1",
            10 << 20,
        )
    assert any(p.gso_type == 1 and p.csum_start == 84 and len(p.data) > 10000 for p in wire.seen)
    assert not left.counters[:3].any() and not right.counters.any()
    wire_side.close()
    host_side.close()


# --- af-packet-tx


def test_frames_leave_bit_exact_and_in_order(pair: Namespaces, uplink: tuple[Rig, AfPacket]) -> None:
    rig, _ = uplink
    sent = [ethernet(n, seed=n) for n in (60, 200, 256, 257, 1000, 1514, 14, 80)]
    with pair.raw() as peer:
        rig.transmit(*sent)
        assert [peer.recv(70000) for _ in sent] == sent
    assert not rig.counters.any()


def test_a_large_packet_keeps_its_place(pair: Namespaces) -> None:
    pair.sh("NEAR link set veth0 mtu 9000 && FAR link set veth1 mtu 9000")
    rig, device = Rig(mtu=9000), AfPacket("veth0", pair.near)
    rig.attach(device)
    sent = [ethernet(n, seed=n) for n in (60, 9014, 61, 4054, 4055, 62)]
    with pair.raw() as peer:
        rig.transmit(*sent)
        assert [peer.recv(70000) for _ in sent] == sent
    rig.done()
    device.close()


@pytest.mark.slow
def test_two_workers_send_at_once(pair: Namespaces) -> None:
    """Every frame leaves whole and once, each worker's in order: two threads without the GIL, a vector of each again and again."""
    rig, device = Rig(small=64), AfPacket("veth0", pair.near, Options(tx_queues=2, tx_slots=64))
    rig.attach(device)
    tables = [rig.tx_queues, np.zeros(8, af_packet_ring.AF_PACKET_TX_QUEUE)]
    device.queues[1].attach_tx(tables[1][SW_IF_INDEX])
    counters, drops = np.zeros((2, 8), np.uint64), np.zeros((2, 8), np.uint64)
    vectors, rounds = [[ethernet(60 + n, seed=worker * 100 + n) for n in range(8)] for worker in (0, 1)], 400
    calls = [rig.transmission(vector) for vector in vectors]

    def send(worker: int, rounds: int) -> None:
        b = rig.buffers
        send_rounds(
            rounds, b.heap.array, b.meta, *calls[worker], counters[worker], SW_IF_INDEX, 0,
            rig.interfaces, drops[worker], tables[worker],
        )  # fmt: skip

    send(0, 1)  # compiles; nobody listens yet
    with pair.raw() as peer:
        peer.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)  # SO_RCVBUFFORCE
        threads = [threading.Thread(target=send, args=(worker, rounds)) for worker in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        received = [peer.recv(2000) for _ in range(2 * rounds * 8)]
    for vector in vectors:
        mine_ = set(vector)
        assert [frame for frame in received if frame in mine_] == vector * rounds
    assert not counters.any()
    for frame, _ in calls:
        rig.give_back(*map(int, frame))
    rig.done()
    device.close()


def tcp_frame(flow: int, forth: bool = True, seed: int = 0) -> bytes:
    ends = [("10.99.1.1", 1000 + flow), ("10.99.2.2", 80)]
    (source, sport), (target, dport) = ends if forth else reversed(ends)
    packet = IP(src=source, dst=target) / TCP(sport=sport, dport=dport) / Raw(f"{flow} {seed}".encode())
    return bytes(Ether(src="02:00:00:00:00:02", dst="02:00:00:00:00:01") / packet)


def test_queues_share_what_arrives_by_flow(pair: Namespaces) -> None:
    """Each frame is received once; a connection's, both ways, by one queue; both queues have their share."""
    flows, rounds = 64, 4
    device = AfPacket("veth0", pair.near, Options(rx_queues=2))
    rigs = [Rig(small=512), Rig(small=512)]
    with pair.raw() as peer:
        for round_ in range(rounds):
            for flow in range(flows):
                peer.send(tcp_frame(flow, round_ % 2 == 0, round_))
    found = []
    for rig, queue in zip(rigs, device.rx_queues, strict=True):
        queue.map(rig.buffers.heap)
        queue.attach_rx(rig.rx_queues[QUEUE], SW_IF_INDEX)
        rig.device = device
        found.append(set())
        while received := rig.receive_once():
            for each in received:
                flow, _ = Ether(each.data)[Raw].load.split()
                found[-1].add(int(flow))
    assert [int(rig.rx[SW_IF_INDEX].packets) for rig in rigs] == [len(flows_) * rounds for flows_ in found]
    assert not found[0] & found[1] and found[0] | found[1] == set(range(flows))
    assert min(map(len, found)) > flows // 8
    assert device.statistics() == af_packet_socket.Statistics(flows * rounds, 0)
    for rig in rigs:
        rig.done()
    device.close()


def test_a_queue_in_company_is_deaf_until_it_has_joined(pair: Namespaces) -> None:
    """Else what arrives meanwhile would be received by each of them."""
    queues = netns.run_in(
        pair.near,
        lambda: [af_packet_socket.Queue(1500, Options(), receives=True, in_company=True) for _ in range(2)],
    )
    for queue in queues:
        queue.bind("veth0")
    with pair.raw() as peer:
        peer.send(ethernet(60))
        assert [queue.statistics().packets for queue in queues] == [0, 0]
        group = queues[0].join(None)
        assert queues[1].join(group) == group
        for queue in queues:
            queue.listen()
        peer.send(ethernet(60))
        assert sum(queue.statistics().packets for queue in queues) == 1
        queues[0].sender.send(bytes(10) + ethernet(60))
        assert len(peer.recv(100)) == 60
    assert sum(queue.statistics().packets for queue in queues) == 1, "what we send is not received by ourselves"
    for queue in queues:
        queue.close()


def test_one_queue_where_linux_spreads_nothing(pair: Namespaces, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(queue: af_packet_socket.Queue, group: int | None) -> int:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(af_packet_socket.Queue, "join", refuse)
    device = AfPacket("veth0", pair.near, Options(rx_queues=2, tx_queues=2))
    assert (len(device.rx_queues), len(device.queues), device.fanout) == (1, 2, None)
    with pair.raw() as peer:
        peer.send(ethernet(60))
    assert device.statistics() == af_packet_socket.Statistics(1, 0)
    device.close()


def test_what_is_ours_alone_goes_no_further(pair: Namespaces) -> None:
    """Linux would answer from the near end; with the device it hears nothing, but we do."""
    pair.sh("NEAR addr add 10.99.0.1/24 dev veth0")

    def answered() -> bool:
        """Whether a connection is refused, instead of nobody hearing of it."""
        with pair.far_socket(socket.AF_INET, socket.SOCK_STREAM) as client:
            client.settimeout(0.5)
            try:
                client.connect(("10.99.0.1", 9))
            except ConnectionRefusedError:
                return True
            except TimeoutError:
                return False
        raise AssertionError("nobody listens there")

    assert answered()
    device = AfPacket("veth0", pair.near, alone=True)
    assert device.alone and not answered()
    assert device.statistics().packets >= 1
    device.close()
    assert answered()
    device = AfPacket("veth0", pair.near, alone=True)
    assert not answered()
    let_go(SimpleNamespace(interfaces=[SimpleNamespace(device=device)]))  # type: ignore[arg-type]
    assert not device.alone and answered(), "Linux has its NIC before our sockets are closed"
    device.close()


def test_longer_than_the_mtu(pair: Namespaces, uplink: tuple[Rig, AfPacket]) -> None:
    rig, _ = uplink
    with pair.raw() as peer:
        rig.transmit(ethernet(1519), ethernet(5000), ethernet(1514))
        assert len(peer.recv(70000)) == 1514
    assert rig.counters[af_packet_tx.Counter.OVERSIZED] == 2
    assert rig.drops[SW_IF_INDEX] == 2


@pytest.mark.parametrize("n", [100, 1400])
def test_a_checksum_that_is_not_in_the_packet_is_a_failure_that_counts(
    pair: Namespaces, uplink: tuple[Rig, AfPacket], n: int
) -> None:
    """Where a neighbor's would be once its padding is cut off, or its header; at the very end it is good."""
    rig, _ = uplink
    with pair.raw() as peer:
        rig.transmit(*[Received(ethernet(n), 0, CSUM_PARTIAL, 0, 0, start, 6) for start in (n - 7, n - 8, n, -8)])
        assert len(peer.recv(70000)) == n
        peer.settimeout(0)
        with pytest.raises(BlockingIOError):
            peer.recv(2000)
    assert rig.counters[af_packet_tx.Counter.SEND_FAILED] == 3
    assert rig.drops[SW_IF_INDEX] == 3


def test_what_linux_does_not_take_does_not_wait_in_the_ring(pair: Namespaces) -> None:
    """It would leave with the next packet, late, and there may be no next one."""
    rig, device = Rig(), AfPacket("veth0", pair.near, Options(rx_slots=16, tx_slots=16))
    rig.attach(device)
    with pair.raw() as peer:
        for k in range(3):
            pair.sh("NEAR link set veth0 down")
            rig.transmit(*[ethernet(100, seed=i) for i in range(20)])
            assert rig.counters[af_packet_tx.Counter.SEND_FAILED] == 20 * (k + 1)
            assert rig.drops[SW_IF_INDEX] == 20 * (k + 1)
            pair.sh("NEAR link set veth0 up")
            sent = [ethernet(61 + i) for i in range(1 + 9 * k)]
            rig.transmit(*sent)
            peer.settimeout(2)
            assert [peer.recv(2000) for _ in sent] == sent
        peer.settimeout(0)
        with pytest.raises(BlockingIOError):
            peer.recv(2000)
    rig.done()
    device.close()


def test_a_deleted_interface_names_no_descriptor(pair: Namespaces) -> None:
    """0 would be pyvpp's standard input, and later somebody's socket."""
    engine = Engine(workers=2, buffers=1024, hugepages="off")
    for interface in (
        add_host_interface(engine, "veth0", namespace=pair.near),
        add_tap(engine, "tap0", namespace=f"/run/netns/{pair.names[0]}", tun=True),
    ):
        kind = "tap" if interface.kind == "tun" else "af_packet"
        rx, tx = (engine.tables[f"{kind}_{way}_queues"].arrays for way in ("rx", "tx"))
        fields = [(tx, name) for name in tx[0].dtype.names if name in ("fd", "send_fd")]
        used = np.flatnonzero(rx[0]["sw_if_index"] == interface.sw_if_index)
        assert len(used) == len(tx) == 2 and (rx[0]["fd"][used] > 2).all()
        assert all(array[name][interface.sw_if_index] > 2 for arrays, name in fields for array in arrays)
        engine.interfaces.delete(interface)
        assert (rx[0]["fd"][used] == -1).all() and not rx[0]["sw_if_index"][used].any()
        assert all(array[name][interface.sw_if_index] == -1 for arrays, name in fields for array in arrays)
    engine.close()


def switch_offload(command: int, name: str, on: bool) -> None:
    """ethtool -K, by ioctl: 0x1f is TCP segmentation."""
    value = ctypes.create_string_buffer(struct.pack("II", command, on))
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, 0x8946, struct.pack("16sQ16x", name.encode(), ctypes.addressof(value)))


def test_a_nic_that_segments_nothing(pair: Namespaces, uplink: tuple[Rig, AfPacket]) -> None:
    """Then Linux does it, in order with the packets around."""
    rig, _ = uplink
    netns.run_in(pair.near, lambda: switch_offload(0x1F, "veth0", on=False))
    payload = ethernet(14 + 14000)[14:]
    large = Ether(dst="02:00:00:00:00:02") / IP(src="10.99.0.1", dst="10.99.0.9") / TCP(seq=1) / Raw(payload)
    short = bytes(large)[: 54 + 2000]
    packets = [Received(data, 0, CSUM_PARTIAL, 1, 1400, 34, 16) for data in (bytes(large), short)]
    with pair.raw() as peer:
        rig.transmit(ethernet(60), *packets, ethernet(61))
        segments = [Ether(peer.recv(70000)) for _ in range(14)]
    assert bytes(segments[0]) == ethernet(60) and bytes(segments[13]) == ethernet(61)
    assert [(s[TCP].seq, len(s)) for s in segments[1:11]] == [(1 + 1400 * k, 1454) for k in range(10)]
    assert b"".join(bytes(s[TCP].payload) for s in segments[1:11]) == payload
    assert [(s[TCP].seq, len(s)) for s in segments[11:13]] == [(1, 1454), (1401, 654)]
    assert not rig.counters.any()


def test_an_interface_that_went_down_does_not_keep_us_awake(pair: Namespaces, uplink: tuple[Rig, AfPacket]) -> None:
    """Linux leaves an error on the socket, and a socket with an error is always ready."""
    rig, device = uplink
    pair.sh("NEAR link set veth0 down")
    assert select.select(poll_fds(device), [], [], 0)[0]
    for _ in range(af_packet_input.LOOK_EVERY):
        rig.receive_once()
    assert not select.select(poll_fds(device), [], [], 0)[0]
    assert rig.counters[af_packet_input.Counter.SOCKET_ERROR] == 1
    pair.sh("NEAR link set veth0 up")
    with pair.raw() as peer:
        peer.send(ethernet(60))
        assert mine(rig.receive()) == [ethernet(60)]


def test_what_the_interface_tells(pair: Namespaces, uplink: tuple[Rig, AfPacket]) -> None:
    _, device = uplink
    assert device.mac() == bytes.fromhex("020000000001")
    assert device.mtu() == 1500
    assert device.link_up()
    pair.sh("NEAR link set veth0 mtu 1400 && FAR link set veth1 down")
    assert device.mtu() == 1400
    assert eventually(lambda: not device.link_up())  # Linux tells of a lost carrier up to a second later


# --- TAP and TUN


def test_a_partial_checksum_is_finished_by_linux(namespaces: Namespaces) -> None:
    """Written into a TAP with a bad checksum that is marked as still to be made: the socket gets the datagram."""
    rig, device = Rig(), Tap("tap0", namespace=namespaces.far)
    device.configure(mac=bytes.fromhex("020000000002"), up=True)
    namespaces.sh("FAR addr add 10.99.0.2/24 dev tap0")
    rig.attach(device)
    ip = bytes.fromhex("450000210000000040110000") + bytes([10, 99, 0, 1, 10, 99, 0, 2])
    ip = ip[:10] + struct.pack(">H", 0xFFFF - internet_sum(ip)) + ip[12:]
    pseudo = internet_sum(ip[12:20] + struct.pack(">HH", 17, 13))
    udp = struct.pack(">HHHH", 1000, 9, 13, pseudo) + b"hello"
    packet = bytes.fromhex("0200000000020200000000010800") + ip + udp
    with namespaces.far_socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("10.99.0.2", 9))
        receiver.settimeout(0.3)
        rig.transmit(packet)
        with pytest.raises(TimeoutError):  # as it is, the checksum is wrong
            receiver.recv(100)
        rig.transmit(Received(packet, 0, CSUM_PARTIAL, 0, 0, 34, 6))
        assert receiver.recv(100) == b"hello"
    rig.done()
    device.close()


def test_tap_input_next_node(namespaces: Namespaces) -> None:
    rig, device = Rig(), Tap("tap0", namespace=namespaces.far)
    device.configure(up=True, mtu=9000)
    rig.attach(device)
    rig.receive(wait=0.2, at_least=99)
    sent = [ethernet(60), ethernet(1000), ethernet(9000)]
    with namespaces.raw("tap0") as peer:
        for flags, expected in ((ADMIN_UP, tap_input.Next.ETHERNET), (ADMIN_UP | HOST, tap_input.Next.HOST)):
            rig.interfaces[SW_IF_INDEX]["flags"] = flags
            for frame in sent:
                peer.send(frame)
            received = [r for r in rig.receive(at_least=3) if r.data in sent]
            assert [r.data for r in received] == sent
            assert {r.next for r in received} == {expected}
    rig.done()
    device.close()


def test_tap_keeps_packets_while_there_is_no_buffer(namespaces: Namespaces) -> None:
    rig, device = Rig(), Tap("tap0", namespace=namespaces.far)
    device.configure(up=True)
    rig.attach(device)
    held = rig.take_all()
    with namespaces.raw("tap0") as peer:
        peer.send(ethernet(60))
        assert rig.receive(wait=0.2) == []
        rig.give_back(*held)
        assert ethernet(60) in [r.data for r in rig.receive()]
    assert rig.counters[tap_input.Counter.NO_BUFFERS] > 0
    rig.done()
    device.close()


def test_large_packets_of_a_tap_leave_the_others_their_turn(namespaces: Namespaces) -> None:
    rig, device = Rig(), Tap("tap0", namespace=namespaces.far)
    device.configure(mac=bytes.fromhex("020000000002"), up=True)
    namespaces.sh("FAR addr add 10.99.0.2/24 dev tap0")
    namespaces.sh("FAR neigh add 10.99.0.1 lladdr 02:00:00:00:00:01 dev tap0 nud permanent")
    rig.attach(device)
    with namespaces.far_socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.setsockopt(socket.IPPROTO_UDP, 103, 1400)  # UDP_SEGMENT
        for _ in range(12):
            sender.sendto(b"u" * 56000, ("10.99.0.1", 9))  # 41 segments, counted with their headers
    assert [len(rig.receive_once()) for _ in range(3)] == [7, 5, 0]
    rig.done()
    device.close()


def test_a_tap_that_is_down(namespaces: Namespaces) -> None:
    rig, device = Rig(), Tap("tap0", namespace=namespaces.far)
    rig.attach(device)
    rig.transmit(ethernet(60))
    assert rig.counters[tap_tx.Counter.LINK_DOWN] == 1
    rig.done()
    device.close()


def test_a_tap_that_takes_no_more_blocks_nobody(pair: Namespaces) -> None:
    """Linux bridges what is written on to a device of 64 kbit/s: what its buffer does not hold is lost, and counted."""
    rig, device = Rig(small=256), Tap("tap0", namespace=pair.far)
    device.configure(up=True)
    rig.attach(device)
    fcntl.ioctl(device.fd, 0x400454D4, struct.pack("i", 20_000))  # TUNSETSNDBUF; as much as there is unless told
    pair.sh("FAR link add br0 type bridge && FAR link set br0 up")
    pair.sh("FAR link set tap0 master br0 && FAR link set veth1 master br0")
    pair.sh(f"tc -n {pair.names[1]} qdisc add dev veth1 root tbf rate 64kbit burst 3000 limit 4000000")
    frames = [bytes.fromhex("020000000009020000000007") + b"\x88\xb5" + bytes([k]) * 986 for k in range(200)]
    for _ in range(3):
        before = int(rig.counters[tap_tx.Counter.QUEUE_FULL])
        rig.transmit(*frames)
    assert rig.counters[tap_tx.Counter.QUEUE_FULL] - before > 100
    assert rig.drops[SW_IF_INDEX] == rig.counters[tap_tx.Counter.QUEUE_FULL] < 3 * len(frames)
    rig.done()
    device.close()


def test_a_tun_answers_on_the_queue_that_wrote(namespaces: Namespaces) -> None:
    """Both directions of a flow meet on one worker, whichever it is: Linux remembers who wrote (tun_flow_update)."""
    device = Tap("tun0", layer3=True, namespace=namespaces.far, queues=2)
    assert len(device.fds) == 2 and device.layer3
    device.configure(up=True)
    device.add_address(IPv4Interface("10.99.0.2/24"))
    rigs = [Rig(), Rig()]
    for queue, rig in enumerate(rigs):
        device.attach_rx(rig.tap_rx_queues[QUEUE], queue, SW_IF_INDEX)
        device.attach_tx(rig.tap_tx_queues[SW_IF_INDEX], queue)
        rig.device = device
    chosen = {port: port % 3 % 2 for port in range(2000, 2016)}

    def answers() -> dict[int, int]:
        """By which queue each flow was answered: a RST for each SYN."""
        for port, queue in chosen.items():
            rigs[queue].transmit(bytes(IP(src="10.99.0.1", dst="10.99.0.2") / TCP(sport=port, dport=9, flags="S")))
        found: dict[int, int] = {}

        def collect() -> bool:
            for queue, rig in enumerate(rigs):
                found.update({IP(each.data)[TCP].dport: queue for each in rig.receive_once()})
            return len(found) == len(chosen)

        assert eventually(collect)
        return found

    answers()  # the first may be on its way before Linux has written down who asked
    assert answers() == chosen
    for rig in rigs:
        rig.done()
    device.close()


def test_a_pod_that_sends_while_nobody_reads_loses_nothing_at_first(namespaces: Namespaces) -> None:
    """As many packets as QUEUE_PACKETS, not the 500 for which Linux makes a TUN."""
    pod_namespace = open_namespace(namespaces.names[1])
    rig, device = Rig(), Tap("eth0", layer3=True, namespace=pod_namespace)
    os.close(pod_namespace)
    set_up_pod(device, IPv4Address("10.20.0.5"), mtu=1400)
    rig.attach(device)
    with namespaces.far_socket(socket.AF_INET, socket.SOCK_DGRAM) as pod:
        for number in range(1000):
            pod.sendto(number.to_bytes(2, "big"), ("8.8.8.8", 53))
    found = [packet.data[28:] for packet in rig.receive(at_least=1000, wait=10)]
    assert found == [number.to_bytes(2, "big") for number in range(1000)]
    rig.done()
    device.close()


def test_a_pod_speaks_through_its_tun(namespaces: Namespaces) -> None:
    pod_namespace = open_namespace(namespaces.names[1])
    rig, device = Rig(), Tap("eth0", layer3=True, namespace=pod_namespace)
    os.close(pod_namespace)
    set_up_pod(device, IPv4Address("10.20.0.5"), mtu=1400)
    rig.attach(device)
    assert device.layer3 and device.mtu() == 1400 and device.name == "eth0"
    with namespaces.far_socket(socket.AF_INET, socket.SOCK_DGRAM) as pod:
        pod.bind(("10.20.0.5", 1000))
        pod.settimeout(2)
        pod.sendto(b"ping", ("8.8.8.8", 53))
        (packet,) = rig.receive()
        assert packet.next == tap_input.Next.IP4
        assert packet.data[12:20] == bytes([10, 20, 0, 5, 8, 8, 8, 8])
        assert packet.data[28:] == b"ping"
        back = (
            packet.data[:12]
            + packet.data[16:20]
            + packet.data[12:16]
            + packet.data[22:24]
            + packet.data[20:22]
            + packet.data[24:]
        )
        rig.transmit(Received(back, 0, CSUM_PARTIAL, 0, 0, 20, 6))
        assert pod.recvfrom(100) == (b"ping", ("8.8.8.8", 53))
    rig.done()
    device.close()


def test_ip6_from_a_tun_is_dropped_for_now(namespaces: Namespaces) -> None:
    rig, device = Rig(), Tap("tun0", layer3=True, namespace=namespaces.far)
    device.configure(up=True)
    rig.attach(device)
    with namespaces.far_socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0) as sender:
        sender.sendto(b"\x60" + bytes(39), ("tun0", 0x86DD))
    (packet,) = rig.receive()
    assert packet.next == tap_input.Next.DROP
    assert rig.counters[tap_input.Counter.UNSUPPORTED_VERSION] == 1
    rig.done()
    device.close()


def test_a_persistent_tap_outlives_its_descriptor_and_is_adopted(namespaces: Namespaces) -> None:
    first = Tap("tap0", namespace=namespaces.far, persistent=True)
    descriptor = os.dup(first.fd)
    first.close()
    second = Tap("other", namespace=namespaces.far, fds=[descriptor])
    assert (second.name, second.layer3) == ("tap0", False)
    second.configure(mac=bytes.fromhex("020000000009"))
    assert second.mac() == bytes.fromhex("020000000009")
    second.delete()
    links = subprocess.run(["ip", "-n", namespaces.names[1], "link"], capture_output=True, text=True, check=True).stdout
    assert "tap0" not in links
