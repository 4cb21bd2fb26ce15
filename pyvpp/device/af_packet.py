# SPDX-License-Identifier: Apache-2.0
"""AF_PACKET: an interface of Linux read and written through rings shared with the operating system.

A queue is three sockets. Two have a ring each (TPACKET_V2), one to receive and one to transmit, which lie in the heap,
so that kernels copy between ring and buffer by heap offsets. The third has none and sends what is too large for a slot
of the transmit ring, GSO packets above all, straight from the buffer by one system call each. All carry
virtio_net_hdr, so that 64 KiB packets and unfinished checksums pass unchanged.

Each worker has a transmit ring of its own, so none waits for another. Packets received are spread over the queues by a
hash of their flow that is the same for both directions (PACKET_FANOUT_HASH); fragments of a packet stay together.

A receive slot holds a packet of the MTU. Linux puts the beginning of a larger one, a GSO packet, there and the whole
of it into the socket's queue (PACKET_COPY_THRESH), from where a system call fetches it into the buffer. So 8 MiB hold
4096 packets of 1500 bytes, what a worker that was not scheduled for 30 ms finds at 1.5 Gbit/s; with slots of 64 KiB
twice the memory held 256, and TCP through a tunnel, which arrives in segments, stood still for seconds. The block
retirement of TPACKET_V3 costs 1 ms of latency for no gain in rate.

What is sent passes the interface's queueing discipline. Around it (PACKET_QDISC_BYPASS, no faster over veth) Linux
drops a GSO packet that the NIC cannot segment itself instead of segmenting it, and everything while the NIC is busy.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import struct
from dataclasses import asdict, replace

from pyvpp.device.af_packet_socket import SOL_PACKET, Options, Queue, RingHeap, Statistics
from pyvpp.device.ingress_drop import drop_ingress
from pyvpp.device.ipip_segments import leave_ipip
from pyvpp.device.linux_interface import LinuxInterface
from pyvpp.device.offload import offload_of
from pyvpp.inheritance import PacketSockets
from pyvpp.linux import netns

_ADD_MEMBERSHIP = 1
_PROMISCUOUS = 1
_ALL_MULTICAST = 2

log = logging.getLogger(__name__)


class AfPacket:
    """Open packet sockets on one Linux interface; they go on working wherever the caller moves afterwards.

    `namespace` is the interface's network namespace (a file descriptor; None is the caller's). `all_multicast`
    makes the NIC accept every group: the groups joined on a TAP that stands in for the NIC are not known to it.
    `alone`: what arrives is for us and goes no further (`be_alone`).
    `fanout` is the number of the group that the receive queues form, None when there is but one.

    With `mtu` the sockets are made for an interface that is not there yet, and `bind` is called when it is, `be_alone`
    when there is time: for each ring and for that program Linux waits until every CPU has seen the change (an RCU grace
    period), some 20 ms.
    """

    def __init__(
        self,
        linux_name: str,
        namespace: int | None = None,
        options: Options | None = None,
        *,
        promiscuous: bool = False,
        all_multicast: bool = False,
        alone: bool = False,
        mtu: int | None = None,
    ) -> None:
        self.linux_name = linux_name
        self._namespace = namespace
        self._memberships = [_PROMISCUOUS] * promiscuous + [_ALL_MULTICAST] * all_multicast
        self.options = options or Options()
        self.queues: list[Queue] = []
        self.fanout: int | None = None
        self._seen_drops = 0
        self._ingress: int | None = None
        self._egress: int | None = None
        self.offload = 0  # OFFLOAD_*: what may be left to Linux
        self._linux: LinuxInterface | None = None
        try:
            if mtu is not None:
                netns.run_in(namespace, lambda: self._open_queues(mtu))
                return
            self.bind()
            if alone:
                self.be_alone()
        except OSError:
            self.close()
            raise

    @classmethod
    def inherited(cls, linux_name: str, namespace: int | None, given: PacketSockets) -> AfPacket:
        """The device that another process had open. Raises OSError when the interface is gone."""
        device = cls.__new__(cls)
        device.linux_name = linux_name
        device._namespace, device._memberships = namespace, []
        device._linux = netns.run_in(namespace, lambda: LinuxInterface(linux_name))
        device.options = Options(**given.options)
        device.queues = [Queue.inherited(ring, device.options) for ring in given.queues]
        device.fanout, device.offload = given.fanout, given.offload
        device._ingress, device._egress = given.ingress, given.egress
        device._seen_drops = sum(ring.drops for ring in given.queues)
        return device

    def estate(self) -> PacketSockets:
        """What another process needs to go on with it."""
        return PacketSockets(
            [queue.estate() for queue in self.queues], asdict(self.options), self.fanout, self._ingress, self._egress,
            self.offload,
        )  # fmt: skip

    def bind(self) -> None:
        """Binds the sockets to the interface, which has to be there by now. Raises OSError; then all are closed."""
        try:
            netns.run_in(self._namespace, self._bind_all)
            for membership in self._memberships:
                self._join(membership)
        except OSError:
            self.close()
            raise

    def _bind_all(self) -> None:
        """One queue receives where Linux spreads no packets: before 5.17, or before 6.13 while the link is down."""
        self._linux = LinuxInterface(self.linux_name)
        self.offload = offload_of(self.linux_name)
        if not self.queues:
            self._open_queues(self._linux.mtu())
        try:
            self._bind_queues()
        except OSError as error:
            if error.errno != errno.EINVAL or self.options.rx_queues == 1:
                raise
            log.warning("%s: Linux does not spread its packets over queues, there is one", self.linux_name)
            self._close_queues()
            self.queues, self.fanout = [], None
            self.options = replace(self.options, rx_queues=1)
            self._open_queues(self._linux.mtu())
            self._bind_queues()

    def _open_queues(self, mtu: int) -> None:
        options = self.options
        for number in range(max(options.rx_queues, options.tx_queues)):
            receives = number < options.rx_queues
            self.queues.append(Queue(mtu, options, receives, receives and options.rx_queues > 1))

    def _bind_queues(self) -> None:
        """Until all are in the group each would receive every packet, so they begin deaf."""
        for queue in self.queues:
            queue.bind(self.linux_name)
        if self.options.rx_queues > 1:
            for queue in self.rx_queues:
                self.fanout = queue.join(self.fanout)
            for queue in self.rx_queues:
                queue.listen()

    def be_alone(self) -> None:
        """From now on what arrives goes no further than our sockets (`ingress_drop`, where Linux has it)."""
        try:
            self._ingress = netns.run_in(self._namespace, lambda: drop_ingress(self.ifindex))
        except OSError as error:
            log.info("%s: its packets go into Linux' network stack, too: %s", self.linux_name, error)

    def leave_ipip(self) -> None:
        """Leaves segments in IPIP to Linux from now on, where it can be (`ipip_segments`); not around the queueing
        discipline, where packets pass no program."""
        if self.options.qdisc_bypass or self._egress is not None:
            return
        sockets = [each for queue in self.queues for each in queue.sockets]
        self._egress, self.offload = netns.run_in(
            self._namespace, lambda: leave_ipip(self.linux_name, self.ifindex, self.offload, sockets)
        )

    @property
    def linux(self) -> LinuxInterface:
        """The interface as Linux shows it. There is none before `bind`."""
        assert self._linux is not None
        return self._linux

    @property
    def ifindex(self) -> int:
        return self.linux.ifindex

    @property
    def alone(self) -> bool:
        """Whether what arrives goes no further."""
        return self._ingress is not None

    @property
    def rx_queues(self) -> list[Queue]:
        return self.queues[: self.options.rx_queues]

    def map(self, heap: RingHeap) -> None:
        """Maps all rings into the heap. Raises OSError; then none is left mapped."""
        try:
            for queue in self.queues:
                queue.map(heap)
        except OSError:
            self.unmap(heap)
            raise

    def unmap(self, heap: RingHeap) -> None:
        """To be done when no kernel knows the rings any more."""
        for queue in self.queues:
            queue.unmap(heap)

    def statistics(self) -> Statistics:
        """Of all receive queues."""
        each = [queue.statistics() for queue in self.rx_queues]
        return Statistics(sum(queue.packets for queue in each), sum(queue.drops for queue in each))

    def newly_missed(self) -> int:
        """Packets the receive rings had no room for since this was asked last."""
        before, self._seen_drops = self._seen_drops, self.statistics().drops
        return self._seen_drops - before

    def mac(self) -> bytes:
        return self.linux.mac()

    def mtu(self) -> int:
        return self.linux.mtu()

    def link_up(self) -> bool:
        """Up and with a carrier, as Linux sees it."""
        return self.linux.up()

    def remove_program(self) -> None:
        """Ends `be_alone`. It would go along with the interface into another namespace, and work there."""
        if self._ingress is not None:
            os.close(self._ingress)
            self._ingress = None

    def close(self) -> None:
        self.remove_program()
        if self._egress is not None:
            os.close(self._egress)
            self._egress = None
        self._close_queues()
        if self._linux is not None:
            self._linux.close()

    def _close_queues(self) -> None:
        for queue in self.queues:
            queue.close()

    @property
    def _socket(self) -> socket.socket:
        return self.queues[0].heard

    def _join(self, kind: int) -> None:
        self._socket.setsockopt(SOL_PACKET, _ADD_MEMBERSHIP, struct.pack("iHH8x", self.ifindex, kind, 0))
