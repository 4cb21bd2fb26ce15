# SPDX-License-Identifier: Apache-2.0
"""The memory of all packets on its way from one process to another (`pyvpp.upgrade`).

Linux writes received packets into buffers that it was lent (AF_XDP), whichever process reads them, so the new process
goes on with the same memory, where that is a file. Until the switch all buffers are the old one's but for a few that
were set apart for what the new one's control code sends meanwhile. With the switch comes which buffers Linux has; all
others are free, since the old one has ended what it had begun.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pyvpp.buffers import LARGE_BUFFERS, LARGE_SLOT, SMALL_SLOT, Buffers
from pyvpp.device.af_xdp import AfXdp
from pyvpp.errors import OperatorError
from pyvpp.inheritance import Loan, Memory

if TYPE_CHECKING:
    from pyvpp.engine import Engine

SET_APART = 64


def layout(buffers: Buffers) -> list[int]:
    """How the memory is divided: two processes have to agree on it."""
    return [LARGE_BUFFERS, LARGE_SLOT, SMALL_SLOT, buffers.small, buffers.heap.slot_bytes]


def offer(engine: Engine) -> Memory | None:
    """What another process needs to go on with the memory, but for the loans; None when it cannot. See `withdraw`."""
    buffers = engine.buffers
    if buffers.heap.file is None:
        return None
    with engine.barrier():
        apart = buffers.take_free(0, SET_APART, lambda free: np.ones(len(free), bool))
    return Memory(buffers.heap.file, buffers.heap.pages, layout(buffers), [int(b) for b in apart])


def withdraw(engine: Engine, memory: Memory) -> None:
    """Nobody else goes on with it."""
    with engine.barrier():
        engine.buffers.put_back(np.array(memory.buffers, np.uint32))


def leave(engine: Engine) -> None:
    """All of it is the other's; what control code would still send here is not sent."""
    engine.inject_from([])
    engine.buffers.empty()


def adopt(engine: Engine, memory: Memory) -> None:
    """Has another process' memory in place of our own; the first step. Raises OSError, and OperatorError when the two
    do not fit."""
    if memory.slots != layout(engine.buffers):
        raise OperatorError("the new process would divide the packets' memory in another way: restart it instead")
    engine.synchronize()  # what plugins have sent from our own has left
    with engine.barrier():
        engine.buffers.heap.adopt(memory.file, memory.pages)
        engine.buffers.empty()
        engine.inject_from(memory.buffers)


def loans(engine: Engine) -> dict[str, Loan]:
    """What Linux has of it at the switch, by interface; at a barrier."""
    return {
        interface.name: interface.device.loan(engine.buffers, engine.tables, interface.sw_if_index)
        for interface in engine.interfaces
        if isinstance(interface.device, AfXdp)
    }


def take_over(engine: Engine, memory: Memory, lent: dict[str, Loan]) -> None:
    """All buffers but for those lent are ours; the second step, at a barrier. Raises OperatorError."""
    taken = [np.array(memory.buffers, np.uint32)]
    for interface in engine.interfaces:
        if isinstance(interface.device, AfXdp):
            loan = lent[interface.name]
            taken.append(interface.device.lent_by_another(engine.buffers, engine.tables, interface.sw_if_index, loan))
    engine.buffers.fill(np.concatenate(taken))
    for queue in engine.rx_queues:
        if isinstance(queue.interface.device, AfXdp):
            queue.placed(queue.worker)
