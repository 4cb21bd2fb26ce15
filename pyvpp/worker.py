# SPDX-License-Identifier: Apache-2.0
"""A worker: the arrays its native loop runs on, and the thread that runs it without the GIL."""

import contextlib
import os
import select
import threading
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from pyvpp import dispatch as d
from pyvpp.buffers import EMIT_PACKETS, Buffers
from pyvpp.node import FRAME_SIZE, FREE
from pyvpp.tables import own_lines
from pyvpp.trace import TRACE, TRACE_NUMBER_BITS, TRACE_RECORDS

MAX_NODES = 8192
THREAD_NAME = "vpp_wk_"  # and the worker's number


def clock_rate() -> float:
    """Cycles of the cycle counter in a nanosecond, measured over 10 ms."""
    from pyvpp.clock import read_cycles

    read_cycles()  # loads or compiles it, which must not fall between the two clocks
    t0, c0 = time.perf_counter_ns(), read_cycles()
    time.sleep(0.01)
    t1, c1 = time.perf_counter_ns(), read_cycles()
    return (c1 - c0) / (t1 - t0)


class Worker:
    """One worker's state: control words, node rows, rings. `run` is for the calling thread, `start` makes one.

    `rate` is the cycle counter's, in clocks a nanosecond; `began`, what it showed when the worker's clock began, is
    the same for all workers of an engine, so that the times of their packets can be compared.
    """

    def __init__(
        self,
        index: int,
        buffers: Buffers,
        main_event: int,
        rate: float,
        max_nodes: int = MAX_NODES,
        began: int | None = None,
    ) -> None:
        self.index = index
        self.buffers = buffers
        self.capacity = buffers.total + 1
        self.control = own_lines(d.CONTROL_WORDS, np.int64)
        self.rows: Any = own_lines(max_nodes, d.NODE_ROW)
        self.queues: dict[int, Any] = {}
        self.inputs = own_lines(max_nodes + 1, np.uint32)
        self.pending = own_lines(max_nodes, np.uint32)
        self.scratch = own_lines(FRAME_SIZE, np.uint32)
        self.nexts = own_lines(FRAME_SIZE, np.uint16)
        self.before = own_lines(FRAME_SIZE, np.int64)
        self.emit = own_lines(1 + 2 * EMIT_PACKETS, np.uint32)
        self.trace: Any = own_lines(TRACE_RECORDS, TRACE)
        self.punt_ring = own_lines(2 * d.RING, np.uint32)
        self.inject_ring = own_lines(2 * d.RING, np.uint32)
        self.events = own_lines(12 * d.EPOLL_EVENTS, np.uint8)
        self.pool = buffers.pools[index]
        heap = buffers.heap
        self.context = own_lines(d.CONTEXT_WORDS, np.int64)
        self.context[:10] = [
            heap.address, len(heap.array), buffers.meta.ctypes.data, len(buffers.meta),
            self.pool.ctypes.data, len(self.pool), self.emit.ctypes.data, len(self.emit), 0, index,
        ]  # fmt: skip
        self.context[d.CONTEXT_ONE] = 1
        self.control[d.NS_NUM] = int((1 << d.NS_SHIFT) / rate)
        self.control[d.CLOCK_START] = self._cycles() if began is None else began
        self.control[d.SPIN_NS] = 100_000
        self.control[d.EPOLL_FD] = -1
        self.control[d.MAIN_EVENT_FD] = main_event
        self.control[d.N_NODES] = 0
        self.control[d.TRACE_BASE] = index << TRACE_NUMBER_BITS
        self.slots = own_lines(2, np.int64)
        self.epoll = select.epoll()
        self.event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.thread: threading.Thread | None = None
        self.cpu: int | None = None  # the one it stays on

    @staticmethod
    def _cycles() -> int:
        from pyvpp.clock import read_cycles

        return read_cycles()

    @property
    def now(self) -> int:
        """The worker's clock at this moment, ns; `context` has that of its last round."""
        clocks = self._cycles() - int(self.control[d.CLOCK_START])
        return (clocks * int(self.control[d.NS_NUM])) >> d.NS_SHIFT

    @property
    def running(self) -> bool:
        """Whether its thread may be in the loop at this moment."""
        return self.thread is not None and self.thread.is_alive()

    @property
    def traced_records(self) -> int:
        return int(self.control[d.TRACE_USED])

    def queue(self, node: int) -> int:
        """The address of a node's queue, made when first asked for."""
        if node not in self.queues:
            self.queues[node] = own_lines(self.capacity, np.uint32)
        return int(self.queues[node].ctypes.data)

    def run(self, max_loops: int = 0) -> int:
        """Runs the loop in this thread, for so many rounds or until stopped."""
        self.control[d.MAX_LOOPS] = max_loops
        return int(
            d.run_worker(
                self.control,
                self.context,
                self.rows,
                self.inputs,
                self.pending,
                self.scratch,
                self.nexts,
                self.before,
                self.buffers.heap.array,
                self.buffers.meta,
                self.pool,
                self.emit,
                self.trace,
                self.punt_ring,
                self.inject_ring,
                self.events,
                self.slots,
                self.capacity,
            )
        )

    def start(self, rounds: int = 0) -> None:
        """Starts the worker's thread, for so many rounds or until stopped. With nothing to do it sleeps in epoll."""
        self.control[d.STOP] = 1
        self.run()  # loads or compiles the loop here: a thread that still compiles would miss the first barrier
        self.control[d.STOP] = 0
        self.control[d.EPOLL_FD] = self.epoll.fileno()
        self.epoll.register(self.event, select.EPOLLIN | select.EPOLLET)
        self._set_data(self.event, d.WAKE)
        name = f"{THREAD_NAME}{self.index}"
        self.thread = threading.Thread(target=self._live, args=(rounds,), name=name, daemon=True)
        self.thread.start()
        with contextlib.suppress(OSError):  # what top and ps -L show; Python before 3.14 keeps the name to itself
            Path(f"/proc/self/task/{self.thread.native_id}/comm").write_text(self.thread.name)

    def _live(self, rounds: int) -> None:
        """The thread's life, on its CPU if it has one."""
        if self.cpu is not None:
            os.sched_setaffinity(threading.get_native_id(), {self.cpu})
        self.run(rounds)

    def forget(self, nodes: Collection[int]) -> None:
        """Leaves nodes out from now on, and frees what control code has sent to them. Called inside the barrier."""
        for index in nodes:
            self.rows[index]["entry"] = 0
        for position in range(int(self.control[d.INJECT_HEAD]), int(self.control[d.INJECT_TAIL])):
            at = 2 * (position & (d.RING - 1)) + 1
            if int(self.inject_ring[at]) in nodes:
                self.inject_ring[at] = FREE

    def prepare(self, changes: Any) -> None:
        """Keeps other versions of nodes (EXCHANGE records) ready, for the round that begins with the next `ask`."""
        self._changes = changes
        self.control[d.EXCHANGE_ADDRESS] = changes.ctypes.data
        self.control[d.EXCHANGES] = len(changes)

    def adopt(self) -> None:
        """What the loop does with `prepare`'s changes, while it does not run or is held by the barrier."""
        if self.control[d.EXCHANGES]:
            d.adopt(self.rows, self.control)

    def ask(self, number: int) -> None:
        """Asks for a number to be echoed at the beginning of a round; all that was stored before is seen with it."""
        d.announce(self.control, d.SYNC_ASKED, number)
        self.wake()

    @property
    def room(self) -> int:
        """How many packets of control code it can still be sent."""
        return d.RING - (int(self.control[d.INJECT_TAIL]) - int(self.control[d.INJECT_HEAD]))

    def push(self, b: int, value: int) -> None:
        """Sends a buffer to a node, by its index, or FREE; there must be room."""
        tail = int(self.control[d.INJECT_TAIL])
        at = 2 * (tail & (d.RING - 1))
        self.inject_ring[at], self.inject_ring[at + 1] = b, value
        self.control[d.INJECT_TAIL] = tail + 1
        self.wake()

    def take_punted(self) -> tuple[int, int]:
        """The next buffer that waits for the main thread, and its node's index; there must be one."""
        head = int(self.control[d.PUNT_HEAD])
        at = 2 * (head & (d.RING - 1))
        found = int(self.punt_ring[at]), int(self.punt_ring[at + 1])
        self.control[d.PUNT_HEAD] = head + 1
        return found

    def wake(self) -> None:
        """Ends its sleep."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_write(self.event, 1)

    def stop(self) -> None:
        """Ends the loop and waits for the thread; then the loop can be run or started again."""
        if self.thread:
            self.control[d.STOP] = 1
            self.wake()
            self.thread.join()
            self.thread = None
            self.epoll.unregister(self.event)
            self.control[d.STOP], self.control[d.EPOLL_FD] = 0, -1

    def watch(self, fd: int, node: int) -> None:
        """Wakes up for this descriptor and asks this input node. Python's epoll has the fd as data, so set it anew."""
        self.epoll.register(fd, select.EPOLLIN)
        self._set_data(fd, node)

    def _set_data(self, fd: int, data: int) -> None:
        import ctypes

        event = np.zeros(12, np.uint8)
        flags = select.EPOLLIN | (select.EPOLLET if data == d.WAKE else 0)
        event[:4] = list(int(flags & 0xFFFFFFFF).to_bytes(4, "little"))
        event[4:8] = list(data.to_bytes(4, "little"))
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.epoll_ctl(self.epoll.fileno(), select_EPOLL_CTL_MOD, fd, ctypes.c_void_p(event.ctypes.data)):
            raise OSError(ctypes.get_errno(), "epoll_ctl failed")

    def unwatch(self, fd: int) -> None:
        with contextlib.suppress(OSError, ValueError):
            self.epoll.unregister(fd)

    def close(self) -> None:
        self.stop()
        self.epoll.close()
        os.close(self.event)


select_EPOLL_CTL_MOD = 3


def is_any_left() -> bool:
    """Whether any worker of this process runs at this moment."""
    return any(thread.name.startswith(THREAD_NAME) for thread in threading.enumerate())


def call_loop_once() -> None:
    """Compiles the loop by calling it with the order to stop."""
    from pyvpp.clock import read_cycles

    read_cycles()
    buffers = Buffers(small=256, hugepages="off")
    worker = Worker(0, buffers, -1, 1.0, max_nodes=16)
    worker.control[d.STOP] = 1
    worker.ask(0)
    worker.run()
    d.adopt(worker.rows, worker.control)
    worker.close()
