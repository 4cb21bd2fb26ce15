# SPDX-License-Identifier: Apache-2.0
"""AF_XDP: an interface of Linux whose packets are written into our buffers and read from them.

The slots of the packet heap are the umem, all of them: a chunk is a small buffer's slot, at whatever address it lies
(XDP_UMEM_UNALIGNED_CHUNK_FLAG; slots of 2304 bytes are no power of two, for the sake of the cache), and a packet is
sent from the buffer it is in, small or large. So nothing is copied by us except a packet longer than a small buffer,
which comes in pieces. On ordinary pages a chunk may lie on two of them that are no neighbors in memory. That is of no
concern as long as Linux copies (it sees the heap as one range), but a NIC that writes there itself needs hugepages.

Each receive queue of the interface has a socket; the first has registered the umem and the others share it. An XDP
program (`xdp_program`) sends each queue's packets to its socket. It runs in the driver where that has XDP (native),
otherwise on Linux' packets (generic), and so it does on veth: there native mode takes segmentation from the peer, and
TCP is two to three times slower. Packets of up to 64 KiB come in several descriptors (XDP_USE_SG).

AF_XDP says nothing of offloads: `af_xdp_offload` finds an unfinished checksum in the packet. What is to be segmented on
its way out goes by a packet socket beside. A VLAN tag that a veth peer has left to the device is lost by Linux before
we see the packet, in either mode; a warning says how to have the peer write it.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import mmap
import os
import socket
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

import numpy as np

from pyvpp.buffers import LARGE_BUFFERS, LARGE_ROOM, ORDINARY_PAGES, SMALL_SLOT, SMALL_START, Buffers
from pyvpp.device import xdp_program
from pyvpp.device.af_xdp_offload import ETHERNET_HEADER, TAG
from pyvpp.device.af_xdp_ring import (
    ADDRESS_BYTES,
    CHUNK_BYTES,
    LENT_RX,
    LENT_TX,
    NOT_LENT_TX,
    PIECE_ROOM,
)
from pyvpp.device.af_xdp_socket import LEAST_SLOTS, Attach, Copy, Options, Queue, RingHeap, Statistics, open_sender
from pyvpp.device.ipip_segments import leave_ipip
from pyvpp.device.linux_interface import LinuxInterface
from pyvpp.device.offload import offload_of
from pyvpp.errors import OperatorError
from pyvpp.inheritance import Loan, XdpSockets
from pyvpp.linux import netns, xdp_features
from pyvpp.tables import clear_row
from pyvpp.typing import U32

T = TypeVar("T")

log = logging.getLogger(__name__)

MOST_QUEUES = 64
MOST_PIECES = 17  # MAX_SKB_FRAGS: what Linux makes one packet of
VETH = "veth"  # what its driver calls itself
LEFT_TO_VETH = (
    "VLAN tags, and where to cut datagrams, are lost where the other end of a veth leaves them to the device: there, "
    "`ethtool -K INTERFACE tx-vlan-hw-insert off tx-udp-segmentation off' keeps them; so does AF_PACKET"
)
NO_BOUNDARY = 1 << 40
HUGE_PAGE = 2 << 20


@dataclass(frozen=True)
class Way:
    """One way to open an interface: where the program runs, and who copies."""

    native: bool
    zero_copy: bool

    def __str__(self) -> str:
        return f"{'native' if self.native else 'generic'}, {'zero-copy' if self.zero_copy else 'copy'}"


def longest_mtu(multi_buffer: bool) -> int:
    """The largest MTU whose packets, with Ethernet header and a tag, fit the descriptors of one packet both ways."""
    room = min(MOST_PIECES * PIECE_ROOM, LARGE_ROOM) if multi_buffer else PIECE_ROOM
    return room - ETHERNET_HEADER - TAG


def check_mtu(name: str, mtu: int, options: Options) -> None:
    """Raises OperatorError when packets of an interface's MTU are too long."""
    longest = longest_mtu(options.multi_buffer)
    if mtu > longest:
        raise OperatorError(
            f"Linux interface {name}: its MTU of {mtu} is too large for AF_XDP, which carries {longest} at most; "
            "lower it or use af_packet"
        )


def small_slots(buffers: Any) -> Any:
    """Heap offsets of small buffers' slots, as an array; what `slot_start` is for one."""
    return SMALL_START + (np.asarray(buffers, np.int64) - LARGE_BUFFERS) * SMALL_SLOT


def free_rows(used: Any, n: int) -> int:
    """The first of n rows in a row that are zero, maybe behind the last there is."""
    run = 0
    for index, each in enumerate(used):
        run = 0 if each else run + 1
        if run == n:
            return index + 1 - n
    return int(len(used)) - run


@dataclass
class _Scrap:
    """A little memory in place of the heap."""

    address: int
    slot_bytes: int = 4 * mmap.PAGESIZE
    pages: str = ORDINARY_PAGES

    def map_ring(self, fd: int, length: int, start: int = 0) -> int:
        raise NotImplementedError

    def unmap_ring(self, offset: int, length: int) -> None:
        raise NotImplementedError


class AfXdp:
    """The open sockets of one Linux interface, and the program that feeds them.

    `namespace` is the interface's network namespace (a file descriptor; None is the caller's). `all_multicast` makes
    the NIC accept every group. Raises OSError when there is no such interface, OperatorError when it cannot be driven
    this way.
    """

    def __init__(
        self,
        linux_name: str,
        heap: RingHeap,
        namespace: int | None = None,
        options: Options | None = None,
        *,
        all_multicast: bool = False,
    ) -> None:
        self.linux_name = linux_name
        self._all_multicast = all_multicast
        self.options = options or Options()
        self.queues: list[Queue] = []
        self._heap = heap
        self._fds: list[int] = []  # the link first
        self._missed = 0
        self._namespace = namespace
        self._let_go = True
        self._lends = True  # False: Linux has our buffers already
        self._rows: list[int] = []
        self._sender: socket.socket | None = None
        self._egress: int | None = None
        netns.run_in(namespace, self._open)

    @classmethod
    def inherited(
        cls, linux_name: str, heap: RingHeap, namespace: int | None, given: XdpSockets, *, all_multicast: bool = False
    ) -> AfXdp:
        """The device that another process had open, whose heap is ours by now. Raises OSError when the interface is
        gone."""
        device = cls.__new__(cls)
        device.linux_name, device._namespace, device._heap = linux_name, namespace, heap
        device._all_multicast = all_multicast
        netns.run_in(namespace, device._look)
        if all_multicast:
            device.linux.accept_all_multicast()
        chosen = given.options
        device.options = Options(**{**chosen, "copy": Copy(chosen["copy"]), "attach": Attach(chosen["attach"])})
        device.way, device.offload = Way(given.native, given.zero_copy), given.offload
        device._fds, device._egress, device._sender = given.program, given.egress, socket.socket(fileno=given.sender)
        device.queues = [
            Queue.inherited(number, device.options, heap, descriptor, given.tx_metadata)
            for number, descriptor in enumerate(given.queues)
        ]
        device._missed, device._rows, device._let_go, device._lends = given.missed, [], True, False
        return device

    def estate(self) -> XdpSockets:
        """What another process needs to go on with it, but for the heap and what is lent: see `loan`."""
        assert self._sender is not None
        return XdpSockets(
            list(self.poll_fds()), self._fds, self._sender.fileno(), self._egress, self.offload,
            {**asdict(self.options), "copy": self.options.copy.value, "attach": self.options.attach.value},
            self.way.native, self.way.zero_copy, self.queues[0].tx_metadata, self._missed,
        )  # fmt: skip

    # ---- open ---------------------------------------------------------------------------------------------------
    def _look(self) -> None:
        self.linux = LinuxInterface(self.linux_name)
        self.driver = self.linux.driver()
        self.features = xdp_features.read(self.linux.ifindex)

    def _open(self) -> None:
        self._look()
        try:
            self._check()
            self.offload = offload_of(self.linux_name)
            self._sender = open_sender(self.linux_name)
            if self._all_multicast:
                self.linux.accept_all_multicast()
            failures: list[tuple[Way, OSError]] = []
            for way in self.ways():
                try:
                    self._open_way(way)
                    return
                except OSError as error:
                    self._close_sockets()
                    failures.append((way, error))
            raise self._refused(failures)
        except BaseException:
            self._close_others()
            raise

    def leave_ipip(self) -> None:
        """Leaves segments in IPIP to Linux from now on, where it can be (`ipip_segments`)."""
        if self._sender is None or self._egress is not None:
            return
        sockets = [self._sender]
        self._egress, self.offload = netns.run_in(
            self._namespace, lambda: leave_ipip(self.linux_name, self.linux.ifindex, self.offload, sockets)
        )

    def _close_others(self) -> None:
        self.linux.close()
        if self._egress is not None:
            os.close(self._egress)
            self._egress = None
        if self._sender:
            self._sender.close()

    def _check(self) -> None:
        available = self.linux.rx_queues()
        wanted = self.options.rx_queues or available
        if wanted > min(available, MOST_QUEUES):
            raise self._error(f"num-rx-queues {wanted}: it has {available}")
        self.options = replace(self.options, rx_queues=wanted)
        check_mtu(self.linux_name, self.linux.mtu(), self.options)

    def ways(self) -> list[Way]:
        """The ways to open it, best first, that the operator's choice leaves."""
        options, features = self.options, self.features
        native = features is None or features.native
        copies = [Copy.COPY] if options.copy is Copy.COPY else [Copy.ZERO_COPY, Copy.COPY]
        if features is not None and not features.zero_copy and options.copy is Copy.AUTO:
            copies = [Copy.COPY]
        if self._heap.pages == ORDINARY_PAGES and options.copy is Copy.AUTO:
            copies = [Copy.COPY]
        if options.copy is Copy.ZERO_COPY:
            copies = [Copy.ZERO_COPY]
        ways = [Way(native=True, zero_copy=each is Copy.ZERO_COPY) for each in copies]
        generic = [Way(native=False, zero_copy=False)] if Copy.COPY in copies else []
        if options.attach is Attach.NATIVE:
            return ways
        if options.attach is Attach.GENERIC:
            return generic
        return [*(ways if native and self.driver != VETH else []), *generic]

    def _open_way(self, way: Way) -> None:
        for number in range(self.options.rx_queues):
            queue = Queue(number, self.options, self._heap, self.queues[0] if self.queues else None)
            self.queues.append(queue)
            queue.bind(self.linux.ifindex, way.zero_copy)
        sockets = xdp_program.create_socket_map(MOST_QUEUES)
        self._fds.append(sockets)
        for queue in self.queues:
            xdp_program.put_socket(sockets, queue.number, queue.socket.fileno())
        program = xdp_program.load_program(xdp_program.redirect_program(sockets), fragments=self.options.multi_buffer)
        self._fds.append(program)
        flags = xdp_program.NATIVE if way.native else xdp_program.GENERIC
        self._fds.insert(0, xdp_program.attach(program, self.linux.ifindex, flags))
        self.way = Way(way.native, self.queues[0].zero_copy)
        if self.driver == VETH:
            log.warning("%s: %s", self.linux_name, LEFT_TO_VETH)

    def _error(self, reason: str) -> OperatorError:
        return OperatorError(f"Linux interface {self.linux_name}: {reason}")

    def _refused(self, failures: list[tuple[Way, OSError]]) -> OperatorError:
        if not failures:
            return self._error(f"mode zero-copy: its driver {self.driver} offers no zero-copy AF_XDP")
        reasons = dict.fromkeys(f"{way}: {self._reason(way, error)}" for way, error in failures)
        return self._error("AF_XDP is not possible (" + "; ".join(reasons) + ")")

    def _reason(self, way: Way, error: OSError) -> str:
        if error.errno == errno.ERANGE:
            return f"the MTU of {self.linux.mtu()} is too large for XDP in the driver {self.driver}"
        if error.errno == errno.EAFNOSUPPORT:
            return "this kernel has no AF_XDP sockets"
        if error.errno in (errno.EBUSY, errno.EEXIST):
            return "another XDP program or AF_XDP socket is on it"
        if error.errno == errno.EOPNOTSUPP and way.zero_copy:
            return f"the driver {self.driver} does not offer it"
        return error.strerror or str(error)

    # ---- rings and buffers --------------------------------------------------------------------------------------
    @property
    def boundary(self) -> int:
        """Addresses of hugepages in a row are contiguous for us but not for the NIC."""
        return HUGE_PAGE if self.way.zero_copy else NO_BOUNDARY

    def attach(self, buffers: Buffers, tables: Any, sw_if_index: int, workers: Sequence[int] = (0,)) -> int:
        """Maps the rings, describes them in the tables and lends Linux as many buffers as it may have.

        `workers` are to read the queues, one after another. To be done at a barrier, once. Answers the first queue's
        row; the others' follow. Raises OSError; OperatorError when too few buffers are free.
        """
        rx_rows, tx_rows = tables["af_xdp_rx_queues"], tables["af_xdp_tx_queues"]
        first = free_rows(rx_rows.array["slots"], len(self.queues))
        for rows in (rx_rows, tx_rows):
            rows.grow(first + len(self.queues))
        for queue in self.queues:
            row = first + queue.number
            rx_row, tx_row = rx_rows.array[row], tx_rows.array[row]
            self._rows.append(row)
            queue.map(rx_row, tx_row)
            rx_row.sw_if_index = sw_if_index
            if self._lends:
                rx_row.fill_next = self._lend(buffers, rx_row, row, workers[queue.number % len(workers)])
            tx_row.send_fd = self._sender.fileno() if self._sender else -1
            tx_row.boundary, tx_row.metadata = self.boundary, int(self._leaves_checksums())
            rx_row.slots, tx_row.slots = self.options.rx_slots, self.options.tx_slots
        interface = tables["af_xdp_interfaces"].array[sw_if_index]
        interface.first, interface.queues = first, len(self.queues)
        return first

    def _lend(self, buffers: Buffers, row: Any, queue: int, worker: int) -> int:
        """Fills a queue's fill ring with small buffers of a worker; answers how many."""
        wanted = self.options.rx_slots
        taken = buffers.take_free(worker, wanted, self._is_whole)
        if len(taken) < wanted:
            buffers.put_back(taken)
            raise self._error(
                f"rx-queue-size {wanted}: only {len(taken)} buffers are free; choose less or more --buffers"
            )
        buffers.meta["flags"][taken] = LENT_RX
        buffers.meta["rx"][taken] = queue
        heap, at = buffers.heap.array, int(row.fill_ring)
        heap[at : at + wanted * ADDRESS_BYTES].view(np.uint64)[:] = small_slots(taken)
        heap[int(row.fill_producer) :][:4].view(np.uint32)[0] = wanted
        return wanted

    def loan(self, buffers: Buffers, tables: Any, sw_if_index: int) -> Loan:
        """Which buffers Linux has and where in the rings we are, for another process; to be done at a barrier."""
        meta = buffers.meta
        received = [np.flatnonzero((meta["flags"] == LENT_RX) & (meta["rx"] == row)) for row in self._rows]
        sent = np.flatnonzero((meta["flags"] & LENT_TX != 0) & (meta["tx"] == sw_if_index))
        return Loan(
            [int(tables["af_xdp_rx_queues"].array["fill_next"][row]) for row in self._rows],
            [int(tables["af_xdp_tx_queues"].array["tx_next"][row]) for row in self._rows],
            [each.astype(np.uint32).tobytes() for each in received],
            sent.astype(np.uint32).tobytes(),
            meta["feature"][sent].tobytes(),
        )

    def lent_by_another(self, buffers: Buffers, tables: Any, sw_if_index: int, loan: Loan) -> U32:
        """Goes on where another process was that had lent these buffers; to be done at a barrier. Answers which."""
        meta = buffers.meta
        for row, fill_next, tx_next, received in zip(self._rows, loan.fill, loan.tx, loan.received, strict=True):
            tables["af_xdp_rx_queues"].array["fill_next"][row] = fill_next
            tables["af_xdp_tx_queues"].array["tx_next"][row] = tx_next
            lent = np.frombuffer(received, np.uint32)
            meta["flags"][lent], meta["rx"][lent], meta["ref"][lent] = LENT_RX, row, 1
        sent = np.frombuffer(loan.sent, np.uint32)
        meta["flags"][sent], meta["tx"][sent], meta["ref"][sent] = LENT_TX, sw_if_index, 1
        meta["feature"][sent] = np.frombuffer(loan.pieces, np.uint32)
        return np.concatenate([np.frombuffer(each, np.uint32) for each in (*loan.received, loan.sent)])

    def read_by(self, buffers: Buffers, queue: int, worker: int) -> None:
        """Charges the buffers that Linux has for a receive queue to the worker that is going to read it; at a barrier.

        Raises OperatorError when that has too few for it.
        """
        meta = buffers.meta
        lent = np.flatnonzero((meta["flags"] == LENT_RX) & (meta["rx"] == self._rows[queue])).astype(np.uint32)
        if not buffers.charge(lent, worker):
            raise self._error(
                f"worker {worker} has too few free buffers to take over the {len(lent)} of a receive queue; "
                "choose a smaller rx-queue-size or more --buffers"
            )

    def _is_whole(self, buffers: Any) -> Any:
        """Which of some small buffers lie on one side of every boundary."""
        starts = small_slots(buffers)
        return starts // self.boundary == (starts + CHUNK_BYTES - 1) // self.boundary

    def detach(self, tables: Any, sw_if_index: int) -> None:
        """Takes the rings from the kernels; to be done at a barrier, before `close`."""
        for row in self._rows:
            clear_row(tables["af_xdp_rx_queues"].array, row, "fd")
            clear_row(tables["af_xdp_tx_queues"].array, row, "fd", "send_fd")
        tables["af_xdp_interfaces"].array["queues"][sw_if_index] = 0

    def return_lent(self, buffers: Buffers, sw_if_index: int) -> int:
        """Frees the buffers that Linux had; to be done at a barrier, after `close`. Answers how many they were.

        None when Linux would not let go of the rings: what a NIC may still write into is never used again.
        """
        if not self._let_go:
            log.warning("%s: Linux keeps the buffers of its rings", self.linux_name)
            return 0
        meta, rows = buffers.meta, self._rows
        flags = meta["flags"]
        received = (flags == LENT_RX) & np.isin(meta["rx"], rows)
        sent = (flags & LENT_TX != 0) & (meta["tx"] == sw_if_index)
        lent = np.flatnonzero(received | sent).astype(np.uint32)
        shared = meta["ref"][lent] > 1  # somebody else will free it
        meta["ref"][lent[shared]] -= 1
        meta["flags"][lent[shared]] &= NOT_LENT_TX
        meta["flags"][lent[~shared]] = 0
        buffers.put_back(lent[~shared])
        return len(lent)

    # ---- what Linux says ----------------------------------------------------------------------------------------
    def poll_fds(self) -> tuple[int, ...]:
        """Readable when a packet waits in a receive ring."""
        return tuple(queue.socket.fileno() for queue in self.queues)

    @property
    def fds(self) -> tuple[int, ...]:
        """A descriptor for each queue there is to send by."""
        return self.poll_fds()

    def abilities(self) -> list[str]:
        """What the sockets know to do besides, in the operator's words."""
        found = ["multi-buffer"] if self.options.multi_buffer else []
        return found + (["tx-checksum"] if self._leaves_checksums() else [])

    def _leaves_checksums(self) -> bool:
        """Whether Linux, or a NIC that takes packets from our memory, finishes the checksums of what we send."""
        by_nic = self.features is not None and self.features.tx_checksum
        return self.queues[0].tx_metadata and (by_nic or not self.way.zero_copy)

    def statistics(self) -> Statistics:
        return sum((queue.statistics() for queue in self.queues), Statistics())

    def newly_missed(self) -> int:
        """Packets Linux had no buffer or no descriptor for since this was asked last."""
        now = self.statistics()
        before, self._missed = self._missed, now.rx_dropped + now.rx_ring_full
        return self._missed - before

    def push(self) -> None:
        for queue in self.queues:
            queue.push()

    def mac(self) -> bytes:
        return self.linux.mac()

    def mtu(self) -> int:
        return self.linux.mtu()

    def link_up(self) -> bool:
        """Up and with a carrier, as Linux sees it."""
        return self.linux.up()

    # ---- close --------------------------------------------------------------------------------------------------
    def close(self) -> None:
        """Takes the program off the interface and closes the sockets. The second time nothing happens."""
        numbers = [queue.number for queue in self.queues]
        self._close_sockets()
        if numbers and self.way.zero_copy:
            self._let_go = netns.run_in(self._namespace, lambda: all(self.is_free(number) for number in numbers))
        self._close_others()

    def is_free(self, number: int) -> bool:
        """Whether Linux has let go of a queue, which it does some time after its socket was closed; waits for it."""
        memory = mmap.mmap(-1, 4 * mmap.PAGESIZE)
        scrap = _Scrap(ctypes.addressof(ctypes.c_char.from_buffer(memory)))
        queue = Queue(number, Options(rx_slots=LEAST_SLOTS, tx_slots=LEAST_SLOTS), scrap, None)
        try:
            queue.bind(self.linux.ifindex, zero_copy=False)
        except OSError as error:
            return error.errno == errno.ENODEV
        finally:
            queue.close()
        return True

    def remove_program(self) -> None:
        """Linux has the interface's packets again."""
        for fd in self._fds:
            os.close(fd)
        self._fds.clear()

    def _close_sockets(self) -> None:
        self.remove_program()
        for queue in self.queues:
            queue.unmap()
            queue.close()
        self.queues.clear()
